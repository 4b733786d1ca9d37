"""Free text without people in it: what is harvested, shaped like an identifier, or simply unknown goes.

The rule is an allow-list: a token stays because it is a word of the language, of medicine or of the taxonomy,
or a number; everything else becomes ``[REMOVED]`` in place. A word that also is a name stays unless its
neighbours say that a person is meant (`usds.curation.deid.name_context`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final, Protocol

from usds.curation.deid.name_context import Token, names_in_context, text_style
from usds.curation.deid.other_dates import other_dates
from usds.curation.deid.patterns import Span, find_patterns
from usds.curation.deid.words import fold, is_any_name, is_misspelling, is_name, is_word, lookup

__all__ = ["Scrubbed", "Scrubber", "TextMatcher"]

MAX_REMOVED: Final = 0.2
"""A caption of which more is unknown says little and may say too much: it is withheld."""

_TOKEN = re.compile(r"[^\W\d_]+(?:['’ʼ`´][^\W\d_]+)*|\d+(?:[.,]\d+)*|\[[A-Z]+\]")
_SPACE = re.compile(r"[^\S\n]+")
_JOINT = re.compile(r"[\s.,;:'’^/&()-]{0,3}")
_REMOVED: Final = "[REMOVED]"
_MAX_ABBREVIATION: Final = 5
_ACCENTED: Final = frozenset(
    {"cafe", "naive", "facade", "fete", "role", "preeclampsia", "coordinate", "resume"}
)
_LIGATURES: Final = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xAD: ""}
_PRIORITY: Final = {"harvest": 0, "date": 1, "age": 2, "time": 3}


class TextMatch(Protocol):
    """A place in a text that holds an identifier."""

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...

    @property
    def klass(self) -> str: ...


class TextMatcher(Protocol):
    """Finds harvested identifiers; `usds.curation.deid.harvest.Matcher` is the real one."""

    def find(self, text: str, *, ocr: bool = False, outside_area: bool = False) -> Sequence[TextMatch]: ...


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """A text that may be written, unless it is withheld.

    Attributes
    ----------
    text : str
    n_removed : int
        Tokens that went, dates and ages included.
    n_tokens : int
    withheld : bool
        More than a fifth of the tokens was unknown or harvested; dates and ages do not count here.
    """

    text: str
    n_removed: int
    n_tokens: int
    withheld: bool


class Scrubber:
    """Removes identifiers from captions.

    Parameters
    ----------
    taxonomy_terms : iterable of str
        Surface forms of the taxonomy. Their words are known words; a term with a name in it ("Hashimoto
        thyroiditis") is known as a phrase only.
    """

    def __init__(self, taxonomy_terms: Iterable[str] = ()) -> None:
        self._words: set[str] = set()
        self._phrases: dict[str, set[tuple[str, ...]]] = {}
        for term in taxonomy_terms:
            tokens = tuple(fold(token) for token in _TOKEN.findall(term))
            unknown = [token for token in tokens if token.isalpha() and not is_word(token)]
            if any(is_name(token) or token in _eponyms() for token in unknown):
                self._phrases.setdefault(tokens[0], set()).add(tokens)
            else:
                self._words.update(unknown)

    def scrub(self, text: str, matcher: TextMatcher | None = None) -> Scrubbed:
        """Scrub one text.

        Parameters
        ----------
        text : str
            Of any length; the work is linear.
        matcher : Matcher, optional
            Identifiers harvested from the subject's files and of the run's staff and institutions.

        Returns
        -------
        Scrubbed
        """
        text = _clean(text)
        tokens = self._tokens(text)
        if not tokens:
            return Scrubbed(text.strip(), 0, 0, False)
        harvested = matcher.find(text) if matcher is not None else ()
        spans = [Span(match.start, match.end, "harvest", _REMOVED) for match in harvested]
        spans += find_patterns(text)
        spans += other_dates(text)
        self._judge(tokens, spans)
        names_in_context(tokens, text, text_style(tokens))
        spans += [Span(token.start, token.end, "name") for token in tokens if token.removed]
        return _apply(text, tokens, spans)

    # -- tokens -------------------------------------------------------------------------------------

    def _tokens(self, text: str) -> list[Token]:
        return [
            Token(match.start(), match.end(), match.group(), fold(match.group().replace("’", "'")))
            for match in _TOKEN.finditer(text)
        ]

    def _judge(self, tokens: list[Token], spans: list[Span]) -> None:
        """Mark what the spans cover, what is known, and what is not."""
        covered = sorted((span.start, span.end) for span in spans)
        place = 0
        reach = -1
        for token in tokens:
            while place < len(covered) and covered[place][0] < token.end:
                reach = max(reach, covered[place][1])
                place += 1
            token.covered = token.start < reach
            token.known = self._is_known(token)
        _know_ordinals(tokens)
        self._know_shapes(tokens)
        self._know_phrases(tokens)
        _know_eponyms(tokens)
        _know_acronyms(tokens)
        for token in tokens:
            token.removed = not token.known and not token.covered

    def _is_known(self, token: Token) -> bool:
        folded = token.folded.rstrip("0123456789")  # "cm²"
        if not folded[:1].isalpha():
            return True
        if len(folded) == 1:
            return folded.isascii() or folded in "μµαβγδω"
        if folded in self._words or is_word(folded):
            # English writes no accents: "Löwer" is not "lower".
            return (
                token.text.replace("’", "'").isascii() or folded in _ACCENTED or not _has_accent(token.text)
            )
        return False

    def _know_shapes(self, tokens: list[Token]) -> None:
        """In ordinary prose: abbreviations in capitals, misspellings and glued words in small letters."""
        if text_style(tokens) != "mixed":
            return
        for token in tokens:
            if token.known or token.covered or not token.text.isascii() or not token.text.isalpha():
                continue
            shape = token.text.isupper() and len(token.text) <= _MAX_ABBREVIATION
            if shape or (token.text.islower() and is_misspelling(token.folded)):
                token.known = token.soft = not is_any_name(token.folded)

    def _know_phrases(self, tokens: list[Token]) -> None:
        for index, token in enumerate(tokens):
            for phrase in self._phrases.get(token.folded.removesuffix("'s"), ()):
                window = tokens[index : index + len(phrase)]
                if tuple(one.folded.removesuffix("'s") for one in window) == phrase:
                    for one in window:
                        one.known = one.fixed = True


@cache
def _eponyms() -> dict[str, frozenset[str]]:
    return {name: frozenset(heads) for name, heads in lookup("eponyms").items()}


def _know_ordinals(tokens: list[Token]) -> None:
    """The letters of "2nd" and "27 th"."""
    for number, token in pairwise(tokens):
        if (
            token.folded in ("st", "nd", "rd", "th")
            and number.text.isdigit()
            and token.start <= number.end + 1
        ):
            token.known = True


def _know_eponyms(tokens: list[Token]) -> None:
    """Names in medical terms: with a head noun one or two tokens behind, or "head of (the) name"."""
    for index, token in enumerate(tokens):
        heads = _eponyms().get(token.folded.removesuffix("'s").removesuffix("'"))
        if heads is None:
            continue
        after = [one.folded for one in tokens[index + 1 : index + 3]]
        before = [one.folded for one in tokens[max(0, index - 3) : index]]
        of_form = len(before) >= 2 and "of" in before[-2:] and bool(heads & set(before))
        if heads & set(after) or of_form:
            token.known = token.fixed = True


def _know_acronyms(tokens: list[Token]) -> None:
    """Abbreviations that the text explains: initials of the words right before them, "... aorta (TAA)"."""
    explained: set[str] = set()
    for index, token in enumerate(tokens):
        if not token.known and token.text.isupper() and 2 <= len(token.folded) <= 6:
            words = tokens[max(0, index - len(token.folded)) : index]
            if "".join(word.folded[:1] for word in words) == token.folded and all(w.known for w in words):
                explained.add(token.text)
    for token in tokens:
        if token.text in explained:
            token.known = True


# -- output --------------------------------------------------------------------------------------------


def _clean(text: str) -> str:
    """One writing for the same characters; control characters and runs of spaces become one space."""
    normal = unicodedata.normalize(
        "NFC", text.translate(_LIGATURES).encode("utf-8", "replace").decode("utf-8")
    )
    kept = "".join(
        " " if unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn") and c != "\n" else c for c in normal
    )
    return _SPACE.sub(" ", kept)


def _has_accent(text: str) -> bool:
    return any(unicodedata.combining(char) for char in unicodedata.normalize("NFD", text))


def _apply(text: str, tokens: list[Token], spans: list[Span]) -> Scrubbed:
    merged = _merge(text, spans)
    pieces: list[str] = []
    at = 0
    for span in merged:
        pieces += (text[at : span.start], span.replacement)
        at = span.end
    pieces.append(text[at:])
    removed, unknown, index = 0, 0, 0
    for token in tokens:
        while index < len(merged) and merged[index].end <= token.start:
            index += 1
        if index < len(merged) and merged[index].start < token.end:
            removed += 1
            unknown += merged[index].replacement == _REMOVED
    return Scrubbed("".join(pieces), removed, len(tokens), unknown > MAX_REMOVED * len(tokens))


def _merge(text: str, spans: list[Span]) -> list[Span]:
    """Overlapping spans become one; so do neighbours of one kind with nothing but punctuation between."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.start, -one.end)):
        if not merged:
            merged.append(span)
            continue
        last = merged[-1]
        touching = span.start < last.end
        same = span.replacement == last.replacement == _REMOVED
        if touching or (
            same and _JOINT.fullmatch(text, last.end, span.start) and "\n" not in text[last.end : span.start]
        ):
            first = min((last, span), key=lambda one: _PRIORITY.get(one.klass, 9)) if touching else last
            merged[-1] = Span(last.start, max(last.end, span.end), first.klass, first.replacement)
        else:
            merged.append(span)
    return merged
