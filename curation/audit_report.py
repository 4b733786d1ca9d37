"""The audit as an HTML page: one self-contained file, masked values only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from usds.curation.audit import AuditReport
from usds.schemas.files import atomic_path

__all__ = ["verdict", "write_audit_html"]

_MOST_ROWS: Final = 500


def verdict(report: AuditReport) -> str:
    """The result in one sentence."""
    if report.findings:
        return f"FAILED: {len(report.findings)} findings that must be mended before this dataset is shared."
    if not report.independent:
        return "Nothing was found, but by no independent reader of images: this is not a passed audit."
    return "PASSED: nothing that identifies a person was found."


def write_audit_html(report: AuditReport, path: Path) -> None:
    """Write the page to ``path``, atomically."""
    page = Template((resources.files("usds.curation") / "report.html").read_text("utf-8")).substitute(
        title="Audit of an ultrasound dataset",
        subtitle=escape(f"Images were read by {report.reader}; state {report.digest[:12]} of the dataset."),
        notices=f'<p class="notice">{escape(verdict(report))}</p>',
        tiles="".join(
            f"<li><b>{count:,}</b><span>{escape(name)}</span></li>"
            for name, count in (
                ("findings", len(report.findings)), ("images read", report.images),
                ("strings read", report.strings), ("files read", report.files),
                ("identifiers compared", report.identifiers), ("small combinations", len(report.cohorts)),
            )
        ),
        sections=_findings(report) + _cohorts(report),
    )  # fmt: skip
    with atomic_path(path) as partial:
        partial.write_text(page, "utf-8")


def _findings(report: AuditReport) -> str:
    rows = [(item.klass, item.place, item.masked) for item in report.findings[:_MOST_ROWS]]
    note = (
        f"<p>The first {_MOST_ROWS} of {len(report.findings)}.</p>"
        if len(report.findings) > _MOST_ROWS
        else ""
    )
    return _section("Findings", note + _table(("class", "place", "masked value"), rows))


def _cohorts(report: AuditReport) -> str:
    rows = [(*astuple(cohort)[:5], "<5") for cohort in report.cohorts[:_MOST_ROWS]]
    note = (
        "<p>Combinations of published facts that fewer than five subjects share. They are a risk to weigh, "
        "not a leak: who knows these facts of a person can tell which frames are theirs.</p>"
    )
    header = ("sex", "age", "vendor", "organ", "diagnosis", "subjects")
    return _section("Small combinations", note + _table(header, rows))


def _section(title: str, body: str) -> str:
    return f'<section><h2>{escape(title)}</h2><div class="card wide scroll">{body}</div></section>'


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = ["".join(f"<td>{escape(value)}</td>" for value in row) for row in rows]
    if not cells:
        return "<p>None.</p>"
    top = "".join(f"<th>{escape(name)}</th>" for name in header)
    return f"<table><tr>{top}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
