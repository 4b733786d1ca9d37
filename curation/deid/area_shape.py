"""From echo evidence to the shape a probe draws: rectangle, fan, or the convex hull where neither fits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from usds.curation.deid.area_evidence import Mask

Points = NDArray[np.float64]
"""Polygon corners, shape (N, 2), x then y."""

_GOOD_FIT = 0.90
_GOOD_FAN = 0.86
_FAN_BONUS = 0.02
"""A fan is the more telling shape: it wins ties against a rectangle."""
_TILT = 0.60
"""Largest angle in radians between a fan's middle ray and the vertical."""
_NARROWEST = 0.35
"""Smallest opening angle of a fan in radians."""
_ENOUGH = 0.12
"""Share of a full row, column or arc from which on it belongs to the scan."""
_STRIP = 5
_STRIP_SHARE = 0.4
_MIN_SIDE = 24
_ARC_POINTS = 48
_SMALL, _SLACK = 0.05, 0.02
"""A piece smaller than this share of the other, as of a button, must not make the common fit worse."""


@dataclass(frozen=True, slots=True)
class Fit:
    """One fitted shape.

    Attributes
    ----------
    shape : str
        "rectangle", "fan" or "hull".
    points : (N, 2) float
        Corners in pixels.
    score : float
        Overlap (intersection over union) of the shape's hull with the hull of the evidence.
    """

    shape: str
    points: Points
    score: float


def draw(points: Points, shape: tuple[int, int]) -> Mask:
    """Fill a polygon; 1 inside."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
    return mask


def hull(mask: Mask) -> Points:
    """Convex hull of the pixels that are 1, shape (N, 2)."""
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    corners = cv2.convexHull(np.vstack(found))
    return corners[:, 0, :].astype(np.float64)


def _overlap(a: Mask, b: Mask) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def fit_shape(mask: Mask) -> Fit:
    """Fit rectangle and fan to the evidence and take the better; the hull where both miss.

    Parameters
    ----------
    mask : (rows, columns) uint8
        Evidence of one component, not empty.
    """
    corners = hull(mask)
    target = draw(corners, cast(tuple[int, int], mask.shape))
    box, fan = _rectangle(mask, target), _fan(mask, corners, target)
    if fan is not None and fan.score >= _GOOD_FAN and fan.score > box.score - _FAN_BONUS:
        return fan
    if box.score >= _GOOD_FIT:
        return box
    return Fit("hull", corners, float(mask.sum() / max(1, target.sum())))


def _rectangle(mask: Mask, target: Mask) -> Fit:
    """Box around rows and columns that hold enough evidence: text that touches the scan does not count."""
    rows, columns = _extent(mask.sum(axis=1)), _extent(mask.sum(axis=0))
    x0, x1, y0, y1 = columns[0], columns[1], rows[0], rows[1]
    points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)
    return Fit("rectangle", points, _overlap(draw(points, cast(tuple[int, int], target.shape)), target))


def _extent(counts: NDArray[np.integer]) -> tuple[int, int]:
    """First and last place where the count is at least an eighth of the largest."""
    enough = np.flatnonzero(counts >= _ENOUGH * counts.max())
    return int(enough[0]), int(enough[-1])


def fills_frame(mask: Mask) -> bool:
    """Whether the picture is a cropped scan: its top and both side strips carry speckle.

    The deep end may lie in shadow, so the sides need it in a part of their length only. A picture that
    shows its scan turned has three other strips, each well filled.
    """
    top, bottom, left, right = (_strip(mask, side) for side in range(4))
    upright = top >= 0.8 and min(left, right) >= _STRIP_SHARE / 2
    return upright or sorted((top, bottom, left, right))[1] >= 2 * _STRIP_SHARE


def _strip(mask: Mask, side: int) -> float:
    strip = (mask[:_STRIP], mask[-_STRIP:], mask[:, :_STRIP], mask[:, -_STRIP:])[side]
    return float(strip.max(axis=side // 2).mean())


def frame_corners(mask: Mask) -> Points:
    """Corners of the whole picture."""
    rows, columns = mask.shape
    return np.array([[0.0, 0.0], [columns - 1.0, 0.0], [columns - 1.0, rows - 1.0], [0.0, rows - 1.0]])


def _side(corners: Points, side: int, size: tuple[int, int]) -> tuple[Points, Points] | None:
    """Longest straight edge of the hull that faces left (-1) or right (+1) and is not the image border."""
    closed = np.vstack([corners, corners[:1]])
    simple = cast(
        NDArray[np.float64], cv2.approxPolyDP(closed.astype(np.float32), 0.004 * sum(size), True)[:, 0]
    )
    middle = corners.mean(axis=0)
    best: tuple[float, Points, Points] | None = None
    for a, b in pairwise(np.vstack([simple, simple[:1]])):
        step = b - a
        length = float(np.hypot(*step))
        centre = (a + b) / 2 - middle
        facing = side * centre[0] > 0
        steep = abs(step[1]) > 0.35 * length
        border = max(a[0], b[0]) <= 1 or min(a[0], b[0]) >= size[1] - 2
        if facing and steep and not border and (best is None or length > best[0]):
            best = (length, cast(Points, a), cast(Points, b))
    return None if best is None else (best[1], best[2])


def _apex(left: tuple[Points, Points], right: tuple[Points, Points]) -> Points | None:
    """Where the two edges meet; None where they are parallel within 8 degrees."""
    d1, d2 = left[1] - left[0], right[1] - right[0]
    cross = float(d1[0] * d2[1] - d1[1] * d2[0])
    if abs(cross) < 0.14 * float(np.hypot(*d1) * np.hypot(*d2)):
        return None
    t = float((right[0] - left[0])[0] * d2[1] - (right[0] - left[0])[1] * d2[0]) / cross
    return left[0] + t * d1


def _fan(mask: Mask, corners: Points, target: Mask) -> Fit | None:
    size = cast(tuple[int, int], mask.shape)
    left, right = _side(corners, -1, size), _side(corners, +1, size)
    if left is None or right is None:
        return None
    apex = _apex(left, right)
    if apex is None:
        return None
    if apex[1] > np.percentile(corners[:, 1], 30):
        return None
    angles, radii = _polar_extent(mask, apex)
    middle, opening = (angles[0] + angles[1]) / 2, angles[1] - angles[0]
    if abs(middle - np.pi / 2) > _TILT or opening < _NARROWEST:
        return None
    filled = draw(_sector(apex, angles, radii), size)
    x, y, w, h = cv2.boundingRect(mask)
    box = np.zeros_like(filled)
    box[y : y + h, x : x + w] = 1
    filled &= box
    if not filled.any():
        return None
    return Fit("fan", outline(filled), _overlap(draw(hull(filled), size), target))


def _polar_extent(mask: Mask, apex: Points) -> tuple[tuple[float, float], tuple[float, float]]:
    """Angles and radii between which the evidence lies; rays and arcs that are nearly empty do not count.

    Text that touches the scan fills a small part of an arc only.
    """
    ys, xs = np.nonzero(mask)
    radii = np.hypot(xs - apex[0], ys - apex[1])
    angles = np.arctan2(ys - apex[1], xs - apex[0])
    turn, edges = np.histogram(angles, bins=720, range=(0.0, np.pi))
    seen = np.flatnonzero(turn >= 0.05 * turn.max())
    low, high = float(edges[seen[0]]), float(edges[seen[-1] + 1])
    counts = np.bincount(radii.astype(np.int64))
    arcs = np.arange(counts.size) + 0.5
    full = np.flatnonzero(counts >= _ENOUGH * np.minimum(arcs * (high - low), counts.max()))
    return (low, high), (float(full[0]), float(full[-1] + 1))


def _sector(apex: Points, angles: tuple[float, float], radii: tuple[float, float]) -> Points:
    turn = np.linspace(angles[0], angles[1], _ARC_POINTS)
    ray = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    outer = apex + radii[1] * ray
    inner = apex + radii[0] * ray[::-1]
    return np.vstack([outer, inner])


def outline(mask: Mask) -> Points:
    """Corners of the largest piece of a mask; half a pixel of tolerance."""
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = max(found, key=cv2.contourArea)
    return cv2.approxPolyDP(largest, 0.5, True)[:, 0, :].astype(np.float64)


def clip_polygon(points: Points, shape: tuple[int, int]) -> Points:
    """Cut a polygon at the picture's border."""
    filled = draw(points, shape)
    return outline(filled) if filled.any() else points[:0]


def split_components(evidence: Mask) -> list[Mask]:
    """Group the pieces of evidence into at most four components.

    Two pieces are one component when a rectangle or fan fits both together: shadows cut one scan in
    pieces. Side-by-side views stay apart.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(evidence, connectivity=8)
    order = sorted(range(1, count), key=lambda i: -int(stats[i, cv2.CC_STAT_AREA]))[:12]
    groups = [(labels == index).astype(np.uint8) for index in order]
    merged = True
    while merged and len(groups) > 1:
        merged = False
        for i in range(len(groups)):
            for j in range(i + 1, len(groups)):
                if _belong(groups[i], groups[j]):
                    groups[i] = groups[i] | groups.pop(j)
                    merged = True
                    break
            if merged:
                break
    groups.sort(key=lambda group: -int(group.sum()))
    return [group for group in groups[:4] if _large(group)]


def has_gap(evidence: Mask) -> bool:
    """Whether empty columns part the evidence, as between side-by-side views."""
    columns = np.flatnonzero(evidence.any(axis=0))
    return bool((np.diff(columns) > 0.04 * evidence.shape[1]).any())


def _large(mask: Mask) -> bool:
    _, _, w, h = cv2.boundingRect(mask)
    return min(w, h) >= _MIN_SIDE


def _belong(a: Mask, b: Mask) -> bool:
    """Whether two pieces of evidence are one scan."""
    xa, ya, wa, ha = cv2.boundingRect(a)
    xb, yb, wb, hb = cv2.boundingRect(b)
    inside = xb >= xa and yb >= ya and xb + wb <= xa + wa and yb + hb <= ya + ha
    if inside:
        return True
    beside = max(xa, xb) - min(xa + wa, xb + wb)
    if beside > 0.05 * _width(a, b):
        return False
    both = fit_shape(a | b)
    if both.shape == "hull":
        return False
    small, large = sorted((a, b), key=lambda part: int(part.sum()))
    if small.sum() >= _SMALL * large.sum():
        return True
    return both.score >= fit_shape(large).score - _SLACK


def _width(a: Mask, b: Mask) -> int:
    """Width in pixels of the smallest box around both."""
    return int(cv2.boundingRect(a | b)[2])
