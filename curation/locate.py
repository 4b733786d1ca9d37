"""From a key of the dataset back to files: reads the private state, so answers are for the terminal only."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.compute as pc

from usds.curation.sources import decode_path, split_member
from usds.schemas.dataset import Dataset
from usds.schemas.errors import UsageError
from usds.schemas.state import State

__all__ = ["Location", "locate"]


@dataclass(frozen=True, slots=True)
class Location:
    """One raw file behind a key; ``exists`` says whether it still lies there."""

    source_key: str
    path: str
    kind: str
    reason: str
    subject_id: str | None
    exists: bool


def locate(dataset: Dataset, state: State, key: str) -> list[Location]:
    """Files behind a source key, a subject id, a study, clip or frame id.

    Raises
    ------
    UsageError
        If the dataset has no such key.
    """
    rows = state.locate(key)
    if not rows:
        matches = pc.field("frame_id") == key
        for name in ("clip_id", "study_id", "series_id"):
            matches = matches | (pc.field(name) == key)
        frames = dataset.arrow("frames").to_table(columns=["source_key"], filter=matches)
        rows = [row for source in sorted(set(frames.column(0).to_pylist())) for row in state.locate(source)]
    if not rows:
        raise UsageError(
            f"no file is known under {key!r}: give a source key, or the id of a subject, study, clip or frame"
        )
    return [_location(row) for row in rows]


def _location(row: dict[str, str]) -> Location:
    path = decode_path(row["path"])
    return Location(
        row["source_key"], path, row["kind"], row["reason"], row["subject_id"],
        split_member(path)[0].exists(),
    )  # fmt: skip
