"""Tell traces over time (spectral Doppler, M-mode) from scans by layout and lines, not by a header.

A trace is a full rectangle on a screen that shows a scan as well. One probe draws one shape, so a rectangle
beside or below a single fan is no scan of that probe; a rectangle below a rectangle is a trace when it is the
wider one, or when it has the straight line of a spectral baseline; beside anything it is a trace when its
columns are one line over and over, as in an M-mode. A rectangle alone on the screen is a scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from usds.curation.deid.area_evidence import Mask, Plane
from usds.curation.deid.area_shape import fit_shape

TraceKind = Literal["spectral", "mmode"]

_MIN_SHARE = 0.02
"""Smallest part that may be a scan or a trace, as a share of the screen."""
_MIN_SIDE = 40
_FULL = 0.93
"""Share of its box that a rectangle fills."""
_FULL_WITH_LINE = 0.6
"""The same where a baseline runs across: between two beats a spectrum may be empty."""
_LARGEST_RATIO = 6.0
"""A rectangle so many times as large as the fan is the scan, and the fan a small picture of where it lies."""
_WIDE, _WIDER = 1.5, 1.15
_LINE_LEVELS, _LINE_SHARE, _LINE_CONTRAST = 8, 0.95, 25
"""A baseline: this share of a row lies within so many grey levels, and stands out by so many."""
_AWAY = 6
_STEP_ROWS, _MOST_ROWS = 8, 0.6
_DRAWN_OUT, _MORE, _MOVING = 0.6, 0.2, 0.4
"""Likeness of far columns in an M-mode, how much it exceeds that of the scan beside it, and how much stays
without level lines."""
_PLACES, _STRETCH, _SLACK = 24, 4, 8
_LEAST_SPREAD, _USUAL = 2.0, 1.5
"""Grey levels: a piece of a column in shadow has no pattern to look for. What exceeds the median contrast so
many times is cut down: a pleura or another level surface would be found again in every scan."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A connected piece of evidence and its box."""

    mask: Mask
    x: int
    y: int
    w: int
    h: int
    fill: float
    line: bool
    likeness: float

    @property
    def area(self) -> int:
        return self.w * self.h

    @property
    def full(self) -> bool:
        return self.fill >= (_FULL_WITH_LINE if self.line else _FULL)


def find_traces(evidence: Mask, plane: Plane) -> list[tuple[TraceKind, Mask]]:
    """Parts of the evidence that are traces.

    Parameters
    ----------
    evidence : (rows, columns) uint8
        1 where echo was seen.
    plane : (rows, columns) uint8
        Intensity of the picture.

    Returns
    -------
    list of (kind, (rows, columns) uint8)
        "spectral" where a baseline runs across, else "mmode".
    """
    parts = _parts(evidence, plane)
    found: list[tuple[TraceKind, Mask]] = []
    for part in parts:
        others = [other for other in parts if other is not part]
        if part.full and any(_belongs_to(part, other, alone=len(others) == 1) for other in others):
            found.append(("spectral" if part.line else "mmode", part.mask))
    return found if len(found) < len(parts) else []


def _parts(evidence: Mask, plane: Plane) -> list[_Part]:
    cut = evidence.copy()
    for row, x, w in _steps(evidence):
        cut[row, x : x + w] = 0
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cut, connectivity=8)
    found: list[_Part] = []
    for index in range(1, count):
        x, y, w, h, n = (int(value) for value in stats[index])
        if n < _MIN_SHARE * evidence.size or min(w, h) < _MIN_SIDE:
            continue
        mask = cast(Mask, (labels == index).astype(np.uint8))
        seen = plane[y : y + h, x : x + w]
        found.append(_Part(mask, x, y, w, h, n / (w * h), has_baseline(seen), _drawn_out(seen)))
    return found


def _steps(evidence: Mask) -> list[tuple[int, int, int]]:
    """Rows (row, x, width) at which a piece of evidence jumps to its full width and keeps it to the bottom.

    There a scan stands on a trace without a gap: no probe draws such a step.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(evidence, connectivity=8)
    steps: list[tuple[int, int, int]] = []
    for index in range(1, count):
        x, y, w, h, n = (int(value) for value in stats[index])
        if n < 2 * _MIN_SHARE * evidence.size or h < 2 * _MIN_SIDE:
            continue
        piece = labels[y : y + h, x : x + w] == index
        widths = w - piece.argmax(axis=1) - piece[:, ::-1].argmax(axis=1)
        full = widths >= _FULL * w
        first = int(full.argmax())
        above = widths[: max(0, first - _STEP_ROWS)]
        tall = min(above.size, h - first) >= _MIN_SIDE
        if tall and (above * _WIDER < w).all() and full[first:].mean() >= _MOST_ROWS:
            steps.append((y + first - 1, x, w))
    return steps


def _belongs_to(part: _Part, other: _Part, *, alone: bool) -> bool:
    """Whether the other part is a scan and this rectangle a trace that belongs to it.

    Its own line or columns tell a trace from any scan. Otherwise its place must: never above the scan, and
    where several others stand, which may be views of several probes, below and wider.
    """
    if part.area > _LARGEST_RATIO * other.area or not _apart(part, other):
        return False
    if _same_columns(part, other):
        return False
    if (part.line and not other.line) or part.likeness >= max(_DRAWN_OUT, other.likeness + _MORE):
        return True
    if part.y + part.h <= other.y:
        return False
    below = part.y >= other.y + other.h - 0.1 * min(part.h, other.h)
    wide = below and part.w >= _WIDE * part.h and part.w >= _WIDER * other.w
    if not other.full:
        return (alone or wide) and fit_shape(other.mask).shape == "fan"
    return wide and not other.line


def _same_columns(a: _Part, b: _Part) -> bool:
    """Whether the boxes stand exactly above each other: a shadow parts one scan of a linear probe."""
    slack = 0.03 * max(a.w, b.w)
    return abs(a.x - b.x) <= slack and abs(a.x + a.w - b.x - b.w) <= slack


def _apart(a: _Part, b: _Part) -> bool:
    """Whether the boxes hardly overlap: pieces of one scan that a shadow parts lie inside one another."""
    width = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    height = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    return width <= 0.1 * min(a.w, b.w) or height <= 0.1 * min(a.h, b.h)


def _drawn_out(plane: NDArray[np.uint8]) -> float:
    """Likeness of far columns; 0 where it comes from level lines alone, as echoes of a pleura draw them."""
    likeness = column_likeness(plane)
    if likeness >= _DRAWN_OUT and column_likeness(plane, level=False) < _MOVING:
        return 0.0
    return likeness


def column_likeness(plane: NDArray[np.uint8], *, level: bool = True) -> float:
    """How well pieces of columns are found again, a little higher or lower, a sixth of the width further on.

    An M-mode draws one beam over and over while what it meets moves up and down: far columns are alike. In a
    scan every beam meets other speckle, and only what lies exactly level is found again.

    Parameters
    ----------
    plane : (rows, columns) uint8
        At least 40 pixels either way.
    level : bool
        Whether what lies level counts as well: without it only what moves up and down is compared.

    Returns
    -------
    float
        Median of the best normalised correlations; 0 where nothing can be compared. Speckle reaches .2 to .4,
        tissue mostly up to .5, M-modes .65 to 1.
    """
    rows, columns = plane.shape
    levels = plane.astype(np.float32)
    levels -= cv2.blur(levels, (1, max(9, rows // 10) | 1))
    if not level:
        levels -= np.median(levels, axis=1, keepdims=True)
    usual = _USUAL * float(np.median(np.abs(levels)))
    np.clip(levels, -usual, usual, out=levels)
    tall, slack, apart = rows // _STRETCH, rows // _SLACK, columns // 6
    found: list[float] = []
    for x in np.linspace(1, columns - apart - 2, _PLACES).astype(int).tolist():
        for y in (slack, (rows - tall) // 2, rows - tall - slack):
            piece = levels[y : y + tall, x - 1 : x + 2]
            if piece.std() >= _LEAST_SPREAD:
                there = levels[y - slack : y + tall + slack, x + apart - 1 : x + apart + 2]
                found.append(float(cv2.matchTemplate(there, piece, cv2.TM_CCOEFF_NORMED).max()))
    return float(np.median(found)) if found else 0.0


def has_baseline(plane: NDArray[np.uint8]) -> bool:
    """Whether a straight bright line of even brightness runs across a rectangle, away from its borders.

    The upper fifth does not count: there the surface of a linear probe is a line as well.

    Parameters
    ----------
    plane : (rows, columns) uint8
    """
    levels = plane.astype(np.float32)
    middle = np.median(levels, axis=1)
    even = (np.abs(levels - middle[:, None]) <= _LINE_LEVELS).mean(axis=1) >= _LINE_SHARE
    rows = np.flatnonzero(even)
    top, bottom = max(_AWAY, plane.shape[0] // 5), max(_AWAY, plane.shape[0] // 20)
    rows = rows[(rows >= top) & (rows < plane.shape[0] - bottom)]
    around = np.maximum(middle[rows - _AWAY], middle[rows + _AWAY])
    return bool((middle[rows] >= around + _LINE_CONTRAST).any())
