"""An identifier in all its writings: letters and digits alone, folded, so that punctuation plays no part."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import permutations
from typing import Final

from usds.curation.deid.dates import date_forms
from usds.curation.deid.identity import is_placeholder
from usds.curation.deid.words import fold as fold_case
from usds.curation.deid.words import given_names, is_domain_word, is_word, lookup, surnames
from usds.curation.readers.base import Identifier

__all__ = ["MIN_STRONG", "Forms", "fold", "forms_of"]

MIN_STRONG: Final = 4
"""Shorter values are found in every text by chance."""
_TOKEN = re.compile(r"[^\W_]+")
_RUN = re.compile(r"[^\W\d_]+|\d+")
_DIGIT = re.compile(r"\d")
_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_MAX_PARTS: Final = 6
_MAX_TOKENS: Final = 400
_FREE_TEXT: Final = 6
"""A value of more words is prose: its telling words count, the whole does not."""
_UID: Final = re.compile(r"[0-9]+(?:\.[0-9]+){3,}")


@lru_cache(maxsize=100_000)
def fold(text: str) -> str:
    """Letters and digits only, without case and diacritics."""
    return "".join(char for char in fold_case(text) if char.isalnum())


@dataclass(slots=True)
class Forms:
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

    def put(self, form: str, klass: str, *, strong: bool = True) -> None:
        """Add one form; a single letter or digit names nobody, and stands everywhere."""
        ideographs = bool(_IDEOGRAPH.match(form))
        if len(form) >= 2 or ideographs:
            long = len(form) >= MIN_STRONG or (len(form) >= 2 and ideographs)
            (self.strong if strong and long else self.weak).setdefault(form, klass)


def forms_of(identifiers: Iterable[Identifier]) -> Forms:
    """All forms of some identifiers.

    Parameters
    ----------
    identifiers : iterable of Identifier
        Values that say nobody's name ("ANONYMOUS", "--") give no form.
    """
    forms = Forms()
    for identifier in identifiers:
        # A filler with digits ("123456", a time stamp) still is what stands on the screen.
        if _DIGIT.search(identifier.value) or not is_placeholder(identifier.value):
            _ADDERS.get(identifier.klass, _add_other)(forms, identifier.value, identifier.klass)
    return forms


def _parts(value: str) -> list[str]:
    return [part for part in (fold(token) for token in _TOKEN.findall(value)[:_MAX_TOKENS]) if part]


def _is_long(part: str) -> bool:
    return len(part) > 2 or bool(_IDEOGRAPH.match(part))


# -- people --------------------------------------------------------------------------------------------


def _add_name(forms: Forms, value: str, klass: str) -> None:
    """Every component, two and three of them in any order, initials beside a family name."""
    titles = set(lookup("cues")["titles"])
    parts = [part for part in _parts(value) if not part.isdigit() and part not in titles][:_MAX_PARTS]
    parts = [part for part in parts if len(part) < MIN_STRONG or not is_placeholder(part)]
    everyday = all(is_domain_word(part) for part in parts)
    for part in parts:
        forms.put(part, klass, strong=not is_word(part))
    for count in range(2, min(4, len(parts)) + 1):
        for chosen in permutations(parts, count):
            forms.put("".join(chosen), klass, strong=not everyday and any(map(_is_long, chosen)))
    for whole in parts:
        for other in parts:
            if other is not whole and len(whole) > 1:
                for form in (other[0] + whole, whole + other[0]):
                    strong = len(whole) > 2 and not everyday and not is_word(form)
                    forms.put(form, klass, strong=strong)
    if _DIGIT.search(value):  # a pseudonym or an id typed as a name
        _add_code(forms, value, klass)


# -- numbers -------------------------------------------------------------------------------------------


def _add_code(forms: Forms, value: str, klass: str) -> None:
    """Ids: as a whole, without leading zeros, and their long parts."""
    whole = fold(value)
    if not _DIGIT.search(whole):
        _add_place(forms, value, klass)
        return
    for form in (whole, whole.lstrip("0")):
        forms.put(form, klass, strong=not _is_chance(form))
    if _UID.fullmatch(value.strip()):
        return
    for run in _RUN.findall(whole)[:_MAX_TOKENS]:
        if run.isdigit():
            bare = run.lstrip("0")
            if len(bare) >= 5:
                forms.put(run, klass)
                forms.put(bare, klass)
        elif len(run) >= 5 and not is_word(run):
            forms.put(run, klass)


def _is_chance(form: str) -> bool:
    """Numbers so short that a text holds them by chance, and words with a counter ("case1")."""
    if form.isdigit():
        return len(form) < 5
    word = form.rstrip("0123456789")
    return len(form) - len(word) <= 2 and is_word(word)


def _add_date(forms: Forms, value: str, klass: str) -> None:
    for form in date_forms(value):
        forms.put(form, klass, strong=len(form) >= 6 or (len(form) == 5 and not form.isdigit()))


def _add_phone(forms: Forms, value: str, klass: str) -> None:
    if "@" in value:
        _add_place(forms, value, klass)
        return
    digits = "".join(_DIGIT.findall(value)).lstrip("0")
    for count in {len(digits), 10, 9, 8, 7}:
        if 6 <= count <= len(digits):
            forms.put(digits[-count:], klass)
            forms.put("0" + digits[-count:], klass)


# -- places and the rest -------------------------------------------------------------------------------


def _add_place(forms: Forms, value: str, klass: str) -> None:
    """Institutions and addresses: the whole, and every word that no language has."""
    parts = _parts(value)
    if len(parts) <= _FREE_TEXT * 2:
        cues = lookup("cues")
        telling = len(parts) > 1 and not {*cues["places"], *cues["generic"]}.issuperset(parts)
        forms.put("".join(parts), klass, strong=telling or (len(parts) == 1 and not is_word(parts[0])))
    for part in parts:
        if not is_word(part):
            forms.put(part, klass, strong=not part.isdigit() or len(part) >= 5)


def _add_other(forms: Forms, value: str, klass: str) -> None:
    """Free text of unknown meaning: short values as a whole, and what in them is no word."""
    parts = _parts(value)
    if len(parts) <= _FREE_TEXT:
        whole = "".join(parts)
        # "US KIDNEY" in a private tag names an examination; "ROSE WHITE" may name a person
        everyday = all(is_word(p) for p in parts) and any(len(p) > 1 and is_domain_word(p) for p in parts)
        forms.put(whole, klass, strong=not everyday and not _is_chance(whole))
        if len(parts) == 2 and any(map(_is_long, parts)):
            forms.put(parts[1] + parts[0], klass, strong=not all(is_word(part) for part in parts))
    for part in parts:
        if not is_word(part) and not is_placeholder(part):
            forms.put(part, klass, strong=not _is_chance(part))
    if re.fullmatch(r"[\d\W_]{6,40}", value) or any(len(part) == 8 and part.isdigit() for part in parts):
        _add_date(forms, value, klass)


def _add_path(forms: Forms, value: str, klass: str) -> None:
    """Folder and file names: dates, long numbers, names; not "case004", "left_breast" or "baker_cyst"."""
    terms = lookup("eponyms")
    stem = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", value)
    words = [fold(run) for run in _RUN.findall(stem)[:_MAX_TOKENS]]
    for word in words:
        if word.isdigit():
            bare = word.lstrip("0")
            forms.put(bare, klass, strong=len(bare) >= 5)
        elif not is_word(word) and word not in terms:
            forms.put(word, klass, strong=True)
    letters = [word for word in words if not word.isdigit()]
    if len(letters) == 2 and _is_full_name(letters):
        forms.put(letters[0] + letters[1], klass)
        forms.put(letters[1] + letters[0], klass)
    for token in _parts(value):
        runs = _RUN.findall(token)
        if len(runs) > 1 and not _is_chance(token) and sum(map(str.isdigit, token)) >= 3:
            forms.put(token, klass, strong=not is_word(runs[0]))
    _add_date(forms, value, "date")


def _is_full_name(words: list[str]) -> bool:
    """A given name and a surname, in either order, that are not both words of pictures ("long head")."""
    everyday = set(lookup("cues")["everyday"])
    orders = ((words[0], words[1]), (words[1], words[0]))
    named = any(one in given_names() and two in surnames(5_000) for one, two in orders)
    return named and not everyday.issuperset(words)


_ADDERS: Final[dict[str, Callable[[Forms, str, str], None]]] = {
    "name": _add_name,
    "staff": _add_name,
    "institution": _add_place,
    "address": _add_place,
    "date": _add_date,
    "phone": _add_phone,
    "id": _add_code,
    "path": _add_path,
}
