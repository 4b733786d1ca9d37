"""Sections of a report, and texts that say nothing: headings, signatures and fillers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, cast

import yaml

__all__ = ["Section", "is_boilerplate", "is_empty_text", "section_name", "split_sections"]

_MAX_HEADING: Final = 48
_HEADING = re.compile(r"^[ \t]*([^\W\d_][\w /&'-]{1,47}?)[ \t]*(?::[ \t]*(.*))?$")
# Reports without line breaks write their headings in capitals or with a colon inside the running text.
_INLINE = re.compile(r"(?:(?<=^)|(?<=[.;!?]\s)|(?<=\s\s))([A-Z][A-Za-z /&-]{2,40}):\s")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Section:
    """One section: its name of sections.yaml, or None before the first heading, and its text."""

    name: str | None
    text: str


@cache
def _tables() -> tuple[dict[str, str], frozenset[str], tuple[str, ...]]:
    raw = files("usds.curation.readers").joinpath("sections.yaml").read_text(encoding="utf-8")
    table = cast("dict[str, object]", yaml.safe_load(raw))
    headings = cast("dict[str, list[str]]", table["headings"])
    names = {heading: name for name, writings in headings.items() for heading in writings}
    empty = frozenset(str(text) for text in cast("list[object]", table["empty"]))
    return names, empty, tuple(str(line) for line in cast("list[object]", table["boilerplate"]))


def _folded(text: str) -> str:
    return _SPACE.sub(" ", text).strip(" \t.:!*#_=-").lower()


def section_name(heading: str) -> str | None:
    """Our name of a heading, None where it is none."""
    return _tables()[0].get(_folded(heading))


def is_empty_text(text: str) -> bool:
    """Whether a text says nothing: no letter, or a filler such as "no findings provided"."""
    folded = _folded(text)
    return not any(char.isalpha() for char in folded) or folded in _tables()[1]


def is_boilerplate(line: str) -> bool:
    """Whether a line only closes or frames a report: signatures, "end of report", greetings."""
    folded = _folded(line)
    return any(folded == start or folded.startswith(f"{start} ") for start in _tables()[2])


def split_sections(text: str) -> list[Section]:
    """Cut a report at its headings.

    Parameters
    ----------
    text : str
        Line ends of any kind.

    Returns
    -------
    list of Section
        In the order of the text; sections that say nothing and lines of boilerplate are left out. A text
        without headings is one section without name.
    """
    found: list[tuple[str | None, list[str]]] = [(None, [])]
    for line in _lines(text):
        heading, rest = _heading(line)
        if heading is not None:
            found.append((heading, [rest] if rest else []))
        elif line.strip() and not is_boilerplate(line):
            found[-1][1].append(line.strip())
    sections = [Section(name, " ".join(lines).strip()) for name, lines in found]
    return [section for section in sections if not is_empty_text(section.text)]


def _lines(text: str) -> list[str]:
    """Lines, with headings inside a line put on their own."""
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        start = 0
        opens = _INLINE.match(line.lstrip())
        if opens is None or not section_name(opens[1]):
            # One heading in the middle of a caption does not make it a report.
            lines.append(line)
            continue
        for match in _INLINE.finditer(line):
            if match.start(1) > start and section_name(match[1]):
                lines.append(line[start : match.start(1)])
                start = match.start(1)
        lines.append(line[start:])
    return lines


def _heading(line: str) -> tuple[str | None, str]:
    if len(line) > _MAX_HEADING and ":" not in line[: _MAX_HEADING + 2]:
        return None, ""
    match = _HEADING.match(line)
    if match is None:
        return None, ""
    name = section_name(match[1])
    has_colon = match[2] is not None
    # "Impression" alone on a line is a heading; as the first word of a sentence it needs the colon.
    return (
        (name, (match[2] or "").strip()) if name and (has_colon or line.strip() == match[1]) else (None, "")
    )
