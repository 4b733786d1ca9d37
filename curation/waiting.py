"""Decisions of a person that the dataset does not show yet, and those that need no raw file: keeping out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from usds.curation.commit import leave_only_rows
from usds.curation.deid.decision import Decision
from usds.curation.deid.identity import Ids
from usds.curation.outcomes import SETTLED, source_row
from usds.curation.picture_corrections import APPLIED, read_decisions
from usds.curation.probe import MEDIA_KINDS
from usds.curation.review_folder import ReviewFolder
from usds.curation.sources import decode_path, split_member
from usds.schemas.dataset import Dataset
from usds.schemas.state import State

__all__ = ["KnownFile", "keep_out", "known_files", "undone"]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A medium of the ledger.

    Attributes
    ----------
    source_key, kind, content : str
    path : str
        Of a member of an archive with its name in it.
    file_id : str
        Keyed hash of the bytes: what decisions refer to.
    """

    source_key: str
    kind: str
    content: str
    path: str
    file_id: str

    @property
    def disk_path(self) -> Path:
        """The file to open: of a member, its archive."""
        return split_member(self.path)[0]

    @property
    def member(self) -> str | None:
        """Name inside the archive."""
        return split_member(self.path)[1]


def known_files(state: State) -> dict[str, list[KnownFile]]:
    """Media of the ledger by source key; a file may have been seen in several places."""
    marks = ", ".join("?" * len(MEDIA_KINDS))
    query = f"SELECT source_key, kind, content, path FROM sources WHERE content <> '' AND kind IN ({marks})"
    with state.ledger() as ledger:
        rows = ledger.execute(f"{query} ORDER BY path", MEDIA_KINDS).fetchall()
    ids = Ids(state.key)
    found: dict[str, list[KnownFile]] = {}
    for key, kind, content, path in rows:
        file = KnownFile(key, kind, content, decode_path(path), ids.clip(content))
        found.setdefault(key, []).append(file)
    return found


def undone(dataset: Dataset, state: State) -> dict[str, Decision]:
    """Decisions that the dataset's rows were not made with, by ``file_id``.

    Those about bytes that were replaced since wait in silence, until the bytes come back.
    """
    applied: dict[str, str] = state.read(APPLIED) or {}
    found = {
        file_id: decided.decision
        for file_id, decided in read_decisions(dataset).items()
        if applied.get(file_id, "") != decided.decision.digest
    }
    if not found:
        return found
    known = {file.file_id for files in known_files(state).values() for file in files}
    return {file_id: decision for file_id, decision in found.items() if file_id in known}


def keep_out(dataset: Dataset, state: State) -> int:
    """Take files out of the dataset that a person wants kept out; no raw file is needed.

    Returns
    -------
    int
        Files taken out. The dataset's lock is held.
    """
    wanted = {key: d for key, d in undone(dataset, state).items() if d.outcome == "keep_out"}
    if not wanted:
        return 0
    columns = ["source_key", "kind", "outcome"]
    there = dataset.arrow("sources").to_table(columns=columns).to_pylist()
    known = known_files(state)
    rows = {
        row["source_key"]: source_row(row["source_key"], row["kind"], "kept_out", warnings=[SETTLED])
        for row in there
        if row["outcome"] in ("ingested", "review")
        and any(file.file_id in wanted for file in known.get(row["source_key"], ()))
    }
    leave_only_rows(dataset, rows)
    review = ReviewFolder.doubted(state)
    for key in rows:
        review.clear(key)
    applied: dict[str, str] = state.read(APPLIED) or {}
    state.write(APPLIED, {**applied, **{key: decision.digest for key, decision in wanted.items()}})
    return len(rows)
