"""Decisions about pixels as the dataset keeps them: append-only, one file a decision, the latest counts.

They lie in ``corrections/pictures-NNNNNN.parquet`` and refer to the keyed hash of a file's bytes, so they
find their file again under another name, after ``--redo``, and with another detector. They hold no text.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from usds.curation.corrections import append_numbered, numbered_files
from usds.curation.deid.area import ComponentKind
from usds.curation.deid.decision import ACCEPTABLE, Decision, Mark, Part
from usds.schemas import tables
from usds.schemas.dataset import Dataset
from usds.schemas.errors import damaged
from usds.schemas.shards import write_parquet

__all__ = ["APPLIED", "DECIDED_FOR", "Decided", "append_decision", "forget_decisions", "read_decisions"]


APPLIED: Final = "decisions_applied"
"""Document of the private state: by file, the digest of the decision that its rows were made with."""
DECIDED_FOR: Final = "decided_for"
"""Document of the private state: by file, the subject that was decided about; a file that was replaced since
is known to nobody else."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The decision that counts for a file, and its number among all decisions."""

    decision: Decision
    number: int


def append_decision(dataset: Dataset, file_id: str, decision: Decision) -> Path:
    """Keep a decision; it replaces earlier ones about the file. Needs the dataset's lock.

    Parameters
    ----------
    dataset : Dataset
    file_id : str
        Keyed hash of the file's bytes, :meth:`usds.curation.deid.identity.Ids.clip`.
    decision : Decision
    """
    table = pa.Table.from_pylist([_row(file_id, decision)], schema=tables.PICTURE_CORRECTIONS)
    return append_numbered(dataset.root, "pictures", table)


def read_decisions(dataset: Dataset, *, after: int = 0) -> dict[str, Decided]:
    """The latest decision about each file, by ``file_id``; only those with a number above ``after``.

    Raises
    ------
    ContentError
        If a file of decisions is damaged, or holds what no person can decide: nothing is written without
        the boxes that may stand in it.
    """
    found: dict[str, Decided] = {}
    for number, path in numbered_files(dataset.root, "pictures").items():
        if number <= after:
            continue
        for row in _rows(path):
            if not _is_sound(row):
                raise damaged(path)
            found[row["file_id"]] = Decided(_decision(row), number)
    return found


def forget_decisions(dataset: Dataset, file_ids: Set[str]) -> None:
    """Remove all decisions about some files; those of a subject that withdraws."""
    for path in numbered_files(dataset.root, "pictures").values():
        rows = _rows(path)
        kept = [row for row in rows if row["file_id"] not in file_ids]
        if len(kept) < len(rows):
            write_parquet(path, pa.Table.from_pylist(kept, schema=tables.PICTURE_CORRECTIONS))


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        schema = tables.PICTURE_CORRECTIONS
        rows = pq.ParquetFile(path).read().select(schema.names).cast(schema).to_pylist()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise damaged(path) from error
    if any(value is None for row in rows for value in row.values()):
        raise damaged(path)
    return rows


def _is_sound(row: dict[str, Any]) -> bool:
    """Whether it is a decision: a misspelt box would be a box that is not blacked."""
    try:
        return (
            row["decision"] in ("accept", "keep_out")
            and ACCEPTABLE.issuperset(row["accepted"])
            and all(_is_sound_part(part) for part in row["area"])
            and all(_is_sound_box(box) for box in row["boxes"])
        )
    except TypeError:  # a null somewhere inside
        return False


def _is_sound_part(part: dict[str, Any]) -> bool:
    points = part["points"]
    inside = all(min(point["x"], point["y"]) >= 0 for point in points)
    return part["kind"] in get_args(ComponentKind) and len(points) > 2 and inside


def _is_sound_box(box: dict[str, Any]) -> bool:
    known = box["action"] == "added" or (box["action"] == "opened" and box["frame"] is not None)
    return known and 0 <= box["x0"] < box["x1"] and 0 <= box["y0"] < box["y1"]


def _row(file_id: str, decision: Decision) -> dict[str, Any]:
    marks = {"added": decision.added, "opened": decision.opened}
    return {
        "file_id": file_id,
        "decision": decision.outcome,
        "accepted": list(decision.accepted),
        "area": [
            {"kind": part.kind, "points": [{"x": x, "y": y} for x, y in part.points]}
            for part in decision.area
        ],
        "boxes": [
            {"frame": m.frame, "action": action, "x0": m.x0, "y0": m.y0, "x1": m.x1, "y1": m.y1}
            for action, group in marks.items()
            for m in group
        ],
    }


def _decision(row: dict[str, Any]) -> Decision:
    return Decision(
        row["decision"],
        tuple(row["accepted"]),
        tuple(Part(part["kind"], tuple((p["x"], p["y"]) for p in part["points"])) for part in row["area"]),
        tuple(_marks(row["boxes"], "added")),
        tuple(_marks(row["boxes"], "opened")),
    )


def _marks(boxes: Iterable[dict[str, Any]], action: str) -> Iterable[Mark]:
    for box in boxes:
        if box["action"] == action:
            yield Mark(box["frame"], box["x0"], box["y0"], box["x1"], box["y1"])
