"""Ages in captions: who is a child, who is an infant."""

from __future__ import annotations

import re

from usds.taxonomy.context import Context, PhraseSet
from usds.taxonomy.document import OverrideEntry

__all__ = ["AgeRule"]

_YEARS = re.compile(
    r"\b(\d{1,3})(?:[.,]\d+)?[ -]{0,3}(?:years?|yrs?|y)[ -]{0,3}(?:old\b|of[ -]age\b|/o\b|o\b)|"
    r"\b(\d{1,3})[ -]?(?:yo|y/o)\b|\b(?:aged|age of|age:?) (\d{1,3})(?! ?(?:days?|weeks?|months?|cm|mm))"
)
_YOUNGER = re.compile(
    r"\b(?:\d{1,3}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|few)[ -]{0,3}"
    r"(?:days?|weeks?|months?|mo|hours?)[ -]{0,3}(?:old\b|of[ -]age\b|of[ -]life\b)"
)
_YOUNGER_UNIT = re.compile(r"day|week|mo(?:nth)?s?[ -]{0,3}o|hour|month")
_NUMBERS: list[str] = [
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
]
_NUMBER_WORDS = frozenset(_NUMBERS)
_WORDS = re.compile(rf"\b({'|'.join(_NUMBERS)})[ -]{{1,3}}years?[ -]{{0,3}}old\b")
# No text gives an age in numbers without one of these tokens; the last are "years old" without its spaces.
_UNITS = ["year", "yr", "y", "day", "week", "month", "mo", "hour"]
_AGE_WORDS = frozenset(
    ["old", "age", "aged", "life", "o"]
    + [f"{unit}{s}{end}" for unit in _UNITS for s in ("", "s") for end in ("old", "o")]
    + [f"{number}{unit}{s}old" for number in [*_NUMBERS, "few"] for unit in _UNITS for s in ("", "s")]
)


class AgeRule:
    """Finds out whether a caption speaks of a child.

    Parameters
    ----------
    rule : OverrideEntry
        Limits and words of the taxonomy.
    """

    def __init__(self, rule: OverrideEntry) -> None:
        self.rule = rule
        self.cues = PhraseSet(rule.cues)
        self.infant_cues = PhraseSet(rule.infant_cues)
        self.block = PhraseSet(rule.block)
        self.triggers = self.cues.triggers | _AGE_WORDS
        self.species = PhraseSet(rule.species)

    def judge(self, lower: str, context: Context) -> tuple[bool, bool]:
        """Whether the patient is a child, and an infant.

        Parameters
        ----------
        lower : str
            Normalised caption in lower case.
        context : Context
            Its words.

        Returns
        -------
        tuple of bool
            (younger than `age_below_years`, younger than `infant_below_years`).
        """
        ages: list[int] = []
        baby = False
        if not _AGE_WORDS.isdisjoint(context.tokens.words):
            for match in _YEARS.finditer(lower):
                ages.append(int(match.group(1) or match.group(2) or match.group(3)))
            if not _NUMBER_WORDS.isdisjoint(context.tokens.words):
                ages.extend(_NUMBERS.index(match.group(1)) + 1 for match in _WORDS.finditer(lower))
            baby = _YOUNGER_UNIT.search(lower) is not None and _YOUNGER.search(lower) is not None
        if (ages or baby) and self.species.found_in(context):
            ages, baby = [], False  # a dog of eight years is no child
        if not ages and not baby:
            child = self.cues.found_in(context)
            infant = child and self.infant_cues.found_in(context)
        else:
            child = baby or min(ages) < self.rule.age_below_years
            infant = baby or (
                child and (min(ages) < self.rule.infant_below_years or self.infant_cues.found_in(context))
            )
        if child and self.block.found_in(context):
            return False, False
        return child, infant
