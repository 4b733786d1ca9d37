"""Audit of the dataset folder itself: unknown files, damaged files, metadata of files and images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from usds.curation.audit_types import Finding
from usds.schemas import tables
from usds.schemas.dataset import CROISSANT, INFO, LOCK, Dataset
from usds.schemas.shards import manifest_path

__all__ = ["check_files"]

_OWN: Final = (INFO, LOCK, CROISSANT, "audit.json", "annotations/CURRENT.json")
_TABLES: Final = {
    "images": tables.IMAGES, "frames": tables.FRAMES, "captions": tables.CAPTIONS, "sources": tables.SOURCES,
    "evidence": tables.EVIDENCE, "splits": tables.SPLITS, "corrections": tables.CORRECTIONS,
}  # fmt: skip
_METADATA: Final = frozenset({b"ARROW:schema"})


def check_files(dataset: Dataset) -> tuple[int, list[Finding]]:
    """Files read, and what is wrong with them."""
    known = _known(dataset)
    findings = [Finding("damaged_file", path, "") for path in dataset.damaged()]
    count = 0
    for path in sorted(dataset.root.rglob("*")):
        relative = path.relative_to(dataset.root).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        count += 1
        if relative not in known or path.is_symlink():
            # An unknown file's name may itself be a name: only its folder is printed.
            folder = path.parent.relative_to(dataset.root).as_posix()
            findings.append(Finding("unknown_file", f"{folder}/", f"*{path.suffix[:8]}"))
        elif path.suffix == ".parquet":
            findings += _parquet_metadata(path, relative, _columns(dataset, relative))
    return count, findings


def _columns(dataset: Dataset, relative: str) -> frozenset[str]:
    """Columns that the table of a file may have: readers ask for these alone and would overlook others."""
    table, *folders = relative.split("/")
    if table == "annotations":
        name = folders[0].removeprefix("set=")
        return frozenset(dataset.annotations.read(name).schema.names)
    return frozenset(_TABLES[table].names)


def _known(dataset: Dataset) -> set[str]:
    root = dataset.root
    known: set[str] = set(_OWN)
    for task, manifest in dataset.manifests().items():
        known.add(manifest_path(root, task).relative_to(root).as_posix())
        known.update(shard.path for shard in manifest.files.values())
    known.update(file.path for file in dataset.annotations.files())
    for name in dataset.annotations.names():
        known.update(f"annotations/set={name}/{file}" for file in ("manifest.json", "taxonomy.yaml"))
    known.update(f"splits/{name}.parquet" for name in dataset.split_names())
    folder = root / "corrections"
    known.update(path.relative_to(root).as_posix() for path in folder.glob("*.parquet"))
    return known


def _parquet_metadata(path: Path, relative: str, columns: frozenset[str]) -> Iterator[Finding]:
    try:
        with pq.ParquetFile(path) as shard:
            metadata = shard.metadata.metadata or {}
            schema = shard.schema_arrow
            created = shard.metadata.created_by or ""
    except (OSError, ValueError):
        yield Finding("damaged_file", relative, "")
        return
    # The name of a column that should not be there may itself be a name.
    yield from (Finding("unknown_column", relative, "*") for name in schema.names if name not in columns)
    if schema.metadata or any(field.metadata for field in schema):
        yield Finding("file_metadata", relative, "schema entry")
    for key in metadata:
        if key not in _METADATA:
            yield Finding("file_metadata", relative, "footer entry")
    if not created.startswith("parquet-cpp-arrow"):
        yield Finding("file_metadata", relative, "writer name")
