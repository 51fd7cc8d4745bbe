"""The manifest in memory, by columns. A row becomes a dictionary when it is read."""

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 4096  # rows that are converted to dictionaries at a time


class ManifestRows(Mapping[str, dict[str, Any]]):
    """The rows of a manifest by key, in its order.

    100,000 rows of IEMOCAP's columns take 0.3 s and 0.27 GB, instead of 2.8 s and 0.8 GB as dictionaries.

    Attributes:
        table: The columns.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table.combine_chunks()
        self._number = {key: number for number, key in enumerate(self.column("key"))}

    def __len__(self) -> int:
        return len(self._number)

    def __iter__(self) -> Iterator[str]:
        return iter(self._number)

    def __getitem__(self, key: str) -> dict[str, Any]:
        row: dict[str, Any] = self.table.slice(self._number[key], 1).to_pylist()[0]
        return row

    def values(self) -> ValuesView[dict[str, Any]]:
        """All rows, converted while iterating."""
        return _Values(self)

    def items(self) -> ItemsView[str, dict[str, Any]]:
        """All keys and rows, converted while iterating."""
        return _Items(self)

    def row_number(self, key: str) -> int:
        """The number of the row `key`, from 0. Raises KeyError."""
        return self._number[key]

    def take(self, keys: Iterable[str]) -> "ManifestRows":
        """The rows `keys` in this order, which must not repeat. Raises KeyError."""
        return ManifestRows(self.table.take(pa.array([self._number[key] for key in keys], pa.int64())))

    def select(self, *columns: str) -> "ManifestRows":
        """The same rows with the key and these columns only, for fast iteration."""
        return ManifestRows(self.table.select(list(dict.fromkeys(("key", *columns)))))

    def column(self, name: str) -> list[Any]:
        """The values of a column, one per row."""
        values: list[Any] = self.table.column(name).to_pylist()
        return values

    def value(self, number: int, name: str) -> Any:
        """The value of a column in row `number`."""
        return self.table.column(name)[number].as_py()

    def int_column(self, name: str) -> NDArray[np.int64]:
        """The values of an integer column, int64 (rows,); null becomes 0."""
        return np.asarray(self.table.column(name).fill_null(0).to_numpy(), np.int64)

    def to_pandas(self) -> "pd.DataFrame":
        """The rows as a table with the key as its index; the items of structs are columns, integers are Int64."""
        import pandas as pd

        table = self.table.flatten()  # labels, the only struct
        frame: pd.DataFrame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        return frame.set_index("key")

    def iter_dicts(self) -> Iterator[dict[str, Any]]:
        """Yield each row."""
        for batch in self.table.to_batches(CHUNK):
            yield from batch.to_pylist()


class _Values(ValuesView[dict[str, Any]]):
    _mapping: ManifestRows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._mapping.iter_dicts()


class _Items(ItemsView[str, dict[str, Any]]):
    _mapping: ManifestRows

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        return ((row["key"], row) for row in self._mapping.iter_dicts())
