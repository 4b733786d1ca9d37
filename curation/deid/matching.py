"""Find folded forms in a text: linear in the text, whatever the number of forms.

The text becomes one stream of folded letters and digits with a map back to its characters. A form is looked
up by its first characters at every place where a token begins; so one form covers every punctuation.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from rapidfuzz.distance import OSA

from usds.curation.deid.forms import MIN_STRONG, Forms, fold
from usds.curation.deid.words import fold as fold_case
from usds.curation.deid.words import is_name, is_word, lookup

__all__ = ["FormIndex", "Match", "Stream"]

_TOKEN = re.compile(r"[^\W_]+")
_BOUNDARY = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|(?<=[a-z])(?=[A-Z])")
_LEADING_ZEROS = re.compile(r"(?<!\d)0+(?=[1-9])")
_MAX_GAP: Final = 3
"""Punctuation and spaces between two tokens of one identifier."""
_FUZZY: Final = 6
_ANYWHERE: Final = 10
"""Forms so long count also inside other words."""
_KEY: Final = 3
_BRIEF: Final = 5
"""In texts of so few tokens the patient's own name counts also where it is a word."""
_OCR: Final = str.maketrans("olis", "0115")
_OCR_MARKS: Final = str.maketrans("|¦", "ll")
_IDEOGRAPH: Final = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True, slots=True)
class Match:
    """A place in a text that repeats an identifier: half-open code points, and its class."""

    start: int
    end: int
    klass: str


@dataclass(slots=True)
class Stream:
    """A text as folded letters and digits.

    Attributes
    ----------
    chars : str
    places : list of int
        Index in the text of every character.
    starts, ends : set of int
        Where a token, or a part of one, begins and ends (half-open).
    tokens : list of (int, int)
        Whole tokens.
    breaks : list of int
        Positions that no identifier crosses.
    """

    text: str
    chars: str = ""
    places: list[int] = field(default_factory=list[int])
    starts: set[int] = field(default_factory=set[int])
    ends: set[int] = field(default_factory=set[int])
    tokens: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    breaks: list[int] = field(default_factory=list[int])

    @classmethod
    def of(cls, text: str, *, ocr: bool = False) -> Stream:
        """Fold a text; with `ocr`, 0/O, 1/l/I and 5/S become one character each."""
        stream = cls(text)
        source = text.translate(_OCR_MARKS) if ocr else text
        pieces: list[str] = []
        size, last = 0, 0
        for match in _TOKEN.finditer(source):
            if size and match.start() - last > _MAX_GAP:
                stream.breaks.append(size)
            folded, places = _fold_token(match.group(), match.start())
            stream._add(match.group(), folded, size)
            pieces.append(folded)
            stream.places += places
            size += len(folded)
            last = match.end()
        chars = "".join(pieces)
        stream.chars = chars.translate(_OCR) if ocr else chars
        return stream

    def _add(self, token: str, folded: str, at: int) -> None:
        if not folded:
            return
        self.tokens.append((at, at + len(folded)))
        cuts = [0, len(folded)]
        if len(folded) == len(token) and len(token) > 1:
            cuts += [match.start() for match in _BOUNDARY.finditer(token)]
            if not token.isascii():
                cuts += [
                    i + side for i, char in enumerate(token) if _IDEOGRAPH.match(char) for side in (0, 1)
                ]
        self.starts.update(at + cut for cut in cuts[:1] + cuts[2:])
        self.ends.update(at + cut for cut in cuts[1:])
        if "0" in folded and len(folded) == len(token):
            self.starts.update(at + match.end() for match in _LEADING_ZEROS.finditer(token))

    def unbroken(self, start: int, end: int) -> bool:
        """Whether all between lies close enough together to be one identifier."""
        return bisect_right(self.breaks, start) == bisect_right(self.breaks, end - 1)

    def match(self, start: int, end: int, klass: str) -> Match:
        """The match in the text."""
        return Match(self.places[start], self.places[end - 1] + 1, klass)

    def is_words(self, start: int, end: int) -> bool:
        """Whether the whole tokens that a place touches are words of the language."""
        first = bisect_right(self.tokens, (start, len(self.chars))) - 1
        for begin, stop in self.tokens[max(0, first) :]:
            if begin >= end:
                break
            if not is_word(fold(self.text[self.places[begin] : self.places[stop - 1] + 1])):
                return False
        return True


def _fold_token(token: str, at: int) -> tuple[str, list[int]]:
    folded = fold(token)
    if len(folded) == len(token):
        return folded, list(range(at, at + len(token)))
    letters = [
        (letter, at + i) for i, char in enumerate(token) for letter in fold_case(char) if letter.isalnum()
    ]
    return "".join(letter for letter, _ in letters), [place for _, place in letters]


@cache
def _cue_words() -> frozenset[str]:
    cues, ids = lookup("cues"), lookup("patterns")["id_cues"]
    phrases = [
        *cues["titles"],
        *cues["weak_titles"],
        *cues["labels"],
        *cues["agents"],
        *ids,
        "by",
        "born",
        "dob",
    ]
    return frozenset(word for phrase in phrases for word in fold_case(phrase).split()) - {
        "of",
        "to",
        "no",
        "with",
    }


class FormIndex:
    """Forms, ready to be looked up.

    Parameters
    ----------
    forms : Forms
    ocr : bool
        Forms and texts are folded for confusions of optical character recognition.
    """

    def __init__(self, forms: Forms, *, ocr: bool = False) -> None:
        def folded(form: str) -> str:
            return form.translate(_OCR) if ocr else form

        self._ocr = ocr
        self._strong = {folded(form): klass for form, klass in forms.strong.items()}
        self._weak = {folded(form): klass for form, klass in forms.weak.items()}
        self._by_head = _by_head(self._strong, MIN_STRONG)
        # Names in ideographs are shorter than any other form that counts by itself.
        self._head_sizes = sorted({len(head) for head in self._by_head})
        self._weak_by_head = _by_head(self._weak, 1)
        long = _FUZZY if ocr else _ANYWHERE
        self._anywhere = _by_head({f: k for f, k in self._strong.items() if len(f) >= long}, long)
        self._fuzzy_head: dict[str, list[str]] = {}
        self._fuzzy_tail: dict[str, list[str]] = {}
        if ocr:
            for form in self._strong:
                if len(form) >= _FUZZY:
                    self._fuzzy_head.setdefault(form[:_KEY], []).append(form)
                    self._fuzzy_tail.setdefault(form[-_KEY:], []).append(form)

    def find(self, stream: Stream, *, outside_area: bool) -> Iterator[Match]:
        """Every place where a form stands; places may overlap."""
        yield from self._exact(stream)
        yield from self._embedded(stream)
        if self._weak:
            yield from self._short(stream, outside_area=outside_area)
        if self._ocr:
            yield from self._near(stream)

    def _exact(self, stream: Stream) -> Iterator[Match]:
        if not self._by_head:
            return
        chars = stream.chars
        for start in stream.starts:
            for size in self._head_sizes:
                for form in self._by_head.get(chars[start : start + size], ()):
                    end = start + len(form)
                    if (
                        end in stream.ends
                        and chars.startswith(form, start)
                        and self._holds(stream, start, end)
                    ):
                        yield stream.match(start, end, self._strong[form])

    def _holds(self, stream: Stream, start: int, end: int) -> bool:
        """A short number must be one token: "12 345" is not the id 12345."""
        if not stream.unbroken(start, end):
            return False
        one_piece = stream.places[end - 1] - stream.places[start] == end - start - 1
        if one_piece or end - start >= _FUZZY:
            return not self._ocr or not stream.is_words(start, end) or end - start > _FUZZY
        return not stream.chars[start:end].isdigit()

    def _embedded(self, stream: Stream) -> Iterator[Match]:
        if not self._anywhere:
            return
        chars, size = stream.chars, _FUZZY if self._ocr else _ANYWHERE
        for start in range(len(chars) - size + 1):
            for form in self._anywhere.get(chars[start : start + size], ()):
                end = start + len(form)
                if not chars.startswith(form, start) or not stream.unbroken(start, end):
                    continue
                if not (self._ocr and stream.is_words(start, end)):
                    yield stream.match(start, end, self._strong[form])

    def _short(self, stream: Stream, *, outside_area: bool) -> Iterator[Match]:
        ends = {end for _, end in stream.tokens}
        # A header's "ABDOMEN WHITE" has no sentence that tells the patient from the colour.
        brief = len(stream.tokens) <= _BRIEF and not self._ocr
        for index, (start, _) in enumerate(stream.tokens):
            forms = self._weak_by_head.get(stream.chars[start])
            if forms is None:
                continue
            cued = outside_area or _has_cue(stream, index, ocr=self._ocr)
            named = cued or _is_capital_in_prose(stream, start)
            for form in forms:
                end = start + len(form)
                if not (cued or self._is_person(form, named=named, brief=brief)):
                    continue
                if end in ends and stream.chars.startswith(form, start) and stream.unbroken(start, end):
                    yield stream.match(start, end, self._weak[form])

    def _is_person(self, form: str, *, named: bool, brief: bool) -> bool:
        """Whether a word means somebody here, though no cue stands before it."""
        klass = self._weak[form]
        if len(form) <= 2 or klass not in _PEOPLE:
            return False
        return named or (brief and klass == "name" and is_name(form))

    def _near(self, stream: Stream) -> Iterator[Match]:
        """One edit away: then the first or the last three characters are as they should be."""
        chars = stream.chars
        for start in stream.starts:
            for form in self._fuzzy_head.get(chars[start : start + _KEY], ()):
                for end in (start + len(form) - 1, start + len(form), start + len(form) + 1):
                    if end in stream.ends and self._is_near(stream, start, end, form):
                        yield stream.match(start, end, self._strong[form])
        for end in stream.ends:
            for form in self._fuzzy_tail.get(chars[max(0, end - _KEY) : end], ()):
                for start in (end - len(form) - 1, end - len(form), end - len(form) + 1):
                    if start in stream.starts and self._is_near(stream, start, end, form):
                        yield stream.match(start, end, self._strong[form])

    def _is_near(self, stream: Stream, start: int, end: int, form: str) -> bool:
        seen = stream.chars[start:end]
        if seen.isdigit() and not form.isdigit():
            return False
        if OSA.distance(seen, form, score_cutoff=1) > 1 or not stream.unbroken(start, end):
            return False
        return not stream.is_words(start, end)


def _by_head(forms: dict[str, str], size: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for form in forms:
        found.setdefault(form[:size], []).append(form)
    return found


_PEOPLE: Final = frozenset({"name", "staff"})
_SHORT_CUE: Final = 5
"""Letters of the longest cue that is written with a full stop: Dr, Prof, Mdme."""


def _is_capital_in_prose(stream: Stream, start: int) -> bool:
    """A capital in the middle of a sentence: there "Brown" is no colour."""
    text, at = stream.text, stream.places[start]
    before = text[max(0, at - 3) : at].rstrip()
    inside = bool(before) and (before[-1].islower() or before[-1] in ",")
    return inside and text[at].isupper() and text[at + 1 : at + 2].islower()


def _has_cue(stream: Stream, index: int, *, ocr: bool) -> bool:
    """Whether one of the two tokens before announces a person or an id, in the same sentence.

    A full stop belongs to a short cue ("Dr. White") or is a misread colon; behind a whole word of prose it
    ends the sentence ("a 52-year-old patient. Breast tissue").
    """
    start = stream.places[stream.tokens[index][0]]
    for begin, end in stream.tokens[max(0, index - 2) : index]:
        first, last = stream.places[begin], stream.places[end - 1] + 1
        between = stream.text[last:start]
        ended = ". " in between[2 if ocr or last - first <= _SHORT_CUE else 0 :]
        if not ended and len(between) <= 24 and fold(stream.text[first:last]) in _cue_words():
            return True
    return False
