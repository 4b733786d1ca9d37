"""Abbreviation keys of figure legends: "RV: right ventricle" explains a word and shows nothing."""

from __future__ import annotations

from usds.taxonomy.normalise import Tokens

__all__ = ["in_key"]

_OPENS = frozenset([";", "."])
_STARTS = frozenset([";", ".", ")"])
_FILLERS = frozenset(["left", "right", "the", "distal", "proximal", "common", "normal", "upper", "lower"])
_SIDES = frozenset(["left", "right", "lateral", "medial", "ventral", "dorsal", "cranial", "caudal"])
_SIGNS = frozenset([":", "=", ","])
_ITEM = 12  # words between the numbers of a key
_NUMBER_SIGNS = frozenset([":", "=", ")"])
_ITEM_ENDS = frozenset([",", ";", ".", "and"])
_ITEM_STARTS = frozenset(["and"])
_EXPANSION = 5  # words of a name that is spelled out


def in_key(tokens: Tokens, text: str, first: int, last: int) -> bool:
    """Whether a site only stands in a key: "RV: right ventricle", "CCA, carotid artery; ...".

    Parameters
    ----------
    tokens : Tokens
        Of the caption.
    text : str
        Its normalised text.
    first, last : int
        Half-open token span of the site.
    """
    words = tokens.words
    return _numbered(words, first - 1, last) or _abbreviated(tokens, text, first, last)


def _abbreviated(tokens: Tokens, text: str, first: int, last: int) -> bool:
    """ "RV: right ventricle": on either side of the sign."""
    words = tokens.words
    if last - first == 1 and last < len(words) and words[last] in _SIGNS and first:
        opens = words[first - 1] in _OPENS or (words[first - 1] == "," and words[last] != ",")
        # "GB: no stones" is the heading of a finding, "GB: gallbladder" is a key.
        if opens and _written(tokens, text, first).isupper():
            return words[last] == "=" or _spells(words, first, last + 1, last + 1 + _EXPANSION)
    at = first - 1
    while at > first - 4 and at >= 0 and words[at] in _FILLERS:
        at -= 1
    if at < 1 or words[at] not in _SIGNS:
        return False
    short = _written(tokens, text, at - 1)
    if words[at] == "=":
        return len(short) <= 6
    if not (len(short) <= 5 and short.isupper() and short.isalpha()) and not (
        len(short) == 2 and short[0].isupper()
    ):
        return False
    # "Findings suggestive of DVT: the popliteal vein" announces, it does not explain.
    if at < 2 or (words[at - 2].isalpha() and words[at - 2] != "and"):
        return False
    return (words[at] == ":" or words[at - 2] in _STARTS) and _spells(words, at - 1, at + 1, last + 2)


def _spells(words: list[str], short: int, start: int, stop: int) -> bool:
    """Whether the words from `start` begin with the letter of the short one and hold its others in order."""
    spoken = iter("".join(words[start:stop]))
    return (
        words[start : start + 1] != []
        and words[start][0] == words[short][0]
        and all(letter in spoken for letter in words[short])
    )


def _written(tokens: Tokens, text: str, at: int) -> str:
    return text[tokens.starts[at] : tokens.ends[at]]


def _numbered(words: list[str], at: int, last: int) -> bool:
    """ "1 abdominal wall, 2: liver": structures that are only pointed out, by numbers in the picture."""
    if last < len(words) and words[last] not in _ITEM_ENDS:
        return False
    if at > 0 and words[at] in _SIDES:  # "1 lateral abdominal wall"
        at -= 1
    if at > 0 and words[at] in _NUMBER_SIGNS:
        at -= 1
    if at < 0 or not words[at].isdigit() or len(words[at]) > 2:
        return False
    before = words[at - 1] if at else "."
    if before not in _ITEM_STARTS and before.isalnum():
        return False
    number = int(words[at])
    if number == 1:
        return "2" in words[last : last + _ITEM]
    return str(number - 1) in words[max(0, at - _ITEM) : at]
