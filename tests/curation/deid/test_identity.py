"""Keyed ids, subject rules, contradictions and age bands."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usds.curation.deid.identity import (
    Ids,
    SubjectSources,
    age_band,
    conflicting,
    is_placeholder,
    resolve_study,
    resolve_subject,
)

KEY = bytes(range(32))
DOMAINS = ("subject", "study", "series", "clip", "source")


def test_id_is_the_documented_hmac() -> None:
    message = b"".join(len(part).to_bytes(8, "big") + part for part in (b"subject", b"id", b"A1"))
    expected = base64.b32encode(hmac.new(KEY, message, hashlib.sha256).digest())[:26].decode().lower()
    assert Ids(KEY).subject("id", "A1") == expected


def test_domains_and_keys_share_no_id() -> None:
    ids, other = Ids(KEY), Ids(bytes(32))
    made = [getattr(ids, domain)("a") for domain in DOMAINS] + [getattr(other, d)("a") for d in DOMAINS]
    made += [ids.frame("a", 0), ids.frame("a", 1), other.frame("a", 0)]
    assert len(set(made)) == len(made)
    assert all(len(one) == 26 and one == one.lower() for one in made)


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_lists_of_fields_do_not_run_together(left: list[str], right: list[str]) -> None:
    assert (Ids(KEY).keyed_hash("x", *left) == Ids(KEY).keyed_hash("x", *right)) == (left == right)


def test_a_name_that_is_no_unicode_has_an_id() -> None:
    assert Ids(KEY).source("scan\udcff.png") != Ids(KEY).source("scan\udcfe.png")


@pytest.mark.parametrize(
    ("values", "fields", "rule"),
    [
        ({"listed": "s1", "sidecar": "m", "patient_id": "p"}, ("id", "S1"), "subjects_csv"),
        ({"sidecar": " ab-1 ", "patient_id": "p"}, ("id", "AB-1"), "sidecar"),
        ({"patient_id": "Ａ１"}, ("id", "A1"), "patient_id"),
        ({"patient_id": "--"}, ("folder", "p1"), "folder"),
        ({"sidecar": "unknown", "patient_id": "7"}, ("id", "7"), "patient_id"),
        ({"listed": "x", "patient_id": "p"}, ("id", "X"), "subjects_csv"),
        ({"mapped": "test", "sidecar": "m"}, ("id", "TEST"), "sidecar"),
        ({"listed": " \0", "mapped": "", "patient_id": "p"}, ("id", "P"), "patient_id"),
        ({"folder": None}, ("file", "c0ffee"), "file"),
    ],
)
def test_first_rule_that_applies_names_the_subject(
    values: dict[str, str | None], fields: tuple[str, ...], rule: str
) -> None:
    sources = SubjectSources(**{"content": "c0ffee", "folder": "p1", **values})  # type: ignore[arg-type]
    assert resolve_subject(sources) == (fields, rule)


def test_an_id_means_the_same_person_in_a_sidecar_and_in_a_header() -> None:
    header = resolve_subject(SubjectSources("x", patient_id="ab 1"))
    assert resolve_subject(SubjectSources("y", sidecar="AB  1"))[0] == header[0]


@pytest.mark.parametrize(
    "value",
    ["", " ", "--", "0", "000000", "XXX", "99999", "anonymous", "Not available", "N/A", "20140312091500",
     "2014-03-12 09:15:00", "20140312-0915", "unknown", "１２３４５６"],
)  # fmt: skip
def test_fillers_name_nobody(value: str) -> None:
    assert is_placeholder(value)


@pytest.mark.parametrize("value", ["7", "11", "777", "BC-004", "20149912091500", "US1", "X1", "1001"])
def test_ids_of_a_numbered_series_are_ids(value: str) -> None:
    assert not is_placeholder(value)


def test_a_study_without_uid_is_the_subjects_folder() -> None:
    assert resolve_study("s", " 1.2.3 ", "a") == resolve_study("s", "1.2.3", "b")
    assert resolve_study("s", None, "a") == resolve_study("s", "", "a")
    assert resolve_study("s", None, "a") != resolve_study("s", None, "b")
    assert resolve_study("s", "1.2.3", "a") != resolve_study("t", "1.2.3", "a")


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        ([("19600101", "F"), ("19600101", "F"), (None, None), ("", "O")], False),
        ([("19600101", "F"), ("19610101", "F")], True),
        ([("19600101", "M"), (None, "f")], True),
        ([], False),
    ],
)
def test_one_id_with_two_birth_dates_or_sexes_is_a_conflict(
    people: list[tuple[str | None, str | None]], expected: bool
) -> None:
    assert conflicting({"birth_date": date, "sex": sex} for date, sex in people) is expected


@pytest.mark.parametrize(
    ("years", "band", "exact"),
    [(0.5, "0", "0"), (1, "1-4", "1"), (4.9, "1-4", "4"), (5, "5-9", "5"), (89.9, "85-89", "89"),
     (90, "90+", "90+"), (104, "90+", "90+"), (None, "unknown", "unknown"), (-1, "unknown", "unknown"),
     (400, "unknown", "unknown")],
)  # fmt: skip
def test_age_bands(years: float | None, band: str, exact: str) -> None:
    assert age_band(years) == band
    assert age_band(years, exact=True) == exact
