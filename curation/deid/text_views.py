"""Ways to look at a picture so that text stands out from flow colours and bright tissue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]
_FLOW_WINDOW = 9
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
    """

    name: str
    image: RGB
    zoom: float = 1.0


def carries_colour(rgb: RGB, mask: NDArray[np.uint8] | None = None) -> bool:
    """Whether flow colours are shown: saturated pixels in more than 0.3 % of the area.

    A tinted grey map has little saturation everywhere; flow has much in one place. Coloured letters are
    thinner than the median's window.
    """
    spread = cv2.medianBlur(rgb.max(axis=2) - rgb.min(axis=2), _FLOW_WINDOW)
    inside = spread[mask > 0] if mask is not None else spread
    return bool(inside.size and (inside > 70).mean() > 0.003)


def views(rgb: RGB, *, color: bool) -> list[View]:
    """Renditions to search.

    Parameters
    ----------
    rgb : (rows, columns, 3) uint8
    color : bool
        Adds the views that flow colours need.
    """
    grey = cast(NDArray[np.uint8], cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    found = [View("rgb", rgb), View("native", rgb, 0.5), View("tophat", _three(_tophat(grey)), 0.6)]
    if color:
        found += [
            View("clahe", _three(_clahe(grey)), 0.5),
            View("blue", _three(np.ascontiguousarray(rgb[..., 2])), 0.5),
            View("minimum", _three(cast(NDArray[np.uint8], rgb.min(axis=2))), 0.6),
        ]
    return found


def _three(plane: NDArray[np.uint8]) -> RGB:
    return np.repeat(plane[..., None], 3, axis=2)


def _clahe(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cast(NDArray[np.uint8], cv2.createCLAHE(3.0, (8, 8)).apply(grey))


def _tophat(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bright strokes on a flat ground, stretched to the full range."""
    kernel = np.ones((_STROKE, _STROKE), np.uint8)
    strokes = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, kernel)
    top = max(24.0, float(np.percentile(strokes, 99.7)))
    return np.clip(strokes * (255.0 / top), 0, 255).astype(np.uint8)
