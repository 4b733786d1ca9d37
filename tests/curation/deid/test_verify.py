"""The second look reads what strokes and tiles suggest, and knows what an identifier looks like."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from support.pixel_scenes import KnownWords, linear_area, screen, write

from usds.curation.deid.burned_text import TextDetector
from usds.curation.deid.harvest import IdentifierIndex, Matcher
from usds.curation.deid.strokes import stroke_groups
from usds.curation.deid.verify import Verifier, VerifierSettings, looks_identifying
from usds.curation.readers.base import Identifier


def kowalska() -> Matcher:
    """What the harvest of one header gives."""
    index = IdentifierIndex()
    index.add("s1", Identifier("KOWALSKA^EWA", "name", "PatientName"))
    return index.matcher("s1")


class BlindDetector(TextDetector):
    """A detector that must not be asked: verification may only read."""

    def detect(self, *args: object, **kwargs: object) -> list:  # type: ignore[override]
        raise AssertionError("verification used the detector it is to check")


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return Verifier(BlindDetector())


def test_harvested_name_is_found_without_the_detector(verifier: Verifier) -> None:
    rgb = screen(linear_area())
    rows, columns = write(rgb, "KOWALSKA", (230, 250), scale=0.8)
    findings = verifier.check(rgb, kowalska())
    hits = [finding.box for finding in findings if finding.kind == "identifier"]
    assert any(box.x0 <= columns.start + 6 and box.x1 >= columns.stop - 6 for box in hits)
    assert any(box.y0 <= rows.start + 2 and box.y1 >= rows.stop - 2 for box in hits)


def test_date_is_an_identifier_though_nothing_was_harvested(verifier: Verifier) -> None:
    rgb = screen(linear_area())
    write(rgb, "23/08/1949", (230, 250), scale=0.8)
    assert "identifier" in {finding.kind for finding in verifier.check(rgb, KnownWords())}


def test_harmless_legible_word_is_a_finding_of_its_own_kind(verifier: Verifier) -> None:
    rgb = screen(linear_area())
    write(rgb, "LIVER LONG", (230, 250), scale=0.8)
    assert {finding.kind for finding in verifier.check(rgb, KnownWords())} == {"text"}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_speckle_says_nothing(verifier: Verifier, seed: int) -> None:
    assert verifier.check(screen(linear_area(), seed=seed), KnownWords("smith")) == []


@pytest.mark.parametrize(
    "text",
    ["05/25/2011", "24-MAY-02", "11:24:20", "ID 00079241539", "SMITH^JOHN", "Smith, John", "Name: X",
     "ST MARY HOSPITAL"],
)  # fmt: skip
def test_shapes_of_identifiers(text: str) -> None:
    assert looks_identifying(text)


@pytest.mark.parametrize("text", ["LIVER", "Dist 15.23 cm", "MI 1.1", "28Hz", "2D 64%", "LT KIDNEY LONG"])
def test_shapes_of_settings(text: str) -> None:
    assert not looks_identifying(text)


def test_strokes_in_a_row_come_first() -> None:
    rgb = screen(linear_area())
    rows, columns = write(rgb, "MUELLER", (230, 250), scale=0.8)
    best = stroke_groups(np.ascontiguousarray(rgb.max(axis=2)), limit=1)[0].box
    assert min(columns.stop, best[2]) - max(columns.start, best[0]) > 40
    assert min(rows.stop, best[3]) - max(rows.start, best[1]) > 8


def test_verification_cannot_be_switched_off() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 8"):
        VerifierSettings(groups=0)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        VerifierSettings(enabled=False)  # type: ignore[call-arg]
