"""Lookup tables between what sites type into headers and what a dataset may say."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Literal, cast

import yaml

TableName = Literal["vendor", "model_family", "transducer", "body_part", "language"]

_NOT_WORD = re.compile(r"[^A-Z0-9]+")
# SNOMED RT designators that PS3.16 Annex 8 retired in favour of SCT.
_RETIRED_SNOMED = {"SRT", "SNM3", "99SDM"}
# Probe names of the large vendors start with the array's shape: C5-1 curved, L12-5 linear, S5-1 sector.
_PROBE_NAME = re.compile(r"^(?P<shape>[CLSP])\d{1,2}[-_]\d{1,2}$")
_PROBE_SHAPES = {"C": "curved_linear", "L": "linear", "S": "phased", "P": "phased"}


def normalise(text: str) -> str:
    """Upper case, compatibility folded, every run of other characters one space."""
    return _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", text).upper()).strip()


@cache
def _table(name: TableName) -> tuple[tuple[str, tuple[str, ...]], ...]:
    raw = files("usds.curation.readers").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    rows = cast(list[Mapping[str, object]], yaml.safe_load(raw))
    return tuple(
        (str(row["name"]), tuple(str(word) for word in cast(list[object], row["match"]))) for row in rows
    )


@cache
def table_entries(table: TableName) -> frozenset[str]:
    """Every text that :func:`look_up` can return of a table."""
    return frozenset({"other", *(name for name, _ in _table(table))})


def look_up(table: TableName, value: str | None) -> str | None:
    """Translate a free-text value through a shipped table.

    Parameters
    ----------
    table : {"vendor", "model_family", "transducer", "body_part", "language"}
    value : str or None
        The value as the site typed it.

    Returns
    -------
    str or None
        The entry of the first row with a matching phrase, "other" for a value that no row knows, None
        where there is no value. The value itself is never returned.
    """
    if value is None or not (text := normalise(value)):
        return None
    padded = f" {text} "
    for name, phrases in _table(table):
        if any(f" {phrase} " in padded for phrase in phrases):
            return name
    return "other"


def language_code(value: str | None) -> str | None:
    """ISO 639-1 code of a language that a site names or codes; None for every other text."""
    found = look_up("language", (value or "")[:64].replace("_", "-").split("-")[0])
    return None if found == "other" else found


def look_up_first(table: TableName, values: Iterable[str | None]) -> str | None:
    """Return the first translation that is not "other"; "other" where only unknown values stand."""
    found = [entry for value in values if (entry := look_up(table, value)) is not None]
    return next((entry for entry in found if entry != "other"), found[0] if found else None)


def probe_shape(names: Sequence[str]) -> str | None:
    """Translate a probe's name into its array shape, None where the name follows no known pattern."""
    for name in names:
        if match := _PROBE_NAME.match(name.strip().upper()):
            return _PROBE_SHAPES[match["shape"]]
    return None


@cache
def _known_codes() -> dict[tuple[str, str], str]:
    from pydicom.sr.codedict import codes

    known: dict[tuple[str, str], str] = {}
    for scheme, collection in (("SCT", codes.SCT), ("DCM", codes.DCM)):
        for code in collection.concepts.values():
            # Editions of the standard word a code differently; the shortest is the preferred term.
            meaning = str(code.meaning)
            other = known.get((scheme, code.value), meaning)
            known[scheme, code.value] = min(meaning, other, key=lambda name: (len(name), name))
    return known


def known_code(scheme: str, value: str) -> tuple[str, str, str] | None:
    """Return (scheme, value, meaning) of a DCM or SCT code with pydicom's meaning, None if unknown.

    Retired SNOMED RT codes are translated first; the meaning that a file states is never used.
    """
    scheme, value = scheme.strip().upper(), value.strip()
    if scheme in _RETIRED_SNOMED:
        from pydicom.sr._snomed_dict import mapping

        scheme, value = "SCT", mapping["SRT"].get(value, "")
    meaning = _known_codes().get((scheme, value))
    return None if meaning is None else (scheme, value, meaning)


@cache
def identifier_classes() -> dict[str, str]:
    """DICOM keyword -> class of identifier, from identifiers.yaml."""
    raw = files("usds.curation.readers").joinpath("identifiers.yaml").read_text(encoding="utf-8")
    table = cast(Mapping[str, Sequence[str]], yaml.safe_load(raw))
    return {keyword: klass for klass, keywords in table.items() for keyword in keywords}
