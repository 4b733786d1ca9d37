"""What is written holds no text, nothing outside the area, no metadata, and was looked at again."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from support.pixel_scenes import KnownWords, fan_area, linear_area, screen, speckle, write

from usds.curation.deid.encode import decode, encode
from usds.curation.deid.overlay import harmless
from usds.curation.deid.pixels import CleanFrame, PixelCleaner, PixelSettings
from usds.curation.deid.text_boxes import TextBox
from usds.curation.deid.verify import Finding

WORDS = frozenset({"liver", "left", "lobe"})


@pytest.fixture(scope="module")
def cleaner() -> PixelCleaner:
    return PixelCleaner(None, WORDS)


def written(frame: CleanFrame, place: tuple[slice, slice]) -> np.ndarray:
    """The written pixels of a native place, where they were kept at native size."""
    assert frame.scale == 1.0
    rows, columns = place
    x0, y0, _, _ = frame.crop
    return frame.image[
        max(0, rows.start - y0) : rows.stop - y0, max(0, columns.start - x0) : columns.stop - x0
    ]


def still(cleaner: PixelCleaner, rgb: np.ndarray, matcher: KnownWords | None = None):
    return cleaner.clean([(0, rgb)], samples=[rgb], regions=(), matcher=matcher or KnownWords())


def test_text_is_black_and_tissue_is_kept(cleaner: PixelCleaner) -> None:
    rgb = screen(linear_area())
    place = write(rgb, "Smith J", (200, 200))
    result = still(cleaner, rgb)
    assert (result.outcome, result.reason) == ("ok", "ok")
    frame = result.frames[0]
    assert written(frame, place).max() <= 12
    kept = written(frame, (slice(300, 340), slice(200, 300))).astype(int)
    assert np.abs(kept - rgb[300:340, 200:300]).mean() < 4
    assert 0 < frame.redacted_fraction < 0.05
    assert frame.verified_by


def test_screen_around_the_area_is_gone(cleaner: PixelCleaner) -> None:
    rgb = screen(linear_area(), banner=(40, 62, 105))
    write(rgb, "SMITH, JOHN 11-05-25-142825", (10, 30))
    frame = still(cleaner, rgb).frames[0]
    x0, y0, x1, y1 = frame.crop
    assert min(y0 - 66, x0 - 146, 424 - y1, 494 - x1) >= 0
    assert (frame.rows, frame.cols) == frame.image.shape[:2] == (y1 - y0, x1 - x0)


def test_text_across_the_edge_is_black(cleaner: PixelCleaner) -> None:
    rgb = screen(linear_area())
    rows, columns = write(rgb, "KOWALSKA EWA", (90, 260))
    frame = still(cleaner, rgb).frames[0]
    assert written(frame, (rows, slice(frame.crop[0], columns.stop))).max() <= 12


def test_text_that_appears_late_in_a_clip_is_black(cleaner: PixelCleaner) -> None:
    area = linear_area()
    frames = [screen(area, seed) for seed in range(24)]
    for rgb in frames[20:]:
        place = write(rgb, "ID 4711832", (220, 240))
    result = cleaner.clean(
        [(0, frames[0]), (22, frames[22])], samples=frames[::3], regions=(), matcher=KnownWords()
    )
    assert [frame.index for frame in result.frames] == [0, 22]
    assert written(result.frames[1], place).max() <= 12


def test_late_coloured_letters_black_nothing_where_they_do_not_stand_yet(cleaner: PixelCleaner) -> None:
    area = linear_area()
    frames = [screen(area, seed) for seed in range(12)]
    ink = np.zeros((480, 640, 3), np.uint8)
    rows, columns = write(ink, "TANAKA KENJI", (200, 240), scale=0.9)
    for rgb in frames[9:]:
        rgb[ink[..., 0] > 127] = (20, 160, 60)
    result = cleaner.clean(
        [(0, frames[0]), (10, frames[10])], samples=frames, regions=(), matcher=KnownWords()
    )
    first, late = sorted([*result.frames, *result.held], key=lambda frame: frame.index)
    assert (written(first, (rows, columns)).max(axis=2) > 12).mean() >= 0.95
    assert (written(late, (rows, columns)).max(axis=2) <= 12).mean() >= 0.9


def test_boxes_snap_to_the_grid_and_are_filled_before_encoding(cleaner: PixelCleaner) -> None:
    rgb = screen(linear_area())
    write(rgb, "Smith J", (200, 200))
    frame = still(PixelCleaner(PixelSettings(image_format="png")), rgb).frames[0]
    assert frame.boxes
    for box in frame.boxes:
        assert box.x0 % 8 == box.y0 % 8 == 0
        assert box.x1 % 8 == 0 or box.x1 == frame.cols
        assert not decode(frame.encoded)[box.y0 : box.y1, box.x0 : box.x1].any()


def test_much_text_goes_to_review_and_is_not_among_the_frames(cleaner: PixelCleaner) -> None:
    rgb = screen(linear_area())
    for row in range(110, 410, 40):
        write(rgb, "SMITH JOHN 4711832", (165, row), scale=0.8)
    result = still(cleaner, rgb)
    assert (result.outcome, result.reason, result.frames) == ("review", "redaction_large", [])
    assert len(result.held) == result.withheld == 1


def _hidden(cleaner: PixelCleaner, rgb: np.ndarray, ink: np.ndarray) -> float:
    """Share of the ink that no written or withheld picture shows."""
    result = still(cleaner, rgb)
    shown = np.zeros(rgb.shape[:2], bool)
    for frame in [*result.frames, *result.held]:
        x0, y0, x1, y1 = frame.crop
        assert frame.scale == 1.0
        shown[y0:y1, x0:x1] |= frame.image.max(axis=2) > 12
    return 1.0 - float(shown[ink].mean())


def test_dark_letters_on_a_bright_banner_are_gone(cleaner: PixelCleaner) -> None:
    rgb = screen(linear_area(), banner=(225, 225, 225))
    before = rgb.copy()
    write(rgb, "SMITH, JOHN 11-05-25", (10, 30), value=20)
    assert _hidden(cleaner, rgb, (rgb != before).any(axis=2)) == 1.0


def test_small_letters_in_the_corner_of_a_fan_are_black(cleaner: PixelCleaner) -> None:
    area = fan_area()
    rgb = screen(area)
    before = rgb.copy()
    left = int(np.flatnonzero(area[330])[0])
    write(rgb, "J SMITH", (left + 4, 330), scale=0.3)
    assert _hidden(cleaner, rgb, (rgb != before).any(axis=2) & (area > 0)) >= 0.9


def test_handwriting_on_tissue_is_black(cleaner: PixelCleaner) -> None:
    rgb = screen(linear_area())
    before = rgb.copy()
    cv2.putText(rgb, "Smith", (250, 250), cv2.FONT_HERSHEY_SCRIPT_COMPLEX, 1.1, (240, 240, 240), 2)
    assert _hidden(cleaner, rgb, (rgb != before).any(axis=2)) >= 0.9


def test_of_a_page_with_a_picture_only_the_picture_is_written(cleaner: PixelCleaner) -> None:
    rgb = np.full((760, 800, 3), 250, np.uint8)
    rgb[250:730, 120:760] = screen(fan_area())
    before = rgb.copy()
    for row, line in enumerate(("SMITH, JOHN", "DOB 11/03/1957", "BPD 42 mm", "Dr. Okonkwo")):
        write(rgb, line, (20, 40 + 40 * row), value=10)
    assert _hidden(cleaner, rgb, (rgb != before).any(axis=2)) == 1.0


def test_page_of_text_is_no_image(cleaner: PixelCleaner) -> None:
    rgb = np.zeros((480, 640, 3), np.uint8)
    write(rgb, "BPD 42 mm  HC 158 mm", (20, 100))
    result = still(cleaner, rgb)
    assert (result.outcome, result.reason, result.frames) == ("no_image_area", "no_image_area", [])


def test_frame_on_which_an_identifier_stays_legible_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    cleaner = PixelCleaner()
    looks: list[int] = []

    def still_there(rgb: np.ndarray, matcher: object) -> list[Finding]:
        looks.append(1)
        return [Finding(TextBox(40, 40, 60, 50, 1.0, "test"), "identifier")]

    monkeypatch.setattr(cleaner.verifier, "check", still_there)
    result = still(cleaner, screen(linear_area()))
    assert (result.outcome, result.reason, result.frames, result.withheld) == (
        "review",
        "text_survived",
        [],
        1,
    )
    assert len(looks) >= 2


def test_what_the_detector_overlooks_the_second_look_blackens(monkeypatch: pytest.MonkeyPatch) -> None:
    cleaner = PixelCleaner()
    monkeypatch.setattr(cleaner.detector, "detect", lambda *_, **__: [])
    rgb = screen(linear_area())
    rows, columns = write(rgb, "KOWALSKA", (230, 250), scale=0.8)
    result = still(cleaner, rgb, KnownWords("kowalska"))
    assert result.outcome == "ok"
    assert written(result.frames[0], (rows, columns)).max() <= 12


def test_large_pictures_shrink_to_the_long_side(cleaner: PixelCleaner) -> None:
    rgb = np.repeat(speckle((700, 1500))[..., None], 3, axis=2)
    frame = still(cleaner, rgb).frames[0]
    assert max(frame.rows, frame.cols) == 1024
    assert frame.scale == pytest.approx(1024 / 1500, abs=0.01)


def test_harmless_label_becomes_a_caption_and_is_black_all_the_same(cleaner: PixelCleaner) -> None:
    rgb = screen(linear_area())
    place = write(rgb, "LIVER", (200, 200), scale=0.8)
    frame = still(cleaner, rgb).frames[0]
    assert frame.overlay_words == "liver"
    assert written(frame, place).max() <= 12


def test_harvested_word_beats_the_vocabulary(cleaner: PixelCleaner) -> None:
    rgb = screen(linear_area())
    write(rgb, "LIVER", (200, 200), scale=0.8)
    frame = still(cleaner, rgb, KnownWords("liver")).frames[0]
    assert frame.overlay_words is None


@pytest.mark.parametrize(
    ("text", "words"),
    [("LIVER", "liver"), ("3:LEFT LOBE", "left lobe"), ("LIVER 12", ""), ("LIVER SMITH", ""), ("", "")],
)
def test_only_closed_vocabulary_passes(text: str, words: str) -> None:
    assert harmless(text, WORDS) == words


def test_jpeg_carries_no_metadata_and_full_chroma() -> None:
    data = encode(np.full((32, 32, 3), 99, np.uint8))
    frame_header = data.index(b"\xff\xc0")
    assert data[frame_header + 11] == 0x11
    assert not any(marker in data for marker in (b"Exif", b"\xff\xe1", b"\xff\xe2", b"\xff\xfe"))


def test_colours_survive_encoding() -> None:
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[..., 0] = 200
    assert decode(encode(rgb, "png")).tolist() == rgb.tolist()
    with pytest.raises(ValueError, match="not an encoded picture"):
        decode(b"nothing")


def test_limits_cannot_be_loosened() -> None:
    with pytest.raises(ValidationError, match=r"less than or equal to 0\.05"):
        PixelSettings(max_redacted=0.5)
