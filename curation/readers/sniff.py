"""Tell what a file is from its bytes; names and extensions are never looked at."""

from __future__ import annotations

import json
import re
from typing import Literal

Kind = Literal["dicom", "sr", "image", "video", "zip", "text", "csv", "json", "jsonl", "unknown"]

HEAD_BYTES = 16_384
"""How much of the start of a file `sniff` wants to see; less works for most kinds."""

_IMAGE_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_VIDEO_MAGIC = (
    b"GIF87a",
    b"GIF89a",
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video elementary stream
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"FLV\x01",
)
_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
_STILL_BRANDS = {b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"jp2 "}
_STORAGE_CLASS = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(\d+)")
_SR_ARC = b"88"
_VR = re.compile(rb"(?:AE|AS|AT|CS|DA|DS|DT|FL|FD|IS|LO|LT|OB|OW|PN|SH|SL|SQ|SS|ST|TM|UI|UL|UN|US|UT)")
_MAX_TEXT_CONTROL = 0.01


def sniff(head: bytes, tail: bytes = b"") -> Kind:
    """Name the kind of a file.

    Parameters
    ----------
    head : bytes
        First bytes of the file, best `HEAD_BYTES` or the whole of a smaller one.
    tail : bytes, optional
        Last bytes; not needed today, kept for formats whose directory stands at the end.

    Returns
    -------
    str
        "dicom", "sr" (a DICOM structured report or document without pixels), "image", "video", "zip",
        "text", "csv", "json", "jsonl" or "unknown".
    """
    if not head:
        return "unknown"
    if _is_dicom(head):
        return "sr" if _is_report(head) else "dicom"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return "zip"
    return _media_kind(head) or _text_kind(head, tail) or "unknown"


def _is_dicom(head: bytes) -> bool:
    """PS3.10 7.1: 128 bytes, then DICM; files without either start with group 0002 or 0008."""
    if head[128:132] == b"DICM":
        return True
    if head[:4] == b"DICM":
        return True
    little, big = head[:2] in (b"\x02\x00", b"\x08\x00"), head[:2] in (b"\x00\x02", b"\x00\x08")
    if not (little or big) or len(head) < 16:
        return False
    element = int.from_bytes(head[2:4], "little" if little else "big")
    if element > 0x3010 and element != 0:
        return False
    if _VR.fullmatch(head[4:6]):
        return True
    return little and int.from_bytes(head[4:8], "little") <= 1024 and head[:2] == b"\x08\x00"


def _is_report(head: bytes) -> bool:
    """The first storage class is the file's own (file meta, or (0008,0016)); later ones are references."""
    first = _STORAGE_CLASS.search(head)
    return first is not None and first[1] == _SR_ARC


def _media_kind(head: bytes) -> Kind | None:
    is_bitmap = head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and head[14:18] in _BMP_HEADERS
    if head.startswith(_IMAGE_MAGIC) or is_bitmap or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "image"
    if head[4:8] in _BOXES:
        return "image" if head[8:12] in _STILL_BRANDS else "video"
    # A transport stream has a sync byte every 188 bytes and no other signature.
    is_transport = len(head) > 376 and head[0] == head[188] == head[376] == 0x47
    is_avi = head[:4] == b"RIFF" and head[8:12] == b"AVI "
    return "video" if is_avi or is_transport or head.startswith(_VIDEO_MAGIC) else None


_BMP_HEADERS = {size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)}


def _text_kind(head: bytes, tail: bytes) -> Kind | None:
    text = decode_text(head)
    if text is None:
        return None
    body = text.lstrip("\ufeff \t\r\n")
    if body[:1] in ("{", "["):
        return _json_kind(body)
    return "csv" if _looks_tabular(body) else "text"


def _json_kind(body: str) -> Kind:
    first, _, rest = body.partition("\n")
    if first.rstrip().endswith("}") and rest.lstrip()[:1] in ("{", ""):
        try:
            json.loads(first)
        except ValueError:
            return "json" if body[0] == "{" else "text"
        return "jsonl" if rest.strip() else "json"
    return "json" if re.match(r"[\[{]\s*([\"\[{\]}\d-]|true|false|null)", body) else "text"


def decode_text(head: bytes) -> str | None:
    """Return text, or None where the bytes are not text; a character cut at the end is forgiven."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", errors="ignore")
    if b"\0" in head:
        return None
    control = sum(byte < 32 and byte not in (9, 10, 12, 13, 27) for byte in head)
    if control > _MAX_TEXT_CONTROL * len(head):
        return None
    try:
        return head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start >= len(head) - 4:
            return head[: error.start].decode("utf-8")
    high = sum(byte > 127 for byte in head)
    return head.decode("cp1252", errors="replace") if high <= 0.3 * len(head) else None


def _looks_tabular(body: str) -> bool:
    """A header of two or more short cells, and the same number of separators in a second line."""
    lines = [line for line in body.splitlines()[:20] if line.strip()]
    if len(lines) < 2:
        return False
    for mark in (",", "\t", ";", "|"):
        cells = lines[0].split(mark)
        if len(cells) >= 2 and all(0 < len(cell.strip()) <= 40 for cell in cells):
            width = [_cells(line, mark) for line in lines[1:4]]
            if width[0] == len(cells) or '"' in lines[1]:
                return not lines[0].rstrip().endswith((".", ":"))
    return False


def _cells(line: str, mark: str) -> int:
    return len(re.sub(r'"[^"]*"', "", line).split(mark))
