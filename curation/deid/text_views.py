"""Ways to look at a picture so that text stands out from flow colours and bright tissue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from usds.curation.deid.text_boxes import TextBox

RGB = NDArray[np.uint8]
_FLOW_WINDOW = 9
_SATURATED, _FLOW_SHARE = 70, 0.003
_REACH = 48
"""Pixels around flow colours in which their views are searched."""
_CELL = (4, 8)
"""Rows and columns of a cell in which greys are counted."""
_CELLS = (3, 7)
"""Cells in a window: a good part of a line of text, hardly more than its height."""
_BAND = 256
"""Rows, a multiple of those of a cell, whose greys are counted at a time."""
_GREYS = (10, 245)
"""Greys in which letters are looked for: not the black around a scan, nor what is driven to white."""
_STEADY = 4.0
"""Pixels by which a count may vary where next to nothing is expected."""
_GAIN, _SOFT, _GREY_TRUST = 20.0, 0.7, 0.7
_RIM, _NEAR, _MOST = 4, 32, 0.6
"""Pixels around a known box that belong to it; pixels of surroundings that letters are seen in; share of a
picture from which on it is searched as a whole rather than in parts."""
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
    hints : bool
        Whether a weak answer hints at text: where vessels look like letters it means nothing.
    """

    name: str
    image: RGB
    zoom: float = 1.0
    at: tuple[int, int] = (0, 0)
    trust: float = 0.0
    hints: bool = True


def carries_colour(rgb: RGB, mask: NDArray[np.uint8] | None = None) -> bool:
    """Whether flow colours are shown: saturated pixels in more than 0.3 % of the area.

    A tinted grey map has little saturation everywhere; flow has much in one place. Coloured letters are
    thinner than the median's window.
    """
    flow = flow_colours(rgb)
    inside = flow[mask > 0] if mask is not None else flow
    return bool(inside.size and inside.mean() > _FLOW_SHARE)


def enlarged(rgb: RGB) -> View:
    """The picture itself at the full enlargement: the one view that shows letters of six pixels well."""
    return View("rgb", rgb)


def plain_views(rgb: RGB, flow: NDArray[np.bool_] | None) -> list[View]:
    """Renditions that every picture is searched in.

    Parameters
    ----------
    rgb : (rows, columns, 3) uint8
    flow : (rows, columns) bool or None
        Pixels of flow colours; around them white letters stand out in the least of the channels only.
    """
    found = [View("native", rgb, 0.5), View("tophat", _three(_tophat(_grey(rgb))), 0.6)]
    around = _around(flow)
    if around is not None:
        plane = cast(NDArray[np.uint8], rgb[around].min(axis=2))
        found.append(replace(_part("minimum", plane, 0.6, around), hints=False))
    return found


def still_views(rgb: RGB, flow: NDArray[np.bool_] | None) -> list[View]:
    """Renditions for stills and the standing picture of a clip; the first shows faint letters."""
    found = [View("grey", _three(_one_grey(_grey(rgb))), 0.5, trust=_GREY_TRUST)]
    around = _around(flow)
    if around is not None:
        found.append(_part("blue", rgb[around][..., 2], 0.5, around))
    return found


def parts(rgb: RGB, hints: NDArray[np.uint8], known: Sequence[TextBox]) -> list[View]:
    """Enlarged views of the places that are hinted at outside of known boxes.

    Parameters
    ----------
    rgb : (rows, columns, 3) uint8
    hints : (rows, columns) uint8
        1 where something may be text.
    known : sequence of TextBox
    """
    left = hints.copy()
    for box in known:
        left[max(0, box.y0 - _RIM) : box.y1 + _RIM, max(0, box.x0 - _RIM) : box.x1 + _RIM] = 0
    around = cv2.dilate(left, np.ones((2 * _NEAR + 1, 2 * _NEAR + 1), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(around, connectivity=8)
    places = [(slice(y, y + h), slice(x, x + w)) for x, y, w, h, _ in stats[1:].tolist()]
    if sum(rgb[place].size for place in places) > _MOST * rgb.size:
        return [enlarged(rgb)]
    return [
        View("rgb", np.ascontiguousarray(rgb[place]), at=(place[1].start, place[0].start)) for place in places
    ]


def flow_colours(rgb: RGB) -> NDArray[np.bool_]:
    """Pixels of flow colours, shape (rows, columns)."""
    spread = cv2.medianBlur(rgb.max(axis=2) - rgb.min(axis=2), _FLOW_WINDOW)
    return cast(NDArray[np.bool_], spread > _SATURATED)


def _around(flow: NDArray[np.bool_] | None) -> tuple[slice, slice] | None:
    """Rows and columns that hold all flow and the letters that may begin or end on it."""
    if flow is None or not flow.any():
        return None
    ys, xs = np.nonzero(flow)
    y0, x0 = max(0, int(ys.min()) - _REACH), max(0, int(xs.min()) - _REACH)
    return slice(y0, int(ys.max()) + _REACH + 1), slice(x0, int(xs.max()) + _REACH + 1)


def _part(name: str, plane: NDArray[np.uint8], zoom: float, place: tuple[slice, slice]) -> View:
    return View(name, _three(plane), zoom, (place[1].start, place[0].start))


def _grey(rgb: RGB) -> NDArray[np.uint8]:
    return cast(NDArray[np.uint8], cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


def _three(plane: NDArray[np.uint8]) -> RGB:
    return np.repeat(plane[..., None], 3, axis=2)


def _one_grey(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels whose grey is more frequent around them than the greys beside it: letters are drawn in one.

    Shows faint letters that are hardly brighter than the speckle around them. In bands, for the counts of a
    large picture would take gigabytes; a band sees the cells next to it, so that none shows.
    """
    rim = _CELL[0] * (_CELLS[0] // 2)
    bands: list[NDArray[np.float32]] = []
    for top in range(0, len(grey), _BAND):
        first = max(0, top - rim)
        bands.append(_excess(grey[first : top + _BAND + rim])[top - first :][:_BAND])
    shown = cv2.GaussianBlur(np.concatenate(bands), (0, 0), _SOFT)
    return np.clip(shown * _GAIN, 0, 255).astype(np.uint8)


def _excess(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much more often than expected the grey of each pixel, and the two next to it, occur around it.

    In standard deviations of what four greys further off lead to expect, at least 0; counted in cells, so
    that a picture costs a fraction of one pass of the network.
    """
    (high, wide), (rows, columns) = _CELL, grey.shape
    across = -(-columns // wide)
    cell = (np.arange(rows) // high)[:, None] * across + (np.arange(columns) // wide)[None]
    place = cell * 256 + grey
    shape = (-(-rows // high), across, 256)
    counts = np.bincount(place.ravel(), minlength=int(np.prod(shape))).reshape(shape).astype(np.float32)
    for axis, cells in enumerate(_CELLS):
        counts = uniform_filter1d(counts, cells, axis=axis, mode="constant") * cells
    near = counts + np.roll(counts, 1, 2) + np.roll(counts, -1, 2)
    expected = sum(np.roll(near, step, 2) for step in (-5, -4, 4, 5)) / 4
    excess = (near - expected) / np.sqrt(expected + _STEADY)
    excess[..., : _GREYS[0]] = excess[..., _GREYS[1] + 1 :] = 0
    return cast(NDArray[np.float32], np.maximum(excess.ravel()[place], 0))


def _tophat(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bright strokes on a flat ground, stretched to the full range."""
    kernel = np.ones((_STROKE, _STROKE), np.uint8)
    strokes = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, kernel)
    top = max(24.0, float(np.percentile(strokes, 99.7)))
    return np.clip(strokes * (255.0 / top), 0, 255).astype(np.uint8)
