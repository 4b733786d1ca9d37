"""Encode written images: pixels and nothing else."""

from __future__ import annotations

from typing import Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

ImageFormat = Literal["jpeg", "png"]
RGB = NDArray[np.uint8]


def encode(rgb: RGB, image_format: ImageFormat = "jpeg", quality: int = 95) -> bytes:
    """Encode without metadata: no EXIF, text chunk, profile or thumbnail.

    Parameters
    ----------
    rgb : (rows, columns, 3) uint8
    image_format : ImageFormat
        "jpeg" is baseline with full-resolution chroma (4:4:4): flow colours keep their edges.
    quality : int
        JPEG only, 1 to 100.

    Raises
    ------
    ValueError
        When the encoder refuses the picture.
    """
    options = {
        "jpeg": [
            cv2.IMWRITE_JPEG_QUALITY, quality,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        ],
        "png": [cv2.IMWRITE_PNG_COMPRESSION, 6],
    }[image_format]  # fmt: skip
    extension = ".jpg" if image_format == "jpeg" else ".png"
    done, data = cv2.imencode(extension, np.ascontiguousarray(rgb[..., ::-1]), options)
    if not done:
        raise ValueError(
            f"a picture of {rgb.shape[1]}x{rgb.shape[0]} pixels cannot be encoded as {image_format}"
        )
    return data.tobytes()


def format_of(data: bytes) -> ImageFormat | None:
    """The format of an encoded picture of the dataset, by its first bytes; None for anything else."""
    if data.startswith(b"\xff\xd8"):
        return "jpeg"
    return "png" if data.startswith(b"\x89PNG") else None


def decode(data: bytes) -> RGB:
    """Decode what `encode` wrote, as a reader of the dataset sees it.

    Returns
    -------
    (rows, columns, 3) uint8
        Red first.

    Raises
    ------
    ValueError
        When the bytes are no picture.
    """
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("these bytes are not an encoded picture")
    return cast(RGB, np.ascontiguousarray(picture[..., ::-1]))
