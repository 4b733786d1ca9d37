"""The harvest index: what the export itself says about people, and where a text repeats it.

Pass one collects identifiers of every header, path, sidecar and metadata block into the private state. Pass two
asks a :class:`Matcher` of the subject about OCR text, captions and every other string that is to be written. It
knows the subject's own identifiers and all staff and institutions of the run.

An identifier is compared as its letters and digits alone, folded (case, diacritics, punctuation), so that one
form covers "SMITH^JOHN", "Smith, John" and "smith_john"; text is read as windows of neighbouring tokens that are
glued the same way. The work is linear in the text: a window is at most as long as the longest form.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import permutations
from pathlib import Path
from typing import Final

from rapidfuzz import process
from rapidfuzz.distance import OSA

from usds.curation.deid.dates import date_forms
from usds.curation.deid.words import is_domain_word, is_word
from usds.curation.readers.base import Identifier
from usds.schemas.files import atomic_path
from usds.schemas.state import State

__all__ = ["IdentifierIndex", "Match", "Matcher", "fold"]

FILE: Final = "harvest.sqlite"
_TOKEN: Final = re.compile(r"[^\W_]+")
_MAX_GAP: Final = 3
"""Punctuation and spaces between two tokens of one identifier."""
_MAX_TOKENS: Final = 8
_FUZZY_LENGTH: Final = 6
_SHARED: Final = frozenset({"staff", "institution", "address"})
"""Classes that are searched in every subject's texts."""
_CUES: Final = frozenset(
    "dr doctor prof professor mr mrs ms miss herr frau mme name names patient pat pt id ids mrn dob born by "
    "physician radiologist sonographer operator nurse sister signed reported performed referred subject initials "
    "surname forename hospital clinic station accession acc".split()
)
_OCR: Final = str.maketrans("oliszb", "011528")


@dataclass(frozen=True, slots=True)
class Match:
    """A place in a text that repeats an identifier: half-open code points, and its class."""

    start: int
    end: int
    klass: str


@lru_cache(maxsize=100_000)
def fold(text: str) -> str:
    """Letters and digits only, without case and diacritics."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if char.isalnum())


@dataclass(slots=True)
class _Forms:
    """Folded forms by strength.

    Attributes
    ----------
    strong : dict of str to str
        Form to class; enough by itself.
    weak : dict of str to str
        Short, or a word of the language: only beside a cue, or outside the image area.
    """

    strong: dict[str, str] = field(default_factory=dict[str, str])
    weak: dict[str, str] = field(default_factory=dict[str, str])

    def put(self, form: str, klass: str, *, strong: bool) -> None:
        if form:
            (self.strong if strong and len(form) >= 4 else self.weak).setdefault(form, klass)

    @property
    def longest(self) -> int:
        return max((len(form) for form in (*self.strong, *self.weak)), default=0)


def _forms(identifiers: Iterable[Identifier]) -> _Forms:
    forms = _Forms()
    for identifier in identifiers:
        adders = {
            "name": _add_name, "staff": _add_name, "institution": _add_place, "address": _add_place,
            "date": _add_date, "path": _add_path,
        }  # fmt: skip
        adders.get(identifier.klass, _add_code)(forms, identifier)
    return forms


def _components(value: str) -> list[str]:
    return [part for part in (fold(token) for token in _TOKEN.findall(value)) if part]


def _add_name(forms: _Forms, identifier: Identifier) -> None:
    parts = [part for part in _components(identifier.value) if not part.isdigit()][:6]
    everyday = all(is_domain_word(part) for part in parts)
    for part in parts:
        forms.put(part, identifier.klass, strong=not is_word(part))
    for count in (2, 3):
        for chosen in permutations(parts, count):
            forms.put("".join(chosen), identifier.klass, strong=not everyday and any(len(p) > 2 for p in chosen))
    if len(parts) > 1:  # an initial beside the family name
        for first in parts:
            for other in parts:
                if first is not other and len(first) > 1:
                    forms.put(first + other[0], identifier.klass, strong=len(first) >= 4 and not everyday)
                    forms.put(other[0] + first, identifier.klass, strong=len(first) >= 4 and not everyday)
    if re.search(r"\d", identifier.value):  # a pseudonym or an id typed as a name
        _add_code(forms, identifier)


def _add_place(forms: _Forms, identifier: Identifier) -> None:
    parts = _components(identifier.value)
    forms.put("".join(parts), identifier.klass, strong=len(parts) > 1 or not all(is_word(p) for p in parts))
    for part in parts:
        if not is_word(part) and not part.isdigit():
            forms.put(part, identifier.klass, strong=True)


def _add_date(forms: _Forms, identifier: Identifier) -> None:
    for form in date_forms(identifier.value):
        forms.put(form, "date", strong=len(form) >= 6)


def _add_code(forms: _Forms, identifier: Identifier) -> None:
    whole = fold(identifier.value)
    if not any(char.isdigit() for char in whole):
        _add_place(forms, identifier)
        return
    for form in {whole, whole.lstrip("0")}:
        forms.put(form, identifier.klass, strong=not _is_measure(form))


def _add_path(forms: _Forms, identifier: Identifier) -> None:
    """Folder and file names: dates, long numbers and words of no language; not "case004" or "left_breast"."""
    tokens = _components(identifier.value)
    for token in tokens:
        digits = sum(char.isdigit() for char in token)
        if digits == 0:
            if len(token) >= 4 and not is_word(token):
                forms.put(token, "path", strong=True)
        elif digits >= 5:
            forms.put(token, "path", strong=True)
    for form in date_forms("".join(token for token in tokens if token.isdigit())):
        forms.put(form, "date", strong=len(form) >= 6)


def _is_measure(form: str) -> bool:
    """Numbers so short that a text holds them by chance."""
    return form.isdigit() and len(form) < 5


class Matcher:
    """Finds the identifiers of one subject and of the run's staff and institutions.

    Parameters
    ----------
    own, shared : _Forms
        Made by :class:`IdentifierIndex`.
    """

    def __init__(self, own: _Forms, shared: _Forms) -> None:
        self._sets = (own, shared)
        self._longest = max(own.longest, shared.longest)
        self._embedded = [(form, klass) for form, klass in own.strong.items() if len(form) >= _FUZZY_LENGTH]
        self._ocr: list[dict[str, str]] | None = None
        self._fuzzy: dict[str, str] = {}

    def find(self, text: str, *, ocr: bool = False, outside_area: bool = False) -> list[Match]:
        """Places where ``text`` repeats an identifier.

        Parameters
        ----------
        text : str
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
        tokens = [(m.start(), m.end(), fold(m.group())) for m in _TOKEN.finditer(text)]
        matches: list[Match] = []
        position = 0
        while position < len(tokens):
            count, klass = self._at(text, tokens, position, ocr=ocr, outside_area=outside_area)
            if count:
                matches.append(Match(tokens[position][0], tokens[position + count - 1][1], klass))
            position += count or 1
        return matches

    def _at(
        self, text: str, tokens: Sequence[tuple[int, int, str]], first: int, *, ocr: bool, outside_area: bool
    ) -> tuple[int, str]:
        best, found = 0, ""
        glued = ""
        weak_counts = outside_area or _has_cue(text, tokens, first)
        for count, index in enumerate(range(first, min(first + _MAX_TOKENS, len(tokens))), 1):
            if count > 1 and tokens[index][0] - tokens[index - 1][1] > _MAX_GAP:
                break
            glued += tokens[index][2]
            if len(glued) > self._longest + ocr:
                break
            klass = self._lookup(glued, weak=weak_counts, single=count == 1, ocr=ocr)
            if klass:
                best, found = count, klass
        if not best and len(tokens[first][2]) > _FUZZY_LENGTH:
            found = next((klass for form, klass in self._embedded if form in tokens[first][2]), "")
            best = 1 if found else 0
        return best, found

    def _lookup(self, glued: str, *, weak: bool, single: bool, ocr: bool) -> str:
        for forms in self._sets:
            klass = forms.strong.get(glued)
            if klass and (single or len(glued) >= _FUZZY_LENGTH or not glued.isdigit()):
                return klass
            if weak and glued in forms.weak:
                return forms.weak[glued]
        return self._lookup_ocr(glued, weak=weak) if ocr else ""

    def _lookup_ocr(self, glued: str, *, weak: bool) -> str:
        if self._ocr is None:
            strong = {form.translate(_OCR): k for forms in self._sets for form, k in forms.strong.items()}
            loose = {form.translate(_OCR): k for forms in self._sets for form, k in forms.weak.items()}
            self._ocr = [strong, loose]
            self._fuzzy = {form: k for form, k in strong.items() if len(form) >= _FUZZY_LENGTH}
        if is_word(glued):
            return ""
        seen = glued.translate(_OCR)
        if seen in self._ocr[0] and len(seen) >= 4:
            return self._ocr[0][seen]
        if weak and seen in self._ocr[1]:
            return self._ocr[1][seen]
        if len(seen) < _FUZZY_LENGTH - 1 or not self._fuzzy:
            return ""
        near = process.extractOne(seen, self._fuzzy.keys(), scorer=OSA.distance, score_cutoff=1)
        return self._fuzzy[near[0]] if near else ""


def _has_cue(text: str, tokens: Sequence[tuple[int, int, str]], first: int) -> bool:
    """Whether one of the two tokens before ``first`` announces a person or an id."""
    for index in range(max(0, first - 2), first):
        between = text[tokens[index][1] : tokens[first][0]]
        if tokens[index][2] in _CUES and len(between) <= 24 and not re.search(r"[.;]\s+\S.*[.;]", between):
            return True
    return False


class IdentifierIndex:
    """All identifiers of an export, by subject; kept in the private state."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str, str], None] = {}
        self._path: Path | None = None
        self._shared: _Forms | None = None

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
        with atomic_path(state.folder / FILE, mode=0o600) as partial, closing(sqlite3.connect(partial)) as base:
            base.execute("CREATE TABLE identifiers (subject_id TEXT, klass TEXT, value TEXT, cue TEXT)")
            base.executemany("INSERT INTO identifiers VALUES (?, ?, ?, ?)", sorted(self._rows))
            base.execute("CREATE INDEX by_subject ON identifiers (subject_id)")
            base.execute("CREATE INDEX by_class ON identifiers (klass)")
            base.commit()

    @classmethod
    def load(cls, state: State) -> IdentifierIndex:
        """Open the index of the private state; empty when none was saved. Subjects are read when asked for."""
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
            self._shared = _forms(self._shared_identifiers())
        own = _forms(self.identifiers(subject_id)) if subject_id else _Forms()
        return Matcher(own, self._shared)

    def matcher_of_all(self) -> Matcher:
        """A matcher that knows every identifier of the export; for the audit of strings that have no subject."""
        return Matcher(_forms(self.identifiers()), _Forms())

    def _shared_identifiers(self) -> Iterator[Identifier]:
        for subject, klass, value, cue in self._select(None, shared=True):
            if klass in _SHARED or not subject:
                yield Identifier(value, klass, cue or None)  # type: ignore[arg-type]

    def _select(
        self, subject_id: str | None, *, shared: bool = False
    ) -> Iterator[tuple[str, str, str, str]]:
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
