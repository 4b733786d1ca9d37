"""Where black goes: one plan for all frames of a file, and the way between native and written pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from usds.curation.deid.area import Area, Component
from usds.curation.deid.area_evidence import Mask
from usds.curation.deid.decision import Decision
from usds.curation.deid.text_boxes import TextBox

__all__ = [
    "RGB",
    "Box",
    "Plan",
    "cut",
    "cut_mask",
    "fill",
    "inside",
    "native_box",
    "share",
    "snapped",
    "to_native",
    "visible",
    "wider",
    "written_box",
    "written_component",
]

RGB = NDArray[np.uint8]
Box = tuple[int, int, int, int]
_PAD, _SNAP = 4, 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What all frames of a file share.

    Attributes
    ----------
    area : Area
    mask : (rows, columns) uint8
        1 inside the area.
    crop, search : (x0, y0, x1, y1)
        What is written, and the wider part in which text is looked for; native pixels, half-open.
    scale : float
        Written over native size.
    color, clip : bool
        Whether the file shows flow colours, and moves.
    fixed : tuple of TextBox
        Text that stands still in a clip, native pixels.
    decision : Decision
        What a person said about the file.
    """

    area: Area
    mask: Mask
    crop: Box
    search: Box
    scale: float
    color: bool
    clip: bool
    fixed: tuple[TextBox, ...]
    decision: Decision


def visible(plan: Plan) -> Mask:
    """Pixels of the search window that are shown, with the rim by which a box may miss its letters."""
    x0, y0, x1, y1 = plan.search
    rim = np.ones((2 * _PAD + 1, 2 * _PAD + 1), np.uint8)
    return cast(Mask, cv2.dilate(plan.mask[y0:y1, x0:x1], rim))


def cut_mask(plan: Plan) -> Mask:
    """The area in written pixels."""
    x0, y0, x1, y1 = plan.crop
    return _resized(plan.mask[y0:y1, x0:x1], plan.scale, cv2.INTER_NEAREST)


def cut(rgb: RGB, plan: Plan, boxes: Sequence[TextBox]) -> RGB:
    """Black outside the area and in the boxes, crop, shrink."""
    picture = np.where(plan.mask[..., None] > 0, rgb, np.uint8(0))
    for box in boxes:
        picture[max(0, box.y0 - _PAD) : box.y1 + _PAD, max(0, box.x0 - _PAD) : box.x1 + _PAD] = 0
    x0, y0, x1, y1 = plan.crop
    return _resized(picture[y0:y1, x0:x1], plan.scale, cv2.INTER_AREA)


def _resized(picture: NDArray[np.uint8], scale: float, how: int) -> NDArray[np.uint8]:
    if scale == 1.0:
        return np.ascontiguousarray(picture)
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cast(NDArray[np.uint8], cv2.resize(picture, size, interpolation=how))


def written_box(box: TextBox, plan: Plan) -> TextBox | None:
    """Box in written pixels, padded and snapped; None where it lies outside the crop."""
    x0, y0, x1, y1 = plan.crop
    s = plan.scale
    moved = TextBox(
        int((box.x0 - x0) * s), int((box.y0 - y0) * s),
        int(np.ceil((box.x1 - x0) * s)), int(np.ceil((box.y1 - y0) * s)), box.score, box.method,
    )  # fmt: skip
    result = snapped(moved, (round((y1 - y0) * s), round((x1 - x0) * s)))
    return result if result.x1 > result.x0 and result.y1 > result.y0 else None


def snapped(box: TextBox, shape: tuple[int, ...]) -> TextBox:
    """Padded by 4 px, outward to the 8 px grid of JPEG, inside the picture."""
    return TextBox(
        max(0, (box.x0 - _PAD) // _SNAP * _SNAP), max(0, (box.y0 - _PAD) // _SNAP * _SNAP),
        min(shape[1], -(-(box.x1 + _PAD) // _SNAP) * _SNAP),
        min(shape[0], -(-(box.y1 + _PAD) // _SNAP) * _SNAP),
        box.score, box.method,
    )  # fmt: skip


def wider(box: TextBox, shape: tuple[int, ...]) -> TextBox:
    """Padded by 4 px, inside the picture."""
    return replace(
        box, x0=max(0, box.x0 - _PAD), y0=max(0, box.y0 - _PAD),
        x1=min(shape[1], box.x1 + _PAD), y1=min(shape[0], box.y1 + _PAD),
    )  # fmt: skip


def inside(box: TextBox, crop: Box) -> TextBox:
    """The part of a native box that can be written."""
    return replace(
        box,
        x0=max(box.x0, crop[0]),
        y0=max(box.y0, crop[1]),
        x1=min(box.x1, crop[2]),
        y1=min(box.y1, crop[3]),
    )


def native_box(box: TextBox, plan: Plan) -> TextBox:
    """A written box in native pixels."""
    return TextBox(*to_native((box.x0, box.y0, box.x1, box.y1), plan.crop, plan.scale), box.score, box.method)


def to_native(box: Box, crop: Box, scale: float) -> Box:
    """Native pixels of a box in written pixels, rounded outward and inside the crop."""
    left, top, right, bottom = crop
    return (
        left + math.floor(box[0] / scale),
        top + math.floor(box[1] / scale),
        min(right, left + math.ceil(box[2] / scale)),
        min(bottom, top + math.ceil(box[3] / scale)),
    )


def share(area: Mask, boxes: Sequence[TextBox]) -> float:
    """Share of the area that boxes black; both in written pixels."""
    black = np.zeros_like(area)
    fill(black, boxes, 1)
    return round(float((black & area).sum() / max(1, int(area.sum()))), 5)


def fill(picture: NDArray[np.uint8], boxes: Sequence[TextBox], value: int) -> None:
    """Set all pixels of the boxes."""
    for box in boxes:
        picture[box.y0 : box.y1, box.x0 : box.x1] = value


def written_component(component: Component, plan: Plan) -> Component:
    """A component in written pixels."""
    return replace(component, polygon=(component.polygon - plan.crop[:2] + 0.5) * plan.scale - 0.5)
