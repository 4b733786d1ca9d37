"""Small generated screens: a scan, a banner, and text whose place is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]


@dataclass(frozen=True)
class NamedMatch:
    """A match as the harvest gives it."""

    start: int
    end: int
    klass: str = "name"


class KnownWords:
    """Finds given words; a stand-in for the harvest where only the contract matters."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def find(self, text: str, *, ocr: bool = False, outside_area: bool = False) -> Sequence[NamedMatch]:
        """Places of the words, upper and lower case alike."""
        low = text.lower()
        return [
            NamedMatch(low.find(w.lower()), low.find(w.lower()) + len(w))
            for w in self.words
            if w.lower() in low
        ]


def speckle(shape: tuple[int, int], seed: int = 0, level: float = 70.0) -> NDArray[np.uint8]:
    """Log-compressed, compounded speckle with mean `level`."""
    rng = np.random.default_rng(seed)
    looks = []
    for _ in range(3):
        real, imaginary = (
            cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), sigmaX=1.8, sigmaY=1.1)
            for _ in range(2)
        )
        looks.append(np.hypot(real, imaginary))
    amplitude = np.mean(looks, axis=0)
    decibel = 20 * np.log10(amplitude / amplitude.mean() + 1e-4)
    return np.clip(level + decibel * 4.25, 3, 255).astype(np.uint8)


def linear_area(shape: tuple[int, int] = (480, 640)) -> NDArray[np.uint8]:
    """A rectangle in the middle of the screen."""
    area = np.zeros(shape, np.uint8)
    area[70:420, 150:490] = 1
    return area


def fan_area(shape: tuple[int, int] = (480, 640)) -> NDArray[np.uint8]:
    """A convex probe's fan."""
    ys, xs = np.mgrid[: shape[0], : shape[1]]
    radius, angle = np.hypot(xs - 320, ys + 40), np.abs(np.arctan2(xs - 320, ys + 40))
    return ((radius > 120) & (radius < 470) & (angle < 0.6)).astype(np.uint8)


def spectrum(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Velocities over time: noise, six beats above a straight bright baseline."""
    rng = np.random.default_rng(seed)
    base = int(shape[0] * 0.7)
    power = cv2.GaussianBlur(rng.exponential(1.0, shape).astype(np.float32), (0, 0), 1.2)
    phase = (np.arange(shape[1]) / shape[1] * 6) % 1.0
    height = base * 0.7 * np.exp(-(((phase - 0.3) / 0.12) ** 2))
    above = base - np.arange(shape[0])[:, None]
    picture = 10 * power + 140 * power * ((above > 0) & (above < height[None]))
    picture[base : base + 2] = 170
    return np.clip(picture, 0, 255).astype(np.uint8)


def motion(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """One beam over time: layers that move up and down."""
    line = speckle((2 * shape[0], 1), seed)[:, 0].astype(int)
    move = 6 * np.sin(np.arange(shape[1]) / 12.0)
    rows = (np.arange(shape[0])[:, None] + 20 + move[None]).astype(int)
    noise = np.random.default_rng(seed).integers(-10, 11, shape)
    return np.clip(line[rows] + noise, 3, 255).astype(np.uint8)


def screen(area: NDArray[np.uint8], seed: int = 0, *, banner: tuple[int, int, int] | None = None) -> RGB:
    """Speckle in the area on black; a coloured banner above it where wanted."""
    grey = speckle(area.shape, seed) * area
    rgb = np.repeat(grey[..., None], 3, axis=2)
    if banner is not None:
        rgb[:56][area[:56] == 0] = banner
    return rgb


def write(
    rgb: RGB, text: str, at: tuple[int, int], *, scale: float = 0.6, value: int = 255
) -> tuple[slice, slice]:
    """Draw text with its lower left corner at (x, y); give the rows and columns it fills."""
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    cv2.putText(rgb, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (value, value, value), 1, cv2.LINE_AA)
    return slice(at[1] - height, at[1] + 1), slice(at[0], at[0] + width)
