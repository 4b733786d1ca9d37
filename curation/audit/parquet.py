"""Audit of Parquet files below their rows: what a reader of tables never shows, and an adversary reads first.

A file is its column chunks one behind the other and a footer (Apache Parquet format 2.11). Bytes between
them, statistics and dictionary entries that no row holds, and notes anywhere are findings.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usds.curation.audit.types import UNREADABLE, Finding

__all__ = ["beside_columns", "check_parquet", "string_arrays"]

_NOTES: Final = frozenset({b"ARROW:schema"})
_MAGIC: Final = 4
_compute: Any = pc  # its functions are made at run time, no checker sees them


def check_parquet(path: Path, place: str, columns: frozenset[str]) -> Iterator[Finding]:
    """What is wrong with one file.

    Parameters
    ----------
    path : Path
    place : str
        How findings name it.
    columns : frozenset of str
        Columns that it may have: readers ask for these alone and would overlook others.
    """
    try:
        with pq.ParquetFile(path) as shard:
            yield from _notes(shard, place)
            # The name of a column that should not be there may itself be a name.
            names = shard.schema_arrow.names
            yield from (Finding("unknown_column", place, "*") for name in names if name not in columns)
            if _gaps(shard.metadata, path.stat().st_size):
                yield Finding("hidden_bytes", place, "bytes that belong to no column")
            if _has_longer_footer(shard.metadata, path):
                yield Finding("hidden_bytes", place, "footer")
        yield from _unused_values(path, place)
    except UNREADABLE:
        yield Finding("damaged_file", place, "")


def string_arrays(array: pa.Array) -> Iterator[pa.Array]:
    """Arrays of strings, or of dictionaries of strings, in a column, however deep in lists and structs."""
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        yield array
    elif pa.types.is_list(kind):
        yield from string_arrays(array.flatten())
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            yield from string_arrays(child)


def _notes(shard: pq.ParquetFile, place: str) -> Iterator[Finding]:
    schema, metadata = shard.schema_arrow, shard.metadata
    if schema.metadata or any(field.metadata for field in schema):
        yield Finding("file_metadata", place, "schema entry")
    if any(key not in _NOTES for key in metadata.metadata or {}):
        yield Finding("file_metadata", place, "footer entry")
    if any(getattr(chunk, "metadata", None) for chunk in _chunks(metadata)):
        yield Finding("file_metadata", place, "column entry")
    if not (metadata.created_by or "").startswith("parquet-cpp-arrow"):
        yield Finding("file_metadata", place, "writer name")


def _chunks(metadata: Any) -> Iterator[Any]:
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            yield metadata.row_group(group).column(column)


def beside_columns(path: Path) -> list[tuple[int, int]]:
    """Half-open places of a file that belong to no column: gaps and footer; the whole of a damaged one."""
    size = path.stat().st_size
    try:
        with pq.ParquetFile(path) as shard:
            return [*_gaps(shard.metadata, size), (size - shard.metadata.serialized_size - 2 * _MAGIC, size)]
    except UNREADABLE:
        return [(0, size)]


def _gaps(metadata: Any, size: int) -> list[tuple[int, int]]:
    """What stands between the column chunks: old row groups, indexes, filters, words."""
    at, gaps = _MAGIC, list[tuple[int, int]]()
    filled = (chunk for chunk in _chunks(metadata) if chunk.total_compressed_size)
    footer = size - metadata.serialized_size - 2 * _MAGIC
    for start, length in [*sorted(map(_span, filled)), (footer, 0)]:
        if start != at:
            gaps.append((min(at, start), max(at, start)))
        at = start + length
    return gaps


def _span(chunk: Any) -> tuple[int, int]:
    offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
    return min(offset for offset in offsets if offset), chunk.total_compressed_size


def _has_longer_footer(metadata: Any, path: Path) -> bool:
    """Whether the footer holds fields that its reader skips. Only the version that wrote it can tell."""
    if metadata.created_by != f"parquet-cpp-arrow version {pa.__version__}":
        return False
    again = io.BytesIO()
    metadata.write_metadata_file(again)
    length = metadata.serialized_size + 2 * _MAGIC
    with path.open("rb") as file:
        file.seek(-length, io.SEEK_END)
        return file.read() != again.getvalue()[-length:]


def _unused_values(path: Path, place: str) -> Iterator[Finding]:
    """Statistics and dictionary entries that no row holds: rows that were taken out leave them behind."""
    with pq.ParquetFile(path) as shard:
        leaves = [(shard.schema.column(i).path, i) for i in range(len(shard.schema))]
        metadata = shard.metadata
    strings = [(leaf, i) for leaf, i in leaves if metadata.schema.column(i).physical_type == "BYTE_ARRAY"]
    strings = [(leaf, i) for leaf, i in strings if str(metadata.schema.column(i).logical_type) == "String"]
    found: set[str] = set()
    with pq.ParquetFile(path, read_dictionary=[leaf for leaf, _ in strings]) as shard:
        for group in range(metadata.num_row_groups):
            for root in sorted({leaf.split(".")[0] for leaf, _ in strings}):
                chunks = [
                    metadata.row_group(group).column(i) for leaf, i in strings if leaf.split(".")[0] == root
                ]
                stated = [chunk.statistics for chunk in chunks if chunk.statistics is not None]
                bounds = [b for s in stated if s.has_min_max for b in (s.min, s.max)]
                if not bounds and not any(chunk.has_dictionary_page for chunk in chunks):
                    continue
                held, listed = _values(shard.read_row_group(group, columns=[root]).column(0).chunks)
                if not _all_in(pa.array(bounds, pa.string()), held):
                    found.add(f"statistics of {root}")
                if not _all_in(listed, held):
                    found.add(f"dictionary of {root}")
    yield from (Finding("hidden_bytes", place, what) for what in sorted(found))


def _values(arrays: Iterable[pa.Array]) -> tuple[pa.Array, pa.Array]:
    """Values that rows hold, and values that dictionaries list."""
    held: list[pa.Array] = [pa.array([], pa.string())]
    listed: list[pa.Array] = [pa.array([], pa.string())]
    for array in arrays:
        for strings in string_arrays(array):
            if pa.types.is_dictionary(strings.type):
                listed.append(strings.dictionary.cast(pa.string()))
            held.append(strings.cast(pa.string()).unique())
    return pa.concat_arrays(held), pa.concat_arrays(listed)


def _all_in(values: pa.Array, held: pa.Array) -> bool:
    return bool(_compute.all(_compute.is_in(values, value_set=held), min_count=0).as_py())
