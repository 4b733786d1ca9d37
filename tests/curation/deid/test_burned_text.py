"""Text in the picture is found and read, without a network connection."""

from __future__ import annotations

from importlib.resources import files
from operator import attrgetter

import numpy as np
import onnxruntime as ort
import pytest
from pydantic import ValidationError
from pydicom import dcmread
from pydicom.data import get_testdata_file
from support.pixel_scenes import linear_area, screen, write

from usds.curation.deid.burned_text import DetectorSettings, TextDetector
from usds.curation.deid.ocr_models import alphabet, session, without_denormals
from usds.curation.deid.text_boxes import TextBox, merge
from usds.curation.deid.text_views import View, carries_colour, flow_colours, parts, plain_views, still_views


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


def test_zeroed_denormal_weights_change_no_bit_of_the_output() -> None:
    shipped = (files("rapidocr") / "models" / "PP-OCRv6_det_small.onnx").read_bytes()
    cleaned = without_denormals(shipped)
    assert len(cleaned) == len(shipped)
    assert cleaned != shipped
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 96)).astype(np.float32)
    before, after = (
        ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": picture})[0]
        for model in (shipped, cleaned)
    )
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert without_denormals(cleaned) == cleaned


def test_views_of_flow_colours_lie_around_them() -> None:
    rgb = screen(linear_area())
    rgb[150:250, 200:300] = (230, 120, 10)
    places = {view.name: (view.at, view.image.shape[:2]) for view in plain_views(rgb, flow_colours(rgb))}
    whole = ((0, 0), (480, 640))
    assert places == {"native": whole, "tophat": whole, "minimum": ((152, 102), (196, 196))}
    assert [view.name for view in plain_views(rgb, None)] == ["native", "tophat"]


def test_only_hinted_places_outside_known_boxes_are_enlarged() -> None:
    rgb, hints = screen(linear_area()), np.zeros((480, 640), np.uint8)
    assert parts(rgb, hints, []) == []
    hints[100:110, 200:300] = hints[300:310, 200:300] = 1
    (view,) = parts(rgb, hints, [TextBox(198, 98, 302, 112, 0.9, "native")])
    assert (view.at, view.image.shape[:2]) == ((168, 268), (74, 164))
    hints[:] = 1
    (view,) = parts(rgb, hints, [])
    assert view.image.shape == rgb.shape


def test_a_late_string_that_only_the_enlarged_view_is_sure_of_is_found(
    detector: TextDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = screen(linear_area())
    place = write(rgb, "SMITH JOHN", (200, 250), scale=0.6, value=230)
    boxes = attrgetter("_boxes")(detector)

    def only_enlarged(probability: np.ndarray, view: View) -> list[TextBox]:
        return boxes(probability, view) if view.name == "rgb" else []

    monkeypatch.setattr(detector, "_boxes", only_enlarged)
    assert covered(detector.detect(rgb, quick=True), place, rgb.shape) >= 0.9


def test_boxes_of_a_view_lie_where_the_picture_has_them(detector: TextDetector) -> None:
    rgb = np.zeros((300, 500, 3), np.uint8)
    rgb[160:260, 220:460] = (230, 120, 10)
    rows, columns = write(rgb, "ID 4711832", (240, 220), value=255)
    for box in detector.detect(rgb, color=True):
        assert rows.start - 30 <= box.y0 < box.y1 <= rows.stop + 30
        assert columns.start - 30 <= box.x0 < box.x1 <= columns.stop + 30


def _seen_as(
    detector: TextDetector, monkeypatch: pytest.MonkeyPatch, boxes: dict[str, list[TextBox]]
) -> None:
    """Let the views see these boxes and no others."""
    monkeypatch.setattr(detector, "_detect_view", lambda view: boxes.get(view.name, []))


def test_a_loose_box_is_cut_to_the_line_that_another_view_saw(
    detector: TextDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = screen(linear_area())
    write(rgb, "SMITH JOHN", (200, 250), value=230)
    line, loose = TextBox(196, 234, 320, 254, 0.92, "rgb"), TextBox(190, 214, 325, 274, 0.93, "tophat")
    _seen_as(detector, monkeypatch, {"rgb": [line], "tophat": [loose]})
    assert [(box.y0, box.y1) for box in detector.detect(rgb)] == [(234, 254)]


def test_a_loose_box_in_which_a_second_line_is_read_stays(
    detector: TextDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = screen(linear_area())
    write(rgb, "SMITH JOHN", (200, 250), value=230)
    write(rgb, "ID 4711832", (200, 275), value=230)
    line, loose = TextBox(196, 234, 320, 254, 0.92, "rgb"), TextBox(190, 220, 325, 282, 0.93, "tophat")
    _seen_as(detector, monkeypatch, {"rgb": [line], "tophat": [loose]})
    assert max(box.y1 for box in detector.detect(rgb)) == 282


def test_a_patch_of_flow_colours_counts_as_letters_only_when_it_is_read(
    detector: TextDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = screen(linear_area())
    rgb[200:290, 240:290] = (230, 120, 10)
    patch = TextBox(236, 196, 294, 294, 0.93, "rgb")
    _seen_as(detector, monkeypatch, {"rgb": [patch]})
    monkeypatch.setattr(detector, "_read", lambda crop: ("D", 0.7))
    assert detector.detect(rgb, color=True) == []
    grey = np.repeat(rgb[..., :1], 3, axis=2)
    assert detector.detect(grey) == [patch]
    monkeypatch.setattr(detector, "_read", lambda crop: ("DR", 0.9))
    assert detector.detect(rgb, color=True) == [patch]


@pytest.mark.parametrize(("again", "kept"), [("H", False), ("H2", True)])
def test_letters_that_are_read_only_once_are_speckle(
    detector: TextDetector, monkeypatch: pytest.MonkeyPatch, again: str, kept: bool
) -> None:
    rgb = screen(linear_area())
    box = TextBox(240, 200, 265, 220, 0.67, "rgb")
    _seen_as(detector, monkeypatch, {"rgb": [box]})
    exact = rgb[box.y0 : box.y1, box.x0 : box.x1]
    monkeypatch.setattr(detector, "_read", lambda crop: ("H2" if np.array_equal(crop, exact) else again, 0.9))
    assert detector.detect(rgb) == ([box] if kept else [])


@pytest.mark.parametrize("turns", [1, 3])
def test_lines_that_run_upwards_or_downwards_are_found(detector: TextDetector, turns: int) -> None:
    rgb = screen(linear_area())
    label = np.zeros((22, 150, 3), np.uint8)
    write(label, "SMITH JOHN", (2, 18), scale=0.7)
    label = np.rot90(label, turns)
    rgb[160 : 160 + label.shape[0], 300 : 300 + label.shape[1]] = np.maximum(
        rgb[160 : 160 + label.shape[0], 300 : 300 + label.shape[1]], label
    )
    ys, xs = np.nonzero(label.max(axis=2))
    place = (slice(160 + ys.min(), 161 + ys.max()), slice(300 + xs.min(), 301 + xs.max()))
    assert covered(detector.detect(rgb), place, rgb.shape) >= 0.9


def test_flow_along_a_vessel_is_no_upright_line(detector: TextDetector) -> None:
    real = dcmread(str(get_testdata_file("examples_rgb_color.dcm"))).pixel_array
    rgb = np.ascontiguousarray(real[53:168, 5:320])
    flow = (slice(32, 72), slice(45, 240))
    assert flow_colours(rgb)[flow].mean() > 0.2
    assert covered(detector.detect(rgb, color=True), flow, rgb.shape) == 0


def test_faint_letters_of_one_grey_on_coarse_speckle_are_found(detector: TextDetector) -> None:
    rng = np.random.default_rng(4)
    rgb = np.repeat(rng.integers(40, 110, (240, 400, 1), dtype=np.uint8), 3, axis=2)
    place = write(rgb, "PATIENT 4711", (60, 130), scale=1.0, value=110)
    assert covered(detector.detect(rgb), place, rgb.shape) >= 0.9
    assert [view.name for view in still_views(rgb, None)] == ["grey"]


def test_greys_are_counted_in_bands_that_leave_no_seam() -> None:
    rgb = screen(linear_area())
    whole, (part,) = still_views(rgb, None)[0].image, still_views(rgb[100:], None)
    assert part.image.any()
    assert np.array_equal(whole[120:460], part.image[20:360])


def test_a_known_box_is_kept_and_not_read_again(
    detector: TextDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = screen(linear_area())
    monkeypatch.setattr(detector, "_read", lambda crop: pytest.fail("read again"))
    whole = TextBox(0, 0, 640, 480, 1.0, "known")
    assert detector.detect(rgb, known=[whole]) == [whole]


def test_thresholds_that_would_blind_the_detector_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"less than or equal to 0\.5"):
        DetectorSettings(box_threshold=0.99)
