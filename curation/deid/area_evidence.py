"""Which pixels carry echo: speckle that survives a median filter, or change over time.

Text, rulers and traces are thin: a median over a window wider than two strokes removes them and leaves
the dense texture of tissue. User-interface panels survive the median too, but are flat after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
"""0 or 1, shape (rows, columns)."""
Plane = NDArray[np.uint8]
"""One intensity a pixel, shape (rows, columns)."""

_FAINT, _DARK = 2, 6
"""Grey levels above the background: what may belong to a scan, and what a scan must have somewhere."""
_CLEAR_SHARE = 0.2
_DARKEST_BACKGROUND_SHARE = 0.03
_LIGHT_BACKGROUND_SHARE = 0.25
_EMPTY_RANGE = 2
_FLAT_RANGE = 1
_FLAT_SHARE = 0.45
_SPECKLE_SHARE = 0.25
_MIN_PART = 0.004
"""Smallest part worth keeping, as a share of the image."""


def intensity(rgb: NDArray[np.uint8]) -> Plane:
    """Brightest channel of an RGB image: a blue banner is as visible as a white one."""
    return cast(Plane, rgb.max(axis=2))


def background_level(plane: Plane) -> int:
    """Grey level of the empty part of the screen.

    The commonest level of flat dark pixels, or a lighter one that fills a quarter of the picture (pages,
    grey skins). Only flat pixels count: a dim cropped scan has a commonest level too, but no background.
    """
    flat = _spread(plane, (3, 3)) <= _EMPTY_RANGE
    shares = np.bincount(plane[flat], minlength=256) / plane.size
    light = int(shares.argmax())
    if light >= 64 and shares[light] >= _LIGHT_BACKGROUND_SHARE:
        return light
    dark = int(shares[:64].argmax())
    return dark if shares[dark] >= _DARKEST_BACKGROUND_SHARE else 0


def median_window(shape: tuple[int, ...]) -> int:
    """Odd window that is wider than two strokes of the text that fits on a screen of this size."""
    side = min(shape[:2])
    return max(9, min(13, side // 16), round(side / 45)) | 1


def _share(mask: Mask, window: int) -> NDArray[np.float32]:
    kernel = (window, window)
    return cast(NDArray[np.float32], cv2.blur(mask.astype(np.float32), kernel))


def _spread(plane: Plane, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Range of values in a window of (width, height)."""
    kernel = np.ones((size[1], size[0]), np.uint8)
    return cast(NDArray[np.uint8], cv2.dilate(plane, kernel) - cv2.erode(plane, kernel))


def _parts(mask: Mask) -> list[Mask]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    smallest = _MIN_PART * mask.size
    return [
        (labels == index).astype(np.uint8)
        for index in range(1, count)
        if stats[index, cv2.CC_STAT_AREA] >= smallest
    ]


def still_evidence(plane: Plane) -> Mask:
    """Dense texture of one picture.

    Parameters
    ----------
    plane : (rows, columns) uint8

    Returns
    -------
    (rows, columns) uint8
        1 where tissue was seen; shadows inside the scan are holes.
    """
    window = median_window(plane.shape)
    median = cast(Plane, cv2.medianBlur(plane, window))
    background = background_level(plane)
    contrast = cv2.absdiff(median, np.full_like(median, background))
    seen = (contrast > _FAINT).astype(np.uint8)
    seen = cast(Mask, cv2.bitwise_and(seen, 1 - panels(median, seen, window)))
    opened = cv2.morphologyEx(seen, cv2.MORPH_OPEN, np.ones((2 * window + 1, 2 * window + 1), np.uint8))
    speckle = (cv2.absdiff(plane, median) >= 2).astype(np.uint8)
    kept = np.zeros_like(plane)
    for part in _parts(cast(Mask, opened)):
        clear = float((contrast[part > 0] > _DARK).mean())
        if clear >= _CLEAR_SHARE and speckle[part > 0].mean() >= _SPECKLE_SHARE:
            kept |= part
    return kept


def panels(median: Plane, seen: Mask, window: int) -> Mask:
    """Flat rectangles of the user interface: banners, buttons, bars (flat along rows or columns)."""
    flat = (_spread(median, (window, window)) <= _FLAT_RANGE).astype(np.uint8)
    saturated = (median >= 250).astype(np.uint8)
    flat = cast(Mask, flat & seen & (1 - saturated))
    grown = cast(Mask, (_share(flat, 2 * window + 1) >= _FLAT_SHARE).astype(np.uint8) & seen)
    found = np.zeros_like(median)
    for part in _parts(
        cast(Mask, cv2.morphologyEx(grown, cv2.MORPH_OPEN, np.ones((window, window), np.uint8)))
    ):
        x, y, w, h = cv2.boundingRect(part)
        if part.sum() >= 0.7 * w * h:
            found[y : y + h, x : x + w] = 1
    return cast(Mask, cv2.dilate(found, np.ones((window, window), np.uint8)))


def moving_evidence(planes: Sequence[Plane]) -> Mask:
    """Pixels whose brightness changes over the samples of a clip, thin traces removed.

    Parameters
    ----------
    planes : sequence of (rows, columns) uint8, at least two
    """
    stack = np.stack(planes)
    spread = cast(Plane, stack.max(axis=0) - stack.min(axis=0))
    window = median_window(spread.shape)
    median = cv2.medianBlur(spread, window)
    moving = (median > 3).astype(np.uint8)
    opened = cv2.morphologyEx(moving, cv2.MORPH_OPEN, np.ones((window, window), np.uint8))
    kept = np.zeros_like(spread)
    for part in _parts(cast(Mask, opened)):
        kept |= part
    return kept


def clip_evidence(planes: Sequence[Plane]) -> Mask:
    """Texture of the mean picture, joined with what moves; what never moves while the rest does is dropped.

    A frozen clip falls back to the texture of its mean.
    """
    mean = cast(Plane, np.mean(np.stack(planes), axis=0).astype(np.uint8))
    brightest = cast(Plane, np.max(np.stack(planes), axis=0))
    still = still_evidence(planes[len(planes) // 2]) | still_evidence(mean) | still_evidence(brightest)
    moving = moving_evidence(planes)
    if moving.mean() < 0.02:
        return still
    kept = moving.copy()
    for part in _parts(still):
        if (part & moving).sum() >= 0.1 * part.sum() or _same_columns(part, moving):
            kept |= part
    return kept


def _same_columns(part: Mask, moving: Mask) -> bool:
    """Whether a still part stands exactly above or below the moving ones: near-field lines do not change."""
    x, _, w, _ = cv2.boundingRect(part)
    mx, _, mw, _ = cv2.boundingRect(moving)
    slack = 0.03 * mw
    return abs(x - mx) <= slack and abs(x + w - mx - mw) <= slack
