"""Dates in notations that are rarer in exports than `usds.curation.deid.patterns` knows: they identify too.

Ideographs and Hangul behind the numbers, months in Roman numerals, weeks of a year, and unusual marks between
year, month and day.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from usds.curation.deid.patterns import Span

__all__ = ["other_dates"]

_YEAR: Final = r"(?:19|20)\d{2}"
_ROMAN: Final = r"(?:i{1,3}|iv|vi{0,3}|ix|xi{0,2})"
_PATTERNS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:(?<!\d)\d{2,4}[ ]?[年년][ ]?)?(?<!\d)\d{1,2}[ ]?[月월][ ]?\d{1,2}[ ]?[日号號일]",
        rf"(?<!\d){_YEAR}[ ]?[年년](?:[ ]?\d{{1,2}}[ ]?[月월])?",
        rf"(?<![\w.,])\d{{1,2}}[ ./-]{{1,2}}{_ROMAN}[ ./-]{{1,2}}{_YEAR}(?!\d)",
        rf"(?<![\w.,]){_YEAR}[ -]?(?:w|kw)[ ]?\d{{1,2}}(?:-?[1-7])?(?!\w)",
        rf"(?<![\w.,])(?:w|kw|week)[ ]?\d{{1,2}}[ ]?(?:/|of)[ ]?{_YEAR}(?!\d)",
        rf"(?<![\d.,]){_YEAR}([,|_·•])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])(?!\d)",
        rf"(?<![\d.,])(?:0?[1-9]|[12]\d|3[01])([,|_·•])(?:0?[1-9]|[12]\d|3[01])\1{_YEAR}(?!\d)",
    )
)


def other_dates(text: str) -> Iterator[Span]:
    """Places of such dates; they may overlap.

    Parameters
    ----------
    text : str
        Composed (NFC); digits of any script, also of full width.
    """
    plain = "".join(_digit(char) for char in text)
    for pattern in _PATTERNS:
        for match in pattern.finditer(plain):
            yield Span(match.start(), match.end(), "date", "[DATE]")


def _digit(char: str) -> str:
    return str(unicodedata.digit(char, char)) if not char.isascii() else char
