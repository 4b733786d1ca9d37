"""What a person decided reaches the pixels, and never past the verification."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.pixel_scenes import KnownWords, linear_area, screen, write

from usds.curation.deid.decision import AS_FOUND, PERSON, Decision, Mark, Part
from usds.curation.deid.pixels import CleanFrame, CleanResult, PixelCleaner
from usds.curation.deid.text_boxes import TextBox
from usds.curation.deid.verify import Finding

TISSUE = TextBox(300, 260, 360, 290, 1.0, "native")
OVER = Mark(0, 280, 240, 380, 310)
"""Covers the padded and snapped box that is written for TISSUE."""


@pytest.fixture
def cleaner(monkeypatch: pytest.MonkeyPatch) -> PixelCleaner:
    """Finds one box on tissue and nothing else; verification is real."""
    made = PixelCleaner()
    monkeypatch.setattr(made.detector, "detect", lambda *_, **__: [TISSUE])
    return made


@pytest.fixture(autouse=True)
def whole_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes of the detector are native: nothing is searched in a part of the picture."""
    monkeypatch.setattr(TextBox, "moved", lambda box, dx, dy: box)


def clean(
    cleaner: PixelCleaner, *frames: np.ndarray, decision: Decision = AS_FOUND, known: str = "nobody"
) -> CleanResult:
    return cleaner.clean(
        list(enumerate(frames)),
        samples=list(frames),
        regions=(),
        matcher=KnownWords(known),
        decision=decision,
    )


def black(frame: CleanFrame, box: Mark | TextBox) -> float:
    """Share of a native box that is black in the written picture."""
    assert frame.scale == 1.0
    x0, y0, _, _ = frame.crop
    return float((frame.image[box.y0 - y0 : box.y1 - y0, box.x0 - x0 : box.x1 - x0].max(axis=2) <= 12).mean())


def test_an_added_box_is_black_on_its_frame_or_on_all(cleaner: PixelCleaner) -> None:
    frames = [screen(linear_area(), seed) for seed in (1, 2)]
    one, every = Mark(1, 200, 320, 260, 340), Mark(None, 400, 320, 440, 340)
    result = clean(cleaner, *frames, decision=Decision(added=(one, every)))
    assert [black(frame, every) for frame in result.frames] == [1.0, 1.0]
    assert black(result.frames[0], one) < 0.2
    assert black(result.frames[1], one) == 1.0
    assert [sum(box.method == PERSON for box in frame.boxes) for frame in result.frames] == [1, 2]


def test_a_person_may_black_more_than_the_detector_may(cleaner: PixelCleaner) -> None:
    half = Mark(None, 160, 80, 480, 250)
    (frame,) = clean(cleaner, screen(linear_area()), decision=Decision(added=(half,))).frames
    assert frame.redacted_fraction > 0.3
    assert frame.doubtful_fraction < 0.05
    assert black(frame, half) == 1.0


def test_a_removed_box_is_open_in_its_frame_alone_and_says_so(cleaner: PixelCleaner) -> None:
    frames = [screen(linear_area(), seed) for seed in (1, 2)]
    first, second = clean(cleaner, *frames, decision=Decision(opened=(OVER,))).frames
    assert black(first, TISSUE) < 0.2
    assert black(second, TISSUE) == 1.0
    assert (first.verified_by.endswith("+person"), second.verified_by.endswith("+person")) == (True, False)
    assert first.boxes == []


def test_a_box_that_reaches_beyond_what_the_person_saw_stays(cleaner: PixelCleaner) -> None:
    short = replace(OVER, x1=TISSUE.x1 - 1)
    (frame,) = clean(cleaner, screen(linear_area()), decision=Decision(opened=(short,))).frames
    assert black(frame, TISSUE) == 1.0


@pytest.mark.parametrize("known", ["kowal", "nobody"])
def test_no_person_opens_a_box_in_which_text_can_be_read(cleaner: PixelCleaner, known: str) -> None:
    rgb = screen(linear_area())
    write(rgb, "Kowal", (303, 283), scale=0.6)
    result = clean(cleaner, rgb, decision=Decision(opened=(OVER,)), known=known)
    (frame,) = result.frames
    assert black(frame, TISSUE) == 1.0
    assert "opening_refused" in result.warnings
    assert frame.refused == 1


def test_no_person_opens_a_code_which_no_reader_of_text_can_read(cleaner: PixelCleaner) -> None:
    rgb = screen(linear_area())
    code = np.kron(np.random.default_rng(1).integers(0, 2, (20, 40)), np.ones((2, 2))) * 255
    rgb[255:295, 290:370] = code[..., None]
    result = clean(cleaner, rgb, decision=Decision(opened=(OVER,)))
    assert black(result.frames[0], TISSUE) == 1.0
    assert result.frames[0].refused == 1


@pytest.mark.parametrize(("harvested", "outcome"), [(False, "ok"), (True, "review")])
def test_a_place_without_text_is_believed_unless_the_run_knows_the_identifier(
    cleaner: PixelCleaner, monkeypatch: pytest.MonkeyPatch, harvested: bool, outcome: str
) -> None:
    seen = Finding(TextBox(120, 100, 160, 120, 1.0, "strokes"), "identifier", harvested)
    monkeypatch.setattr(cleaner.verifier, "check", lambda *_: [seen])
    rgb = screen(linear_area())
    before = clean(cleaner, rgb)
    assert (before.reason, before.held[0].hits) == ("text_survived", (seen,))
    x0, y0, _, _ = before.held[0].crop
    place = Mark(0, 120 + x0, 100 + y0, 160 + x0, 120 + y0)
    result = clean(cleaner, rgb, decision=Decision(opened=(place,)))
    assert result.outcome == outcome
    if outcome == "ok":
        assert result.frames[0].verified_by.endswith("+person")


def test_each_doubt_is_accepted_by_its_name(cleaner: PixelCleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = TextBox(160, 200, 480, 300, 1.0, "native")
    monkeypatch.setattr(cleaner.detector, "detect", lambda *_, **__: [wide])
    rgb = screen(linear_area())
    assert clean(cleaner, rgb).reason == "redaction_large"
    assert clean(cleaner, rgb, decision=Decision(accepted=("frames_withheld",))).reason == "redaction_large"
    accepted = clean(cleaner, rgb, decision=Decision(accepted=("redaction_large",)))
    assert (accepted.outcome, black(accepted.frames[0], wide)) == ("ok", 1.0)


def test_accepting_withheld_frames_writes_the_others_alone(
    cleaner: PixelCleaner, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Finding(TextBox(120, 100, 160, 120, 1.0, "strokes"), "identifier", harvested=True)
    frames = [screen(linear_area(), seed) for seed in (1, 2)]
    looks: list[int] = []

    def check(*_: object) -> list[Finding]:
        looks.append(1)
        return [] if len(looks) == 1 else [bad]

    monkeypatch.setattr(cleaner.verifier, "check", check)
    assert clean(cleaner, *frames).reason == "frames_withheld"
    looks.clear()
    result = clean(cleaner, *frames, decision=Decision(accepted=("frames_withheld",)))
    assert (result.outcome, [f.index for f in result.frames], [f.index for f in result.held]) == (
        "ok",
        [0],
        [1],
    )


def test_the_area_of_a_person_takes_the_place_of_the_one_found(cleaner: PixelCleaner) -> None:
    part = Part("2d", ((160, 100), (479, 100), (479, 399), (160, 399)))
    (frame,) = clean(cleaner, screen(linear_area()), decision=Decision(area=(part,))).frames
    assert frame.crop == (160, 100, 480, 400)
    assert [component.shape for component in frame.components] == [PERSON]


def test_a_decision_survives_the_way_through_json() -> None:
    part = Part("2d", ((1, 2), (9, 2), (9, 9)))
    made = Decision("accept", ("area_uncertain",), (part,), (Mark(None, 0, 0, 4, 4),), (OVER,))
    assert Decision.from_json(made.to_json()) == made
    assert made.digest != replace(made, added=()).digest
