"""Ages in captions: who is a child, who is an infant."""

from __future__ import annotations

import re

from .document import OverrideEntry
from .lexicon import Context

__all__ = ["is_child"]

_YEARS = re.compile(
    r"\b(\d{1,3})(?:[.,]\d+)?[ -]{0,3}(?:years?|yrs?|y)[ -]{0,3}(?:old\b|of[ -]age\b|/o\b|o\b)|"
    r"\b(\d{1,3})[ -]?(?:yo|y/o)\b|\b(?:aged|age of|age:?) (\d{1,3})(?! ?(?:days?|weeks?|months?|cm|mm))"
)
_YOUNGER = re.compile(
    r"\b(?:\d{1,3}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|few)[ -]{0,3}"
    r"(?:days?|weeks?|months?|mo|hours?)[ -]{0,3}(?:old\b|of[ -]age\b|of[ -]life\b)"
)
_WORDS = re.compile(r"\b(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|"
                    r"sixteen|seventeen)[ -]{1,3}years?[ -]{0,3}old\b")  # fmt: skip
_NUMBERS = ("one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen").split()  # fmt: skip


def is_child(lower: str, context: Context, rule: OverrideEntry) -> tuple[bool, bool]:
    """Whether the caption says that the patient is a child, and an infant.

    Parameters
    ----------
    lower : str
        Normalised caption in lower case.
    context : Context
        Its words.
    rule : OverrideEntry
        Limits and words of the taxonomy.

    Returns
    -------
    tuple of bool
        (younger than `age_below_years`, younger than `infant_below_years`).
    """
    if rule.block and any(context.has(phrase) for phrase in rule.block):
        return False, False
    ages: list[int] = []
    if "y" in lower or "age" in lower:
        for match in _YEARS.finditer(lower):
            ages.append(int(match.group(1) or match.group(2) or match.group(3)))
        ages.extend(_NUMBERS.index(match.group(1)) + 1 for match in _WORDS.finditer(lower))
    baby = _YOUNGER.search(lower) is not None
    words = context.tokens[0]
    if baby or (ages and min(ages) < rule.age_below_years):
        infant = baby or min(ages) < rule.infant_below_years
        return True, infant or any(word in rule.infant_cues for word in words)
    if ages:
        return False, False
    return _cued(rule.cues, words, context), _cued(rule.infant_cues, words, context)


def _cued(cues: tuple[str, ...], words: list[str], context: Context) -> bool:
    present = set(words)
    return any(cue in present if " " not in cue and "-" not in cue else context.has(cue) for cue in cues)
