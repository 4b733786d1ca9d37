"""The matchers of an audit, made when they are first needed; few are kept at a time."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterator
from functools import cached_property
from threading import Lock
from typing import Final, Protocol

from usds.curation.audit.types import Finding, mask
from usds.curation.deid.harvest import IdentifierIndex, Match, Matcher
from usds.curation.deid.words import fold, lookup

__all__ = ["Finder", "Matchers", "found_in"]

_KEPT: Final = 64
_WORD: Final = re.compile(r"[^\W\d_]+")
_AFTER: Final = 2
_BEFORE: Final = 3
"""Words between a name that medicine made into a term and its noun: as in the scrubber's rule."""


class Finder(Protocol):
    """Finds identifiers in a text."""

    def find(self, text: str) -> list[Match]:
        """Places where ``text`` repeats an identifier."""
        ...


def found_in(text: str, finder: Finder | None, place: str) -> Iterator[Finding]:
    """What a finder meets in a text, masked; nothing without one."""
    for match in finder.find(text) if finder else ():
        yield Finding(match.klass, place, mask(text[match.start : match.end]))


class _Strangers:
    """Finds persons of whom a text does not speak: "Baker cyst" names no patient Baker of another bed."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher

    def find(self, text: str) -> list[Match]:
        """Places where ``text`` names somebody, terms of medicine left out."""
        return [match for match in self._matcher.find(text) if not _is_term(text, match)]


def _is_term(text: str, match: Match) -> bool:
    """Whether a name stands beside its noun, as in "pouch of Douglas"."""
    name = fold(text[match.start : match.end]).removesuffix("'s").strip("'")
    nouns = lookup("eponyms").get(name)
    if nouns is None:
        return False
    before = [fold(word) for word in _WORD.findall(text[: match.start])[-_BEFORE:]]
    after = [fold(word) for word in _WORD.findall(text[match.end :]) if word != "s"][:_AFTER]
    of_form = "of" in before[-2:] and any(word in nouns for word in before)
    return of_form or any(word in nouns for word in after)


class Matchers:
    """Finds identifiers of a subject, of everybody, of people.

    Parameters
    ----------
    index : IdentifierIndex or None
        None: nobody is known, every matcher is None.
    """

    def __init__(self, index: IdentifierIndex | None) -> None:
        self._index = index
        self._kept: OrderedDict[str | None, Matcher] = OrderedDict()
        self._lock = Lock()

    @cached_property
    def known(self) -> dict[str, int]:
        """How many identifiers there are to compare with, by class."""
        return dict(Counter(one.klass for one in self._index.identifiers())) if self._index else {}

    @cached_property
    def everybody(self) -> Finder | None:
        """Knows every identifier: for strings that have no subject."""
        return _Strangers(self._index.matcher_of_all()) if self._index else None

    @cached_property
    def people(self) -> Finder | None:
        """Knows names, ids and numbers of all subjects, where they count by themselves."""
        return _Strangers(self._index.matcher_of_people()) if self._index else None

    def of(self, subject: str | None) -> Matcher | None:
        """Knows what identifies one subject, and all staff and institutions."""
        if self._index is None:
            return None
        with self._lock:
            if subject not in self._kept:
                self._kept[subject] = self._index.matcher(subject)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(subject)
            return self._kept[subject]
