"""The audit as an HTML page: one self-contained file, masked values only, written to be signed and filed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from datetime import UTC, datetime
from html import escape
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import Final

from usds.curation.audit.run import AuditReport
from usds.schemas.files import atomic_path

__all__ = ["MEANINGS", "verdict", "write_audit_html"]

_MOST_ROWS: Final = 500
_AGAIN: Final = "Find its source with usds locate, mend it, and ingest again with --redo; or usds forget."
_HARVESTED: Final = ("An identifier that stands in the raw data was found again.", _AGAIN)
MEANINGS: Final[Mapping[str, tuple[str, str]]] = {
    "pattern": ("Text has the shape of a date, number, address or titled name that no header held.", _AGAIN),
    "text_in_image": ("A word can be read in a picture.", "Look at it (usds audit --show). " + _AGAIN),
    "image_metadata": ("A stored picture holds more than its pixels.", "Ingest its source again."),
    "unread_image": ("The reader failed at a picture.", "Audit again; if it stays, ingest its source again."),
    "file_metadata": ("A table carries notes.", "Ingest or annotate again; tables are not to be edited."),
    "hidden_bytes": (
        "A file holds bytes that its rows do not show.",
        "Ingest or annotate again with --redo.",
    ),
    "unknown_column": ("A table has a column that no table of usds has.", "Ingest or annotate again."),
    "unknown_row": ("A picture is stored that no row of frames names.", "Ingest again with --redo."),
    "unknown_file": ("Something lies in the folder that is no part of the dataset.", "Move it out."),
    "damaged_file": ("A file is missing, cut off or changed.", "Restore it, or ingest or annotate again."),
    "not_a_keyed_id": ("An id was not made with the key of the dataset.", "Ingest its source again."),
    "open_vocabulary": ("A coded column holds a value of no list.", "Ingest or annotate again."),
    "withdrawn_subject": ("A subject that withdrew is still there.", "Run usds forget for it again."),
}
"""What each class of finding means, and what to do. Other classes are those of harvested identifiers."""

_LIMITS: Final = (
    "Names that stand in no header, file name or sidecar are found only by their shape.",
    "Letters too faint or too small for the reader, and handwriting, may stay.",
    "A rare disease, a rare body or a picture that was published elsewhere can identify a person without any "
    "word. The small combinations are what can be counted of that; the rest needs a person's judgement.",
    "Whoever holds the private state can link every frame to its patient: it must not be handed on.",
)
_FOOTER: Final = (
    "<p>Values are masked: the first character stays. Places name tables, files and keyed ids, which only "
    "the holder of the private state can trace. Counts of 1 to 4 subjects are printed as &lt;5.</p>"
)


def verdict(report: AuditReport) -> str:
    """The result in one sentence."""
    if report.findings:
        return f"FAILED: {len(report.findings):,} findings that must be mended before this dataset is shared."
    if not report.independent:
        return "Nothing was found, but by no independent reader of images: this is not a passed audit."
    if not report.known:
        return "PASSED, but by patterns alone: no identifier of a patient was at hand to be searched."
    return "PASSED: nothing that identifies a person was found."


def write_audit_html(report: AuditReport, path: Path) -> None:
    """Write the page to ``path``, atomically."""
    kind = "failed" if report.findings else "passed" if report.passed and report.known else ""
    tiles = (
        ("findings", len(report.findings)), ("images read", report.images), ("strings read", report.strings),
        ("files read", report.files), ("identifiers compared", report.identifiers),
        ("small combinations", len(report.cohorts)),
    )  # fmt: skip
    page = Template((resources.files("usds.curation") / "report.html").read_text("utf-8")).substitute(
        title="Privacy audit of an ultrasound dataset",
        subtitle=escape(
            f"dataset {report.about.get('dataset_id', '')} · {datetime.now(UTC):%Y-%m-%d %H:%M} UTC · "
            f"usds {metadata.version('usds')}"
        ),
        notices=f'<p class="notice verdict {kind}">{escape(verdict(report))}</p>',
        tiles="".join(f"<li><b>{count:,}</b><span>{escape(name)}</span></li>" for name, count in tiles),
        sections="".join((_findings(report), _scope(report), _cohorts(report), _limits(), _record(report))),
        footer=_FOOTER,
    )
    with atomic_path(path) as partial:
        partial.write_text(page, "utf-8")


def _findings(report: AuditReport) -> str:
    if not report.findings:
        return _section("Findings", "<p>None.</p>")
    meanings = [
        (klass, f"{count:,}", *MEANINGS.get(klass.split(":")[0], _HARVESTED))
        for klass, count in report.counts().items()
    ]
    rows = [(item.klass, item.place, item.masked) for item in report.findings[:_MOST_ROWS]]
    note = (
        f"<p>The first {_MOST_ROWS} of {len(report.findings):,}; all are printed by usds audit --json.</p>"
        if len(report.findings) > _MOST_ROWS
        else ""
    )
    return _section(
        "Findings", _table(("class", "count", "meaning", "what to do"), meanings)
    ) + _section("Where", note + _table(("class", "place", "masked value"), rows))  # fmt: skip


def _scope(report: AuditReport) -> str:
    known = ", ".join(f"{count:,} {klass}" for klass, count in sorted(report.known.items()))
    reader = report.reader if report.independent else f"{report.reader}: no independent reader is installed"
    rows = [
        ("identifiers", known or "none at hand: only patterns were searched", "harvested from headers, names "
         "of files and folders, sidecars and reports"),
        ("images", f"{report.images:,}", f"text read by {reader}; every segment of the encoded files; pixels "
         "that fill up blocks; rows hidden by a header"),
        ("strings", f"{report.strings:,}", "of every column: compared with the subject's identifiers, with "
         "those of all other patients, with patterns, and with the lists of coded columns"),
        ("files", f"{report.files:,}", "hashes, unknown files and folders, attributes, links, notes, unused "
         "entries and raw bytes of tables, documents"),
    ]  # fmt: skip
    return _section("What was searched", _table(("what", "how many", "how"), rows))


def _cohorts(report: AuditReport) -> str:
    rows = [(*astuple(cohort)[:5], "<5") for cohort in report.cohorts[:_MOST_ROWS]]
    note = (
        "<p>Combinations of published facts that fewer than five subjects share. They are a risk to weigh, "
        "not a leak: who knows these facts of a person can tell which frames are theirs.</p>"
    )
    header = ("sex", "age", "vendor", "organ", "diagnosis", "subjects")
    return _section("Small combinations", note + _table(header, rows))


def _limits() -> str:
    items = "".join(f"<li>{escape(limit)}</li>" for limit in _LIMITS)
    return _section("What an audit cannot tell", f"<ul>{items}</ul>")


def _record(report: AuditReport) -> str:
    names = {
        "dataset_id": "dataset", "tool": "made by", "detector": "text detector of the ingest",
        "settings_hash": "settings", "key_fingerprint": "fingerprint of the key",
    }  # fmt: skip
    rows = [(names[name], value) for name, value in report.about.items()]
    rows.append(("state that was audited", report.digest))
    signed = _table(("decision", "name and function", "date and signature"), [("", "", "")]).replace(
        "<table", '<table class="sign"', 1
    )
    note = "<p>This page speaks of the state below. After any change of the dataset, audit it again.</p>"
    return _section("For the record", note + _table(("what", "value"), rows) + signed)


def _section(title: str, body: str) -> str:
    return f'<section><h2>{escape(title)}</h2><div class="card wide scroll words">{body}</div></section>'


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = ["".join(f"<td>{escape(value)}</td>" for value in row) for row in rows]
    if not cells:
        return "<p>None.</p>"
    top = "".join(f"<th>{escape(name)}</th>" for name in header)
    return f"<table><tr>{top}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
