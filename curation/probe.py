"""The first pass over one file: what it is, what its bytes hash to, whom it names.

Everything found stays in the private state. Pixels are not decoded here.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Final, Literal

from usds.curation.catalogue import Probe
from usds.curation.readers.archive import Archive
from usds.curation.readers.base import Identifier, Media, MediaError, open_media
from usds.curation.readers.sniff import HEAD_BYTES, sniff
from usds.curation.readers.source import ByteSource
from usds.curation.readers.sr import read_report
from usds.curation.readers.text import SidecarTable, read_sidecar
from usds.curation.settings import IngestSettings
from usds.curation.sidecars import SIDECAR_KINDS
from usds.schemas.files import canonical_json, file_sha256

__all__ = ["MEDIA_KINDS", "PROBE_VERSION", "file_state", "probe_file", "probe_stamp", "read_source"]

PROBE_VERSION: Final = 1
"""Raised when a probe finds more than it used to; every file is then read again."""
MEDIA_KINDS: Final = ("dicom", "image", "video")


def file_state(path: Path) -> tuple[int, int]:
    """Size and time of change, to notice a file that changes while it is read."""
    info = os.stat(path)
    return info.st_size, info.st_mtime_ns


def read_source(path: Path, member: str | None, settings: IngestSettings) -> bytes | Path:
    """The bytes of an archive's member, or the path of a plain file (read where needed)."""
    if member is None:
        return path
    with Archive(path, settings.limits) as archive:
        return archive.read(member)


def probe_stamp(settings: IngestSettings) -> str:
    """What the first pass depends on besides the files."""
    content = canonical_json(
        {
            "limits": settings.limits.model_dump(mode="json"),
            "columns": settings.columns,
            "version": PROBE_VERSION,
        }
    )
    return hashlib.sha256(content).hexdigest()[:16]


def probe_file(path: Path, member: str | None, settings: IngestSettings) -> Probe:
    """Find out about one file.

    Parameters
    ----------
    path : Path
        The file, or the archive.
    member : str or None
        Name inside the archive.
    settings : IngestSettings

    Returns
    -------
    Probe
        With a reason other than "ok" where the file is refused.
    """
    try:
        data = read_source(path, member, settings)
    except MediaError as error:
        return Probe("unknown", error.reason)
    if isinstance(data, bytes):
        content, head, tail = hashlib.sha256(data).hexdigest(), data[:HEAD_BYTES], data[-HEAD_BYTES:]
    else:
        content = file_sha256(data)
        head, tail = _ends(data)
    kind = sniff(head, tail)
    if kind == "zip" and member is not None:
        return Probe(kind, "nested_archive", content)
    probe = Probe(kind, "ok", content)
    try:
        _look_inside(probe, data, settings)
    except MediaError as error:
        probe.reason = error.reason
    return probe


def _ends(path: Path) -> tuple[bytes, bytes]:
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        stream.seek(-min(HEAD_BYTES, path.stat().st_size), 2)
        return head, stream.read(HEAD_BYTES)


def _look_inside(probe: Probe, data: bytes | Path, settings: IngestSettings) -> None:
    if probe.kind in MEDIA_KINDS:
        with open_media(data, kind=probe.kind, limits=settings.limits) as media:
            probe.facts = _facts(media)
            probe.identifiers = plain_identifiers(media.identifiers())
    elif probe.kind == "zip":
        with Archive(data, settings.limits) as archive:
            probe.facts = {"members": [[m.name, m.size, m.reason] for m in archive.members()]}
    elif probe.kind == "sr":
        _keep_rows(probe, read_report(data, settings.limits))
    elif probe.kind in SIDECAR_KINDS:
        _keep_rows(probe, _sidecar(probe.kind, data, settings))
    else:
        probe.reason = "unsupported"


def _sidecar(kind: str, data: bytes | Path, settings: IngestSettings) -> SidecarTable:
    if isinstance(data, Path):
        data = ByteSource(data, settings.limits).read_all(settings.limits.max_memory_file_bytes)
    kinds: dict[str, Literal["text", "csv", "json", "jsonl"]] = {
        "text": "text", "csv": "csv", "json": "json", "jsonl": "jsonl"
    }  # fmt: skip
    return read_sidecar(data, "", kinds[kind], settings.columns)


def _keep_rows(probe: Probe, table: SidecarTable) -> None:
    probe.facts = {"rows": [row.to_json() for row in table.rows]}
    if table.problems and not table.rows:
        probe.reason = "malformed_sidecar"


def _facts(media: Media) -> dict[str, Any]:
    header = media.header
    return {
        "n_frames": media.n_frames,
        "patient_id": header.patient_id,
        "birth_date": header.patient_birth_date,
        "sex": header.patient_sex,
        "study_uid": header.study_uid,
        "series_uid": header.series_uid,
        "sop_uid": header.sop_uid,
        "captions": len(header.captions),
    }


def plain_identifiers(found: list[Identifier]) -> list[tuple[str, str, str | None]]:
    """Identifiers as JSON values."""
    return [(one.value, one.klass, one.cue) for one in found]
