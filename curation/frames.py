"""Frames of a clip: which to keep, how good they are, what mode they show, and near-duplicates."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from usds.curation.near_duplicates import phash
from usds.curation.readers.base import RGB, Media, Region

__all__ = [
    "KeyFrameSettings",
    "Mode",
    "Quality",
    "QualityLabel",
    "QualitySettings",
    "clip_samples",
    "farthest_points",
    "key_frames",
    "mode",
    "phash",
    "quality",
    "sample_indices",
    "signature",
]

Mode = Literal["b_mode", "color_doppler", "power_doppler", "spectral", "m_mode", "unknown"]
QualityLabel = Literal["ok", "blank", "saturated", "blurred", "too_small"]

_SIGNATURE = 32
_Signature = NDArray[np.float32]


class KeyFrameSettings(BaseModel):
    """How frames of a clip are chosen.

    "distinct" keeps up to `max_frames` frames that differ most; "count" keeps `max_frames` evenly spaced
    ones; "rate" keeps `rate_hz` frames for every second of the clip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["distinct", "count", "rate"] = "distinct"
    max_frames: int = Field(default=8, ge=1, le=10_000)
    rate_hz: float = Field(default=1.0, gt=0, le=1000)
    min_difference: float = Field(
        default=2.0,
        ge=0,
        description="root mean square grey levels between two signatures to call them distinct",
    )
    max_examined: int = Field(
        default=256, ge=2, description="frames looked at per clip by 'distinct', evenly spaced"
    )
    default_frame_time_ms: float = Field(
        default=1000 / 30, gt=0, description="for 'rate' where the file states no frame time"
    )


def sample_indices(n_frames: int, count: int = 32) -> list[int]:
    """Return at most `count` evenly spaced frame numbers, first and last included.

    Raises
    ------
    ValueError
        If there is no frame, or none is asked for.
    """
    if n_frames < 1 or count < 1:
        raise ValueError("a clip and a sample have at least one frame")
    if n_frames <= count:
        return list(range(n_frames))
    return sorted({round(i) for i in np.linspace(0, n_frames - 1, count).tolist()})


def key_frames(media: Media, settings: KeyFrameSettings) -> list[int]:
    """Choose frames of a clip.

    "distinct" streams the clip once and keeps one 32 x 32 signature a frame (4 KB), so memory does not
    grow with frame size. Selection is greedy farthest-point (Gonzalez 1985,
    doi:10.1016/0304-3975(85)90224-5): each next frame is the one least like all kept ones, until that
    difference falls below `min_difference`. Ties go to the earlier frame, so the choice is deterministic.

    Parameters
    ----------
    media : Media
    settings : KeyFrameSettings

    Returns
    -------
    list of int
        Ascending frame numbers, at least one where any frame decodes.

    Raises
    ------
    MediaError
        Where no frame decodes.
    """
    if media.n_frames == 1:
        return [0]
    if settings.method == "count":
        return sample_indices(media.n_frames, settings.max_frames)
    if settings.method == "rate":
        frame_time = media.header.frame_time_ms or settings.default_frame_time_ms
        step = max(1, round(1000 / settings.rate_hz / frame_time))
        return list(range(0, media.n_frames, step))
    examined = sample_indices(media.n_frames, settings.max_examined)
    pairs = [(index, signature(rgb)) for index, rgb in media.frames(examined)]
    chosen = farthest_points(
        np.stack([value for _, value in pairs]), settings.max_frames, settings.min_difference
    )
    return sorted(pairs[i][0] for i in chosen)


def signature(rgb: RGB) -> _Signature:
    """Return the grey frame averaged to 32 x 32, as a float32 vector of grey levels."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIGNATURE, _SIGNATURE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32).ravel()


def farthest_points(signatures: _Signature, count: int, min_difference: float) -> list[int]:
    """Pick rows that differ most from each other.

    Parameters
    ----------
    signatures : ndarray, shape (n, d)
    count : int
        At most so many rows.
    min_difference : float
        Root mean square difference below which a row is not worth keeping.

    Returns
    -------
    list of int
        Row numbers in the order they were picked; the first is the one with the most contrast, since
        clips often begin on an empty screen.
    """
    first = int(np.argmax(signatures.std(axis=1)))
    chosen = [first]
    nearest = _differences(signatures, first)
    while len(chosen) < min(count, len(signatures)):
        candidate = int(np.argmax(nearest))
        if nearest[candidate] < min_difference:
            break
        chosen.append(candidate)
        nearest = np.minimum(nearest, _differences(signatures, candidate))
    return chosen


def _differences(signatures: _Signature, row: int) -> NDArray[np.float32]:
    return np.sqrt(np.mean((signatures - signatures[row]) ** 2, axis=1))


@dataclass(frozen=True, slots=True)
class Quality:
    """How usable a frame is.

    Attributes
    ----------
    label : QualityLabel
        The first of too_small, blank, saturated, blurred that holds, else "ok".
    blank : float
        Share of the area whose local contrast is below one grey level.
    saturated : float
        Share of the area at 250 or more in all channels.
    blurred : float
        0 (sharp) to 1 (no detail finer than four pixels).
    """

    label: QualityLabel
    blank: float
    saturated: float
    blurred: float


class QualitySettings(BaseModel):
    """Limits of the quality labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_side: int = Field(default=64, ge=1, description="shorter side of the area in pixels")
    max_blank: float = Field(default=0.97, ge=0, le=1)
    max_saturated: float = Field(default=0.35, ge=0, le=1)
    max_blurred: float = Field(default=0.78, ge=0, le=1)


def quality(
    rgb: RGB, mask: NDArray[np.bool_] | None = None, settings: QualitySettings | None = None
) -> Quality:
    """Rate one frame.

    Parameters
    ----------
    rgb : ndarray, uint8, (rows, cols, 3)
    mask : ndarray of bool, (rows, cols), optional
        The image area; the whole frame without it.
    settings : QualitySettings, optional

    Returns
    -------
    Quality
    """
    settings = settings or QualitySettings()
    area = np.ones(rgb.shape[:2], bool) if mask is None else mask
    rows, cols = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    if len(rows) == 0 or min(np.ptp(rows), np.ptp(cols)) + 1 < settings.min_side:
        return Quality("too_small", 0.0, 0.0, 0.0)
    window = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    inside = area[window]
    grey = np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb[window]), cv2.COLOR_RGB2GRAY), np.float32)
    blank = float((_local_deviation(grey)[inside] < 1.0).mean())
    saturated = float((rgb[window].min(axis=2)[inside] >= 250).mean())
    blurred = _blur(grey, inside)
    label: QualityLabel = "ok"
    if blank > settings.max_blank:
        label = "blank"
    elif saturated > settings.max_saturated:
        label = "saturated"
    elif blurred > settings.max_blurred:
        label = "blurred"
    return Quality(label, round(blank, 4), round(saturated, 4), round(blurred, 4))


def _local_deviation(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = cv2.blur(grey, (9, 9))
    return np.sqrt(np.maximum(cv2.blur(grey * grey, (9, 9)) - mean * mean, 0))


def _blur(grey: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """One minus the share of local contrast that is finer than a Gaussian of 1.5 pixels."""
    deviation = _local_deviation(grey)
    textured = inside & (deviation > 2.0)
    if not textured.any():
        return 1.0
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 1.5)
    ratio = np.sqrt((fine[textured] ** 2).mean() / max(float((deviation[textured] ** 2).mean()), 1e-6))
    return float(np.clip(1.0 - ratio, 0.0, 1.0))


# A flow map is saturated, bright, and not one flat colour as menus and banners are.
_MIN_SATURATION, _MIN_VALUE = 90, 60
_MIN_FLOW_SHARE = 0.003
_FLAT_HUE, _FLAT_VALUE = 4, 12
_BAR_WIDTH = 0.05
_WORK_WIDTH = 320


def mode(rgb: RGB, regions: Sequence[Region] = (), shown: Collection[str] = ()) -> Mode:
    """Tell the imaging mode of a frame.

    Spectral and M-mode traces count where they are part of the written area (they are dropped from it by
    default, and what is left is the scan beside them); colour and power Doppler are seen in
    the pixels, because many machines describe a colour box as plain 2D. A flow map has textured,
    saturated colour; with blue in it, or in its colour bar, it shows direction, without it power.

    Parameters
    ----------
    rgb : ndarray, uint8, (rows, cols, 3)
    regions : sequence of Region
        Checked against this frame.
    shown : collection of str
        Kinds of the components of the written area.

    Returns
    -------
    str
        One of `Mode`; "unknown" for a frame without any contrast.
    """
    if "spectral" in shown:
        return "spectral"
    if "mmode" in shown:
        return "m_mode"
    if int(rgb.max()) - int(rgb.min()) < 8:
        return "unknown"
    flow, has_blue = _flow(rgb)
    if flow < _MIN_FLOW_SHARE:
        return "b_mode"
    return (
        "color_doppler" if has_blue or any(region.kind == "color" for region in regions) else "power_doppler"
    )


def _flow(rgb: RGB) -> tuple[float, bool]:
    """Share of the frame that is flow map, and whether map or bar hold blue."""
    scale = min(1.0, _WORK_WIDTH / rgb.shape[1])
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    hsv = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2HSV), dtype=np.uint8)
    vivid = ((hsv[..., 1] >= _MIN_SATURATION) & (hsv[..., 2] >= _MIN_VALUE)).astype(np.uint8)
    # Opening removes letters and lines, closing joins the branches of one vessel tree.
    solid = cv2.morphologyEx(vivid, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    joined = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    share, has_blue = 0.0, False
    for label in range(1, len(stats)):
        part = (labels == label) & (solid > 0)
        if not part.any() or _is_chrome(hsv[part]):
            continue
        hue = hsv[..., 0][part]
        has_blue |= float(((hue >= 85) & (hue <= 140)).mean()) > 0.1
        if stats[label][cv2.CC_STAT_WIDTH] > _BAR_WIDTH * small.shape[1]:
            share += float(part.sum()) / part.size
    return share, has_blue


def _is_chrome(pixels: NDArray[np.uint8]) -> bool:
    """Menus, boxes and markers: mostly one colour, or green, which flow maps use only beside others."""
    hue = pixels[:, 0].astype(np.int32)
    if ((hue > 40) & (hue < 80)).mean() > 0.5:
        return True
    value = pixels[:, 2].astype(np.int32)
    away = np.abs((hue - int(np.median(hue)) + 90) % 180 - 90)
    same = (away <= _FLAT_HUE) & (np.abs(value - int(np.median(value))) <= _FLAT_VALUE)
    return float(same.mean()) > 0.5


def clip_samples(media: Media, count: int = 32) -> Iterator[tuple[int, RGB]]:
    """Stream at most `count` evenly spaced frames, for projections of the image area over time."""
    yield from media.frames(sample_indices(media.n_frames, count))
