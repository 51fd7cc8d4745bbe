"""The MTCNN weights that the package `mtcnn` carries, read without importing it (it wants TensorFlow) and without
trusting it.

A weight file is an LZ4 frame around a joblib pickle: one list of arrays, each of them announced by a
`joblib.numpy_pickle.NumpyArrayWrapper` and followed in the stream by a byte that counts padding, the padding, and the
values. The three nets are those of the paper's authors (Zhang et al., 2016), the same numbers as in facenet-pytorch
2.6.
"""

import hashlib
import importlib.util
import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import MesmError

# Of mtcnn 1.0.0.
WEIGHTS_SHA256 = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}


def weights_folder() -> Path:
    """Where the installed package `mtcnn` keeps its weight files.

    Raises:
        MesmError: the package is not installed.
    """
    spec = importlib.util.find_spec("mtcnn")
    if spec is None or spec.origin is None:
        raise MesmError(
            "the package mtcnn, whose weight files find the faces, is not installed: pip install 'mtcnn>=1.0,<2'"
        )
    return Path(spec.origin).parent / "assets" / "weights"


def load_weights(net: str, folder: Path | None = None) -> list[NDArray[np.float32]]:
    """The arrays of one net in the order of its file.

    A convolution is a kernel (row, column, in, out), a bias (out,) and, but for the heads, PReLU slopes (1, 1, out).

    Args:
        net: "pnet", "rnet" or "onet".
        folder: where the files are; by default those of the installed package.

    Raises:
        MesmError: the package or the file is missing, or the file is not the one that `SHA256` names.
    """
    path = (weights_folder() if folder is None else folder) / f"{net}.lz4"
    if not path.is_file():
        raise MesmError(f"{path} is missing: pip install --force-reinstall --no-deps mtcnn==1.0.0")
    packed = path.read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    if digest != WEIGHTS_SHA256[net]:
        raise MesmError(
            f"{path} has sha256 {digest}, expected {WEIGHTS_SHA256[net]}: other weights would find other faces; "
            "pip install --force-reinstall --no-deps mtcnn==1.0.0"
        )
    import lz4.frame  # a dependency of mtcnn

    return read_arrays(lz4.frame.decompress(packed))


def read_arrays(pickled: bytes) -> list[NDArray[np.float32]]:
    """The float32 arrays in a joblib pickle of a list of arrays.

    Raises:
        pickle.UnpicklingError: the pickle names anything but arrays of float32.
    """
    stream = io.BytesIO(pickled)

    class Announced:
        """Stands for joblib's wrapper: when its state is set, the stream is at the padding before the values."""

        def __setstate__(self, state: dict[str, Any]) -> None:
            if state["dtype"] != np.dtype("<f4") or state["order"] != "C":
                raise pickle.UnpicklingError(f"expected float32 in C order, found {state['dtype']} {state['order']}")
            stream.seek(stream.read(1)[0], io.SEEK_CUR)
            values = np.frombuffer(stream.read(4 * math.prod(state["shape"])), "<f4")
            self.array = values.reshape(state["shape"]).astype(np.float32)

    known: dict[tuple[str, str], Any] = {
        ("joblib.numpy_pickle", "NumpyArrayWrapper"): Announced,
        ("numpy", "ndarray"): np.ndarray,  # named as the wrapper's subclass, never made
        ("numpy", "dtype"): np.dtype,
    }

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in known:
                raise pickle.UnpicklingError(f"weights may not name {module}.{name}")
            return known[module, name]

    return [announced.array for announced in Unpickler(stream).load()]
