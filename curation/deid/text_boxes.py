"""Boxes around text, and how they lie to one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MARK_RATIO = 1.8
"""A line is longer than this many times its height; a letter, a tick or a caliper is not."""
_PATCH, _PATCH_SHARE = 36, 0.35
"""Shortest side of a box, and share of flow colours in it, from which on it may hold a patch of them."""
_LINE_SHARE, _LOOSE = 0.6, 1.25
"""Share of a looser box's width that a line takes, and how much higher that box is."""


@dataclass(frozen=True, slots=True)
class TextBox:
    """Half-open pixel box around text.

    Attributes
    ----------
    score : float
        0 to 1.
    method : str
        Which detector and view found it.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    score: float
    method: str

    def moved(self, dx: int, dy: int) -> TextBox:
        """Shift by whole pixels."""
        return TextBox(self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy, self.score, self.method)


def merge(boxes: Sequence[TextBox]) -> list[TextBox]:
    """Drop boxes that lie at least nine tenths inside a larger one."""
    kept: list[TextBox] = []
    for box in sorted(boxes, key=lambda b: -(b.x1 - b.x0) * (b.y1 - b.y0)):
        if not inside(box, kept):
            kept.append(box)
    return kept


def inside(box: TextBox, others: Sequence[TextBox]) -> bool:
    """Whether nine tenths of the box, or all of an empty one, lie in one of the others."""
    area = (box.x1 - box.x0) * (box.y1 - box.y0)
    return area <= 0 or any(_common(box, other) >= 0.9 * area for other in others)


def meet(box: TextBox, other: TextBox) -> bool:
    """Whether two boxes share a pixel."""
    return _common(box, other) > 0


def touches(box: TextBox, mask: NDArray[np.uint8]) -> bool:
    """Whether a pixel of the box is set."""
    return bool(mask[box.y0 : box.y1, box.x0 : box.x1].any())


def is_patch(box: TextBox, flow: NDArray[np.bool_]) -> bool:
    """Whether a box is larger than letters of 28 px need and flow colours fill a good part of it."""
    if min(box.x1 - box.x0, box.y1 - box.y0) <= _PATCH:
        return False
    return bool(flow[box.y0 : box.y1, box.x0 : box.x1].mean() >= _PATCH_SHARE)


def is_loose(box: TextBox, line: TextBox) -> bool:
    """Whether a box is clearly higher than a line that takes most of its width, and holds the line's rows."""
    holds = box.y0 <= line.y0 and line.y1 <= box.y1
    higher = box.y1 - box.y0 >= _LOOSE * (line.y1 - line.y0)
    common = min(box.x1, line.x1) - max(box.x0, line.x0)
    return holds and higher and common >= _LINE_SHARE * (box.x1 - box.x0)


def is_small(box: TextBox) -> bool:
    """Hardly wider than high: a tick, a caliper or a letter."""
    width, height = box.x1 - box.x0, box.y1 - box.y0
    return max(width, height) <= MARK_RATIO * min(width, height)


def runs_level(box: TextBox) -> bool:
    """Clearly wider than high."""
    return box.x1 - box.x0 > MARK_RATIO * (box.y1 - box.y0)


def _common(a: TextBox, b: TextBox) -> int:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(0, width) * max(0, height)
