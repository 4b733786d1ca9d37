"""The page of an audit: what a person who has to sign it reads there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.audited import index, make

from usds.curation.audit.report import MEANINGS, verdict, write_audit_html
from usds.curation.audit.run import AuditReport, audit
from usds.curation.audit.types import Finding

SOURCE = Path(__file__).parents[3] / "curation/audit"


@pytest.fixture
def report(tmp_path):
    dataset = make(
        tmp_path / "d", frame={"vendor": "Praxis <b>"}, caption="Seen by Winterbottom, 2021-04-12."
    )
    return audit(dataset, index())


@pytest.mark.parametrize(
    ("known", "independent", "found", "expected"),
    [
        ({"name": 2}, True, [], "PASSED: nothing that identifies a person was found."),
        ({}, True, [], "PASSED, but by patterns alone: no identifier"),
        ({"name": 2}, False, [], "Nothing was found, but by no independent reader"),
        ({"name": 2}, True, [Finding("name", "x", "W*")] * 1200, "FAILED: 1,200 findings"),
    ],
)
def test_the_verdict_says_what_it_rests_on(known, independent, found, expected):
    report = AuditReport(known=known, independent=independent, findings=found)
    assert verdict(report).startswith(expected)


def test_every_class_of_finding_has_a_meaning():
    named = set()
    for path in SOURCE.glob("*.py"):
        named |= set(re.findall(r"""Finding\(\s*"([a-z_]+)\"""", path.read_text("utf-8")))
    assert named == MEANINGS.keys() - {"pattern"}


def test_the_page_says_what_was_found_where_and_what_to_do(report, tmp_path, browser):
    path = tmp_path / "audit.html"
    write_audit_html(report, path)
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    shown = page.inner_text("main")
    page.close()
    assert asked == [path.as_uri()]
    for words in (
        "FAILED", "An identifier that stands in the raw data was found again.", "usds forget", "frames.vendor",
        "W***", "1 institution, 1 name", report.digest, report.about["dataset_id"], "date and signature",
        "What an audit cannot tell",
    ):  # fmt: skip
        assert words in shown, words
    assert "winterbottom" not in path.read_text("utf-8").lower()
    assert "Praxis <b>" not in path.read_text("utf-8")


def test_a_name_in_the_description_of_the_dataset_is_masked_on_the_page(tmp_path):
    dataset = make(tmp_path / "d")
    dataset.save_info(tool="usds of Agatha Winterbottom")
    write_audit_html(audit(dataset, index()), tmp_path / "audit.html")
    assert "winterbottom" not in (tmp_path / "audit.html").read_text("utf-8").lower()
