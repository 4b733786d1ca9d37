"""Which tokens are words and which are names: shipped lists and the morphology of medical terms.

Everything here works on folded tokens: lower case, accents and typographic variants removed.
"""

from __future__ import annotations

import gzip
import re
import unicodedata
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, cast

import yaml
from rapidfuzz import process
from rapidfuzz.distance import OSA

from usds.curation.deid.identity import is_placeholder

__all__ = [
    "COMMON_SURNAMES",
    "fold",
    "given_names",
    "is_any_name",
    "is_domain_word",
    "is_misspelling",
    "is_name",
    "is_rare",
    "is_word",
    "lookup",
    "surnames",
]

COMMON_SURNAMES: Final = 20_000
"""So many of the most frequent surnames count as names where a token is also an ordinary word."""

_LETTERS: Final = str.maketrans(
    {"ß": "ss", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h",
     "ŋ": "n", "’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'"}
)  # fmt: skip


def fold(text: str) -> str:
    """Lower case without accents; letters that no decomposition splits are spelled out (ß, ø, ł, æ)."""
    if text.isascii():
        return text.lower()
    spelled = text.lower().translate(_LETTERS)
    return "".join(c for c in unicodedata.normalize("NFKD", spelled) if not unicodedata.combining(c))


@cache
def lookup(name: str) -> dict[str, list[str]]:
    """A shipped YAML table of folded phrases by group."""
    raw = files("usds.curation.deid").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    table = cast("dict[str, list[object]]", yaml.safe_load(raw))
    return {group: [fold(str(entry)) for entry in entries] for group, entries in table.items()}


def _lines(name: str) -> list[str]:
    data = files("usds.curation.deid").joinpath(f"{name}.txt.gz").read_bytes()
    return gzip.decompress(data).decode("utf-8").split()


@cache
def _words() -> frozenset[str]:
    return _common_words().union(_english()[1])


@cache
def _common_words() -> frozenset[str]:
    return frozenset(_english()[0]).union(_lines("medical"))


@cache
def _english() -> tuple[list[str], list[str]]:
    """Words that every dictionary has, and rare ones."""
    lines = _lines("english")
    cut = lines.index("#rare")
    return lines[1:cut], lines[cut + 1 :]


@cache
def _names() -> tuple[frozenset[str], tuple[str, ...]]:
    lines = _lines("names")
    cut = lines.index("#surnames")
    return frozenset(lines[1:cut]), tuple(lines[cut + 1 :])


def given_names() -> frozenset[str]:
    """Frequent given names."""
    return _names()[0]


@cache
def surnames(limit: int | None = None) -> frozenset[str]:
    """Surnames, the `limit` most frequent ones."""
    return frozenset(_names()[1][:limit])


def is_name(token: str) -> bool:
    """Whether a folded token is a given name or a frequent surname; it may be a word too (long, white)."""
    return token in given_names() or token in surnames(COMMON_SURNAMES)


def is_any_name(token: str) -> bool:
    """Whether a token is on the lists of names at all, however rare."""
    return token in given_names() or token in surnames()


@lru_cache(maxsize=16_384)
def is_misspelling(token: str) -> bool:
    """Whether a long token is one edit from a common word, or two common words without their space."""
    if len(token) < _MIN_MISSPELT or len(token) > _MAX_WORD:
        return False
    common = _common_words()
    for cut in range(4, len(token) - 3):
        if token[:cut] in common and token[cut:] in common:
            return True
    for size in (len(token) - 1, len(token), len(token) + 1):
        near = _by_shape().get((token[0], size), ())
        if process.extractOne(token, near, scorer=OSA.distance, score_cutoff=1) is not None:
            return True
    return False


@cache
def _by_shape() -> dict[tuple[str, int], list[str]]:
    """Long common words by first letter and length."""
    shapes: dict[tuple[str, int], list[str]] = {}
    for word in sorted(_common_words()):
        if len(word) >= _MIN_MISSPELT - 1:
            shapes.setdefault((word[0], len(word)), []).append(word)
    return shapes


def is_rare(token: str) -> bool:
    """Whether a token is a word that few texts hold: beside a name it is more likely one itself."""
    return token.isalpha() and token not in _common_words()


def is_domain_word(token: str) -> bool:
    """Whether a folded token says what a picture shows, not who: "liver" and "left", but not "white"."""
    return len(token) < 2 or is_placeholder(token) or (is_word(token) and not is_name(token))


# -- morphology ----------------------------------------------------------------------------------------
# Medical terms are built from parts, so no list holds them all. Names are excepted: the endings -oma, -itis
# and -gram end surnames of several languages too.
_MAX_WORD: Final = 40
_MIN_MISSPELT: Final = 8
_SUFFIXES: Final = ("s", "ly", "like")
_MIN_BUILT: Final = 7


@lru_cache(maxsize=65_536)
def is_word(token: str) -> bool:
    """Whether a folded token is an ordinary or medical word.

    Parameters
    ----------
    token : str
        Folded; letters only, or with an apostrophe ("patient's").
    """
    if token in _words():
        return True
    if "'" in token:  # "patient's", "o'clock", but not "o'brien"
        return all(len(part) == 1 or is_word(part) for part in token.split("'"))
    if len(token) < _MIN_BUILT or len(token) > _MAX_WORD or not token.isalpha():
        return False
    if token in given_names() or token in surnames():
        return False
    return _is_built(token)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    raw = files("usds.curation.deid").joinpath("morphology.yaml").read_text(encoding="utf-8")
    parts = cast("dict[str, str]", yaml.safe_load(raw))
    form, ending, prefix = (
        "|".join(sorted(parts[group].split(), key=len, reverse=True))
        for group in ("forms", "endings", "prefixes")
    )
    return re.compile(f"(?:(?:{form})o?){{1,3}}?(?:{ending})"), re.compile(f"(?:{prefix})(?=[a-z]{{5}})")


def _is_built(token: str) -> bool:
    words = _words()
    for suffix in _SUFFIXES:
        if token.endswith(suffix) and token[: -len(suffix)] in words:
            return True
    built, prefixed = _patterns()
    prefix = prefixed.match(token)
    while prefix is not None:
        rest = token[prefix.end() :]
        if rest in words or any(rest.endswith(s) and rest[: -len(s)] in words for s in ("s", "ly")):
            return True
        prefix = prefixed.match(rest) if len(rest) >= _MIN_BUILT else None
        token = rest
    return built.fullmatch(token) is not None
