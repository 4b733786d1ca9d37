"""The image area is where echoes are: not banners, pages, empty screens or what a header claims."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from support.pixel_scenes import fan_area, linear_area, motion, screen, speckle, spectrum, write

from usds.curation.deid.area import Area, find_area
from usds.curation.deid.area_traces import column_likeness
from usds.curation.readers.base import Region


def overlap(area: Area, truth: np.ndarray) -> float:
    found = area.mask(truth.shape)
    return float((found & truth).sum() / (found | truth).sum())


@pytest.mark.parametrize("make", [linear_area, fan_area])
def test_area_matches_the_probe(make) -> None:
    truth = make()
    result = find_area([screen(truth, banner=(40, 62, 105))], (), is_clip=False)
    assert result.area is not None
    assert overlap(result.area, truth) >= 0.97


def test_colour_banner_with_text_is_not_area() -> None:
    truth = linear_area()
    rgb = screen(truth, banner=(40, 62, 105))
    write(rgb, "PHILIPS  SMITH, JOHN  11-05-25-142825  Healthcare", (10, 24))
    write(rgb, "MI 1.1  TIB 0.2  5/25/2011  2:56:22 PM", (10, 48))
    result = find_area([rgb], (), is_clip=False)
    assert result.area is not None
    assert not result.area.mask(rgb.shape)[:56].any()


def test_side_by_side_views_are_two_components() -> None:
    truth = np.zeros((480, 640), np.uint8)
    truth[60:420, 60:290] = truth[60:420, 350:580] = 1
    result = find_area([screen(truth)], (), is_clip=False)
    assert result.area is not None
    assert len(result.area.components) == 2
    assert overlap(result.area, truth) >= 0.97


def test_cropped_scan_fills_the_picture() -> None:
    rgb = np.repeat(speckle((256, 300))[..., None], 3, axis=2)
    rgb[200:, 40:180] //= 24
    result = find_area([rgb], (), is_clip=False)
    assert result.area is not None
    assert result.area.mask(rgb.shape).mean() >= 0.98


@pytest.mark.parametrize("paper", [0, 255])
def test_page_of_text_has_no_area(paper: int) -> None:
    rgb = np.full((480, 640, 3), paper, np.uint8)
    for row in range(30, 470, 22):
        write(rgb, "BPD 42 mm  HC 158 mm  AC 140 mm  FL 30 mm  EFW 310 g", (12, row), value=255 - paper)
    result = find_area([rgb], (), is_clip=False)
    assert (result.area, result.reason) == (None, "no_image_area")


def test_probe_in_air_has_no_area() -> None:
    truth = np.zeros((480, 640), np.uint8)
    truth[60:90, 260:380] = 1
    assert find_area([screen(truth)], (), is_clip=False).reason == "no_image_area"


def test_icon_is_too_small() -> None:
    assert find_area([np.zeros((40, 60, 3), np.uint8)], (), is_clip=False).warnings == ("too_small",)


def test_region_beyond_the_picture_is_ignored_with_a_warning() -> None:
    truth = linear_area()
    lying = Region("2d", 84, 31, 1200, 415)
    result = find_area([screen(truth)], [lying], is_clip=False)
    assert result.area is not None
    assert result.warnings == ("region_ignored",)
    assert overlap(result.area, truth) >= 0.97


def test_region_that_misses_the_scan_is_ignored_with_a_warning() -> None:
    truth = linear_area()
    result = find_area([screen(truth)], [Region("2d", 0, 0, 140, 140)], is_clip=False)
    assert result.area is not None
    assert result.warnings == ("region_ignored",)
    assert overlap(result.area, truth) >= 0.97


def test_spectral_region_is_dropped() -> None:
    truth = linear_area()
    rgb = screen(truth)
    below = Region("spectral", 100, 260, 560, 440)
    result = find_area([rgb], [below], is_clip=False)
    assert result.area is not None
    assert "dropped_spectral" in result.warnings
    assert not result.area.mask(rgb.shape)[264:].any()


@pytest.mark.parametrize("make", [spectrum, motion])
@pytest.mark.parametrize("gap", [0, 4, 20])
def test_trace_below_a_fan_is_dropped_without_a_header(make, gap: int) -> None:
    truth = np.zeros((620, 640), np.uint8)
    truth[:360] = fan_area()[70:430]
    bottom = int(np.flatnonzero(truth.any(axis=1))[-1]) + 1 + gap
    rgb = screen(truth)
    rgb[bottom : bottom + 200, 20:610] = make((200, 590))[..., None]
    result = find_area([rgb], (), is_clip=False)
    assert result.area is not None
    assert [component.kind for component in result.area.components] == ["2d"]
    assert result.warnings in (("dropped_spectral",), ("dropped_mmode",))
    assert overlap(result.area, truth) >= 0.92


def test_spectrum_beside_a_linear_scan_is_dropped_or_kept_as_its_own_kind() -> None:
    truth = np.zeros((480, 640), np.uint8)
    truth[60:420, 40:300] = 1
    rgb = screen(truth)
    rgb[80:400, 330:620] = spectrum((320, 290))[..., None]
    dropped = find_area([rgb], (), is_clip=False)
    assert dropped.area is not None
    assert overlap(dropped.area, truth) >= 0.97
    assert dropped.warnings == ("dropped_spectral",)
    kept = find_area([rgb], (), is_clip=False, keep_traces=True)
    assert kept.area is not None
    assert [component.kind for component in kept.area.components] == ["2d", "spectral"]
    assert kept.warnings == ()


@pytest.mark.parametrize("seed", range(4))
def test_mmode_beside_a_linear_scan_is_dropped_and_a_second_view_is_not(seed: int) -> None:
    truth = np.zeros((480, 640), np.uint8)
    truth[60:420, 40:300] = 1
    rgb = screen(truth, seed)
    rgb[70:410, 340:620] = motion((340, 280), seed)[..., None]
    dropped = find_area([rgb], (), is_clip=False)
    assert dropped.area is not None
    assert dropped.warnings == ("dropped_mmode",)
    assert overlap(dropped.area, truth) >= 0.97
    rgb[70:410, 340:620] = speckle((340, 280), seed + 20)[..., None]
    both = find_area([rgb], (), is_clip=False)
    assert both.area is not None
    assert (len(both.area.components), both.warnings) == (2, ())


def test_columns_of_an_mmode_are_alike_and_those_of_a_scan_are_not() -> None:
    assert column_likeness(motion((300, 300))) >= 0.6
    assert column_likeness(speckle((300, 300))) <= 0.45
    assert column_likeness(np.zeros((60, 60), np.uint8)) == 0.0


def test_view_with_level_echoes_of_the_pleura_is_not_taken_for_an_mmode() -> None:
    truth = np.zeros((480, 640), np.uint8)
    truth[60:420, 40:300] = truth[60:420, 340:600] = 1
    rgb = screen(truth)
    for row in range(110, 400, 40):
        rgb[row : row + 8, 340:600] = (150 + 20 * np.sin(np.arange(260) / 15.0)).astype(np.uint8)[:, None]
    result = find_area([rgb], (), is_clip=False)
    assert result.area is not None
    assert result.warnings == ()
    assert overlap(result.area, truth) >= 0.97


def test_spectrum_beside_a_scan_of_no_plain_shape_is_dropped() -> None:
    truth = np.zeros((480, 640), np.uint8)
    cv2.fillPoly(truth, [np.array([[115, 60], [225, 60], [270, 420], [70, 420]], np.int32)], 1)
    rgb = screen(truth)
    rgb[80:400, 330:620] = spectrum((320, 290))[..., None]
    result = find_area([rgb], (), is_clip=False)
    assert result.area is not None
    assert result.warnings == ("dropped_spectral",)
    assert not result.area.mask(rgb.shape)[:, 335:].any()


def test_scan_above_something_fan_shaped_is_no_trace() -> None:
    truth = np.zeros((480, 640), np.uint8)
    truth[40:230, 170:510] = 1
    rgb = screen(truth)
    fan = np.zeros((480, 640), np.uint8)
    fan[270:470] = fan_area()[80:280]
    rgb = np.maximum(rgb, screen(fan, 2))
    result = find_area([rgb], (), is_clip=False)
    assert result.area is not None
    assert result.area.mask(rgb.shape)[44:226, 176:504].all()


def test_trace_alone_on_the_screen_is_not_taken_for_one_of_two_views() -> None:
    rgb = np.zeros((480, 640, 3), np.uint8)
    rgb[100:400, 20:610] = motion((300, 590))[..., None]
    result = find_area([rgb], (), is_clip=False)
    assert result.area is not None
    assert result.warnings == ()


def test_views_of_several_probes_on_one_screen_all_stay() -> None:
    rgb = np.zeros((960, 1280, 3), np.uint8)
    rgb[:480, :640], rgb[:480, 640:] = screen(fan_area(), 1), screen(linear_area(), 2)
    rgb[480:, :640], rgb[480:, 640:] = screen(fan_area(), 3), screen(fan_area(), 4)
    result = find_area([rgb], (), is_clip=False)
    assert result.area is not None
    assert len(result.area.components) == 4
    assert result.warnings == ()


def test_cropped_scan_with_bone_in_its_shadow_is_not_carved() -> None:
    rgb = np.repeat(speckle((256, 256))[..., None], 3, axis=2)
    rgb[120:] = 0
    rgb[120:170, :30] = rgb[120:170, -30:] = 60
    cv2.ellipse(rgb, (128, 240), (70, 40), 0, 200, 340, (220, 220, 220), 6)
    result = find_area([rgb], (), is_clip=False)
    assert result.area is not None
    assert result.area.mask(rgb.shape).mean() >= 0.98


def test_writing_below_a_scan_as_wide_as_the_picture_is_not_area() -> None:
    rgb = np.repeat(speckle((360, 480))[..., None], 3, axis=2)
    rgb[250:] = 0
    write(rgb, "SMITH, JOHN  11/03/1957  4711832", (20, 320))
    result = find_area([rgb], (), is_clip=False)
    assert result.area is not None
    assert not result.area.mask(rgb.shape)[290:].any()


def test_tool_bar_is_no_view() -> None:
    truth = linear_area()
    rgb = screen(truth)
    rgb[40:460, 590:630] = speckle((420, 40), 5)[..., None]
    result = find_area([rgb], (), is_clip=False)
    assert result.area is not None
    assert overlap(result.area, truth) >= 0.97


def test_linear_scan_that_a_shadow_parts_stays_whole() -> None:
    truth = linear_area()
    rgb = screen(truth)
    rgb[200:236, 150:490] = 0
    result = find_area([rgb], (), is_clip=False)
    assert result.area is not None
    assert result.warnings == ()
    assert overlap(result.area, truth) >= 0.97


def test_header_trace_is_kept_where_wanted_and_an_ecg_never() -> None:
    truth = linear_area()
    regions = [Region("spectral", 150, 220, 490, 360), Region("ecg", 150, 370, 490, 420)]
    result = find_area([screen(truth)], regions, is_clip=False, keep_traces=True)
    assert result.area is not None
    assert result.warnings == ("dropped_ecg",)
    mask = result.area.mask(truth.shape)
    assert mask[225:355, 160:480].all()
    assert not mask[375:, 160:480].any()


def test_what_moves_in_a_clip_is_area_even_where_it_is_dark() -> None:
    truth = fan_area()
    frames = []
    for number in range(6):
        grey = (speckle(truth.shape, number, level=24.0) // 3) * truth
        rgb = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
        write(rgb, "SMITH, JOHN 01/02/1960", (8, 30))
        frames.append(rgb)
    result = find_area(frames, (), is_clip=True)
    assert result.area is not None
    assert overlap(result.area, truth) >= 0.95
