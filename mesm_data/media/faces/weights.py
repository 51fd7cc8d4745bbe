"""Read the MTCNN weights of the package `mtcnn`, without importing it (it needs TensorFlow) and without trusting it.

A weight file is an LZ4 frame around a joblib pickle of a list of arrays. Each array is represented by a
`joblib.numpy_pickle.NumpyArrayWrapper`, followed in the stream by one byte with the length of the padding, the padding,
and the values. The three networks are those of the paper's authors (Zhang et al., 2016), with the same numbers as in
facenet-pytorch 2.6.
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
    """The folder of the weight files of the installed package `mtcnn`.

    Raises:
        MesmError: The package is not installed.
    """
    spec = importlib.util.find_spec("mtcnn")
    if spec is None or spec.origin is None:
        raise MesmError(
            "the package mtcnn, whose weight files find the faces, is not installed: pip install 'mtcnn>=1.0,<2'"
        )
    return Path(spec.origin).parent / "assets" / "weights"


def load_weights(net: str, folder: Path | None = None) -> list[NDArray[np.float32]]:
    """Load the arrays of one network, in the order of its file.

    A convolution is a kernel (row, column, in, out), a bias (out,) and, except for the heads, PReLU slopes (1, 1, out).

    Args:
        net: "pnet", "rnet" or "onet".
        folder: The folder of the files; by default that of the installed package.

    Raises:
        MesmError: The package or the file is missing, or the file has another digest than `WEIGHTS_SHA256`.
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
    """Read the float32 arrays of a joblib pickle of a list of arrays.

    Raises:
        pickle.UnpicklingError: The pickle contains anything but arrays of float32.
    """
    stream = io.BytesIO(pickled)

    class ArrayWrapper:
        """Replaces joblib's wrapper. When its state is set, the stream is at the padding before the values."""

        def __setstate__(self, state: dict[str, Any]) -> None:
            if state["dtype"] != np.dtype("<f4") or state["order"] != "C":
                raise pickle.UnpicklingError(f"expected float32 in C order, found {state['dtype']} {state['order']}")
            stream.seek(stream.read(1)[0], io.SEEK_CUR)
            values = np.frombuffer(stream.read(4 * math.prod(state["shape"])), "<f4")
            self.array = values.reshape(state["shape"]).astype(np.float32)

    allowed: dict[tuple[str, str], Any] = {
        ("joblib.numpy_pickle", "NumpyArrayWrapper"): ArrayWrapper,
        ("numpy", "ndarray"): np.ndarray,  # named as the wrapper's subclass, never created
        ("numpy", "dtype"): np.dtype,
    }

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in allowed:
                raise pickle.UnpicklingError(f"weights may not name {module}.{name}")
            return allowed[module, name]

    return [wrapper.array for wrapper in Unpickler(stream).load()]
