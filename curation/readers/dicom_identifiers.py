"""Every identifying value of a DICOM file outside its pixels, for the private harvest index."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from usds.curation.readers.base import Identifier, IdentifierClass
from usds.curation.readers.lookup import identifier_classes

_TIME_VRS = {"DA", "DT", "TM"}
_TEXT_VRS = {"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "IS", "DS", "AS"}
_BYTE_VRS = {"UN", "OB", "OW", "OB or OW"}
# UIDs below this root name classes, syntaxes and frames of reference of the standard, nobody's picture.
_STANDARD_ROOT = "1.2.840.10008."
_PRINTABLE_RUN = re.compile(rb"[\x20-\x7e\x80-\xff]{4,}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]+")
_MAX_BYTES = 65_536
_MAX_DEPTH = 24
_PEOPLE = ("name", "staff")


def dicom_identifiers(datasets: list[Dataset], preamble: bytes) -> list[Identifier]:
    """Collect identifiers from data sets, nested and private elements, file meta and preamble.

    Parameters
    ----------
    datasets : list of Dataset
        File meta, the main data set, and what follows the pixel data.
    preamble : bytes
        The 128 bytes before "DICM" (PS3.10 7.1), or empty.

    Returns
    -------
    list of Identifier
        Without repeats, in file order.
    """
    found = [item for ds in datasets for item in _walk(ds, 0)]
    found += [Identifier(text, "other", "Preamble") for text in _byte_texts(preamble, runs=True)]
    return list(dict.fromkeys(found))


def _walk(ds: Dataset, depth: int) -> Iterator[Identifier]:
    if depth > _MAX_DEPTH:
        return
    for tag in sorted(ds.keys()):
        try:
            element: Any = ds[tag]
        except Exception:  # noqa: BLE001 - a value that pydicom refuses can still be a name
            yield from _raw(ds, tag)
            continue
        if element.VR == "SQ" and isinstance(element.value, DicomSequence):
            for item in element.value:
                yield from _walk(item, depth + 1)
        else:
            yield from _element(element)


def _raw(ds: Dataset, tag: Any) -> Iterator[Identifier]:
    raw: Any = ds.get_item(tag)
    value = getattr(raw, "value", None)
    if isinstance(value, (bytes, bytearray)):
        for text in _byte_texts(bytes(value[:_MAX_BYTES]), runs=True):
            yield Identifier(text, "other", "Undecodable")


def _element(element: DataElement) -> Iterator[Identifier]:
    keyword, vr = element.keyword, str(element.VR)
    klass = _class_of(element, keyword, vr)
    if klass is None or element.value is None:
        return
    cue = keyword or ("Private" if element.tag.is_private else _group_cue(element.tag.group))
    for text in _texts(element.value, runs=vr == "UN"):
        for part in _parts(text, klass):
            yield Identifier(part, klass, cue)


def _class_of(element: DataElement, keyword: str, vr: str) -> IdentifierClass | None:
    """Class of identifier that an element's value is; None where it identifies nobody."""
    listed = cast("IdentifierClass | None", identifier_classes().get(keyword))
    if vr == "PN":
        return "name" if listed == "name" else "staff"
    if vr in _TIME_VRS or vr == "UI":
        return "id" if vr == "UI" else "date"
    is_private_text = element.tag.is_private and vr in _TEXT_VRS | _BYTE_VRS
    is_label = _group_cue(element.tag.group) is not None and vr in _TEXT_VRS - {"IS", "DS", "CS"}
    return listed or ("other" if is_private_text or is_label else None)


def _group_cue(group: int) -> str | None:
    """Repeating groups: overlays (60xx, PS3.3 C.9) and retired curves (50xx) carry labels and comments."""
    return {0x60: "Overlay", 0x50: "Curve"}.get(group >> 8)


def _texts(value: Any, *, runs: bool) -> Iterator[str]:
    if isinstance(value, (bytes, bytearray)):
        yield from _byte_texts(bytes(value[:_MAX_BYTES]), runs=runs)
    elif isinstance(value, (list, tuple)) or (hasattr(value, "__iter__") and not isinstance(value, str)):
        if hasattr(value, "original_string") or hasattr(value, "components"):
            yield str(value)
            return
        for item in value:
            yield from _texts(item, runs=runs)
    else:
        original = getattr(value, "original_string", None)
        yield original if isinstance(original, str) else str(value)


def _parts(text: str, klass: str) -> Iterator[str]:
    """A person name has up to three writings (alphabetic, ideographic, phonetic) joined by "="."""
    pieces = text.split("=") if klass in _PEOPLE else [text]
    for piece in pieces:
        clean = _CONTROL.sub(" ", piece).strip(" ^")
        if clean and not clean.startswith(_STANDARD_ROOT):
            yield clean


def _byte_texts(data: bytes, *, runs: bool) -> Iterator[str]:
    """Text inside bytes: the whole value where it is all text, else (with `runs`) its printable runs."""
    body = data.strip(b"\0 ")
    if not body:
        return
    text = _decode(body)
    if sum(c.isprintable() or c.isspace() for c in text) >= 0.98 * len(text):
        yield text
    elif runs:
        for run in _PRINTABLE_RUN.findall(body):
            yield _decode(run)


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError:
        return data.decode("latin-1").strip()
