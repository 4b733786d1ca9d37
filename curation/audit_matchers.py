"""The matchers of an audit, made when they are first needed; few are kept at a time."""

from __future__ import annotations

from collections import Counter, OrderedDict
from functools import cached_property
from threading import Lock
from typing import Final

from usds.curation.deid.harvest import IdentifierIndex, Matcher

__all__ = ["Matchers"]

_KEPT: Final = 64


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
    def everybody(self) -> Matcher | None:
        """Knows every identifier: for strings that have no subject."""
        return self._index.matcher_of_all() if self._index else None

    @cached_property
    def people(self) -> Matcher | None:
        """Knows names, ids and numbers of all subjects, where they count by themselves."""
        return self._index.matcher_of_people() if self._index else None

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
