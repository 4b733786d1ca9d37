"""Read stills: PNG, JPEG, TIFF (all pages), BMP, WebP, JPEG 2000, AVIF; 8 and 16 bits."""

from __future__ import annotations

import io
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, IptcImagePlugin

from usds.curation.readers.base import RGB, HeaderFacts, Identifier, Media, MediaError
from usds.curation.readers.guard import guarded, stderr_closed
from usds.curation.readers.limits import ReadLimits
from usds.curation.readers.metadata import metadata_identifiers
from usds.curation.readers.source import ByteSource

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "WEBP", "JPEG2000", "AVIF")
# Plugins beyond the commonest load at first need, and a list of formats asks for all of them at once.
Image.init()
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112
_MAX_SAMPLE_VALUE = 281  # TIFF 6.0, MaxSampleValue
_TURNED = {5, 6, 7, 8}


def open_image(data: bytes | Path, limits: ReadLimits) -> Media:
    """Open a still, or a TIFF of several pages.

    Raises
    ------
    MediaError
        "decompression_bomb" before any pixel is decoded, "truncated", "unsupported", "unreadable", ...
    """
    source = ByteSource(data, limits)
    try:
        return ImageMedia(source, limits)
    except MediaError:
        source.close()
        raise


class ImageMedia(Media):
    """An opened still; see `Media`. Pages of a TIFF are frames."""

    kind = "image"

    def __init__(self, source: ByteSource, limits: ReadLimits) -> None:
        self.warnings: list[str] = []
        self._source, self._limits = source, limits
        with guarded("unreadable"), stderr_closed():
            image = self._open()
            width, height = image.size
            turned = self._may_be_turned(image) and image.getexif().get(_ORIENTATION) in _TURNED
            self.rows, self.cols = (width, height) if turned else (height, width)
            self.n_frames = int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1
        if self.n_frames > limits.max_frames:
            raise MediaError("decompression_bomb")
        self.header = HeaderFacts()

    def _open(self) -> Image.Image:
        data = self._source.read_all(self._limits.max_memory_file_bytes)
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        self._check_size(image)
        return image

    def _may_be_turned(self, image: Image.Image) -> bool:
        """Pillow decodes a whole PNG to look for EXIF behind its pixels; a search of the bytes is cheaper."""
        return image.format != "PNG" or b"eXIf" in self._source.read_all(self._limits.max_memory_file_bytes)

    def _check_size(self, image: Image.Image) -> None:
        """Sizes come from the header, so a bomb is refused before memory is spent on it."""
        if image.size[0] * image.size[1] > self._limits.max_frame_pixels:
            raise MediaError("decompression_bomb")
        if min(image.size) < 1:
            raise MediaError("unreadable")

    def identifiers(self) -> list[Identifier]:
        """Return EXIF, GPS, IPTC, XMP, PNG text, comments and TIFF tags."""
        with guarded("unreadable"), stderr_closed():
            image = self._open()
            pairs = list(_exif(image)) + list(_iptc(image))
            try:
                image.load()  # text chunks may follow the pixels of a PNG
            except Exception:  # noqa: BLE001 - a damaged picture can still carry names; keep what was read
                self._warn("frame_unreadable")
            pairs += [(str(key), value) for key, value in image.info.items()]
            return metadata_identifiers(pairs)

    def frames(self, indices: Sequence[int] | None = None) -> Iterator[tuple[int, RGB]]:
        """Decode the still, or the pages that were asked for; pages of another size are left out."""
        deadline = time.monotonic() + (self._limits.max_seconds or float("inf"))
        wanted = [i for i in (range(self.n_frames) if indices is None else indices) if 0 <= i < self.n_frames]
        if not wanted:
            return
        n_yielded = 0
        reason: MediaError | None = None
        with guarded("unreadable"):
            image = self._open()
        for index in wanted:
            try:
                with guarded("unreadable"), stderr_closed():
                    rgb = self._page(image, index)
            except MediaError as error:
                reason = error
                self._warn("frame_unreadable")
                continue
            if time.monotonic() > deadline:
                raise MediaError("timeout")
            if rgb.shape[:2] != (self.rows, self.cols):
                self._warn("frame_size_changes")
                continue
            n_yielded += 1
            yield index, rgb
        if n_yielded == 0:
            raise reason or MediaError("unreadable")

    def _page(self, image: Image.Image, index: int) -> RGB:
        if image.format == "PNG" and image.mode in ("L", "RGB") and "transparency" not in image.info:
            data = self._source.read_all(self._limits.max_memory_file_bytes)
            if (fast := decode_png(data, image.size)) is not None:
                return fast
        if self.n_frames > 1:
            image.seek(index)
            self._check_size(image)
        return to_rgb(ImageOps.exif_transpose(image))

    def _warn(self, code: str) -> None:
        if code not in self.warnings:
            self.warnings.append(code)

    def close(self) -> None:
        """Close the file."""
        self._source.close()


def decode_png(data: bytes, size: tuple[int, int]) -> RGB | None:
    """Decode an undamaged grey or colour PNG with OpenCV, which is several times faster than Pillow.

    OpenCV returns damaged pictures half decoded without a word, so every checksum is verified first.

    Returns
    -------
    ndarray or None
        None where the file is damaged or turned, and Pillow must look at it.
    """
    at = len(_PNG_MAGIC)
    kind = b""
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        stated = int.from_bytes(data[at + 8 + length : at + 12 + length], "big")
        if zlib.crc32(data[at + 4 : at + 8 + length]) != stated or kind in (b"eXIf", b"acTL"):
            return None
        at += 12 + length
        if kind == b"IEND":
            break
    if kind != b"IEND":
        return None
    decoded = cv2.imdecode(
        np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    )
    if decoded is None or decoded.shape != (size[1], size[0], 3) or decoded.dtype != np.uint8:
        return None
    return np.asarray(decoded, dtype=np.uint8)


def to_rgb(image: Image.Image) -> RGB:
    """Convert any Pillow mode to RGB of 8 bits.

    Grey of 16 bits keeps its high byte, or is scaled by TIFF MaxSampleValue where that is stated; its own
    minimum and maximum play no part. Transparent pixels are laid over black, the background of a scan.

    Raises
    ------
    MediaError
        "unsupported" for floating point and other modes without a defined range.
    """
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        return _grey_to_rgb(_sixteen_bit(image))
    if image.mode in ("F", "LAB", "HSV"):
        raise MediaError("unsupported")
    if "A" in image.getbands() or "transparency" in image.info:
        colored = image.convert("RGBA")
        ground = Image.new("RGBA", colored.size, (0, 0, 0, 255))
        image = Image.alpha_composite(ground, colored)
    return np.array(image.convert("RGB"))


def _sixteen_bit(image: Image.Image) -> NDArray[np.uint8]:
    stored = np.asarray(image).astype(np.int64)
    tags: Any = getattr(image, "tag_v2", {})
    top = tags.get(_MAX_SAMPLE_VALUE)
    top = int(top[0] if isinstance(top, tuple) else top) if top else 65535
    if image.mode == "I" and stored.size and (stored.min() < 0 or stored.max() > 65535):
        raise MediaError("unsupported")
    scaled = stored >> 8 if top == 65535 else stored * 255 // max(top, 1)
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _grey_to_rgb(grey: NDArray[np.uint8]) -> RGB:
    return np.repeat(grey[..., None], 3, axis=2)


def _exif(image: Image.Image) -> Iterator[tuple[str, object]]:
    exif = image.getexif()
    tags: Any = getattr(image, "tag_v2", None) or {}
    for code, value in {**dict(tags), **dict(exif)}.items():
        if isinstance(value, (str, bytes, tuple)) and not _is_numbers(value):
            yield ExifTags.TAGS.get(code, f"Tag{code}"), value
    for block, names in ((ExifTags.IFD.Exif, ExifTags.TAGS), (ExifTags.IFD.GPSInfo, ExifTags.GPSTAGS)):
        for code, value in exif.get_ifd(block).items():
            if block == ExifTags.IFD.GPSInfo or isinstance(value, (str, bytes)):
                yield names.get(code, f"{block.name}{code}"), value


def _is_numbers(value: object) -> bool:
    return isinstance(value, tuple) and not any(
        isinstance(part, (str, bytes)) for part in cast("tuple[object, ...]", value)
    )


def _iptc(image: Image.Image) -> Iterator[tuple[str, object]]:
    found = IptcImagePlugin.getiptcinfo(cast(Any, image)) or {}
    for key, value in found.items():
        for part in value if isinstance(value, list) else [value]:
            yield f"iptc{key}", part
