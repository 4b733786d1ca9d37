"""Check the region boxes of the header against the picture: they may reach outside it or miss the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from usds.curation.deid.area_evidence import Mask
from usds.curation.deid.area_traces import TraceKind
from usds.curation.readers.base import Region

_SLACK = 2
_MIN_SIDE = 32
_COVERS = 0.90
_TRACES: tuple[TraceKind, ...] = ("spectral", "mmode")
_DROPPED = frozenset({*_TRACES, "ecg"})
_VIEWS = frozenset({"2d", "color"})


@dataclass(frozen=True, slots=True)
class CheckedRegions:
    """Evidence cut into views by the regions that hold.

    Attributes
    ----------
    views : tuple of (rows, columns) uint8
        One mask of evidence a view.
    warnings : tuple of str
    traces : tuple of (kind, (rows, columns) uint8)
        Boxes of the spectral and M-mode regions.
    """

    views: tuple[Mask, ...]
    warnings: tuple[str, ...]
    traces: tuple[tuple[TraceKind, Mask], ...] = ()


def check_regions(
    regions: Sequence[Region], shape: tuple[int, ...], evidence: Mask, scale: float
) -> CheckedRegions:
    """Use regions that fit the picture, ignore the others with a warning.

    Spectral, M-mode and ECG regions remove evidence; two-dimensional ones bound it when together they
    hold at least nine tenths of it.

    Parameters
    ----------
    regions : sequence of Region
        In native pixels.
    shape : (rows, columns, ...) of the native picture
    evidence : (rows, columns) uint8
        At working size.
    scale : float
        Working size over native size.
    """
    warnings: list[str] = []
    sound = [region for region in regions if _fits(region, shape)]
    if len(sound) < len(regions):
        warnings.append("region_ignored")
    rest = evidence.copy()
    traces: list[tuple[TraceKind, Mask]] = []
    for region in sound:
        if region.kind in _DROPPED:
            rest[_window(region, scale)] = 0
            warnings.append(f"dropped_{region.kind}")
            box = np.zeros_like(evidence)
            box[_window(region, scale)] = 1
            traces.extend((trace, box) for trace in _TRACES if trace == str(region.kind))
    views, more = _views([region for region in sound if region.kind in _VIEWS], rest, scale)
    return CheckedRegions(views, tuple(dict.fromkeys([*warnings, *more])), tuple(traces))


def _views(views: Sequence[Region], rest: Mask, scale: float) -> tuple[tuple[Mask, ...], list[str]]:
    """Evidence of each view, and warnings; all of it in one where the regions do not hold."""
    if not views or not rest.any():
        return (rest,), []
    union = np.zeros_like(rest)
    for region in views:
        union[_window(region, scale)] = 1
    if (rest & union).sum() < _COVERS * rest.sum():
        return (rest,), ["region_ignored"]
    return tuple(_cut(rest, views, union, scale)), []


def _fits(region: Region, shape: tuple[int, ...]) -> bool:
    inside = (
        region.x0 >= -_SLACK
        and region.y0 >= -_SLACK
        and region.x1 <= shape[1] + _SLACK
        and region.y1 <= shape[0] + _SLACK
    )
    return inside and region.x1 - region.x0 >= _MIN_SIDE and region.y1 - region.y0 >= _MIN_SIDE


def _window(region: Region, scale: float) -> tuple[slice, slice]:
    x0, y0 = int(max(0, region.x0) * scale), int(max(0, region.y0) * scale)
    return slice(y0, round(region.y1 * scale)), slice(x0, round(region.x1 * scale))


def _cut(rest: Mask, views: Sequence[Region], union: Mask, scale: float) -> list[Mask]:
    """One mask a view where the views are disjoint, else their union."""
    total = sum((v.x1 - v.x0) * (v.y1 - v.y0) for v in views) * scale * scale
    if len(views) < 2 or total > 1.1 * union.sum():
        return [rest & union]
    cuts: list[Mask] = []
    for region in views:
        part = np.zeros_like(rest)
        window = _window(region, scale)
        part[window] = rest[window]
        if part.any():
            cuts.append(part)
    return cuts
