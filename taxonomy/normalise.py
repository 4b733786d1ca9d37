"""Text as the engine reads it, with a way back to the offsets of the given text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

__all__ = ["Normalised", "Tokens", "normalise", "sanitise", "tokenise"]

_SURROGATES = re.compile("[\ud800-\udfff]")
# One character for one character, so that offsets hold: typographic quotes, dashes, signs.
_SAME_LENGTH = str.maketrans(
    {
        "‘": "'",
        "’": "'",
        "ʼ": "'",
        "“": '"',
        "”": '"',
        "‐": "-",
        "‑": "-",
        "‒": "-",
        "–": "-",
        "—": "-",
        "−": "-",
        "µ": "u",
        "\u00a0": " ",
        "\u00ad": "-",
        "\x00": " ",
        "ſ": "s",
    }
)
# A word of letters, a number, a blank line, or one sign; hyphens and apostrophes join and are not tokens.
_SIGNS = r"|\d+(?:[.,]\d+)*|\n[ \t\r\f\v]*(?:\n|[•*-])\s*|[^\w\s'\-]|_+"
_PLAIN = re.compile("[a-z]+" + _SIGNS)
_TOKEN = re.compile(r"(?!(?<=')s\b)[^\W\d_]+" + _SIGNS)
# Two words that lost the space between them: "imageRed", "atriumAbbreviations".
_GLUED = re.compile(r"[A-Z](?<=[a-z]{3}[A-Z])(?=[a-z]{2})")


@dataclass(slots=True)
class Normalised:
    """Normalised text.

    Attributes
    ----------
    text : str
        NFKC text, case kept.
    lower : str
        The same, lower case, of equal length.
    offsets : list of int or None
        For each character of `text` (and one past the end) its code-point offset in the given text; None when
        both agree.
    """

    text: str
    lower: str
    offsets: list[int] | None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Half-open span in the given text for a half-open span of `text`."""
        if self.offsets is None or start >= end:
            return start, end
        offsets = self.offsets
        last = end - 1
        stop = last + 1
        while stop < len(offsets) and offsets[stop] == offsets[last]:
            stop += 1
        return offsets[start], offsets[stop] if stop < len(offsets) else offsets[-1]


@dataclass(slots=True)
class Tokens:
    """Words of a text in lower case, with half-open spans."""

    words: list[str]
    starts: list[int]
    ends: list[int]


def sanitise(text: str) -> str:
    """Replace lone surrogates by U+FFFD; the length does not change."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def normalise(text: str) -> Normalised:
    """NFKC with an offset map; linear in the length of `text`.

    Parameters
    ----------
    text : str
        Any text; lone surrogates become U+FFFD.
    """
    if text.isascii():
        plain = text.replace("\x00", " ") if "\x00" in text else text
        return Normalised(plain, plain.lower(), None)
    clean = sanitise(text).translate(_SAME_LENGTH)
    offsets: list[int] | None = None
    if not unicodedata.is_normalized("NFKC", clean):
        clean, offsets = _nfkc(clean)
        clean = clean.translate(_SAME_LENGTH)
    return Normalised(clean, _lower(clean), offsets)


def _nfkc(text: str) -> tuple[str, list[int]]:
    """NFKC cluster by cluster (a base character with its combining marks)."""
    parts: list[str] = []
    offsets: list[int] = []
    start = 0
    size = len(text)
    while start < size:
        end = start + 1
        # A run of marks longer than any real letter carries is cut, so that the work stays linear.
        while end < size and end - start < 32 and unicodedata.combining(text[end]):
            end += 1
        part = unicodedata.normalize("NFKC", text[start:end])
        parts.append(part)
        if len(part) == end - start:
            offsets.extend(range(start, end))
        else:
            offsets.extend([start] * len(part))
        start = end
    offsets.append(size)
    return "".join(parts), offsets


def _lower(text: str) -> str:
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


def tokenise(text: Normalised) -> Tokens:
    """Cut normalised text into tokens."""
    lower = text.lower
    pattern = _PLAIN if lower.isascii() and "'" not in lower else _TOKEN
    spans = [match.span() for match in pattern.finditer(lower)]
    words = [lower[start:end] for start, end in spans]
    tokens = Tokens(words, [span[0] for span in spans], [span[1] for span in spans])
    glued = [match.start() for match in _GLUED.finditer(text.text)]
    return _split_glued(tokens, glued) if glued else tokens


def _split_glued(tokens: Tokens, cuts: list[int]) -> Tokens:
    words: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    k = 0
    for word, start, end in zip(tokens.words, tokens.starts, tokens.ends, strict=True):
        while k < len(cuts) and cuts[k] <= start:
            k += 1
        at = start
        while k < len(cuts) and cuts[k] < end:
            words.append(word[at - start : cuts[k] - start])
            starts.append(at)
            ends.append(cuts[k])
            at = cuts[k]
            k += 1
        words.append(word[at - start :])
        starts.append(at)
        ends.append(end)
    return Tokens(words, starts, ends)
