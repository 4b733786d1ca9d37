"""DICOM structured reports: what they say about pictures becomes captions, whom they name is harvested.

Content items are kept by what they are (PS3.3 C.17.3): findings and impressions in words, measurements and
coded findings whose codes pydicom knows. Persons, dates and the context of observer, subject, device and
acquisition never become text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, cast

import yaml
from pydicom.dataset import Dataset

from usds.curation.readers.base import CaptionScope, Identifier, MediaError, RawCaption
from usds.curation.readers.dicom_header import parse_file
from usds.curation.readers.dicom_identifiers import dicom_identifiers
from usds.curation.readers.guard import guarded
from usds.curation.readers.limits import ReadLimits
from usds.curation.readers.lookup import known_code
from usds.curation.readers.sections import is_empty_text, section_name, split_sections
from usds.curation.readers.source import ByteSource
from usds.curation.readers.text import SidecarRow, SidecarTable

__all__ = ["read_report"]

_MAX_DEPTH: Final = 24
_MAX_ITEMS: Final = 20_000
_SUBJECT_NAME: Final = "121029"
# Relationships that say who, with what and how, not what was found (PS3.3 C.17.3.2.4).
_CONTEXT: Final = frozenset({"HAS OBS CONTEXT", "HAS ACQ CONTEXT"})
_KIND = re.compile(r"\s*\([a-z ]+\)$")
_TAGS = re.compile(r"<[^>]{1,80}>")


@cache
def _tables() -> dict[str, dict[str, str]]:
    raw = files("usds.curation.readers").joinpath("sr.yaml").read_text(encoding="utf-8")
    return cast("dict[str, dict[str, str]]", yaml.safe_load(raw))


@dataclass(slots=True)
class _Found:
    """What the walk collects: captions by the pictures they refer to, and identifiers."""

    captions: dict[tuple[str, ...], list[RawCaption]] = field(
        default_factory=dict[tuple[str, ...], list[RawCaption]]
    )
    measures: dict[tuple[str, ...], list[str]] = field(default_factory=dict[tuple[str, ...], list[str]])
    identifiers: list[Identifier] = field(default_factory=list[Identifier])
    items: int = 0


def read_report(data: bytes | Path, limits: ReadLimits | None = None) -> SidecarTable:
    """Read a structured report.

    Parameters
    ----------
    data : bytes or Path
    limits : ReadLimits, optional

    Returns
    -------
    SidecarTable
        One row for each set of pictures that its text refers to, and one for the study. A row for the study
        stands last and is there even without text, for its identifiers.

    Raises
    ------
    MediaError
        "unreadable" and its kin; the message carries no value.
    """
    limits = limits or ReadLimits()
    parsed = parse_file(ByteSource(data, limits), limits)
    if "SOPClassUID" not in parsed.ds and "ContentSequence" not in parsed.ds:
        raise MediaError("unreadable")
    with guarded("unreadable"):
        found = _Found()
        _walk(parsed.ds, found, section=None, pictures=(), depth=0)
        study = _text(parsed.ds.get("StudyInstanceUID")) or None
        people = dicom_identifiers([parsed.meta, parsed.ds], parsed.preamble)
    identifiers = tuple(dict.fromkeys([*people, *found.identifiers]))
    rows = [_row(found, pictures, study) for pictures in _order(found) if pictures]
    last = _row(found, (), study)
    return SidecarTable((*rows, SidecarRow(None, last.captions, None, identifiers, study)))


def _order(found: _Found) -> list[tuple[str, ...]]:
    return list(dict.fromkeys([*found.captions, *found.measures]))


def _row(found: _Found, pictures: tuple[str, ...], study: str | None) -> SidecarRow:
    scope: CaptionScope = "clip" if pictures else "study"
    captions = [
        RawCaption(caption.text, caption.section, scope, "report", caption.language)
        for caption in found.captions.get(pictures, ())
    ]
    if measures := found.measures.get(pictures):
        text = "; ".join(dict.fromkeys(measures)) + "."
        captions.append(RawCaption(text, "measurements", scope, "report", "en"))
    return SidecarRow(None, tuple(dict.fromkeys(captions)), None, (), study, pictures)


# -- content tree --------------------------------------------------------------------------------------


def _walk(
    item: Dataset, found: _Found, *, section: str | None, pictures: tuple[str, ...], depth: int
) -> None:
    """One container or finding: its own pictures hold for everything below that names none of its own."""
    children = _children(item)
    own = tuple(uid for child in children for uid in _references(child))
    pictures = own or pictures
    for child in children:
        found.items += 1
        if depth >= _MAX_DEPTH or found.items > _MAX_ITEMS:
            return
        if _text(child.get("RelationshipType")).upper() in _CONTEXT:
            _harvest(child, found, depth)
            continue
        name = _section_of(child)
        _take(child, found, name or section, tuple(_below(child)) or pictures)
        _walk(child, found, section=name or section, pictures=pictures, depth=depth + 1)


def _take(item: Dataset, found: _Found, section: str | None, pictures: tuple[str, ...]) -> None:
    kind = _text(item.get("ValueType")).upper()
    if kind == "TEXT":
        text = _TAGS.sub(" ", _text(item.get("TextValue")))
        if section is not None:
            parts = [p for p in split_sections(text) if not is_empty_text(p.text)]
            captions = [RawCaption(p.text, p.name or section, "study", "report") for p in parts]
            found.captions.setdefault(pictures, []).extend(captions)
        else:
            found.identifiers.append(Identifier(text[:2_000], "other", "SR text"))
    elif kind == "NUM" and (measure := _measure(item)):
        found.measures.setdefault(pictures, []).append(measure)
    elif kind == "CODE" and (phrase := _coded(item)):
        caption = RawCaption(phrase, section or "findings", "study", "report", "en")
        found.captions.setdefault(pictures, []).append(caption)
    else:
        _harvest(item, found, _MAX_DEPTH)


def _harvest(item: Dataset, found: _Found, depth: int) -> None:
    """Values of persons, free text and times under context; nested ones too."""
    concept = _code(item.get("ConceptNameCodeSequence"))
    is_subject = concept is not None and concept[1] == _SUBJECT_NAME
    if name := _text(item.get("PersonName")):
        found.identifiers.append(Identifier(name[:2_000], "name" if is_subject else "staff", "SR context"))
    if text := _text(item.get("TextValue")):
        found.identifiers.append(Identifier(text[:2_000], "other", "SR context"))
    if depth < _MAX_DEPTH:
        for child in _children(item):
            _harvest(child, found, depth + 1)


def _children(item: Dataset) -> list[Dataset]:
    value: Any = item.get("ContentSequence")
    return list(value) if value is not None else []


def _references(item: Dataset) -> Iterator[str]:
    if _text(item.get("ValueType")).upper() != "IMAGE":
        return
    sequence: Any = item.get("ReferencedSOPSequence")
    for reference in sequence or ():
        if uid := _text(reference.get("ReferencedSOPInstanceUID")):
            yield uid


def _below(item: Dataset) -> Iterator[str]:
    for child in _children(item):
        yield from _references(child)


# -- items in words ------------------------------------------------------------------------------------


def _code(sequence: Any) -> tuple[str, str, str] | None:
    """(scheme, value, meaning as written) of the first item of a code sequence."""
    if not sequence:
        return None
    first = sequence[0]
    value = _text(first.get("CodeValue") or first.get("LongCodeValue"))
    return _text(first.get("CodingSchemeDesignator")), value, _text(first.get("CodeMeaning"))


def _known(sequence: Any) -> tuple[str, str, str] | None:
    code = _code(sequence)
    return known_code(code[0], code[1]) if code else None


def _section_of(item: Dataset) -> str | None:
    """Section that a concept name opens: by code, else by the heading it is written as."""
    code = _code(item.get("ConceptNameCodeSequence"))
    if code is None:
        return None
    if code[0].upper() == "DCM" and (name := _tables()["sections"].get(code[1])):
        return name
    return section_name(code[2])


def _measure(item: Dataset) -> str | None:
    concept = _known(item.get("ConceptNameCodeSequence"))
    values: Any = item.get("MeasuredValueSequence")
    if concept is None or not values:
        return None
    unit_code = _code(values[0].get("MeasurementUnitsCodeSequence"))
    unit = _tables()["units"].get(unit_code[1]) if unit_code else None
    try:
        number = float(_text(values[0].get("NumericValue")))
    except ValueError:
        return None
    if unit is None or not math.isfinite(number) or abs(number) >= 1e5:
        return None
    return f"{_plain(concept[2])}: {number:.4g} {unit}".rstrip()


def _coded(item: Dataset) -> str | None:
    """A coded finding in pydicom's words; concepts that speak of people or the report itself are left out."""
    concept, value = _known(item.get("ConceptNameCodeSequence")), _known(item.get("ConceptCodeSequence"))
    if concept is None or value is None or concept[1] not in _tables()["coded"]:
        return None
    return f"{_plain(concept[2])}: {_plain(value[2])}."


def _plain(meaning: str) -> str:
    """A meaning without the kind that SNOMED CT writes behind it: "Lesion with ... margin (finding)"."""
    return _KIND.sub("", meaning)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return _text(value[0]) if value else ""
    original = getattr(value, "original_string", None)
    return (original if isinstance(original, str) else str(value)).strip().strip("\0")
