"""Frames to network input: augmentation for training, the centre for evaluation.

Every random draw comes from a generator that the caller makes from (seed, epoch, frame), so that neither the
worker nor the rank that happens to load a frame changes it.
"""

from __future__ import annotations

import math
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from usds.model.settings import AugmentSettings

__all__ = ["augment", "centre"]

Image = npt.NDArray[np.uint8]

_RATIO: Final = (3 / 4, 4 / 3)
_ATTEMPTS: Final = 10


def centre(image: Image, size: int) -> Image:
    """Resize the short side to ``size`` and cut the centre: (H, W, 3) -> (size, size, 3)."""
    rows, cols = image.shape[:2]
    side = min(rows, cols)
    top, left = (rows - side) // 2, (cols - side) // 2
    return _resize(image[top : top + side, left : left + side], size)


def augment(image: Image, size: int, settings: AugmentSettings, rng: np.random.Generator) -> Image:
    """Random crop, mirror, contrast, brightness and speckle: (H, W, 3) -> (size, size, 3) uint8."""
    top, left, rows, cols = _crop(image.shape[0], image.shape[1], settings.crop_scale, rng)
    result = _resize(image[top : top + rows, left : left + cols], size)
    if rng.random() < settings.flip:
        result = result[:, ::-1]
    return _intensity(np.ascontiguousarray(result), settings, rng)


def _crop(
    rows: int, cols: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Place and size of a random crop; the centre square where no draw fits the frame."""
    for _ in range(_ATTEMPTS):
        area = rows * cols * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= cols and 0 < height <= rows:
            top, left = rng.integers(rows - height + 1), rng.integers(cols - width + 1)
            return int(top), int(left), height, width
    side = min(rows, cols)
    return (rows - side) // 2, (cols - side) // 2, side, side


def _intensity(image: Image, settings: AugmentSettings, rng: np.random.Generator) -> Image:
    contrast = 1 + rng.uniform(-settings.contrast, settings.contrast)
    shift = 255 * rng.uniform(-settings.brightness, settings.brightness) / 2
    mean = float(image.mean())
    table = np.clip((np.arange(256) - mean) * contrast + mean + shift, 0, 255).astype(np.uint8)
    image = np.asarray(cv2.LUT(image, table), np.uint8)
    if settings.speckle > 0:
        # One field for the three channels: speckle is an interference pattern of the echo, not of the
        # colours.
        noise = 1 + settings.speckle * rng.standard_normal(image.shape[:2], np.float32)
        image = np.clip(image * noise[..., None], 0, 255).astype(np.uint8)
    return image


def _resize(image: npt.NDArray[Any], size: int) -> Image:
    shrinking = min(image.shape[:2]) > size
    interpolation = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    return np.asarray(
        cv2.resize(np.ascontiguousarray(image), (size, size), interpolation=interpolation), np.uint8
    )
