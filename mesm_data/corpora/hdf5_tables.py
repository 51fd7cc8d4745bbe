"""python -m mesm_data.corpora.hdf5_tables FILE: prints the tables of a computational sequence (.csd) as JSON.

{"dimensions": [...], "tables": [[video, features (n, d), intervals (n, 2)], ...], "problems": [...]} or {"error": ...}

It runs in a subprocess with limits: the HDF5 library follows links to any other file, and damaged files make it loop,
crash or exhaust the memory. Only data inside the file itself are read.
"""

import json
import math
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mesm_data.errors import MesmError
from mesm_data.storage.files import open_regular_file

# The largest tables of CMU-MOSEI: 66 h of words and pauses are about a million rows of 48 bytes, 3 h some 50 000.
MAX_ROWS = 2_000_000
MAX_TABLE_BYTES = 64 * 2**20
MEMORY = 2 * 2**30  # bytes, in addition to the libraries'
CPU_SECONDS = 60


def main() -> None:
    """Read the file in the only argument, within the limits."""
    import h5py
    import numpy  # noqa: F401  # before the limit is set: its libraries map much memory that they do not use

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if _LINUX else 0
    for kind, limit in (
        (resource.RLIMIT_AS, mapped + MEMORY if _LINUX else resource.RLIM_INFINITY),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    path = Path(sys.argv[1])
    try:
        open_regular_file(path).close()
        with h5py.File(path, "r", locking=False) as file:
            output = _sequence(file)
    except MesmError as error:
        output = {"error": str(error)}
    except MemoryError:
        output = {"error": f"needs more than {MEMORY >> 30} GiB of memory to read"}
    except Exception as error:  # the exception depends on where the file is damaged
        output = {"error": f"is not a readable HDF5 file ({_short(error)})"}
    sys.stdout.write(json.dumps(output))  # json.dump is several times slower


_LINUX = sys.platform == "linux"


def _sequence(file: Any) -> dict[str, Any]:
    groups = [group for name in file if (group := own_group(file, name)) is not None]
    roots = [group for group in groups if own_group(group, "data") is not None]
    if len(roots) != 1:
        raise MesmError(f"is not a computational sequence: {len(roots)} groups in it contain `data`, expected one")
    problems: list[str] = []
    tables = list(_tables(own_group(roots[0], "data"), problems))
    return {"dimensions": dimensions(roots[0]), "tables": tables, "problems": problems}


def _tables(data: Any, problems: list[str]) -> Iterator[tuple[str, Any, Any]]:
    rows = 0
    for name in data:
        video = _text(name)
        try:
            group = own_group(data, name)
            if group is None:
                raise MesmError("is not a group of this file")
            features, intervals = read_table(group, "features"), read_table(group, "intervals")
            rows += len(intervals)
            if rows > MAX_ROWS:
                problems.append(f"{video}: is not read, nor what follows it: the file has more than {MAX_ROWS} rows")
                return
            yield video, _features(features, len(intervals)), _intervals(intervals)
        except MemoryError:
            raise
        except Exception as error:  # as in main
            problems.append(f"{video}: cannot be read ({_short(error)})")


def read_table(group: Any, name: str, *, limit: int = MAX_TABLE_BYTES) -> Any:
    """Read a dataset of numbers or strings (n, d). Its size is checked first: at most `limit` bytes."""
    import h5py
    import numpy as np

    dataset = _hard_link(group, name)
    if not isinstance(dataset, h5py.Dataset):
        raise MesmError(f"has no {name}")
    if dataset.is_virtual or dataset.external is not None:
        raise MesmError(f"its {name} are in another file, which is not read")
    shape: tuple[int, ...] = dataset.shape or (1,)
    size = dataset.dtype.itemsize
    text = h5py.check_string_dtype(dataset.dtype)
    if len(shape) > 2 or (text is None and dataset.dtype.kind not in "fiu"):
        raise MesmError(f"its {name} are {dataset.dtype} of the shape {shape}, expected numbers or texts (n, d)")
    if max(math.prod(shape), math.prod(dataset.chunks or (0,))) * size > limit or shape[0] > MAX_ROWS:
        raise MesmError(f"its {name} of the shape {shape} are larger than those of any video")
    values = np.atleast_1d(np.asarray(dataset[()]))
    return values if values.ndim == 2 else values.reshape(-1, 1)


def _features(values: Any, rows: int) -> list[list[Any]]:
    if len(values) != rows:
        raise MesmError(f"{len(values)} features and {rows} intervals")
    if values.dtype.kind in "SO":
        return [[item.decode("utf-8", "replace") for item in row] for row in values.tolist()]
    listed: list[list[Any]] = values.tolist()
    return listed


def _intervals(values: Any) -> list[list[float]]:
    import numpy as np

    if values.dtype.kind not in "fiu" or values.shape[1] != 2 or not np.isfinite(values).all():
        raise MesmError(f"its intervals are {values.dtype} of the shape {values.shape}, expected finite times (n, 2)")
    listed: list[list[float]] = values.astype(np.float64).tolist()
    return listed


def dimensions(root: Any) -> list[str]:
    """Read the names of the columns; empty if the file has none."""
    try:
        names = json.loads(read_table(own_group(root, "metadata"), "dimension names")[0, 0])
    except MemoryError:
        raise
    except Exception:  # as in main
        return []
    return [_text(str(name)[:100]) for name in names] if isinstance(names, list) else []


def own_group(parent: Any, name: str) -> Any:
    """Return the group `name` of this file; None if there is none."""
    import h5py

    child = _hard_link(parent, name)
    return child if isinstance(child, h5py.Group) else None


def _hard_link(parent: Any, name: str) -> Any:
    """Return the target of a hard link; None for soft and external links, which may lead to another file."""
    import h5py

    if parent is None or not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        return None
    return parent[name]


def _short(error: Exception) -> str:
    return _text(str(error)[:200]) or type(error).__name__


def _text(name: str) -> str:
    """Make a name encodable as UTF-8: h5py decodes invalid bytes to lone surrogates."""
    return name.encode("utf-8", "backslashreplace").decode()


if __name__ == "__main__":
    main()
