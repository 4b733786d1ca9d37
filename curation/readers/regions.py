"""Sequence of Ultrasound Regions (PS3.3 C.8.5.5), checked against the picture: it can lie."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from pydicom.dataset import Dataset

from usds.curation.readers.base import Region, RegionKind

_FORMATS: dict[int, RegionKind] = {1: "2d", 2: "mmode", 3: "spectral"}
_ECG_TYPE = 0x0A
_COLOR_TYPES = {2}
_CENTIMETRES = 3
_SPACING_RANGE_MM = (1e-3, 10.0)
# A maximum that equals Rows or Columns is one pixel too far, which several vendors write.
_TOLERANCE = 1


def parse_regions(ds: Dataset, rows: int, cols: int, warnings: list[str]) -> tuple[Region, ...]:
    """Return the regions that fit the frame.

    A region that reaches beyond Rows x Columns describes another picture (frames that were resized or
    cropped after acquisition keep the old sequence), so it is dropped as a whole and reported as
    "region_outside_frame".

    Parameters
    ----------
    ds : Dataset
    rows, cols : int
        Size of a frame in pixels.
    warnings : list of str
        Codes are appended.

    Returns
    -------
    tuple of Region
        Half-open boxes, spacing in millimetres.
    """
    try:
        sequence: Any = ds.get("SequenceOfUltrasoundRegions")
    except Exception:  # noqa: BLE001 - pydicom raises what the value breaks; then nothing is known
        sequence = None
    found: list[Region] = []
    for item in sequence if hasattr(sequence, "__iter__") else ():
        region = _region(item)
        if region is None:
            _warn(warnings, "region_malformed")
        elif region.x1 > cols + _TOLERANCE or region.y1 > rows + _TOLERANCE:
            _warn(warnings, "region_outside_frame")
        else:
            found.append(replace(region, x1=min(region.x1, cols), y1=min(region.y1, rows)))
    return tuple(found)


def _warn(warnings: list[str], code: str) -> None:
    if code not in warnings:
        warnings.append(code)


def _region(item: Dataset) -> Region | None:
    names = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
    try:
        x0, y0, x1, y1 = (int(item[name].value) for name in names)
        kind = _kind(item)
        spacing = _spacing(item)
    except Exception:  # noqa: BLE001 - absent or damaged values make the whole region useless
        return None
    if x0 < 0 or y0 < 0 or x1 <= x0 or y1 <= y0:
        return None
    return Region(kind, x0, y0, x1 + 1, y1 + 1, spacing)


def _kind(item: Dataset) -> RegionKind:
    data_type = int(item.get("RegionDataType", 0) or 0)
    if data_type == _ECG_TYPE:
        return "ecg"
    kind = _FORMATS.get(int(item.get("RegionSpatialFormat", 0) or 0), "other")
    return "color" if kind == "2d" and data_type in _COLOR_TYPES else kind


def _spacing(item: Dataset) -> tuple[float, float] | None:
    """Millimetres per pixel of a region whose both axes are lengths; the sign only tells a direction."""
    units = (item.get("PhysicalUnitsXDirection"), item.get("PhysicalUnitsYDirection"))
    if units != (_CENTIMETRES, _CENTIMETRES):
        return None
    row = abs(float(item["PhysicalDeltaY"].value)) * 10
    col = abs(float(item["PhysicalDeltaX"].value)) * 10
    low, high = _SPACING_RANGE_MM
    ok = math.isfinite(row) and math.isfinite(col) and low <= row <= high and low <= col <= high
    return (row, col) if ok else None
