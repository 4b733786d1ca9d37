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

__all__ = ["Correction", "CorrectionIndex", "append_corrections", "read_corrections"]

_NUMBER: Final = re.compile(r"labels-(\d{6})\.parquet")
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


def _files(root: Path) -> list[Path]:
    folder = root / "corrections"
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if _NUMBER.fullmatch(path.name))


def read_corrections(dataset: Dataset) -> list[Correction]:
    """All corrections in the order they were made."""
    rows = [row for path in _files(dataset.root) for row in pq.read_table(path).to_pylist()]
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
    files = _files(dataset.root)
    last = _NUMBER.fullmatch(files[-1].name) if files else None
    number = int(last.group(1)) + 1 if last else 1
    path = dataset.root / "corrections" / f"labels-{number:06d}.parquet"
    write_parquet(path, pa.Table.from_pylist([c.row() for c in corrections], schema=tables.CORRECTIONS))
    return path


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
