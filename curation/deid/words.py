"""Word lists: which tokens are everyday or medical words, and which are names.

English words are the lower-case entries of SCOWL without those that are chiefly names; medical words come from
the code meanings that pydicom ships. Sources and licences: `words.md`.
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib.resources import files

from usds.curation.deid.identity import is_placeholder

__all__ = ["english_words", "is_domain_word", "is_word", "medical_words"]


@lru_cache(maxsize=8)
def _load(name: str) -> frozenset[str]:
    packed = files("usds.curation.deid").joinpath(f"{name}.txt.gz").read_bytes()
    return frozenset(line for line in gzip.decompress(packed).decode("utf-8").split("\n") if line)


def english_words() -> frozenset[str]:
    """Folded English words that are not chiefly names."""
    return _load("english")


def medical_words() -> frozenset[str]:
    """Folded words of the code meanings of SNOMED CT and DCM that pydicom ships."""
    return _load("medical")


def is_word(folded: str) -> bool:
    """Whether a folded token is an everyday or medical word."""
    return folded in english_words() or folded in medical_words()


def is_domain_word(folded: str) -> bool:
    """Whether a folded token is what sites type instead of a name, or a term of medicine."""
    return len(folded) < 2 or folded in medical_words() or is_placeholder(folded)
