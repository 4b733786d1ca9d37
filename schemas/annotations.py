"""Annotation sets: several labelings of one dataset live beside each other.

A set is the folder pair ``annotations/set=<name>`` and ``evidence/set=<name>`` with one file a task, a copy
of the taxonomy that made it, and a manifest that is written last. Annotating never touches pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as pads

from usds.schemas import tables
from usds.schemas.errors import UsageError, damaged
from usds.schemas.files import atomic_path, read_json, write_json
from usds.schemas.shards import ShardFile, describe, write_parquet

__all__ = ["AnnotationSet", "AnnotationSets"]

CURRENT: Final = "CURRENT.json"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class AnnotationSet:
    """The manifest of one set.

    ``tasks`` maps a task name to its two files and the fingerprint of what they were made from, so that only
    what changed is annotated again.
    """

    name: str
    taxonomy_id: str
    taxonomy_hash: str
    dimensions: tuple[str, ...]
    tasks: Mapping[str, Mapping[str, Any]]

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the set's annotations."""
        return tables.annotation_schema(self.dimensions)


class AnnotationSets:
    """The annotation sets of a dataset directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        """Names of the sets that have a manifest."""
        found = (self._root / "annotations").glob("set=*/manifest.json")
        return sorted(path.parent.name.removeprefix("set=") for path in found)

    def current(self) -> str | None:
        """Name of the set behind the view ``annotations``, or None before the first annotation."""
        path = self._root / "annotations" / CURRENT
        try:
            return read_json(path)["set"] if path.is_file() else None
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(path) from error

    def set_current(self, name: str) -> None:
        """Show set ``name`` as the view ``annotations``."""
        self.read(name)
        write_json(self._root / "annotations" / CURRENT, {"set": name})

    def read(self, name: str) -> AnnotationSet:
        """Manifest of set ``name``.

        Raises
        ------
        UsageError
            If there is no such set; the message lists those there are.
        ContentError
            If its manifest is damaged.
        """
        path = self._folder("annotations", name) / "manifest.json"
        if not path.is_file():
            known = ", ".join(self.names()) or "none yet: run `usds annotate`"
            raise UsageError(f"no annotation set {name!r} (there are: {known})")
        try:
            raw: dict[str, Any] = read_json(path)
            raw["dimensions"] = tuple(raw["dimensions"])
            return AnnotationSet(**raw)
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(path) from error

    def write_taxonomy(self, name: str, text: str) -> None:
        """Keep the taxonomy text beside the labels it made."""
        with atomic_path(self._folder("annotations", name) / "taxonomy.yaml") as partial:
            partial.write_text(text, "utf-8")

    def taxonomy_path(self, name: str) -> Path:
        """Where the set's copy of its taxonomy lies."""
        return self._folder("annotations", name) / "taxonomy.yaml"

    def write_task(
        self, name: str, task: str, fingerprint: str, annotations: pa.Table, evidence: pa.Table
    ) -> dict[str, Any]:
        """Write the two files of one task and return its manifest entry for :meth:`commit`.

        File names carry the fingerprint, so the files an older manifest names stay readable until
        :meth:`commit` swaps it.
        """
        entry: dict[str, Any] = {"fingerprint": fingerprint}
        for table, value in (("annotations", annotations), ("evidence", evidence)):
            path = self._folder(table, name) / f"{task}-{fingerprint[:12]}.parquet"
            write_parquet(path, value)
            entry[table] = asdict(describe(self._root, path, len(value)))
        return entry

    def commit(self, manifest: AnnotationSet) -> None:
        """Publish a set's manifest, then remove the files it no longer names."""
        path = self._folder("annotations", manifest.name) / "manifest.json"
        write_json(path, asdict(manifest))
        self.sweep(manifest.name)

    def files(self) -> list[ShardFile]:
        """Every Parquet file that a set's manifest names."""
        entries = [entry for name in self.names() for entry in self.read(name).tasks.values()]
        return [ShardFile(**entry[table]) for entry in entries for table in ("annotations", "evidence")]

    def sweep(self, only: str | None = None) -> int:
        """Remove shard files that no manifest names; return how many."""
        named = {file.path for file in self.files()}
        removed = 0
        for table in ("annotations", "evidence"):
            for path in (self._root / table).glob(f"set={only or '*'}/*.parquet"):
                if path.relative_to(self._root).as_posix() not in named:
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def arrow(self, table: str, name: str) -> pads.Dataset:
        """``annotations`` or ``evidence`` of one set as an Arrow dataset."""
        manifest = self.read(name)
        schema = manifest.schema if table == "annotations" else tables.EVIDENCE
        paths = [str(self._root / entry[table]["path"]) for entry in manifest.tasks.values()]
        if not paths:
            return pads.dataset(schema.empty_table())
        return pads.dataset(paths, schema=schema, format="parquet")

    def views(self, set_name: str | None) -> dict[str, pads.Dataset]:
        """What DuckDB registers: the chosen set's two tables, and each set's under its own name."""
        chosen = set_name or self.current()
        views = {} if chosen is None else {t: self.arrow(t, chosen) for t in ("annotations", "evidence")}
        for index, name in enumerate(self.names()):
            for table in ("annotations", "evidence"):
                views[f"_{table}_{index}"] = self.arrow(table, name)
        return views

    def unions(self) -> dict[str, str]:
        """SQL of the views over every set; columns that a set lacks are NULL."""
        names = self.names()
        return {
            f"{table}_all": " UNION ALL BY NAME ".join(
                f"SELECT '{name}' AS set_name, * FROM _{table}_{index}" for index, name in enumerate(names)
            )
            for table in ("annotations", "evidence")
            if names
        }

    def _folder(self, table: str, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UsageError(f"set name {name!r}: use letters, digits, '.', '_' and '-', at most 64")
        return self._root / table / f"set={name}"
