"""What the bytes of an encoded picture are: every one belongs to a part, and a part is picture or is not.

One walk serves two readers: the audit names the first part that is no picture, the import of a published
release leaves such parts out. Sources: ITU-T T.81 annex B (JPEG), JFIF 1.02, W3C PNG section 5.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

__all__ = ["Part", "image_metadata", "parts_of", "picture_alone", "whole_blocks"]

_JPEG_MAGIC: Final = b"\xff\xd8"
_JPEG_END: Final = b"\xff\xd9"
_SCAN: Final = "JPEG segment FFDA"
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
# Section B.1.1.5: within a scan FF stands only before 00, or as a restart marker or a fill byte.
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FRAMES: Final = ("JPEG segment FFC0", "JPEG segment FFC1", "JPEG segment FFC2")
_PNG_PICTURE: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"})
_PNG_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some consecutive bytes of an encoded picture.

    Attributes
    ----------
    name : str
        What they are, for people.
    start, end : int
        Half-open.
    picture : bool
        Whether a decoder needs them and they have no room for anything else.
    """

    name: str
    start: int
    end: int
    picture: bool


def parts_of(image: bytes) -> Iterator[Part]:
    """All parts of a JPEG or PNG file in order, without a gap; nothing for other formats.

    A file that is cut off ends with a part named "... without an end".
    """
    if image.startswith(_JPEG_MAGIC):
        yield from _jpeg_parts(image)
    elif image.startswith(_PNG_MAGIC):
        yield from _png_parts(image)


def image_metadata(image: bytes) -> str | None:
    """Name of a part that could carry words or another picture; None when there is nothing but picture."""
    parts = list(parts_of(image))
    if not parts:
        return "unknown image format"
    stray = next((part.name for part in parts if not part.picture), None)
    return stray or ("pixels behind the last row" if _has_surplus(image) else None)


def picture_alone(image: bytes) -> bytes | None:
    """A JPEG or PNG file less what is no picture.

    Returns
    -------
    bytes or None
        Empty for other formats and for damaged files, where a decoder must say what they show; None where
        the end is missing.
    """
    parts = list(parts_of(image))
    if parts and parts[-1].name.endswith("without an end"):
        scan = next((part.start for part in parts if part.name == _SCAN), None)
        return None if scan is None or _JPEG_END not in image[scan:] else b""
    return b"".join(image[part.start : part.end] for part in parts if part.picture)


# -- JPEG -----------------------------------------------------------------------------------------------


def _jpeg_parts(image: bytes) -> Iterator[Part]:
    yield Part("start", 0, 2, picture=True)
    at, scans = 2, 0
    while at + 2 <= len(image):
        if image[at] != 0xFF:
            behind = _MARKER.search(image, at)
            end = behind.start() if behind else len(image)
            yield Part("bytes between segments", at, end, picture=False)
            at = end
            continue
        marker = image[at + 1]
        if marker == 0xFF:  # fill byte
            yield Part("fill byte", at, at + 1, picture=True)
            at += 1
            continue
        if marker == 0xD9 and scans:
            yield Part("end", at, at + 2, picture=True)
            if at + 2 < len(image):
                yield Part("bytes after the image", at + 2, len(image), picture=False)
            return
        end = at + 2 + max(2, int.from_bytes(image[at + 2 : at + 4], "big"))
        picture = _is_picture(marker, image[at + 4 : end])
        if marker == 0xDA:
            scans += 1
            behind = _MARKER.search(image, end)
            end = behind.start() if behind else len(image)
        end = min(end, len(image))
        yield Part(f"JPEG segment FF{marker:02X}", at, end, picture)
        at = end
    yield Part("JPEG without an end", at, len(image), picture=False)


def _is_picture(marker: int, body: bytes) -> bool:
    """Whether a segment says how to decode, and no byte more than its tables need."""
    rule = _SEGMENTS.get(marker)
    return rule is not None and len(body) > 0 and rule(body)


def _tables_fill(body: bytes, length: Callable[[int], int]) -> bool:
    """Whether tables, one behind the other, take every byte of a segment."""
    at = 0
    while at < len(body):
        at += length(at)
    return at == len(body)


def _is_frame_header(body: bytes) -> bool:
    return len(body) > 5 and len(body) == 6 + 3 * body[5]


_SEGMENTS: Final[Mapping[int, Callable[[bytes], bool]]] = {
    0xE0: lambda body: body.startswith(b"JFIF\x00") and len(body) == 14,  # no thumbnail
    0xEE: lambda body: body.startswith(b"Adobe") and len(body) == 12,
    0xC0: _is_frame_header,
    0xC1: _is_frame_header,
    0xC2: _is_frame_header,
    0xC4: lambda body: _tables_fill(body, lambda at: 17 + sum(body[at + 1 : at + 17])),
    0xDB: lambda body: _tables_fill(body, lambda at: 129 if body[at] >> 4 else 65),
    0xDD: lambda body: len(body) == 2,
    0xDA: lambda body: len(body) == 4 + 2 * body[0],
}
"""By marker: tells whether the body of a segment is needed to decode and holds nothing else."""


def _frame_header(image: bytes) -> Part | None:
    return next((part for part in _jpeg_parts(image) if part.name in _FRAMES), None)


def whole_blocks(image: bytes, more_rows: int = 0) -> bytes:
    """A JPEG file that shows all it encodes: also the pixels that fill up its last blocks.

    A JPEG picture is coded in blocks; what lies in the last ones beyond its height and width is there for
    everybody who changes two numbers in the header.

    Parameters
    ----------
    image : bytes
        Returned as it is when it is no JPEG file, or when its blocks depend on its size.
    more_rows : int
        Rows of blocks to ask for beyond the last one.
    """
    header = _frame_header(image) if image.startswith(_JPEG_MAGIC) else None
    if header is None or not header.picture:
        return image
    body = image[header.start + 4 : header.end]
    factors = body[7::3]
    wide, high = max(f >> 4 for f in factors), max(f & 15 for f in factors)
    scans = sum(part.name == _SCAN for part in _jpeg_parts(image))
    if scans != 1 and (wide, high) != (1, 1):
        return image  # scans of single components count their blocks by the size
    rows, cols = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    rows = (-(-rows // (8 * high)) + more_rows) * 8 * high
    cols = -(-cols // (8 * wide)) * 8 * wide
    if max(rows, cols) > 0xFFFF:
        return image
    at = header.start + 5
    return image[:at] + rows.to_bytes(2, "big") + cols.to_bytes(2, "big") + image[at + 4 :]


def _has_surplus(image: bytes) -> bool:
    """Whether pixels follow the last row: the header of a picture was made to show less than it holds."""
    if image.startswith(_PNG_MAGIC):
        return _png_surplus(image)
    larger = whole_blocks(image, more_rows=2)
    if larger is image:
        return False
    try:
        pixels = np.asarray(Image.open(io.BytesIO(larger)).convert("L"))
    except (OSError, ValueError):
        return False  # damaged: the audit says so by itself
    # Without data a decoder fills blocks with one grey; the bits that end a scan may give one block more.
    last = pixels[-8:, pixels.shape[1] // 2 :]
    return bool(last.size) and int(last.max()) != int(last.min())


# -- PNG ------------------------------------------------------------------------------------------------


def _png_parts(image: bytes) -> Iterator[Part]:
    yield Part("signature", 0, 8, picture=True)
    at = 8
    while at + 12 <= len(image):
        kind = image[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(image[at : at + 4], "big")
        if end > len(image):
            break
        yield Part("PNG chunk", at, end, kind in _PNG_PICTURE)
        if kind == b"IEND":
            if end < len(image):
                yield Part("bytes after the image", end, len(image), picture=False)
            return
        at = end
    yield Part("PNG without an end", at, len(image), picture=False)


def _png_surplus(image: bytes) -> bool:
    chunks = [(image[p.start + 4 : p.start + 8], image[p.start + 8 : p.end - 4]) for p in _png_parts(image)]
    head = next((body for kind, body in chunks if kind == b"IHDR"), b"")
    if len(head) != 13 or head[12]:  # interlaced pictures have other row sizes
        return len(head) != 13
    cols, rows = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    wanted = rows * (1 + -(-cols * head[8] * _PNG_SAMPLES.get(head[9], 4) // 8))
    stream = zlib.decompressobj()
    try:
        size = len(stream.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"), wanted + 1))
    except zlib.error:
        return False  # damaged: the audit says so by itself
    return size > wanted or bool(stream.unused_data)
