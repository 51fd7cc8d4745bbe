"""Bound the memory that reading a Parquet file takes, from its page headers, before anything is decompressed.

A file of 1 kB can expand to a terabyte, and its footer need not be true. What Arrow allocates follows from the headers
of the pages, which are parsed here, in Thrift's compact protocol (parquet.thrift, PageHeader):

    1 type   2 uncompressed_page_size   3 compressed_page_size   4 crc
    5 data_page_header {1 num_values, 2 encoding}   7 dictionary_page_header {1 num_values, 2 encoding}
    8 data_page_header_v2 {1 num_values, 2 num_nulls, 3 num_rows, 4 encoding}
"""

from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PER_VALUE = 16  # bytes: eight for the value, the others for its levels and its list offset
_HEADER = 2**16  # bytes: more than any page header needs, since statistics are truncated
_ENCODING = {5: 2, 7: 2, 8: 4}  # the number of the encoding's field in each kind of header
_ENCODINGS = (0, 2, 3, 8)  # plain, dictionary, run lengths; in the others a text can refer to the previous one
_DEPTH = 8


def memory_bound(file: IO[bytes], metadata: pq.FileMetaData) -> int:
    """An upper bound of the bytes that reading takes if texts stay in dictionaries.

    Raises:
        ValueError: A page is damaged, or its encoding is not one of a manifest.
    """
    total: int = PER_VALUE * metadata.num_rows * metadata.num_columns
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            total += sum(size + PER_VALUE * values for size, values in _pages(file, chunk))
    return total


def text_columns(metadata: pq.FileMetaData) -> list[str]:
    """The paths of the text columns, which can be read as dictionaries."""
    columns = [metadata.schema.column(number) for number in range(metadata.num_columns)]
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def unfolded_bytes(array: pa.Array | pa.ChunkedArray) -> int:
    """The bytes of all texts of an array, at any depth, without dictionaries."""
    if isinstance(array, pa.ChunkedArray):
        return sum(map(unfolded_bytes, array.chunks))
    if pa.types.is_dictionary(array.type):
        lengths = pc.take(pc.binary_length(array.dictionary), array.indices)
        return int(pc.sum(pc.cast(lengths, pa.int64())).as_py() or 0)
    if pa.types.is_list(array.type) or pa.types.is_struct(array.type):
        inner = array.flatten()
        return sum(map(unfolded_bytes, inner if isinstance(inner, list) else [inner]))
    return 0


def _pages(file: IO[bytes], chunk: pq.ColumnChunkMetaData) -> Iterator[tuple[int, int]]:
    """Yield the decompressed bytes and the number of values of each page of a column chunk."""
    starts = (chunk.dictionary_page_offset, chunk.data_page_offset)
    at = min(start for start in starts if start is not None)
    end = at + chunk.total_compressed_size
    while at < end:
        file.seek(at)
        data = file.read(_HEADER)
        page, length = _parse_struct(data, 0, _DEPTH)
        sizes = (page.get(2), page.get(3))
        headers = [(page[number], field) for number, field in _ENCODING.items() if isinstance(page.get(number), dict)]
        if not headers or not all(isinstance(size, int) and size >= 0 for size in sizes):
            raise ValueError("a page has no header that is understood")
        for header, encoding in headers:
            if header.get(encoding) not in _ENCODINGS or not isinstance(header.get(1), int) or header[1] < 0:
                raise ValueError("a page is encoded in another way than those of a manifest")
        yield page[2], max(header[1] for header, _ in headers)
        at += length + page[3]


def _parse_struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Parse the fields of a struct by number; only integers and structs are kept. Returns the end too."""
    fields: dict[int, Any] = {}
    number = 0
    while kind := _byte(data, at):
        at += 1
        if kind >> 4:
            number += kind >> 4
        else:
            number, at = _parse_integer(data, at)
        fields[number], at = _parse_value(data, at, kind & 15, depth)
    return fields, at + 1


def _parse_value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):  # true, false
        return None, at
    if kind == 3:
        return None, at + 1
    if kind in (4, 5, 6):
        return _parse_integer(data, at)
    if kind == 7:  # double
        return None, at + 8
    if kind == 8:
        length, at = _parse_varint(data, at)
        return None, at + length
    if kind == 12 and depth:
        return _parse_struct(data, at, depth - 1)
    raise ValueError("a page has no header that is understood")


def _parse_integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = _parse_varint(data, at)
    return value >> 1 ^ -(value & 1), at


def _parse_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = _byte(data, at + shift // 7)
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at + shift // 7 + 1
    raise ValueError("a page has no header that is understood")


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise ValueError("a page has no header that is understood")
    return data[at]
