"""Text as the engine reads it, with a way back to the offsets of the given text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import accumulate

__all__ = ["Normalised", "Tokens", "normalise", "sanitise", "tokenise"]

_SURROGATES = re.compile(r"[\ud800-\udfff]")
# One character for one character, so that offsets hold: typographic quotes, dashes, signs.
_SAME_LENGTH = {
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
# A word of letters, one sign, or a number; hyphens and apostrophes join and are not tokens.
_PLAIN = re.compile(r"([a-z]++|[^a-z0-9_\s'\-]|[0-9]++(?:[.,][0-9]++)*+|_++)")
_LETTERS = r"(?<!')[a-z]++(?![^\W\d_])|(?!(?<=')s\b)[^\W\d_]++"
_TOKEN = re.compile(rf"({_LETTERS}|[^\w\s'\-]|\d++(?:[.,]\d++)*+|_++)")
# Characters beyond ASCII, with the letter before them that they may change.
_MARKED = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]+")
# A line that begins anew ends the one before as a full stop would: a heading, a bullet, a number, a capital.
# In a text of capitals a capital says nothing. Where the line before is unfinished, the text goes on.
_UNFINISHED = r"(?<![,;:(/])" + "".join(
    rf"(?<!\b{word})"
    for word in ("of", "no", "the", "a", "an", "and", "or", "in", "with", "without", "for", "to", "by")
)
_ITEM = r"(?=[ \t\r]*(?:\n|[•*-]|\d{1,2}[.)]|"
_NEW_LINE = re.compile(rf"(?i:{_UNFINISHED})\n{_ITEM}[A-Z]|[^\n:]{{1,40}}:))")
_NEW_LINE_OF_CAPITALS = re.compile(rf"(?i:{_UNFINISHED})\n{_ITEM}[^\n:]{{1,40}}:))")
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
        The same, lower case, of equal length; a line break that ends a sentence is an exclamation mark.
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


class Tokens:
    """Words of a text in lower case, with half-open spans.

    Attributes
    ----------
    words : list of str
        The tokens.
    starts, ends : list of int
        Their spans; counted when first asked for, since most captions are judged by their words alone.
    """

    __slots__ = ("_ends", "_parts", "_starts", "words")

    def __init__(self, parts: list[str]) -> None:
        # What lies before, between and after the tokens stands at the even places, the tokens at the odd.
        self._parts = parts
        self.words = parts[1::2]
        self._starts: list[int] | None = None
        self._ends: list[int] | None = None

    @property
    def starts(self) -> list[int]:
        return self._starts if self._starts is not None else self._locate()[0]

    @property
    def ends(self) -> list[int]:
        return self._ends if self._ends is not None else self._locate()[1]

    def _locate(self) -> tuple[list[int], list[int]]:
        bounds = list(accumulate(map(len, self._parts)))
        self._starts = starts = bounds[:-1:2]
        self._ends = ends = bounds[1::2]
        return starts, ends

    def touch(self, at: int) -> bool:
        """Whether the tokens `at` and `at + 1` stand without a space between them."""
        return not self._parts[2 * at + 2]


def sanitise(text: str) -> str:
    """Replace lone surrogates by U+FFFD; the length does not change."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text)
    return text


def normalise(text: str) -> Normalised:
    """NFKC with an offset map; linear in the length of `text`.

    Parameters
    ----------
    text : str
        Any text; lone surrogates become U+FFFD.
    """
    if text.isascii():
        plain = text.replace("\x00", " ") if "\x00" in text else text
        return Normalised(plain, _stopped(plain, plain.lower()), None)
    clean = _same_length(sanitise(text))
    offsets: list[int] | None = None
    if not unicodedata.is_normalized("NFKC", clean):
        clean, offsets = _nfkc(clean)
        clean = _same_length(clean)
    return Normalised(clean, _stopped(clean, _lower(clean)), offsets)


def _stopped(text: str, lower: str) -> str:
    """The lower-case text with an exclamation mark, which ends a sentence, in place of such a line break."""
    if "\n" not in text:
        return lower
    pattern = _NEW_LINE_OF_CAPITALS if text.isupper() else _NEW_LINE
    parts: list[str] = []
    end = 0
    for match in pattern.finditer(text):
        parts += (lower[end : match.start()], "!")
        end = match.end()
    parts.append(lower[end:])
    return "".join(parts)


def _same_length(text: str) -> str:
    """Replace typographic signs one for one; a text holds few of them, so one by one is fastest."""
    for sign in _SAME_LENGTH.keys() & set(text):
        text = text.replace(sign, _SAME_LENGTH[sign])
    return text


def _nfkc(text: str) -> tuple[str, list[int]]:
    """NFKC cluster by cluster (a base character with its combining marks); plain ASCII stays as it is."""
    parts: list[str] = []
    offsets: list[int] = []
    start = 0
    for match in _MARKED.finditer(text):
        parts.append(text[start : match.start()])
        offsets.extend(range(start, match.start()))
        start = match.end()
        _clusters(text, match.start(), start, parts, offsets)
    parts.append(text[start:])
    offsets.extend(range(start, len(text) + 1))
    return "".join(parts), offsets


def _clusters(text: str, start: int, size: int, parts: list[str], offsets: list[int]) -> None:
    """Add the clusters of ``text[start:size]`` and the offset of each of their characters."""
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


def _lower(text: str) -> str:
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


def tokenise(text: Normalised) -> Tokens:
    """Cut normalised text into tokens."""
    lower = text.lower
    pattern = _PLAIN if lower.isascii() and "'" not in lower else _TOKEN
    parts: list[str] = pattern.split(lower)
    if _GLUED.search(text.text):
        parts = _split_glued(parts, [match.start() for match in _GLUED.finditer(text.text)])
    return Tokens(parts)


def _split_glued(parts: list[str], cuts: list[int]) -> list[str]:
    """Cut tokens where two words were joined; the pieces touch."""
    out: list[str] = [parts[0]]
    end = len(parts[0])
    k = 0
    for i in range(1, len(parts), 2):
        word = parts[i]
        at = end
        end += len(word)
        while k < len(cuts) and cuts[k] <= at:
            k += 1
        while k < len(cuts) and cuts[k] < end:
            out += (word[: cuts[k] - at], "")
            word = word[cuts[k] - at :]
            at = cuts[k]
            k += 1
        out += (word, parts[i + 1])
        end += len(parts[i + 1])
    return out
