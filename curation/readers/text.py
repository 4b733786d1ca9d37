"""Sidecars: text, tables and JSON beside the pictures, read row by row; one bad row spoils no other.

Everything here is a pure function of bytes and names. Messages carry row numbers, never values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, cast

from usds.curation.readers.base import CaptionScope, Identifier, IdentifierClass, RawCaption
from usds.curation.readers.columns import IDENTIFYING, ColumnRoles, role_of
from usds.curation.readers.sections import is_boilerplate, is_empty_text, section_name, split_sections
from usds.curation.readers.tables import MAX_CELL, ProblemReason, SidecarProblem, decode, records, table

__all__ = ["SidecarProblem", "SidecarRow", "SidecarTable", "read_sidecar"]

_MAX_DEPTH: Final = 6
_MAX_FIELDS: Final = 4_000
_MAX_UNLISTED: Final = 120
_KEY_LINE = re.compile(r"^[ \t]*([^\W\d_][\w .'/-]{0,30}?)[ \t]*[:=][ \t]*(\S.{0,200})$")
_TOKEN = re.compile(r"[^\W_]+")
_SIGNATURE_NAME = re.compile(r"\bby:?\s+(.{3,120})$", re.IGNORECASE)
_SIGNATURE_END = re.compile(r"\s+(?:on|at|am)\s+\d|,?\s*\d{1,4}[./-]\d")


@dataclass(frozen=True, slots=True)
class SidecarRow:
    """What one row says about one picture.

    Attributes
    ----------
    target : str or None
        The picture's name as written; None where the sidecar's own name or folder tells it.
    captions : tuple of RawCaption
    subject : str or None
    identifiers : tuple of Identifier
    study, instances : str or None, tuple of str
        UIDs that the row refers to.
    """

    target: str | None
    captions: tuple[RawCaption, ...]
    subject: str | None = None
    identifiers: tuple[Identifier, ...] = ()
    study: str | None = None
    instances: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON form, for the private state."""
        return {
            "image": self.target,
            "subject": self.subject,
            "sops": list(self.instances),
            "study": self.study,
            "captions": [asdict(caption) for caption in self.captions],
            "identifiers": [(one.value, one.klass, one.cue) for one in self.identifiers],
        }


@dataclass(frozen=True, slots=True)
class SidecarTable:
    """A sidecar: its rows, and the rows that could not be used."""

    rows: tuple[SidecarRow, ...]
    problems: tuple[SidecarProblem, ...] = ()


def read_sidecar(
    data: bytes,
    name: str,
    kind: Literal["text", "csv", "json", "jsonl"],
    mapping: Mapping[str, str] | None = None,
) -> SidecarTable:
    """Read a sidecar.

    Parameters
    ----------
    data : bytes
        UTF-8 or UTF-16 with or without byte order mark, else taken as Windows-1252 / Latin-1.
    name : str
        File name; not needed to tell the kind.
    kind : {"text", "csv", "json", "jsonl"}
        As `usds.curation.readers.sniff.sniff` says it; "csv" is any delimited table.
    mapping : mapping, optional
        ``--map``: column by role (image, caption, subject); several captions are joined by "+".

    Returns
    -------
    SidecarTable
        Rows without text are kept where they name a subject or identify somebody.
    """
    del name
    text = decode(data)
    if kind == "text":
        return SidecarTable((_from_text(text),))
    roles = ColumnRoles(mapping or {})
    readers = {"csv": _read_csv, "json": _read_json, "jsonl": _read_jsonl}
    return readers[kind](text, roles)


# -- text ----------------------------------------------------------------------------------------------


def _from_text(text: str, scope: CaptionScope = "clip") -> SidecarRow:
    identifiers: list[Identifier] = []
    subject: str | None = None
    kept: list[str] = []
    for line in text.splitlines():
        key, value = _key_value(line)
        role = role_of(key) if key and not section_name(key) else None
        if role in IDENTIFYING or role == "subject":
            found = _identifiers(key, value, role)
            identifiers += found
            subject = subject or (value if role == "subject" and key.lower() != "patient" else None)
        elif is_boilerplate(line):
            identifiers += _signature(line)
        else:
            kept.append(line)
    captions = _captions("\n".join(kept), None, scope, None)
    return SidecarRow(None, captions, subject, tuple(dict.fromkeys(identifiers)))


def _key_value(line: str) -> tuple[str, str]:
    match = _KEY_LINE.match(line)
    return (match[1], match[2].strip()) if match else ("", "")


def _signature(line: str) -> list[Identifier]:
    match = _SIGNATURE_NAME.search(line)
    if match is None:
        return []
    return [Identifier(_SIGNATURE_END.split(match[1])[0].strip(" .,"), "staff", "Signature")]


def _captions(
    text: str, section: str | None, scope: CaptionScope, language: str | None
) -> tuple[RawCaption, ...]:
    """A text as captions, cut at its headings."""
    if len(text) > MAX_CELL:
        text = text[:MAX_CELL]
    return tuple(
        RawCaption(part.text, part.name or section, scope, "sidecar", language)
        for part in split_sections(text)
        if not is_empty_text(part.text)
    )


# -- records -------------------------------------------------------------------------------------------


def _row(fields: Iterable[tuple[str, str]], roles: ColumnRoles) -> SidecarRow | None:
    """One record; None where it says nothing at all."""
    values: dict[str, list[tuple[str, str]]] = {}
    for key, value in fields:
        if value.strip():
            values.setdefault(roles.of(key) or "", []).append((key, value.strip()))
    language = _first(values, "language")
    captions: list[RawCaption] = []
    for key, value in values.get("caption", ()):
        captions += _captions(value, section_name(key.rpartition(".")[2]), "clip", language)
    identifiers: list[Identifier] = []
    for role, found in values.items():
        for key, value in found:
            if role in IDENTIFYING or role in ("subject", "study", "instance", ""):
                identifiers += _identifiers(key, value, role)
    target, subject = _first(values, "image"), _first(values, "subject")
    if not (captions or subject or identifiers):
        return None
    return SidecarRow(
        target, tuple(dict.fromkeys(captions)), subject, tuple(dict.fromkeys(identifiers)),
        _first(values, "study"), tuple(value for _, value in values.get("instance", ())),
    )  # fmt: skip


def _first(values: Mapping[str, Sequence[tuple[str, str]]], role: str) -> str | None:
    found = values.get(role)
    return found[0][1] if found else None


def _identifiers(key: str, value: str, role: str | None) -> list[Identifier]:
    """Identifiers of one field.

    A column that no table knows counts where it is short and no mere number: an attribute such as "oval" is
    a word of the language, which the harvest weighs as such.
    """
    cue = key[:64]
    if role in IDENTIFYING:
        return [Identifier(value[:2_000], cast("IdentifierClass", role), cue)]
    if role == "subject":
        has_digit = any(char.isdigit() for char in value)
        return [Identifier(value[:200], "id" if has_digit else "name", cue)]
    if role in ("study", "instance"):
        return [Identifier(value[:200], "id", cue)]
    tokens = _TOKEN.findall(value[:_MAX_UNLISTED])
    telling = any(len(token) >= 4 for token in tokens)
    return [Identifier(value, "other", cue)] if telling and len(value) <= _MAX_UNLISTED else []


# -- tables --------------------------------------------------------------------------------------------


def _read_csv(text: str, roles: ColumnRoles) -> SidecarTable:
    rows: list[SidecarRow] = []
    header, body, problems = table(text)
    if header is None:
        return SidecarTable((), tuple(problems))
    for _, cells in body:
        row = _row(zip(header, cells, strict=False), roles)
        if row is not None:
            rows.append(row)
    return SidecarTable(tuple(rows), tuple(problems))


# -- JSON ----------------------------------------------------------------------------------------------


def _read_jsonl(text: str, roles: ColumnRoles) -> SidecarTable:
    rows: list[SidecarRow] = []
    problems: list[SidecarProblem] = []
    for number, line in records(text):
        if len(line) > 4 * MAX_CELL:
            problems.append(SidecarProblem(number, "too_long"))
            continue
        value, reason = _parse_json(line)
        if reason is not None:
            problems.append(SidecarProblem(number, reason))
        elif not isinstance(value, dict):
            problems.append(SidecarProblem(number, "not_a_record"))
        else:
            rows += _json_rows(cast("dict[str, Any]", value), roles)
    return SidecarTable(tuple(rows), tuple(problems))


def _read_json(text: str, roles: ColumnRoles) -> SidecarTable:
    value, reason = _parse_json(text)
    if reason is not None:
        return SidecarTable((), (SidecarProblem(1, reason),))
    if isinstance(value, dict):
        return SidecarTable(tuple(_json_rows(cast("dict[str, Any]", value), roles)))
    if isinstance(value, list):
        return _from_list(cast("list[Any]", value), roles)
    return SidecarTable((), (SidecarProblem(1, "not_a_record"),))


def _parse_json(text: str) -> tuple[Any, ProblemReason | None]:
    try:
        return json.loads(text), None
    except RecursionError:
        return None, "too_deep"
    except ValueError:
        return None, "not_json"


def _from_list(items: Sequence[Any], roles: ColumnRoles) -> SidecarTable:
    rows: list[SidecarRow] = []
    problems: list[SidecarProblem] = []
    for number, item in enumerate(items, 1):
        if isinstance(item, dict):
            rows += _json_rows(cast("dict[str, Any]", item), roles)
        elif isinstance(item, str):
            rows.append(SidecarRow(None, _captions(item, None, "clip", None)))
        else:
            problems.append(SidecarProblem(number, "not_a_record"))
    return SidecarTable(tuple(rows), tuple(problems))


def _json_rows(value: dict[str, Any], roles: ColumnRoles) -> Iterator[SidecarRow]:
    """Rows of an object: a record, a wrapper around lists of records, or records keyed by file name."""
    lists = [(key, items) for key, items in value.items() if _is_records(items)]
    joined = _captioned_images(value)
    if joined is not None:
        for record in joined:
            yield from _record(record, roles)
        return
    own = {key: item for key, item in value.items() if not _is_records(item)}
    if any(roles.of(key) in ("image", "caption") for key in own):
        yield from _record(own, roles)
    elif own and all(_looks_like_file(key) for key in own):
        for name, item in own.items():
            yield from _keyed(name, item, roles)
    elif own:
        yield from _record(own, roles)
    for _, items in lists:
        yield from _from_list(items, roles).rows


def _is_records(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) for item in cast("list[Any]", value))
    )


def _captioned_images(value: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Images and annotations as COCO lists them, joined by ``image_id``."""
    images, notes = value.get("images"), value.get("annotations")
    if not (_is_records(images) and _is_records(notes)):
        return None
    by_id: dict[str, dict[str, Any]] = {
        str(image.get("id")): {**image, "caption": []} for image in cast("list[dict[str, Any]]", images)
    }
    for note in cast("list[dict[str, Any]]", notes):
        image = by_id.get(str(note.get("image_id")))
        text = note.get("caption") or note.get("text")
        if image is not None and isinstance(text, str):
            image["caption"].append(text)
    return [{key: item for key, item in image.items() if key != "id"} for image in by_id.values()]


def _looks_like_file(key: str) -> bool:
    stem, dot, extension = key.rpartition(".")
    return ("/" in key or "\\" in key) or bool(
        stem and dot and 1 < len(extension) <= 5 and extension.isalnum()
    )


def _keyed(name: str, item: Any, roles: ColumnRoles) -> Iterator[SidecarRow]:
    if isinstance(item, dict):
        for row in _record(cast("dict[str, Any]", item), roles):
            yield SidecarRow(name, row.captions, row.subject, row.identifiers, row.study, row.instances)
    else:
        captions = [c for text in _strings(item) for c in _captions(text, None, "clip", None)]
        if captions:
            yield SidecarRow(name, tuple(captions))


def _record(value: dict[str, Any], roles: ColumnRoles) -> Iterator[SidecarRow]:
    row = _row(_flat(value), roles)
    if row is not None:
        yield row


def _flat(value: dict[str, Any]) -> list[tuple[str, str]]:
    """Leaves of nested objects as (dotted key, text), without recursion and bounded."""
    fields: list[tuple[str, str]] = []
    pending: list[tuple[str, Any, int]] = [("", value, 0)]
    while pending and len(fields) < _MAX_FIELDS:
        key, item, depth = pending.pop()
        if isinstance(item, dict) and depth < _MAX_DEPTH:
            children = [
                (f"{key}.{name}" if key else str(name), child, depth + 1)
                for name, child in cast("dict[Any, Any]", item).items()
            ]
            pending += reversed(children)
        elif isinstance(item, list) and depth < _MAX_DEPTH:
            pending += [(key, child, depth + 1) for child in reversed(cast("list[Any]", item))]
        elif item is not None and not isinstance(item, (dict, list, bool)):
            fields.append((key, str(item)))
    return fields


def _strings(item: Any) -> list[str]:
    if isinstance(item, str):
        return [item]
    return (
        [text for text in cast("list[Any]", item) if isinstance(text, str)] if isinstance(item, list) else []
    )
