"""What an audit looks for in any text without knowing a single person: dates, numbers, addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["patterns_in", "shown", "without_marks"]

_MARK: Final = re.compile(r"\[(REMOVED|DATE|AGE|[A-Z]+)\]")
_GENERATED: Final = re.compile(
    r"(?<![0-9A-Za-z])(?:[a-z2-7]{26}(?:-[0-9a-f]{12})?|[0-9a-f]{64}|(?=[0-9]*[a-f])(?:[0-9a-f]{12}|[0-9a-f]{16}))"
    r"(?![0-9A-Za-z])"
)
"""Keyed ids, hashes, fingerprints: their digits are no numbers of people. Twelve digits alone may be one."""

# Written apart from the scrubber's patterns on purpose: two hands err differently.
_PATTERNS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("mail", re.compile(r"[^\s@]+@[^\s@]+\.[a-z]{2,}", re.IGNORECASE)),
    ("url", re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)),
    ("date", re.compile(r"\b(?:19|20)\d{2}[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])\b")),
    ("date", re.compile(r"\b(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|1[0-2])[-/.](?:19|20)\d{2}\b")),
    ("date", re.compile(r"\b(?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:19|20)\d{2}\b")),
    (
        "date",
        re.compile(
            r"\b\d{1,2}(?:st|nd|rd|th)?[ -](?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?,?"
            r"[ -](?:19|20)\d{2}\b",
            re.IGNORECASE,
        ),
    ),
    ("number", re.compile(r"(?<![\d.])\d{7,}(?![\d.]\d)")),
    ("phone", re.compile(r"(?<!\w)\+\d[\d ()-]{7,}\d")),
    ("titled_name", re.compile(r"\b(?:Dr|Prof|Mrs|Mr|Ms)\.? [A-Z][a-z]{2,}")),
    ("labelled", re.compile(r"\b(?:MRN|DOB|accession|patient (?:name|id))\s*[:#=]\s*\w", re.IGNORECASE)),
)


def patterns_in(text: str) -> Iterator[tuple[str, str]]:
    """(class, value) of everything in ``text`` that is shaped like an identifier."""
    plain = _MARK.sub(" ", text)
    for name, pattern in _PATTERNS:
        for match in pattern.finditer(plain):
            yield f"pattern:{name}", match.group()


def shown(text: str) -> str:
    """A text with what usds generates blanked out, at the same length."""
    return _GENERATED.sub(_blank, text)


def without_marks(text: str) -> str:
    """A text with the marks of the scrubber blanked out, at the same length."""
    return _MARK.sub(_blank, text)


def _blank(found: re.Match[str]) -> str:
    return " " * len(found.group())
