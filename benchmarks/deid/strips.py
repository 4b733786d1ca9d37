"""Generated traces over time that stand beside a scan: spectral Doppler, M-mode and an ECG line."""

from __future__ import annotations

from typing import Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]
Grey = NDArray[np.uint8]
StripKind = Literal["spectral", "mmode"]


def spectral(size: tuple[int, int], rng: np.random.Generator) -> Grey:
    """Velocities over time: every column is one spectrum, bright up to the envelope of a heart beat.

    Parameters
    ----------
    size : (rows, columns)
    """
    rows, columns = size
    base = int(rows * rng.uniform(0.45, 0.8))
    beat = columns / rng.uniform(2.5, 7.0)
    phase = (np.arange(columns) / beat + rng.uniform(0, 1)) % 1.0
    peak = np.exp(-(((phase - 0.22) / rng.uniform(0.06, 0.14)) ** 2)) + rng.uniform(0.1, 0.5) * np.exp(
        -2 * phase
    )
    height = np.clip(peak, 0, 1.2) * base * rng.uniform(0.45, 0.7)
    above = base - np.arange(rows)[:, None]
    inside = np.clip((height[None] - above) / 6.0, 0, 1) * (above > 0)
    window = np.clip(above / np.maximum(height[None], 1), 0, 1) if rng.random() < 0.5 else 0.8
    power = rng.exponential(1.0, size).astype(np.float32)
    power = cv2.GaussianBlur(
        power, (0, 0), sigmaX=float(rng.uniform(0.8, 2.0)), sigmaY=float(rng.uniform(0.8, 1.5))
    )
    noise = rng.uniform(4, 14) * power
    picture = noise + inside * window * power * rng.uniform(120, 190)
    picture[base : base + 2] = rng.uniform(90, 200)
    return np.clip(picture, 0, 255).astype(np.uint8)


def mmode(size: tuple[int, int], rng: np.random.Generator) -> Grey:
    """One beam over time: layers that move up and down with the heart, drawn out along the time axis."""
    rows, columns = size
    beat = columns / rng.uniform(2.5, 7.0)
    time = np.arange(columns) / beat
    line = cv2.GaussianBlur(rng.standard_normal((2 * rows, 1)).astype(np.float32), (1, 0), 0, sigmaY=1.2)
    line = cv2.GaussianBlur(np.abs(line), (1, 0), 0, sigmaY=1.0)
    layers = np.zeros((2 * rows, 1), np.float32)
    for _ in range(int(rng.integers(5, 10))):
        centre, width = rng.uniform(0.1, 1.9) * rows, rng.uniform(0.01, 0.06) * rows
        layers[:, 0] += rng.uniform(0.3, 1.0) * np.exp(-(((np.arange(2 * rows) - centre) / width) ** 2))
    column = (0.15 + layers) * line / line.mean()
    move = rng.uniform(0.01, 0.06) * rows * np.sin(2 * np.pi * time)
    depth = np.arange(rows)[:, None] + rows // 2 + move[None] * np.linspace(0.2, 1, rows)[:, None]
    across = np.zeros_like(depth)
    drawn = cv2.remap(column, across.astype(np.float32), depth.astype(np.float32), cv2.INTER_LINEAR)
    drawn = drawn * (1 + 0.15 * cv2.blur(rng.standard_normal(size).astype(np.float32), (5, 1)))
    decibel = 20 * np.log10(np.maximum(drawn, 1e-3))
    return np.clip((decibel + 34) / 55 * 255 * rng.uniform(0.6, 1.0), 3, 255).astype(np.uint8)


def add_strip(
    rgb: RGB, kind: StripKind, box: tuple[int, int, int, int], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw a trace into the box, with a frame of ticks; give its pixels as a mask.

    Parameters
    ----------
    box : (x0, y0, x1, y1)
        Half-open.
    """
    x0, y0, x1, y1 = box
    grey = (spectral if kind == "spectral" else mmode)((y1 - y0, x1 - x0), rng)
    tint = np.array(((1, 1, 1), (1, 0.85, 0.6), (0.75, 0.85, 1.0))[int(rng.integers(0, 3))])
    rgb[y0:y1, x0:x1] = (grey[..., None] * tint).astype(np.uint8)
    for x in range(x0, x1, max(20, (x1 - x0) // 12)):
        rgb[y1 : y1 + 5, x : x + 1] = 200
    for y in range(y0, y1, max(16, (y1 - y0) // 6)):
        rgb[y : y + 1, x1 : x1 + 5] = 200
    mask = np.zeros(rgb.shape[:2], np.uint8)
    mask[y0:y1, x0:x1] = 1
    return mask


def add_ecg(rgb: RGB, box: tuple[int, int, int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw an ECG line into the box; give its pixels as a mask."""
    x0, y0, x1, y1 = box
    columns = np.arange(x1 - x0)
    phase = (columns / rng.uniform(60, 140)) % 1.0
    wave = 0.12 * np.exp(-(((phase - 0.25) / 0.04) ** 2)) + 0.9 * np.exp(-(((phase - 0.45) / 0.012) ** 2))
    wave += 0.25 * np.exp(-(((phase - 0.7) / 0.06) ** 2))
    ys = (y1 - 3 - wave * (y1 - y0 - 6)).astype(np.int32)
    mask = np.zeros(rgb.shape[:2], np.uint8)
    points = np.stack([columns + x0, ys], axis=1).astype(np.int32)
    cv2.polylines(mask, [points], False, 1, 1)
    rgb[mask > 0] = (60, 230, 90)
    return cast(NDArray[np.uint8], mask)
