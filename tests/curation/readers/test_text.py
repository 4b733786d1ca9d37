"""Sidecars of every encoding and shape; a bad row spoils no other, and no message carries a value."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usds.curation.readers.base import Identifier
from usds.curation.readers.sections import is_empty_text, split_sections
from usds.curation.readers.tables import decode
from usds.curation.readers.text import SidecarRow, read_sidecar

Kind = Literal["text", "csv", "json", "jsonl"]


def rows(data: str | bytes, kind: Kind, **mapping: str) -> tuple[SidecarRow, ...]:
    content = data.encode() if isinstance(data, str) else data
    return read_sidecar(content, "x", kind, mapping or None).rows


def texts(row: SidecarRow) -> list[str]:
    return [caption.text for caption in row.captions]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"]
)
def test_every_encoding_is_read(encoding: str) -> None:
    text = "Läsion im rechten Lappen, Größe 2 cm"
    assert texts(rows(text.encode(encoding), "text")[0]) == [text]


def test_bytes_of_no_encoding_are_taken_as_latin() -> None:
    assert decode(b"\x81\xff cyst") == "\x81ÿ cyst"


@pytest.mark.parametrize("mark", [",", "\t", ";", "|"])
def test_columns_are_known_by_name_and_any_delimiter(mark: str) -> None:
    table = "Patient ID,File Name,Findings,Impression,Radiologist\nP1,a.png,A cyst.,Benign.,Dr Zorn\n"
    (row,) = rows(table.replace(",", mark), "csv")
    assert (row.target, row.subject) == ("a.png", "P1")
    assert [(c.section, c.text) for c in row.captions] == [("findings", "A cyst."), ("impression", "Benign.")]
    assert Identifier("Dr Zorn", "staff", "Radiologist") in row.identifiers
    assert Identifier("P1", "id", "Patient ID") in row.identifiers


def test_columns_can_be_mapped() -> None:
    table = "pic,words,more,who,report\na.png,A cyst.,Small.,P1,not this\n"
    (row,) = rows(table, "csv", image="pic", caption="words+more", subject="who")
    assert (row.target, row.subject, texts(row)) == ("a.png", "P1", ["A cyst.", "Small."])


def test_a_table_without_header_is_understood() -> None:
    first, second = rows("a.png,P1,A cyst in the liver\nb.png,P2,A stone in the kidney\n", "csv")
    assert (first.target, texts(first)) == ("a.png", ["A cyst in the liver"])
    assert second.target == "b.png"


def test_broken_rows_are_counted_and_the_rest_is_kept() -> None:
    table = (
        "image,caption\n"
        "a.png,A cyst, with a comma that nobody quoted\n"
        'b.png,"Two\nlines"\n'
        "c.png\n"
        f"d.png,{'x' * 140_000}\n"
        'f.png,a 5" probe\n'
        'e.png,"never closed\n'
        "g.png,A stone.\n"
    )
    result = read_sidecar(table.encode(), "x", "csv")
    assert [(row.target, texts(row)) for row in result.rows] == [
        ("a.png", ["A cyst, with a comma that nobody quoted"]),
        ("b.png", ["Two lines"]),
        ("f.png", ['a 5" probe']),
        ("g.png", ["A stone."]),
    ]
    assert [(p.row, p.reason) for p in result.problems] == [(6, "too_long"), (8, "unclosed_quote")]


@pytest.mark.parametrize(
    "document",
    [
        [{"image": "a.png", "caption": "A cyst."}],
        {"a.png": "A cyst."},
        {"a.png": {"caption": "A cyst."}},
        {"a.png": ["A cyst."]},
        {"images": [{"file": "a.png", "findings": "A cyst."}]},
        {"data": [{"media_name": "a.png", "report": {"text": "A cyst."}}]},
        {"image": "a.png", "caption": "A cyst."},
        {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "caption": "A cyst."}]},
    ],
)
def test_shapes_of_json(document: object) -> None:
    (row,) = rows(json.dumps(document), "json")
    assert (row.target, texts(row)) == ("a.png", ["A cyst."])


def test_a_nested_record_gives_its_subject_and_identifiers() -> None:
    document = {
        "patient": {"id": "P-77", "name": "Ada Zorn", "birth_date": "1960-02-04"},
        "study": {"accession_number": "ACC9912", "report": "A cyst."},
        "size": 3, "empty": None, "flag": True,
    }  # fmt: skip
    (row,) = rows(json.dumps(document), "json")
    assert (row.target, row.subject, texts(row)) == (None, "P-77", ["A cyst."])
    assert {(one.value, one.klass) for one in row.identifiers} >= {
        ("Ada Zorn", "name"), ("1960-02-04", "date"), ("ACC9912", "id"), ("P-77", "id"),
    }  # fmt: skip


def test_lines_of_json_fail_one_by_one() -> None:
    lines = (
        '{"image": "a.png", "caption": "A cyst."}\nSMITH {\n[1]\n\n{"image": "b.png", "caption": "A stone."}'
    )
    result = read_sidecar(lines.encode(), "x", "jsonl")
    assert [row.target for row in result.rows] == ["a.png", "b.png"]
    assert [(p.row, p.reason) for p in result.problems] == [(2, "not_json"), (3, "not_a_record")]
    assert "SMITH" not in repr(result.problems)


@pytest.mark.parametrize(
    ("document", "reason"), [("{", "not_json"), ("[" * 100_000, "too_deep"), ("3", "not_a_record")]
)
def test_json_that_is_none(document: str, reason: str) -> None:
    result = read_sidecar(document.encode(), "x", "json")
    assert (result.rows, [p.reason for p in result.problems]) == ((), [reason])


def test_a_report_is_cut_at_its_headings_and_loses_its_frame() -> None:
    report = (
        "Patient: Ada Zorn\nMRN: 0048151\nDOB: 04.02.1960\n\nCLINICAL HISTORY:\nPain.\n\nFINDINGS:\nThe liver\n"
        "is normal.\nIMPRESSION: No mass.\nElectronically signed by Dr. Bert Quill on 01/02/2020\nPage 1\n"
    )
    (row,) = rows(report, "text")
    assert [(c.section, c.text) for c in row.captions] == [
        ("history", "Pain."), ("findings", "The liver is normal."), ("impression", "No mass."),
    ]  # fmt: skip
    assert row.subject == "0048151"
    assert {(one.value, one.klass) for one in row.identifiers} == {
        ("Ada Zorn", "name"), ("0048151", "id"), ("04.02.1960", "date"), ("Dr. Bert Quill", "staff"),
    }  # fmt: skip


def test_one_heading_inside_a_caption_does_not_cut_it() -> None:
    caption = "A round lesion, margin circumscribed. Interpretation: Cyst. BI-RADS 2."
    assert [(part.name, part.text) for part in split_sections(caption)] == [(None, caption)]
    line = "FINDINGS: A cyst. IMPRESSION: Benign."
    assert [part.name for part in split_sections(line)] == ["findings", "impression"]


@pytest.mark.parametrize("text", ["No findings provided.", "N/A", "--", "see report", "  ", "12.5", "null"])
def test_texts_that_say_nothing_are_recognised(text: str) -> None:
    assert is_empty_text(text)
    assert rows(json.dumps([{"image": "a.png", "caption": text}]), "json") == ()


def test_a_row_in_plain_form_goes_into_the_state() -> None:
    (row,) = rows('{"image": "a.png", "caption": "A cyst.", "study_uid": "1.2.3"}', "json")
    plain = json.loads(json.dumps(row.to_json()))
    assert plain["image"] == "a.png"
    assert plain["study"] == "1.2.3"
    assert plain["captions"][0]["text"] == "A cyst."


@given(st.binary(max_size=400), st.sampled_from(["text", "csv", "json", "jsonl"]))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_taken(data: bytes, kind: Kind) -> None:
    result = read_sidecar(data, "x", kind)
    assert all(isinstance(row, SidecarRow) for row in result.rows)
