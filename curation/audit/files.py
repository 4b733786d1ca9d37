"""Audit of the dataset folder itself: what lies there that no manifest names, and what hides in its files."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from usds.curation.audit.bytes import check_bytes
from usds.curation.audit.matchers import Finder
from usds.curation.audit.parquet import beside_columns, check_parquet
from usds.curation.audit.types import Finding
from usds.schemas import tables
from usds.schemas.dataset import CROISSANT, INFO, LOCK, Dataset
from usds.schemas.shards import manifest_path

__all__ = ["AUDIT_FILE", "TableFile", "check_files", "table_files"]

AUDIT_FILE: Final = "audit.json"
_OWN: Final = (INFO, LOCK, CROISSANT, AUDIT_FILE, "annotations/CURRENT.json")
_TABLES: Final = {
    "images": tables.IMAGES, "frames": tables.FRAMES, "captions": tables.CAPTIONS, "sources": tables.SOURCES,
    "evidence": tables.EVIDENCE, "splits": tables.SPLITS, "corrections": tables.CORRECTIONS,
    "picture_corrections": tables.PICTURE_CORRECTIONS,
}  # fmt: skip
_CORRECTIONS: Final = {"labels": "corrections", "pictures": "picture_corrections"}
_NUMBERED: Final = re.compile(r"(labels|pictures)-\d{6}\.parquet")
_FOLDERS: Final = _TABLES.keys() - {"picture_corrections"}


@dataclass(frozen=True, slots=True)
class TableFile:
    """A Parquet file of the dataset: its table ("frames", "evidence/set=NAME"), path and columns."""

    table: str
    path: str
    columns: frozenset[str]


def table_files(dataset: Dataset, *, only: str | None = None) -> Iterator[TableFile]:
    """Parquet files that belong to the dataset, table by table; or those of one table."""
    manifests = dataset.manifests().values()
    for table in ("frames", "images", "captions", "sources"):
        if only in (None, table):
            for manifest in manifests:
                yield TableFile(table, manifest.files[table].path, frozenset(_TABLES[table].names))
    if only is not None:
        return
    for name in dataset.annotations.names():
        labels = dataset.annotations.read(name)
        for table, columns in (("annotations", labels.schema.names), ("evidence", tables.EVIDENCE.names)):
            for entry in labels.tasks.values():
                yield TableFile(f"{table}/set={name}", entry[table]["path"], frozenset(columns))
    for folder in ("splits", "corrections"):
        for path in sorted((dataset.root / folder).glob("[!.]*.parquet")):
            if not stat.S_ISREG(path.lstat().st_mode):  # a pipe of that name would never end
                continue
            numbered = _NUMBERED.fullmatch(path.name)
            if folder == "corrections" and not numbered:
                continue
            table = _CORRECTIONS[numbered[1]] if folder == "corrections" and numbered else folder
            relative = path.relative_to(dataset.root).as_posix()
            yield TableFile(table, relative, frozenset(_TABLES[table].names))


def check_files(dataset: Dataset, people: Finder | None = None) -> tuple[int, list[Finding]]:
    """Files read, and what is wrong with them.

    Parameters
    ----------
    dataset : Dataset
    people : Finder, optional
        Identifiers that are searched in the raw bytes of tables.
    """
    parquet = {file.path: file for file in table_files(dataset)}
    known = _known(dataset, parquet)
    folders = {parent.as_posix() for path in known for parent in Path(path).parents}
    findings = [Finding("damaged_file", path, "") for path in dataset.damaged()]
    count = 0
    for path in sorted(dataset.root.rglob("*")):
        relative = path.relative_to(dataset.root).as_posix()
        kind = path.lstat().st_mode
        if _has_attributes(path):
            findings.append(Finding("hidden_bytes", _folder(dataset, path), "extended attribute"))
        if stat.S_ISDIR(kind):
            if relative not in folders and relative not in _FOLDERS:
                findings.append(Finding("unknown_file", _folder(dataset, path), "*/"))
            continue
        count += 1
        if relative not in known or not stat.S_ISREG(kind):
            # An unknown file's name may itself be a name: only its folder is printed.
            findings.append(Finding("unknown_file", _folder(dataset, path), f"*{path.suffix[:8]}"))
            continue
        findings += _check_file(path, relative, parquet.get(relative), people)
    return count, findings


def _check_file(path: Path, place: str, table: TableFile | None, people: Finder | None) -> Iterator[Finding]:
    if table is None:  # a document: read value by value, elsewhere
        return
    yield from check_parquet(path, place, table.columns)
    if people is not None:
        yield from check_bytes(path, place, people, beside_columns(path))


def _folder(dataset: Dataset, path: Path) -> str:
    return f"{path.parent.relative_to(dataset.root).as_posix()}/"


def _has_attributes(path: Path) -> bool:
    """Whether somebody attached words to a file: user attributes, as file managers write them."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except (AttributeError, OSError):  # not every system, not every file system
        return False
    return any(name.startswith("user.") for name in names)


def _known(dataset: Dataset, parquet: Iterable[str]) -> set[str]:
    root = dataset.root
    known = {*_OWN, *parquet}
    known.update(manifest_path(root, task).relative_to(root).as_posix() for task in dataset.manifests())
    for name in dataset.annotations.names():
        known.update(f"annotations/set={name}/{file}" for file in ("manifest.json", "taxonomy.yaml"))
    return known
