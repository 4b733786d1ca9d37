"""Text metadata of stills and clips as identifiers: keys tell the class, values stay private."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from usds.curation.readers.base import Identifier, IdentifierClass

# Word inside a metadata key -> class. The first that fits wins.
_KEY_CLASSES: tuple[tuple[str, IdentifierClass], ...] = (
    ("date", "date"), ("time", "date"), ("created", "date"), ("modified", "date"), ("year", "date"),
    ("patient", "name"), ("name", "name"), ("artist", "staff"), ("author", "staff"), ("creator", "staff"),
    ("operator", "staff"), ("copyright", "staff"), ("owner", "staff"), ("composer", "staff"),
    ("gps", "address"), ("location", "address"), ("address", "address"), ("city", "address"),
    ("phone", "phone"), ("institution", "institution"), ("hospital", "institution"),
    ("publisher", "institution"), ("serial", "id"), ("unique", "id"), ("uuid", "id"), ("documentid", "id"),
    ("instanceid", "id"), ("accession", "id"), ("mrn", "id"),
)  # fmt: skip
# What encoders write about themselves; values here identify a program, not a person.
_TECHNICAL = re.compile(
    r"^(major_brand|minor_version|compatible_brands|encoder|handler_name|vendor_id|language|duration|dpi|"
    r"jfif.*|adobe.*|progress\w*|gamma|srgb|chromaticity|compression|exif|icc_profile|interlace|loop|"
    r"background|extension|transparency|photoshop|resolution\w*|aspect|mp\w*|variant_bitrate|"
    r"orientation|colorspace|exifoffset|resolutionunit|[xy]resolution|ycbcr\w*|rotate)$"
)
_XML_TEXT = re.compile(r">([^<>]{2,400})<|=\s*\"([^\"]{2,400})\"")
_TAG_NAME = re.compile(r"([\w:]+)\s*(?:=\s*\"|>)")
_ADDRESS = re.compile(r"^(https?://|adobe:|xmlns|[\d.]+$)")
_MAX_TEXT = 20_000


def metadata_identifiers(pairs: Iterable[tuple[str, object]]) -> list[Identifier]:
    """Turn key-value metadata into identifiers.

    Parameters
    ----------
    pairs : iterable of (key, value)
        EXIF by tag name, PNG text chunks, container metadata. Values that look like XML are split into
        the texts of their elements and attributes.

    Returns
    -------
    list of Identifier
        Without repeats. Unknown keys give class "other".
    """
    found = [item for key, value in pairs for item in _one(key, value)]
    return list(dict.fromkeys(found))


def _one(key: str, value: object) -> Iterator[Identifier]:
    if _TECHNICAL.match(key.lower()):
        return
    content = _as_text(value)
    if content is None:
        return
    if content.lstrip().startswith("<"):
        yield from _from_xml(content)
    elif any(c.isalnum() for c in content):
        yield Identifier(content, _class_of(key), key[:64])


def _from_xml(content: str) -> Iterator[Identifier]:
    """XMP and other XML without a parser: entity tricks of hostile files then have nothing to act on."""
    for match in _XML_TEXT.finditer(content[:_MAX_TEXT]):
        value = (match[1] or match[2]).strip()
        if len(value) < 2 or _ADDRESS.match(value):
            continue
        names = _TAG_NAME.findall(content[max(0, match.start() - 80) : match.start() + 2])
        key = names[-1] if names else "xmp"
        yield Identifier(value, _class_of(key), key[:64])


def _class_of(key: str) -> IdentifierClass:
    low = key.lower()
    for word, klass in _KEY_CLASSES:
        if word in low:
            return klass
    return "other"


def _as_text(value: object) -> str | None:
    if isinstance(value, bytes):
        body = value.strip(b"\0 ")
        for prefix in (b"ASCII\0\0\0", b"UNICODE\0"):
            body = body.removeprefix(prefix)
        try:
            value = body.decode("utf-16-le" if b"\0" in body else "utf-8")
        except UnicodeDecodeError:
            value = body.decode("latin-1")
        if sum(c.isprintable() or c.isspace() for c in value) < 0.95 * max(len(value), 1):
            return None
    if isinstance(value, (tuple, list)):
        value = " ".join(str(part) for part in value)
    content = str(value).strip("\0 \t\r\n")
    return content[:_MAX_TEXT] or None
