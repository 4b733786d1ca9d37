"""The harvest index: what the export itself says about people, and where a text repeats it.

Pass one collects identifiers of every header, path, sidecar and metadata block into the private state. Pass
two asks a :class:`Matcher` of the subject about OCR text, captions and every other string that is to be
written. It knows the subject's own identifiers and all staff and institutions of the run.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Final

from usds.curation.deid.forms import Forms, fold, forms_of
from usds.curation.deid.matching import FormIndex, Match, Stream
from usds.curation.readers.base import Identifier
from usds.schemas.files import atomic_path
from usds.schemas.state import State

__all__ = ["IdentifierIndex", "Match", "Matcher", "fold"]

FILE: Final = "harvest.sqlite"
_SHARED: Final = frozenset({"staff", "institution", "address"})
_PEOPLE: Final = frozenset({"name", "id", "phone"})
"""Classes that are searched in every subject's texts."""


class _Indexed:
    """Forms with their lookup structures, made when they are first needed and shared between matchers."""

    def __init__(self, forms: Forms) -> None:
        self._forms = forms

    @cached_property
    def plain(self) -> FormIndex:
        """For text that was typed."""
        return FormIndex(self._forms)

    @cached_property
    def ocr(self) -> FormIndex:
        """For text that was read from pixels."""
        return FormIndex(self._forms, ocr=True)


class Matcher:
    """Finds the identifiers of one subject and of the run's staff and institutions.

    Made by :meth:`IdentifierIndex.matcher`.
    """

    def __init__(self, *sets: _Indexed) -> None:
        self._sets = sets

    def find(self, text: str, *, ocr: bool = False, outside_area: bool = False) -> list[Match]:
        """Places where ``text`` repeats an identifier.

        Parameters
        ----------
        text : str
            Of any length; the work is linear.
        ocr : bool
            The text was read from pixels: 0/O, 1/l/I, 5/S are the same, and one edit is forgiven from six
            characters on.
        outside_area : bool
            The text stands outside the image area, where even short values and plain words count.

        Returns
        -------
        list of Match
            In order, not overlapping; the longest at each place.
        """
        stream = Stream.of(text, ocr=ocr)
        if not stream.chars:
            return []
        found: list[Match] = []
        for one in self._sets:
            index = one.ocr if ocr else one.plain
            found += index.find(stream, outside_area=outside_area)
        return _longest(found)


def _longest(matches: list[Match]) -> list[Match]:
    """Without overlaps: at each place the longest, and what overlaps it becomes part of it."""
    kept: list[Match] = []
    for match in sorted(matches, key=lambda one: (one.start, -one.end)):
        if kept and match.start < kept[-1].end:
            if match.end > kept[-1].end:
                kept[-1] = Match(kept[-1].start, match.end, kept[-1].klass)
        else:
            kept.append(match)
    return kept


class IdentifierIndex:
    """All identifiers of an export, by subject; kept in the private state."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str, str], None] = {}
        self._path: Path | None = None
        self._shared: _Indexed | None = None

    def add(self, subject_id: str | None, identifier: Identifier) -> None:
        """Add one identifier; None where no subject is known (it is then searched everywhere)."""
        value = identifier.value.strip()
        if value:
            self._rows[subject_id or "", identifier.klass, value, identifier.cue or ""] = None
            self._shared = None

    def merge(self, other: IdentifierIndex) -> None:
        """Add everything another index holds in memory."""
        self._rows.update(other._rows)
        self._shared = None

    def save(self, state: State) -> None:
        """Write the index into the private state (0600), atomically."""
        with (
            atomic_path(state.folder / FILE, mode=0o600) as partial,
            closing(sqlite3.connect(partial)) as base,
        ):
            base.execute("CREATE TABLE identifiers (subject_id TEXT, klass TEXT, value TEXT, cue TEXT)")
            base.executemany("INSERT INTO identifiers VALUES (?, ?, ?, ?)", sorted(self._rows))
            base.execute("CREATE INDEX by_subject ON identifiers (subject_id)")
            base.execute("CREATE INDEX by_class ON identifiers (klass)")
            base.commit()

    @classmethod
    def load(cls, state: State) -> IdentifierIndex:
        """Open the index of the private state; empty when none was saved."""
        index = cls()
        path = state.folder / FILE
        index._path = path if path.is_file() else None
        return index

    def identifiers(self, subject_id: str | None = None) -> Iterator[Identifier]:
        """Identifiers of one subject, or all when None."""
        for subject, klass, value, cue in self._select(subject_id):
            if subject_id is None or subject == subject_id:
                yield Identifier(value, klass, cue or None)  # type: ignore[arg-type]

    def matcher(self, subject_id: str | None) -> Matcher:
        """The matcher for texts of one subject; None: for texts of nobody in particular."""
        if self._shared is None:
            self._shared = _Indexed(forms_of(self._shared_identifiers()))
        if not subject_id:
            return Matcher(self._shared)
        return Matcher(_Indexed(forms_of(self.identifiers(subject_id))), self._shared)

    def matcher_of_all(self) -> Matcher:
        """A matcher that knows every identifier of the export, for strings that have no subject."""
        return Matcher(_Indexed(forms_of(self.identifiers())))

    def matcher_of_people(self) -> Matcher:
        """Names, ids and numbers of all subjects, where they count by themselves.

        For an auditor: a text may name another patient than its own, and nobody planned that.
        """
        people = (one for one in self.identifiers() if one.klass in _PEOPLE)
        return Matcher(_Indexed(Forms(strong=forms_of(people).strong)))

    def _shared_identifiers(self) -> Iterator[Identifier]:
        for subject, klass, value, cue in self._select(None, shared=True):
            if klass in _SHARED or not subject:
                yield Identifier(value, klass, cue or None)  # type: ignore[arg-type]

    def _select(self, subject_id: str | None, *, shared: bool = False) -> Iterator[tuple[str, str, str, str]]:
        yield from self._rows
        if self._path is None:
            return
        where, arguments = "", ()
        if subject_id is not None:
            where, arguments = " WHERE subject_id = ?", (subject_id,)
        elif shared:
            marks = ", ".join("?" * len(_SHARED))
            where, arguments = f" WHERE klass IN ({marks}) OR subject_id = ''", tuple(sorted(_SHARED))
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as base:
            columns = "subject_id, klass, value, cue"
            yield from base.execute(f"SELECT DISTINCT {columns} FROM identifiers{where}", arguments)
