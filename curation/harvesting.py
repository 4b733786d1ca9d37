"""Fill the harvest index from the catalogue: what headers, names and sidecars identify."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import PurePosixPath

from usds.curation.catalogue import Catalogue, Entry
from usds.curation.deid.harvest import IdentifierIndex
from usds.curation.readers.base import Identifier
from usds.schemas.state import State

__all__ = ["STAMP", "build_index", "rebuild_index"]

STAMP = "index_stamp"


def build_index(state: State, catalogue: Catalogue) -> str:
    """Write the index of all files ever seen, also of those that have left the raw folder.

    Returns
    -------
    str
        Fingerprint of its content.
    """
    index = IdentifierIndex()
    digest = hashlib.sha256()
    facts = sorted({fact for row in catalogue.identifiers() for fact in _facts(*row)}, key=repr)
    for subject_id, value, klass, cue in facts:
        index.add(subject_id, Identifier(value, klass, cue))  # type: ignore[arg-type]
        digest.update(json.dumps([subject_id, value, klass, cue]).encode())
    index.save(state)
    _record_subjects(state, facts)
    state.write(STAMP, {"stamp": digest.hexdigest()})
    return digest.hexdigest()


def rebuild_index(state: State) -> None:
    """Write the index again after files were forgotten."""
    catalogue = Catalogue(state.folder, "")
    try:
        build_index(state, catalogue)
    finally:
        catalogue.close()


_Fact = tuple[str | None, str, str, str | None]


def _facts(entry: Entry, subject_id: str | None, found: list[tuple[str, str, str | None]]) -> Iterator[_Fact]:
    for value, klass, cue in found:
        yield subject_id, value, klass, cue
    path = PurePosixPath(entry.relative.replace("!/", "/"))
    for part in (*path.parent.parts, path.stem):
        yield subject_id, part.encode("utf-8", "replace").decode("utf-8"), "path", None
    for row in entry.facts.get("rows", ()):
        for value, klass, cue in row["identifiers"]:
            yield subject_id, value, klass, cue


def _record_subjects(state: State, facts: list[_Fact]) -> None:
    """The ledger tells a person who a subject is: names, ids and birth dates of its headers."""
    kinds = ("name", "id", "date")
    state.record_subjects(
        (subject_id, klass, value) for subject_id, value, klass, _ in facts if subject_id and klass in kinds
    )
