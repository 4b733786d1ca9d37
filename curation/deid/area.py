"""Find the image area: the part of the screen that shows echoes. Everything else is blacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from usds.curation.deid.area_evidence import Mask, clip_evidence, intensity, still_evidence
from usds.curation.deid.area_regions import check_regions
from usds.curation.deid.area_shape import (
    Points,
    clip_polygon,
    draw,
    fills_frame,
    fit_shape,
    frame_corners,
    has_gap,
    hull,
    split_components,
)
from usds.curation.deid.area_traces import find_traces
from usds.curation.deid.strokes import stroke_groups
from usds.curation.readers.base import Region

ComponentKind = Literal["2d", "color", "spectral", "mmode"]
AreaReason = Literal["no_image_area", "area_uncertain"]

_WORKING_SIDE = 1024
_MOST = 4
"""Components of one screen."""
_TRACE_CODES = frozenset({"dropped_spectral", "dropped_mmode"})
_MIN_SIDE = 48
"""Shortest side of a picture that can show an organ."""
_MIN_AREA = 0.06
"""Smallest share of the screen that is an image and not a probe in air."""
_MIN_FILL = 0.12
_UNSURE = 0.5
_BRIGHT, _BRIGHT_SHARE = 90, 0.002
"""A shadow beside the evidence holds next to no bright pixels, or bone; a line of text holds letters."""
_LETTERS, _GROUPS = 5, 8
_MIN_SHARE, _SLIMMEST = 0.15, 0.13
"""Smallest view, as a share of the largest, and the slimmest: tool bars are smaller or slimmer."""


@dataclass(frozen=True, slots=True)
class Component:
    """One view on the screen.

    Attributes
    ----------
    kind : ComponentKind
        "2d", or "spectral" and "mmode" for a trace over time.
    polygon : (N, 2) float
        Corners x, y in native pixels.
    confidence : float
        0 to 1: how well the shape explains the evidence.
    shape : str
        "rectangle", "fan", "hull", or "frame" for a cropped scan that fills the picture.
    """

    kind: ComponentKind
    polygon: Points
    confidence: float
    shape: str = "hull"


@dataclass(frozen=True, slots=True)
class Area:
    """Union of up to four components."""

    components: tuple[Component, ...]

    def mask(self, shape: tuple[int, ...]) -> Mask:
        """Fill the components; 1 inside.

        Parameters
        ----------
        shape : (rows, columns, ...)
        """
        size = (shape[0], shape[1])
        filled = np.zeros(size, np.uint8)
        for component in self.components:
            filled |= draw(component.polygon, size)
        return filled

    def bbox(self) -> tuple[int, int, int, int]:
        """Smallest half-open box (x0, y0, x1, y1) around all components, not clipped to the image."""
        corners = np.vstack([component.polygon for component in self.components])
        (x0, y0), (x1, y1) = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
        return int(x0), int(y0), int(x1) + 1, int(y1) + 1


@dataclass(frozen=True, slots=True)
class AreaResult:
    """What was found.

    Attributes
    ----------
    area : Area or None
        None with reason "no_image_area".
    reason : AreaReason or None
        "area_uncertain" comes with the best guess, for a person to look at.
    warnings : tuple of str
        Codes without values, for example "region_ignored".
    """

    area: Area | None
    reason: AreaReason | None = None
    warnings: tuple[str, ...] = ()


def find_area(
    samples: Sequence[NDArray[np.uint8]],
    regions: Sequence[Region],
    *,
    is_clip: bool,
    keep_traces: bool = False,
) -> AreaResult:
    """Locate the image area.

    Parameters
    ----------
    samples : sequence of (rows, columns, 3) uint8
        RGB; one still, or up to 32 frames spread over a clip.
    regions : sequence of Region
        From the header (DICOM PS3.3 C.8.5.5); they may lie and are checked against what is seen.
    is_clip : bool
        Whether the samples are frames of one clip, so that change over time is evidence.
    keep_traces : bool
        Whether spectral Doppler and M-mode traces belong to the area of a file that shows a scan as well.
        ECG lines never do.
    """
    shape = samples[0].shape
    if min(shape[:2]) < _MIN_SIDE:
        return AreaResult(None, "no_image_area", ("too_small",))
    scale = min(1.0, _WORKING_SIDE / max(shape[:2]))
    planes = [_working(sample, scale) for sample in samples]
    evidence = clip_evidence(planes) if is_clip and len(planes) > 1 else still_evidence(planes[0])
    seen = find_traces(evidence, planes[0])
    for _, mask in seen:
        evidence &= 1 - mask
    checked = check_regions(regions, shape, evidence, scale)
    components: list[Component] = []
    for part in checked.views:
        components.extend(_components(part, planes[0]))
    warnings = tuple(dict.fromkeys([*checked.warnings, *(f"dropped_{kind}" for kind, _ in seen)]))
    if not components:
        return AreaResult(None, "no_image_area", warnings)
    if keep_traces:
        traces = [*checked.traces, *seen]
        components += [Component(kind, hull(mask), 1.0) for kind, mask in traces]
        warnings = tuple(code for code in warnings if code not in _TRACE_CODES)
    area = Area(tuple(_native(component, scale, shape) for component in components[:_MOST]))
    return AreaResult(area, _doubt(area), warnings)


def _working(rgb: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    plane = intensity(rgb)
    if scale == 1.0:
        return plane
    return cast(NDArray[np.uint8], cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def _components(evidence: Mask, plane: NDArray[np.uint8]) -> list[Component]:
    if not evidence.any():
        return []
    cropped = fills_frame(evidence) and not has_gap(evidence) and fit_shape(evidence).shape != "fan"
    if cropped and not _written_on(plane, draw(hull(evidence), plane.shape[:2]) == 0):
        return [Component("2d", frame_corners(evidence), round(float(evidence.mean()), 3), "frame")]
    found: list[Component] = []
    size = plane.size
    for part in split_components(evidence):
        fit = fit_shape(part)
        inside = draw(fit.points, cast(tuple[int, int], part.shape))
        fill = float(part.sum() / max(1, inside.sum()))
        if inside.sum() >= _MIN_AREA * size and fill >= _MIN_FILL:
            found.append(Component("2d", fit.points, round(fit.score, 3), fit.shape))
    largest = max((_extent(component) for component in found), default=0.0)
    return [
        component
        for component in found
        if _extent(component) == largest
        or (_extent(component) >= _MIN_SHARE * largest and _slimness(component) >= _SLIMMEST)
    ]


def _written_on(plane: NDArray[np.uint8], rest: NDArray[np.bool_]) -> bool:
    """Whether what lies beside the evidence is bright in places and holds a row of letters."""
    if not rest.any() or (plane[rest] > _BRIGHT).mean() < _BRIGHT_SHARE:
        return False
    lit = np.where(rest, plane, np.uint8(0))
    return any(group.letters >= _LETTERS for group in stroke_groups(lit, limit=_GROUPS))


def _slimness(component: Component) -> float:
    """Short over long side of the box around a component."""
    sides = np.ptp(component.polygon, axis=0)
    return float(sides.min() / max(1.0, sides.max()))


def _extent(component: Component) -> float:
    return float(cv2.contourArea(component.polygon.astype(np.float32)))


def _native(component: Component, scale: float, shape: tuple[int, ...]) -> Component:
    """Scale to native pixels and clip to the picture; corners are pixel centres."""
    points = (component.polygon + 0.5) / scale - 0.5
    return replace(component, polygon=clip_polygon(points, (shape[0], shape[1])))


def _doubt(area: Area) -> AreaReason | None:
    """Unsure where the best component is a poor hull."""
    if max(component.confidence for component in area.components) < _UNSURE:
        return "area_uncertain"
    return None
