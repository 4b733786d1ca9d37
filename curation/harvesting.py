"""Fill the harvest index from the catalogue: what headers, names and sidecars identify."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

from usds.curation.catalogue import Catalogue, Entry
from usds.curation.deid.harvest import IdentifierIndex
from usds.curation.probe import probe_file
from usds.curation.readers.base import Identifier
from usds.curation.settings import IngestSettings
from usds.curation.sources import encode_path, scan
from usds.schemas.state import State

__all__ = ["STAMP", "build_index", "harvest_raw", "rebuild_index"]

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


def harvest_raw(raws: Sequence[Path]) -> IdentifierIndex:
    """Harvest raw folders anew, in memory, for an auditor who has no private state.

    Nobody says here whose file is whose, so every identifier counts for every subject.

    Raises
    ------
    UsageError
        If one of the folders does not exist.
    """
    settings = IngestSettings()
    index = IdentifierIndex()
    for file in scan(raws).files:
        path = PurePosixPath(encode_path(file.relative))
        for part in (*path.parent.parts, path.stem):
            index.add(None, Identifier(part, "path"))
        if not file.reason:
            _add_probe(index, Path(file.path), None, settings)
    return index


def _add_probe(index: IdentifierIndex, path: Path, member: str | None, settings: IngestSettings) -> None:
    probe = probe_file(path, member, settings)
    found = [*probe.identifiers, *(i for row in probe.facts.get("rows", ()) for i in row["identifiers"])]
    for value, klass, cue in found:
        index.add(None, Identifier(value, cast(Any, klass), cue))
    for name, _, reason in probe.facts.get("members", ()):
        if not reason:
            _add_probe(index, path, name, settings)


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
