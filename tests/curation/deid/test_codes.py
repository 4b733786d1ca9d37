"""Printed codes in the picture are found; tissue is not taken for one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from support.pixel_scenes import linear_area, screen

from usds.curation.deid.burned_text import TextDetector
from usds.curation.deid.codes import printed_codes

Picture = NDArray[np.uint8]


def qr(module: float) -> Picture:
    code = cv2.QRCodeEncoder.create().encode("MRN 4711832 QUILLFEATHER^ORSOLA 19530417")
    return cv2.resize(np.asarray(code, np.uint8), None, fx=module, fy=module, interpolation=cv2.INTER_AREA)


def bars(module: float) -> Picture:
    widths = np.random.default_rng(2).integers(1, 5, 60)
    row = np.repeat(np.arange(60) % 2 * 255, widths).astype(np.uint8)
    return cv2.resize(np.tile(row, (40, 1)), None, fx=module, fy=1, interpolation=cv2.INTER_AREA)


def stick(code: Picture, at: tuple[int, int]) -> tuple[Picture, tuple[slice, slice]]:
    """The scene with a code on its tissue, as a JPEG shows it."""
    rgb = screen(linear_area())
    place = (slice(at[0], at[0] + code.shape[0]), slice(at[1], at[1] + code.shape[1]))
    rgb[place] = code[..., None]
    return cv2.imdecode(cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], 1), place


def share_found(rgb: Picture, place: tuple[slice, slice]) -> float:
    mask = np.zeros(rgb.shape[:2], bool)
    for box in printed_codes(rgb):
        mask[box.y0 : box.y1, box.x0 : box.x1] = True
    return float(mask[place].mean())


@pytest.mark.parametrize("module", [1.5, 2, 3, 5])
def test_a_matrix_code_is_found_at_any_size(module: float) -> None:
    assert share_found(*stick(qr(module), (150, 180))) == 1.0


@pytest.mark.parametrize("module", [1, 2, 3])
def test_a_bar_code_is_found_at_any_size(module: float) -> None:
    assert share_found(*stick(bars(module), (200, 160))) >= 0.95


def test_tissue_is_no_code() -> None:
    rng = np.random.default_rng(5)
    loud = cv2.GaussianBlur(rng.gamma(1.0, 120.0, (300, 400)), (0, 0), 0.8).clip(0, 255).astype(np.uint8)
    striped = np.repeat((np.sin(np.arange(300) / 3) * 120 + 120).astype(np.uint8)[:, None], 400, axis=1)
    for grey in (loud, striped):
        assert printed_codes(np.repeat(grey[..., None], 3, axis=2)) == []


def test_a_picture_smaller_than_a_code_is_passed_over() -> None:
    assert printed_codes(np.zeros((3, 4, 3), np.uint8)) == []


def test_the_detector_blacks_codes_beside_text() -> None:
    rgb, place = stick(qr(2), (150, 180))
    found = [box for box in TextDetector().detect(rgb) if box.method == "code"]
    assert any(
        box.x0 <= place[1].start and box.x1 >= place[1].stop and box.y0 <= place[0].start for box in found
    )
