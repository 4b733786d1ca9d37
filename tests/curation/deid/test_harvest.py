"""Harvested identifiers are found in every writing, and words of pictures are not mistaken for them."""

from __future__ import annotations

import random
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usds.curation.deid.harvest import IdentifierIndex, Matcher
from usds.curation.readers.base import Identifier
from usds.schemas.state import State


def matcher(*identifiers: tuple[str, str], staff: tuple[str, ...] = ()) -> Matcher:
    index = IdentifierIndex()
    for value, klass in identifiers:
        index.add("s1", Identifier(value, klass))  # type: ignore[arg-type]
    for value in staff:
        index.add("s2", Identifier(value, "staff"))
    return index.matcher("s1")


def found(one: Matcher, text: str, **how: bool) -> list[str]:
    return [text[match.start : match.end] for match in one.find(text, **how)]


@pytest.mark.parametrize(
    ("value", "klass", "text", "expected"),
    [
        ("Kowalczyk^Zofia", "name", "Seen: zofia kowalczyk today", "zofia kowalczyk"),
        ("Kowalczyk^Zofia", "name", "KOWALCZYK, ZOFIA: liver", "KOWALCZYK, ZOFIA"),
        ("Kowalczyk^Zofia", "name", "file zofiakowalczyk ok", "zofiakowalczyk"),
        ("Kowalczyk^Zofia", "name", "Mrs Kowalczyk's liver", "Kowalczyk"),
        ("Kowalczyk^Zofia", "name", "Z. Kowalczyk", "Z. Kowalczyk"),
        ("Müller-Łoś^Anaïs", "name", "Frau MULLER LOS", "MULLER LOS"),
        ("Groß^Jörg", "name", "Jorg Gross", "Jorg Gross"),
        ("山田^太郎", "name", "患者は山田太郎です", "山田太郎"),
        ("White^Rose", "name", "rose white was seen", "rose white"),
        ("O'Brien^Siobhan", "name", "siobhan obrien", "siobhan obrien"),
        ("AB-00123.45", "id", "id ab 00123 45 end", "ab 00123 45"),
        ("0048151", "id", "number 48151.", "48151"),
        ("48151", "id", "number 0048151.", "48151"),
        ("MRN0098765", "id", "no 98765", "98765"),
        ("1.2.840.113619.2.55", "id", "uid 1.2.840.113619.2.55", "1.2.840.113619.2.55"),
        ("+49 (0)89 1234-5678", "phone", "call 12345678", "12345678"),
        ("Klinikum Großhadern", "institution", "at GROSSHADERN", "GROSSHADERN"),
        ("Lindenweg 4, 80331 München", "address", "lives Lindenweg", "Lindenweg"),
        ("patient_Kowalczyk_19600214", "path", "14.02.1960", "14.02.1960"),
        ("KowalczykZofia_IM0012", "path", "Zofia", "Zofia"),
    ],
)
def test_an_identifier_is_found_in_other_writings(value: str, klass: str, text: str, expected: str) -> None:
    assert found(matcher((value, klass)), text) == [expected]


@pytest.mark.parametrize(
    "written",
    ["19600204", "1960-02-04", "04.02.1960", "4/2/1960", "2/4/1960", "04-02-60", "4 Feb 1960", "Feb 4, 1960",
     "4th of February 1960", "FEBRUARY 4 1960", "04feb60", "4. Februar 1960", "4 février 1960", "1960 02 04"],
)  # fmt: skip
def test_a_date_is_found_in_a_dozen_notations(written: str) -> None:
    for value in ("19600204", "19600204101530", "1960-02-04"):
        assert found(matcher((value, "date")), f"born {written}, liver") == [written]


def test_a_time_of_day_is_found() -> None:
    assert found(matcher(("101530.250", "date")), "at 10:15:30") == ["10:15:30"]
    assert found(matcher(("000000", "date")), "000000") == []


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("Solis^Iole", "S0L15"), ("Kowalczyk^Zofia", "K0WAICZYK"), ("Kowalczyk^Zofia", "KOWALCZVK"),
        ("Kowalczyk^Zofia", "KOWALZYK"), ("Kowalczyk^Zofia", "NAMEKOWALCZYK"), ("Kowalczyk^Zofia", "KOWA|CZYK"),
    ],
)  # fmt: skip
def test_confusions_of_reading_are_forgiven_in_ocr_only(value: str, seen: str) -> None:
    one = matcher((value, "name"))
    (place,) = one.find(f"{seen} 12cm", ocr=True)
    assert place.start <= len(seen) - 9 or place.start == 0
    assert place.end >= len(seen)
    assert found(one, f"{seen} 12cm") == []


def test_a_word_one_letter_from_a_name_stays() -> None:
    one = matcher(("Livers^Spleena", "name"))
    assert found(one, "LIVER SPLEEN KIDNEY", ocr=True) == []


@pytest.mark.parametrize(
    ("value", "klass", "text"),
    [
        ("Long^White", "name", "long white head"),
        ("OB^^^^", "name", "OB scan"),
        ("Breast^Left", "name", "left breast"),
        ("Anonymized", "name", "anonymized image"),
        ("ANONYMOUS", "id", "anonymous image"),
        ("1234", "id", "1234 m/s"),
        ("case004", "path", "case with 4 cm"),
        ("left_breast", "path", "the left breast"),
        ("graves_disease", "path", "Graves disease"),
        ("IM00012", "path", "12 cm"),
        ("2.3 x 1.4 cm", "other", "2.3 x 1.4"),
        ("ABDOMEN", "other", "upper abdomen"),
        ("Radiology", "institution", "radiology report"),
    ],
)
def test_words_of_pictures_are_no_identifiers(value: str, klass: str, text: str) -> None:
    one = matcher((value, klass))
    plain = [] if value != "Long^White" else ["long white"]
    assert found(one, text) == plain


def test_short_values_and_words_count_beside_a_cue_and_outside_the_image() -> None:
    one = matcher(("Long^Xu", "name"), ("AC", "staff"), ("7421", "id"))
    assert found(one, "long axis, AC 30 cm, 7421") == []
    assert found(one, "Dr Long") == ["Long"]
    assert found(one, "Operator: AC") == ["AC"]
    assert found(one, "ID 7421") == ["7421"]
    assert found(one, "long AC 7421", outside_area=True) == ["long", "AC", "7421"]


def test_a_single_letter_or_digit_names_nobody() -> None:
    one = matcher(("report 4 A", "path"), ("\u91d1", "name"))
    assert found(one, "seen by 4, Dr A") == []
    assert found(one, "Patient: \u91d1") == ["\u91d1"]


def test_a_full_stop_after_a_whole_word_ends_the_sentence_of_a_cue() -> None:
    one = matcher(("breast", "path"), ("Long^Xu", "name"))
    assert found(one, "52-year-old patient. Breast tissue is dense") == []
    assert found(one, "seen by Dr. Long today") == ["Long"]
    assert found(one, "patient: Long, seen today") == ["Long"]


def test_a_subject_sees_all_staff_but_not_other_patients() -> None:
    index = IdentifierIndex()
    index.add("s1", Identifier("Kowalczyk^Zofia", "name"))
    index.add("s2", Identifier("Marchetti^Elio", "name"))
    index.add("s2", Identifier("Okonkwo^Ada", "staff"))
    index.add(None, Identifier("Zzyzx77", "other"))
    text = "Kowalczyk, Marchetti, Okonkwo, Zzyzx77"
    assert found(index.matcher("s1"), text) == ["Kowalczyk", "Okonkwo", "Zzyzx77"]
    assert found(index.matcher(None), text) == ["Okonkwo", "Zzyzx77"]
    assert found(index.matcher_of_all(), text) == ["Kowalczyk", "Marchetti", "Okonkwo", "Zzyzx77"]


def test_numbers_of_a_caption_are_not_glued_to_an_id() -> None:
    one = matcher(("48151", "id"))
    assert found(one, "sizes 48 151 and 4.8151 and 481 51 cm") == []


def test_a_form_does_not_cross_a_gap() -> None:
    assert found(matcher(("Rose^White", "name")), "in the picture a rose      white line stands") == []


def test_the_index_survives_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USDS_STATE", str(tmp_path))
    state = State.create("d1")
    index = IdentifierIndex()
    index.add("s1", Identifier("Kowalczyk^Zofia", "name", "PatientName"))
    index.add("s2", Identifier("Okonkwo^Ada", "staff"))
    other = IdentifierIndex()
    other.add("s1", Identifier("X-99812", "id"))
    index.merge(other)
    index.save(state)
    loaded = IdentifierIndex.load(state)
    assert found(loaded.matcher("s1"), "Kowalczyk X99812 Okonkwo") == ["Kowalczyk", "X99812", "Okonkwo"]
    assert found(loaded.matcher("s3"), "Kowalczyk X99812 Okonkwo") == ["Okonkwo"]
    assert list(loaded.identifiers("s2")) == [Identifier("Okonkwo^Ada", "staff")]
    mode = stat.S_IMODE((state.folder / "harvest.sqlite").stat().st_mode)
    assert sys.platform == "win32" or mode == 0o600


@given(st.text(max_size=200), st.text(min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_text_and_any_value_give_ordered_places(text: str, value: str) -> None:
    one = matcher((value, "name"), (value, "id"), (value, "date"), (value, "path"), (value, "other"))
    for how in ({}, {"ocr": True}, {"outside_area": True}):
        last = 0
        for match in one.find(text + value, **how):
            assert last <= match.start < match.end <= len(text + value)
            last = match.end


def test_work_is_linear_in_text_and_names() -> None:
    """Counted, not timed: no place of the text looks at more than a few of 3,000 names."""
    rng = random.Random(3)
    letters = "bcdfgklmnprstvz"
    names = ["".join(rng.choice(letters) + rng.choice("aeiou") for _ in range(4)) for _ in range(3_000)]
    one = matcher(staff=tuple(f"{a}^{b}" for a, b in zip(names[::2], names[1::2], strict=True)))
    text = "the liver is normal and the kidney shows no stone " * 2_000
    assert found(one, text + names[7]) == [names[7]]


@pytest.mark.parametrize("name", ["White^Rose", "Long^Grant", "Head^Mark", "Young^May"])
def test_a_header_in_few_words_may_hold_a_patient_who_is_called_like_a_word(name: str) -> None:
    family, given = name.upper().split("^")
    one = matcher((name, "name"))
    assert found(one, f"ABDOMEN {family}") == [family]
    assert found(one, f"{given} liver") == [given]
    assert found(one, family.lower()) == [family.lower()]
    # A sentence has other signs of a person; and colleagues called Long would cost every "long axis".
    assert found(one, "a white line along the long axis of the young head may mark the rose") == []
    assert found(matcher(staff=(name,)), f"ABDOMEN {family}") == []
