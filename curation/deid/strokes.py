"""Find text by its strokes: thin, bright or dark, alike in height and standing in a row.

This family shares nothing with the detection network: it sees edges, not letters, so that what one
overlooks the other may find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]
Box = tuple[int, int, int, int]

_WIDTHS = (7, 13)
"""Windows of the top-hats in pixels: letters of 6-28 px have strokes of 1-5 px."""
_FLOOR = 16
_MIN_HEIGHT, _MAX_HEIGHT = 5, 44
_MAX_STROKES = 3000


@dataclass(frozen=True, slots=True)
class StrokeGroup:
    """Strokes in a row.

    Attributes
    ----------
    box : (x0, y0, x1, y1)
        Half-open pixels.
    weight : float
        Contrast and number of strokes: what is worth reading first.
    letters : int
        Strokes in the row.
    """

    box: Box
    weight: float
    letters: int


def stroke_groups(plane: Plane, *, limit: int) -> list[StrokeGroup]:
    """Rows of stroke-like pieces, the most text-like first.

    Parameters
    ----------
    plane : (rows, columns) uint8
    limit : int
        Groups to return at most.
    """
    found: list[StrokeGroup] = []
    for width in _WIDTHS:
        kernel = np.ones((width, width), np.uint8)
        for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
            found.extend(_rows(cast(Plane, cv2.morphologyEx(plane, operation, kernel))))
    found.sort(key=lambda group: -group.weight)
    kept: list[StrokeGroup] = []
    for group in found:
        if not any(_covers(other.box, group.box) for other in kept):
            kept.append(group)
        if len(kept) == limit:
            break
    return kept


def _rows(strokes: Plane) -> list[StrokeGroup]:
    """Threshold at four times the local mean, keep letter-sized pieces, join neighbours of like height."""
    around = cv2.blur(strokes.astype(np.float32), (61, 61))
    level = np.maximum(_FLOOR, 2.2 * around)
    mask = (strokes.astype(np.float32) > level).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    letters = [
        (int(x), int(y), int(x + w), int(y + h))
        for x, y, w, h, n in stats[1:count]
        if _MIN_HEIGHT <= h <= _MAX_HEIGHT and w <= 1.6 * h + 2 and n >= 0.12 * w * h and n >= 5
    ]
    if len(letters) > _MAX_STROKES:
        letters = sorted(letters, key=lambda b: b[1] - b[3])[:_MAX_STROKES]
    return [_group(row, strokes) for row in _chain(letters) if len(row) >= 2]


def _chain(letters: list[Box]) -> list[list[Box]]:
    """Rows of boxes that overlap vertically, are alike in height and stand close together."""
    rows: list[list[Box]] = []
    open_rows: list[list[Box]] = []
    for box in sorted(letters):
        open_rows = [row for row in open_rows if box[0] - row[-1][2] <= 2 * (row[-1][3] - row[-1][1])]
        home = next((row for row in open_rows if _alike(row[-1], box)), None)
        if home is None:
            home = []
            rows.append(home)
            open_rows.append(home)
        home.append(box)
    return rows


def _alike(a: Box, b: Box) -> bool:
    ha, hb = a[3] - a[1], b[3] - b[1]
    common = min(a[3], b[3]) - max(a[1], b[1])
    close = b[0] - a[2] <= 1.2 * max(ha, hb)
    return close and common >= 0.6 * min(ha, hb) and max(ha, hb) <= 1.9 * min(ha, hb)


def _group(row: list[Box], strokes: Plane) -> StrokeGroup:
    x0, y0 = min(b[0] for b in row), min(b[1] for b in row)
    x1, y1 = max(b[2] for b in row), max(b[3] for b in row)
    contrast = float(strokes[y0:y1, x0:x1].mean())
    even = float(np.std([b[3] for b in row]) + np.std([b[3] - b[1] for b in row]))
    return StrokeGroup((x0, y0, x1, y1), contrast * min(len(row), 8) / (1.0 + even), len(row))


def _covers(a: Box, b: Box) -> bool:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width > 0 and height > 0 and width * height >= 0.7 * (b[2] - b[0]) * (b[3] - b[1])
