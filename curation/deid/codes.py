"""Find bar codes and matrix codes (QR, Data Matrix): a label of the patient that no reader of text sees.

They are told by print, not by standard: only two levels, far apart, both frequent, and many edges between
them. Tissue has every level between. Edges are counted along rows only, for layers of tissue and
reverberations make stripes that lie; so a bar code that stands on its side is not seen.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from usds.curation.deid.text_boxes import TextBox

__all__ = ["printed_codes"]

_NEAR = 9
"""Pixels around one in which both levels of a code occur: bars of up to eight pixels."""
_WINDOW = 25
_REDUCED = (1, 2, 4)
"""Wider modules are looked for in the picture at half and at a quarter of its size."""
_CONTRAST, _CLOSE, _STEP = 120, 0.25, 0.45
"""Grey levels between the two; shares of them by which a pixel may miss its level, and that make an edge."""
_PRINTED, _EACH, _EDGES = 0.7, 0.2, 0.08
"""Shares of a window: pixels at a level, pixels at each level, edges."""
_LEAST, _LEAST_SIDE = 150, 16
"""Pixels in the middle of such windows: a line of letters has few rows of them."""


def printed_codes(rgb: NDArray[np.uint8]) -> list[TextBox]:
    """Boxes around codes, of method "code".

    Parameters
    ----------
    rgb : (rows, columns, 3) uint8
    """
    grey = cast(NDArray[np.uint8], cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    found: list[TextBox] = []
    for factor in _REDUCED:
        found.extend(
            TextBox(x0 * factor, y0 * factor, x1 * factor, y1 * factor, 1.0, "code")
            for x0, y0, x1, y1 in _codes(grey)
        )
        grey = grey[: grey.shape[0] // 2 * 2, : grey.shape[1] // 2 * 2]
        if min(grey.shape) < 2 * _WINDOW:
            break
        grey = cast(NDArray[np.uint8], cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return found


def _codes(grey: NDArray[np.uint8]) -> list[tuple[int, int, int, int]]:
    """Boxes of codes whose modules are small."""
    around = np.ones((_NEAR, _NEAR), np.uint8)
    low, high = cv2.erode(grey, around), cv2.dilate(grey, around)
    contrast = cv2.subtract(high, low)
    strong = contrast >= _CONTRAST
    if not strong.any():
        return []
    miss = contrast * _CLOSE
    bright = _share(strong & (cv2.subtract(high, grey) <= miss))
    dark = _share(strong & (cv2.subtract(grey, low) <= miss))
    edges = _share(strong & (_step(grey) >= contrast * _STEP))
    code = (bright + dark >= _PRINTED) & (np.minimum(bright, dark) >= _EACH) & (edges >= _EDGES)
    stats = cv2.connectedComponentsWithStats(code.astype(np.uint8), connectivity=8)[2]
    reach = _WINDOW // 2
    rows, columns = grey.shape
    return [
        (max(0, x - reach), max(0, y - reach), min(columns, x + w + reach), min(rows, y + h + reach))
        for x, y, w, h, size in cast(list[list[int]], stats[1:].tolist())
        if size >= _LEAST and min(w, h) >= _LEAST_SIDE
    ]


def _share(pixels: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Share of the window around each pixel; nothing lies outside the picture."""
    window = (_WINDOW, _WINDOW)
    return cast(
        NDArray[np.float32],
        cv2.boxFilter(pixels.astype(np.float32), -1, window, borderType=cv2.BORDER_CONSTANT),
    )


def _step(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Difference of a pixel from the next one to the right."""
    step = np.zeros_like(grey)
    step[:, :-1] = cv2.absdiff(grey[:, 1:], grey[:, :-1])
    return step
