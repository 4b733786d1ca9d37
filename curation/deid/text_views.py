"""Ways to look at a picture so that text stands out from flow colours and bright tissue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]
_FLOW_WINDOW = 9
_SATURATED, _FLOW_SHARE = 70, 0.003
_REACH = 48
"""Pixels around flow colours in which their views are searched."""
_ALIKE = 2
"""Grey levels by which neighbours in one letter may differ."""
_EVEN_TRUST = 0.7
_DARK, _EVEN, _EVEN_SHARE = 8, 100, 0.4
_STROKE = 15
"""Window of the top-hat in pixels: wider than a letter stroke."""


@dataclass(frozen=True, slots=True)
class View:
    """One rendition of a picture.

    Attributes
    ----------
    name : str
    image : (rows, columns, 3) uint8
    zoom : float
        Share of the full enlargement at which it is searched.
    at : (x, y)
        Where its upper left corner lies in the picture.
    trust : float
        Least score of a reading that confirms a box of this view: some renditions invent letters.
    """

    name: str
    image: RGB
    zoom: float = 1.0
    at: tuple[int, int] = (0, 0)
    trust: float = 0.0


def carries_colour(rgb: RGB, mask: NDArray[np.uint8] | None = None) -> bool:
    """Whether flow colours are shown: saturated pixels in more than 0.3 % of the area.

    A tinted grey map has little saturation everywhere; flow has much in one place. Coloured letters are
    thinner than the median's window.
    """
    flow = flow_colours(rgb)
    inside = flow[mask > 0] if mask is not None else flow
    return bool(inside.size and inside.mean() > _FLOW_SHARE)


def views(rgb: RGB, *, color: bool, quick: bool = False) -> list[View]:
    """Renditions to search.

    Parameters
    ----------
    rgb : (rows, columns, 3) uint8
    color : bool
        Adds the views that flow colours need, around the colours only.
    quick : bool
        Leaves out what only faint standing text needs, and the top-hat away from flow.
    """
    grey = cast(NDArray[np.uint8], cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    found = [View("rgb", rgb), View("native", rgb, 0.5)]
    flow = _around_flow(rgb) if color else None
    if not quick:
        found.append(View("tophat", _three(_tophat(grey)), 0.6))
    if not quick and (grey > _DARK).any():
        even = _even(grey)
        # An enlarged or smoothed picture is even all over: there the view tells nothing.
        if (even[grey > _DARK] >= _EVEN).mean() <= _EVEN_SHARE:
            found.append(View("even", _three(even), 0.5, trust=_EVEN_TRUST))
    if flow is not None:
        rows, columns = flow
        at = (columns.start, rows.start)
        part = rgb[rows, columns]
        if quick:
            found.append(View("tophat", _three(_tophat(grey)[rows, columns]), 0.6, at))
        found += [
            View("clahe", _three(_clahe(grey)[rows, columns]), 0.5, at),
            View("blue", _three(part[..., 2]), 0.5, at),
            View("minimum", _three(cast(NDArray[np.uint8], part.min(axis=2))), 0.6, at),
        ]
    return found


def flow_colours(rgb: RGB) -> NDArray[np.bool_]:
    """Pixels of flow colours, shape (rows, columns)."""
    spread = cv2.medianBlur(rgb.max(axis=2) - rgb.min(axis=2), _FLOW_WINDOW)
    return cast(NDArray[np.bool_], spread > _SATURATED)


def _around_flow(rgb: RGB) -> tuple[slice, slice] | None:
    """Rows and columns that hold all flow and the letters that may begin or end on it."""
    ys, xs = np.nonzero(flow_colours(rgb))
    if ys.size == 0:
        return None
    y0, x0 = max(0, int(ys.min()) - _REACH), max(0, int(xs.min()) - _REACH)
    return slice(y0, int(ys.max()) + _REACH + 1), slice(x0, int(xs.max()) + _REACH + 1)


def _three(plane: NDArray[np.uint8]) -> RGB:
    return np.repeat(plane[..., None], 3, axis=2)


def _clahe(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cast(NDArray[np.uint8], cv2.createCLAHE(3.0, (8, 8)).apply(grey))


def _even(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels whose neighbours have nearly the same grey: letters are drawn in one, speckle never is.

    Shows faint letters that are hardly brighter than the speckle around them.
    """
    alike = np.zeros(grey.shape, np.uint8)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        near = np.abs(grey.astype(np.int16) - np.roll(grey, (-dy, -dx), (0, 1))) <= _ALIKE
        alike += near.astype(np.uint8) + np.roll(near, (dy, dx), (0, 1)).astype(np.uint8)
    return np.clip(alike * np.int16(40) - 60, 0, 255).astype(np.uint8)


def _tophat(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bright strokes on a flat ground, stretched to the full range."""
    kernel = np.ones((_STROKE, _STROKE), np.uint8)
    strokes = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, kernel)
    top = max(24.0, float(np.percentile(strokes, 99.7)))
    return np.clip(strokes * (255.0 / top), 0, 255).astype(np.uint8)
