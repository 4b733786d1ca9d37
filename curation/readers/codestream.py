"""Read the few bytes of a codestream's header that decide how, and whether, it is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_DCT = {0xC0, 0xC1, 0xC2}
_JPEG_LS = 0xF7
_ALONE = {0x01, *range(0xD0, 0xD8)}


@dataclass(frozen=True, slots=True)
class Codestream:
    """Size and colour of one encoded frame.

    Attributes
    ----------
    family : str
        "dct" (JPEG baseline, extended, progressive), "lossless", "jpegls" or "jpeg2000".
    rows, cols, components, bits : int
    ycc : bool or None
        What JFIF or Adobe markers or component ids say about colour; None where they say nothing.
    has_marker : bool
        Whether a JFIF or Adobe marker is present, which a JPEG decoder obeys by itself.
    """

    family: str
    rows: int
    cols: int
    components: int
    bits: int
    ycc: bool | None = None
    has_marker: bool = False


def parse_codestream(data: bytes) -> Codestream | None:
    """Return the parameters of a JPEG, JPEG-LS or JPEG 2000 codestream, None where it is none of them."""
    if data[:2] == b"\xff\xd8":
        return _parse_jpeg(data)
    at = 0 if data[:4] == b"\xff\x4f\xff\x51" else data.find(b"\xff\x4f\xff\x51", 0, 4096)
    return _parse_jpeg2000(data, at) if at >= 0 else None


def _parse_jpeg2000(data: bytes, at: int) -> Codestream | None:
    """SIZ marker segment, ISO/IEC 15444-1 A.5.1."""
    siz = data[at + 8 : at + 8 + 36]
    if len(siz) < 35:
        return None
    x1, y1, x0, y0 = struct.unpack(">4L", siz[:16])
    count = struct.unpack(">H", siz[32:34])[0]
    # COD, A.6.1: with the component transform the decoder returns RGB whatever the header says.
    cod = data.find(b"\xff\x52", at, at + 4096)
    transformed = 0 <= cod < len(data) - 8 and data[cod + 8] == 1
    return Codestream(
        "jpeg2000", y1 - y0, x1 - x0, count, (siz[34] & 0x7F) + 1, ycc=False if transformed else None
    )


def _parse_jpeg(data: bytes) -> Codestream | None:
    """Marker segments up to the frame header, ISO/IEC 10918-1 B.2."""
    at, jfif, adobe = 2, False, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        length = struct.unpack(">H", data[at + 2 : at + 4])[0]
        body = data[at + 4 : at + 2 + length]
        if marker == 0xE0 and body[:4] == b"JFIF":
            jfif = True
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif marker in _SOF or marker == _JPEG_LS:
            return _frame_header(marker, body, jfif, adobe)
        at += 2 + max(length, 2)
    return None


def _frame_header(marker: int, body: bytes, jfif: bool, adobe: int | None) -> Codestream | None:
    if len(body) < 6 + 3 * (body[5] if len(body) > 5 else 1):
        return None
    rows, cols = struct.unpack(">HH", body[1:5])
    ids = bytes(body[6 : 6 + 3 * body[5] : 3])
    ycc: bool | None = True if jfif else None
    # JFIF wins over Adobe, as in libjpeg; ids that spell RGB are how some encoders say it.
    if ycc is None and adobe is not None:
        ycc = adobe != 0
    elif ycc is None and ids in (b"RGB", b"rgb"):
        ycc = False
    family = "dct" if marker in _DCT else "jpegls" if marker == _JPEG_LS else "lossless"
    return Codestream(family, rows, cols, body[5], body[0], ycc, jfif or adobe is not None)


def has_tables(data: bytes) -> bool:
    """Tell whether a lossless JPEG defines, without a gap, every Huffman table that its scan uses.

    GDCM ends the whole process on a scan without tables, so such a frame is never shown to it.
    """
    at, defined = 2, set[int]()
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        body = data[at + 4 : at + 2 + length]
        if marker == 0xC4:
            defined |= _huffman_ids(body)
        elif marker == 0xDA:
            count = body[0] if body else 0
            used = {selectors >> 4 for selectors in body[2 : 2 + 2 * count : 2]}
            return count > 0 and used <= defined
        at += 2 + max(length, 2)
    return False


def _huffman_ids(body: bytes) -> set[int]:
    """Ids of the tables in one DHT segment, ISO/IEC 10918-1 B.2.4.2."""
    found, at = set[int](), 0
    while at + 17 <= len(body):
        found.add(body[at] & 0x0F)
        at += 17 + sum(body[at + 1 : at + 17])
    return found if at == len(body) else set()


def with_adobe_marker(data: bytes, *, ycc: bool) -> bytes:
    """Insert an Adobe APP14 segment, so that every JPEG decoder takes the stated colour space."""
    body = b"Adobe\x00\x64\x00\x00\x00\x00" + bytes([1 if ycc else 0])
    return data[:2] + b"\xff\xee" + struct.pack(">H", len(body) + 2) + body + data[2:]
