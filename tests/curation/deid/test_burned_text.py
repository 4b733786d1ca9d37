"""Text in the picture is found and read, without a network connection."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from support.pixel_scenes import linear_area, screen, write

from usds.curation.deid.burned_text import DetectorSettings, TextBox, TextDetector, merge
from usds.curation.deid.ocr_models import alphabet, session
from usds.curation.deid.text_views import carries_colour


@pytest.fixture(scope="module")
def detector() -> TextDetector:
    return TextDetector()


def covered(boxes: list[TextBox], place: tuple[slice, slice], shape: tuple[int, ...]) -> float:
    mask = np.zeros(shape[:2], bool)
    for box in boxes:
        mask[box.y0 : box.y1, box.x0 : box.x1] = True
    return float(mask[place].mean())


@pytest.mark.parametrize("scale", [0.35, 0.6, 1.1])
def test_text_on_tissue_is_found(detector: TextDetector, scale: float) -> None:
    rgb = screen(linear_area())
    place = write(rgb, "SMITH JOHN", (200, 250), scale=scale, value=230)
    assert covered(detector.detect(rgb), place, rgb.shape) >= 0.9


def test_text_on_flow_colours_is_found(detector: TextDetector) -> None:
    rgb = screen(linear_area())
    rgb[150:350, 200:440] = (230, 120, 10)
    place = write(rgb, "ID 4711832", (240, 250))
    assert carries_colour(rgb)
    assert covered(detector.detect(rgb, color=True), place, rgb.shape) >= 0.9


def test_coloured_letters_are_not_flow() -> None:
    rgb = screen(linear_area())
    rgb[100:400:6, 200] = (255, 255, 0)
    assert not carries_colour(rgb)


def test_plain_speckle_is_hardly_touched(detector: TextDetector) -> None:
    rgb = screen(linear_area(), seed=3)
    boxes = detector.detect(rgb)
    assert sum((b.x1 - b.x0) * (b.y1 - b.y0) for b in boxes) <= 0.015 * linear_area().sum()


def test_text_is_read(detector: TextDetector) -> None:
    rgb = np.zeros((60, 300, 3), np.uint8)
    rows, columns = write(rgb, "ID 4711832", (20, 40), scale=0.8)
    box = TextBox(columns.start - 4, rows.start - 4, columns.stop + 4, rows.stop + 4, 1.0, "test")
    (text, score), (nothing, _) = detector.recognise(rgb, [box, TextBox(0, 0, 2, 2, 1.0, "test")])
    assert text.replace(" ", "") == "ID4711832"
    assert score > 0.9
    assert nothing == ""


def test_boxes_inside_others_are_dropped() -> None:
    large, small = TextBox(0, 0, 40, 20, 0.9, "a"), TextBox(4, 4, 20, 16, 0.9, "b")
    assert merge([small, large]) == [large]


def test_networks_are_part_of_the_installation() -> None:
    assert session("PP-OCRv6_det_small", 1) is session("PP-OCRv6_det_small", 1)
    assert alphabet()[0] == ""
    with pytest.raises(FileNotFoundError, match="rapidocr is installed without"):
        session("missing", 1)  # type: ignore[arg-type]


def test_thresholds_that_would_blind_the_detector_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"less than or equal to 0\.5"):
        DetectorSettings(box_threshold=0.99)
