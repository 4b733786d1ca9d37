"""Corrections: what a person decided about labels. Append-only, applied last, kept through re-annotation.

They lie in ``corrections/labels-NNNNNN.parquet`` of the dataset directory and refer to keyed ids, so they
find their caption or frame again after the dataset was annotated, or ingested, once more.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from usds.schemas import tables
from usds.schemas.dataset import Dataset
from usds.schemas.files import canonical_json
from usds.schemas.shards import write_parquet

__all__ = [
    "Correction",
    "CorrectionIndex",
    "append_corrections",
    "append_numbered",
    "numbered_files",
    "read_corrections",
]

Kind = Literal["labels", "pictures"]
_NUMBERED: Final = re.compile(r"(labels|pictures)-(\d{6})\.parquet")
Action = Literal["add", "remove"]


@dataclass(frozen=True, slots=True)
class Correction:
    """One decision about one label.

    Attributes
    ----------
    target_id : str
        Frame, clip or study that the label is about.
    caption_id : str or None
        The caption whose reading is corrected; None corrects the frames of the target themselves.
    dimension, label : str
    action : {"add", "remove"}
    assertion : str
        "present", "negated" or "uncertain".
    """

    target_id: str
    caption_id: str | None
    dimension: str
    label: str
    action: Action
    assertion: str

    def row(self) -> dict[str, str | None]:
        """A row of the corrections table."""
        return {name: getattr(self, name) for name in tables.CORRECTIONS.names}


def numbered_files(root: Path, kind: Kind) -> dict[int, Path]:
    """Files of one kind of corrections by their number, in the order they were made."""
    folder = root / "corrections"
    found = (_NUMBERED.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else ()
    mine = (match for match in found if match and match[1] == kind)
    return {number: folder / name for number, name in sorted((int(m[2]), m[0]) for m in mine)}


def append_numbered(root: Path, kind: Kind, table: pa.Table) -> Path:
    """Add a table as the next numbered file, whole or not at all; earlier files are never touched."""
    number = max(numbered_files(root, kind), default=0) + 1
    path = root / "corrections" / f"{kind}-{number:06d}.parquet"
    write_parquet(path, table)
    return path


def read_corrections(dataset: Dataset) -> list[Correction]:
    """All corrections in the order they were made."""
    rows = [
        row
        for path in numbered_files(dataset.root, "labels").values()
        for row in pq.read_table(path).to_pylist()
    ]
    return [Correction(**row) for row in rows]


def append_corrections(dataset: Dataset, corrections: Sequence[Correction]) -> Path | None:
    """Add corrections as the next numbered file; earlier files are never touched. Needs the dataset's lock.

    Returns
    -------
    Path or None
        The new file; None if there was nothing to add.
    """
    if not corrections:
        return None
    rows = [correction.row() for correction in corrections]
    return append_numbered(dataset.root, "labels", pa.Table.from_pylist(rows, schema=tables.CORRECTIONS))


@dataclass(slots=True)
class CorrectionIndex:
    """Corrections by the caption or the target they speak about."""

    by_caption: dict[str, list[Correction]] = field(default_factory=dict[str, list[Correction]])
    by_target: dict[str, list[Correction]] = field(default_factory=dict[str, list[Correction]])

    @classmethod
    def build(cls, corrections: Iterable[Correction]) -> CorrectionIndex:
        """Index ``corrections``; the later of two about the same label comes later in its list."""
        captions: defaultdict[str, list[Correction]] = defaultdict(list)
        targets: defaultdict[str, list[Correction]] = defaultdict(list)
        for correction in corrections:
            if correction.caption_id is None:
                targets[correction.target_id].append(correction)
            else:
                captions[correction.caption_id].append(correction)
        return cls(dict(captions), dict(targets))

    def about(self, ids: Set[str]) -> list[Correction]:
        """Those whose target is one of ``ids``, in order."""
        groups = (*self.by_caption.values(), *self.by_target.values())
        return [c for group in groups for c in group if c.target_id in ids]

    def digest(self, ids: Set[str]) -> str:
        """Hash of the corrections about ``ids``: it changes when a task has to be annotated again."""
        rows: list[Mapping[str, str | None]] = [c.row() for c in self.about(ids)]
        return sha256(canonical_json(rows)).hexdigest() if rows else ""
