"""Parse a DICOM file up to its pixels: file meta, data set, and where the pixel data lies (PS3.10 7)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any, cast

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from usds.curation.readers.base import MediaError
from usds.curation.readers.guard import guarded
from usds.curation.readers.limits import ReadLimits
from usds.curation.readers.source import ByteSource, SpanReader

_PREAMBLE = 128
_META_MAX = 1 << 20
_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_PIXEL_TAGS = {0x7FE00008, 0x7FE00009, 0x7FE00010}
_PIXEL_DATA = 0x7FE00010
UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where the value of (7FE0,0010) starts in the source; `length` may be `UNDEFINED`."""

    offset: int
    length: int
    vr: str


@dataclass(slots=True)
class ParsedFile:
    """A parsed header.

    Attributes
    ----------
    source : ByteSource
        The file, or the inflated data set of a deflated file.
    meta, ds : Dataset
    preamble : bytes
    syntax : UID
        Transfer syntax as stated, or as found where the file states none.
    little_endian, implicit : bool
        How the data set is really encoded.
    pixels : PixelElement or None
    """

    source: ByteSource
    meta: Dataset
    ds: Dataset
    preamble: bytes
    syntax: UID
    little_endian: bool
    implicit: bool
    pixels: PixelElement | None


def parse_file(source: ByteSource, limits: ReadLimits) -> ParsedFile:
    """Parse everything before the pixel data.

    Parameters
    ----------
    source : ByteSource
    limits : ReadLimits

    Returns
    -------
    ParsedFile

    Raises
    ------
    MediaError
        "unreadable", "decompression_bomb" or "too_large".
    """
    # Values that break their VR are common in exports; each consumer checks what it uses.
    config.settings.reading_validation_mode = config.IGNORE
    with guarded("unreadable"):
        preamble, meta, body = _file_meta(source)
        stated = meta.get("TransferSyntaxUID")
        syntax = UID(str(stated)) if stated else _guess_syntax(source, body)
        if syntax == DeflatedExplicitVRLittleEndian:
            source, body = ByteSource(_inflate(source, body, limits), limits), 0
        ds, pixels = _parse_body(source, body, syntax, limits)
        implicit, little = ds.original_encoding
        return ParsedFile(source, meta, ds, preamble, syntax, bool(little), bool(implicit), pixels)


def _parse_body(
    source: ByteSource, body: int, syntax: UID, limits: ReadLimits
) -> tuple[Dataset, PixelElement | None]:
    stream = SpanReader(source, [(body, source.size - body)], limits.max_header_bytes)
    little = not _is_big_endian(source, body, syntax)
    implicit = syntax.is_implicit_VR if not syntax.is_private else False
    ds = read_dataset(cast(Any, stream), implicit, little, stop_when=lambda tag, vr, size: tag in _PIXEL_TAGS)
    # pydicom looks at the first element and overrules a wrongly stated syntax.
    implicit = bool(ds.original_encoding[0])
    return ds, _pixel_element(source, body + stream.tell(), implicit, little)


def _is_big_endian(source: ByteSource, body: int, syntax: UID) -> bool:
    """Files exist whose data set is big endian under another stated syntax, and the reverse."""
    group = source.read(body, 2)
    if group in (b"\x00\x08", b"\x00\x02"):
        return True
    return False if group in (b"\x08\x00", b"\x02\x00") else syntax == ExplicitVRBigEndian


def _file_meta(source: ByteSource) -> tuple[bytes, Dataset, int]:
    """Return (preamble, file meta, start of the data set); group 0002 is explicit little endian."""
    head = source.read(0, _META_MAX)
    preamble = b""
    start = 0
    if head[_PREAMBLE : _PREAMBLE + 4] == b"DICM":
        preamble, start = head[:_PREAMBLE], _PREAMBLE + 4
    elif head[:4] == b"DICM":
        start = 4
    end = _meta_end(head, start)
    meta = read_dataset(BytesIO(head[start:end]), False, True) if end > start else Dataset()
    return preamble, meta, end


def _meta_end(head: bytes, at: int) -> int:
    while head[at : at + 2] == b"\x02\x00" and at + 8 <= len(head):
        if head[at + 4 : at + 6] in _LONG_VRS:
            at += 12 + int.from_bytes(head[at + 8 : at + 12], "little")
        else:
            at += 8 + int.from_bytes(head[at + 6 : at + 8], "little")
    if at > len(head):
        raise MediaError("truncated")
    return at


def _guess_syntax(source: ByteSource, body: int) -> UID:
    """A file without meta: a VR after the first tag tells explicit, the group's bytes tell the order."""
    first = source.read(body, 8)
    big = first[:1] == b"\0" and first[:2] != b"\0\0"
    explicit = len(first) == 8 and first[4:6].isalpha() and first[4:6].isupper()
    if big:
        return ExplicitVRBigEndian
    return ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian


def _inflate(source: ByteSource, body: int, limits: ReadLimits) -> bytes:
    """Inflate a deflated data set (PS3.5 A.5) up to the limit, so that a bomb costs no more than that."""
    raw = source.read(body, limits.max_memory_file_bytes)
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    data = engine.decompress(raw, limits.max_inflated_bytes)
    if engine.unconsumed_tail:
        raise MediaError("decompression_bomb")
    if not data:
        raise MediaError("truncated")
    return data


def _pixel_element(source: ByteSource, at: int, implicit: bool, little: bool) -> PixelElement | None:
    order = "<" if little else ">"
    head = source.read(at, 12)
    if len(head) < 8:
        return None
    group, element = struct.unpack(f"{order}HH", head[:4])
    if (group << 16 | element) != _PIXEL_DATA:
        if (group << 16 | element) in _PIXEL_TAGS:
            raise MediaError("unsupported")  # float pixel data is no ultrasound encoding
        return None
    if implicit:
        return PixelElement(at + 8, struct.unpack(f"{order}L", head[4:8])[0], "OW")
    if len(head) < 12:
        return None
    return PixelElement(at + 12, struct.unpack(f"{order}L", head[8:12])[0], head[4:6].decode("latin-1"))


def parse_rest(parsed: ParsedFile, start: int, limits: ReadLimits) -> Dataset:
    """Parse what follows the pixel data (private groups, padding); empty where it does not parse."""
    length = parsed.source.size - start
    if not 8 <= length <= limits.max_header_bytes:
        return Dataset()
    stream = SpanReader(parsed.source, [(start, length)], limits.max_header_bytes)
    try:
        with guarded("unreadable"):
            return read_dataset(cast(Any, stream), parsed.implicit, parsed.little_endian)
    except MediaError:
        return Dataset()
