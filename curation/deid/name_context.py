"""Words that are names where they stand: after a title, a label or "seen by", and beside other names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from usds.curation.deid.words import given_names, is_domain_word, is_name, is_rare, lookup, surnames

__all__ = ["Token", "names_in_context", "text_style"]

Style = Literal["mixed", "title", "upper", "lower"]

_MAX_NAME: Final = 5
_STYLED: Final = 0.8
_TITLED: Final = 0.6


@dataclass(slots=True)
class Token:
    """A token of a text and what is thought of it.

    Attributes
    ----------
    start, end : int
        Half-open code points.
    text, folded : str
    covered : bool
        A pattern or a harvested identifier takes it already.
    known : bool
        A word, number or abbreviation.
    soft : bool
        Known by its shape only (an abbreviation, a misspelling): a neighbour can make it a name.
    fixed : bool
        Part of a medical term: no neighbour makes it a name.
    removed : bool
    """

    start: int
    end: int
    text: str
    folded: str
    covered: bool = False
    known: bool = True
    soft: bool = False
    fixed: bool = False
    removed: bool = False

    @property
    def capital(self) -> bool:
        """Whether it begins with a capital letter."""
        return self.text[:1].isupper()

    @property
    def is_letter_word(self) -> bool:
        """Whether it is made of letters."""
        return self.text[:1].isalpha()


@cache
def _cues(group: str) -> frozenset[str]:
    return frozenset(lookup("cues")[group])


def text_style(tokens: list[Token]) -> Style:
    """How a text uses capitals: "mixed" is ordinary prose, where a capital tells a name."""
    words = [token.text for token in tokens if token.is_letter_word and len(token.text) > 1]
    if not words:
        return "mixed"
    if sum(word.isupper() for word in words) >= _STYLED * len(words):
        return "upper"
    capitals = sum(word[0].isupper() for word in words)
    if capitals == 0:
        return "lower"
    return "title" if capitals >= _TITLED * len(words) and len(words) >= 4 else "mixed"


def names_in_context(tokens: list[Token], text: str, style: Style) -> None:
    """Mark known words that are names where they stand.

    Parameters
    ----------
    tokens : list of Token
        Judged; `removed` is set on more of them.
    text : str
    style : {"mixed", "title", "upper", "lower"}
    """
    context = _Context(tokens, text, style)
    for index, token in enumerate(tokens):
        if token.is_letter_word:
            context.after_cue(index)
    context.after_initials()
    context.before_ages()
    context.beside_names()
    context.before_places()


class _Context:
    def __init__(self, tokens: list[Token], text: str, style: Style) -> None:
        self._tokens = tokens
        self._text = text
        self._style = style

    # -- cues ---------------------------------------------------------------------------------------

    def after_cue(self, index: int) -> None:
        """Titles, labels with a colon, and "seen by"."""
        token = self._tokens[index]
        if self._is_label(index):
            self._take(index + 1, sure=True, label=True)
        elif token.folded in _cues("titles"):
            self._take(index + 1, sure=True)
        elif token.folded in _cues("weak_titles"):
            # "Mr" in prose is a title, "MR" an imaging method or a valve that leaks.
            written = token.text in ("Mr", "Ms", "Mx") and self._style in ("mixed", "title")
            self._take(index + 1, sure=written)
        elif token.folded in _cues("prepositions") and index and self._has_agent(index):
            self._take(index + 1, sure=False)

    def _has_agent(self, index: int) -> bool:
        return any(one.folded in _cues("agents") for one in self._tokens[max(0, index - 2) : index])

    def _is_label(self, index: int) -> bool:
        end = self._tokens[index].end
        if not self._text[end : end + 3].lstrip(" ").startswith(":"):
            return False
        for count in (1, 2, 3):
            words = [one.folded for one in self._tokens[max(0, index - count + 1) : index + 1]]
            if " ".join(words) in _cues("labels"):
                return True
        return False

    def _take(self, index: int, *, sure: bool, label: bool = False) -> None:
        """Mark the tokens of a name that begins at `index`, if one does.

        Parameters
        ----------
        sure : bool
            The first token is a name whatever it is, unless it is a word that never is one.
        label : bool
            A comma may stand inside the name ("Smith, John").
        """
        taken, certain = 0, sure
        while index < len(self._tokens) and taken < _MAX_NAME:
            token = self._tokens[index]
            if not self._adjacent(index, comma=label) and not self._continues(index, taken):
                break
            second = certain and taken == 1 and self._ends_name(index)
            if not self._may_be_name(index, sure=sure or second, label=label):
                break
            # An initial does not use up the certainty that a name stands here.
            sure = sure and len(token.folded) == 1
            if token.folded not in _cues("titles"):
                token.removed = not token.covered
                taken += 1
            index += 1

    def _ends_name(self, index: int) -> bool:
        """Whether behind a token comes what cannot go on with a phrase of the picture."""
        token = self._tokens[index]
        if _is_everyday(token) or index + 1 >= len(self._tokens):
            return not _is_everyday(token)
        after = self._tokens[index + 1]
        between = self._text[token.end : after.start].strip()
        return bool(between) or not after.is_letter_word or after.folded in _cues("stop") or after.covered

    def _continues(self, index: int, taken: int) -> bool:
        """ "Dr. Smith, John": one given name behind a comma."""
        token = self._tokens[index]
        likely = (
            not token.known or is_rare(token.folded) or (is_name(token.folded) and not _is_everyday(token))
        )
        return taken == 1 and likely and self._adjacent(index, comma=True)

    def _may_be_name(self, index: int, *, sure: bool, label: bool) -> bool:
        token = self._tokens[index]
        if not token.is_letter_word or token.covered or not token.known or token.soft:
            return token.is_letter_word
        if len(token.folded) == 1 and self._has_stop(token):
            return sure or label or self._next_is_name(index)
        if token.fixed or (token.folded in _cues("stop") and not self._is_named_stop(index, label)):
            return False
        if token.folded in _cues("titles") or len(token.folded) == 1:
            return self._next_is_name(index) or label
        if token.folded in _cues("particles"):
            return self._next_is_name(index)
        return self._reads_as_name(index, sure=sure, label=label)

    def _reads_as_name(self, index: int, *, sure: bool, label: bool) -> bool:
        """Whether a word of the language is a name here, by its letter case and the name lists."""
        token = self._tokens[index]
        if sure:
            plain = label and is_domain_word(token.folded) and not token.capital
            return not plain or is_rare(token.folded) or self._next_is_name(index, comma=True)
        if self._style == "mixed" and token.capital:
            return not token.text.isupper() or is_name(token.folded)
        if self._style == "mixed":  # a small letter in ordinary prose
            return token.folded in given_names() and not _is_everyday(token)
        return is_name(token.folded) or is_rare(token.folded)

    def _is_named_stop(self, index: int, label: bool) -> bool:
        """ "Rose May": a word like "may" with a capital, or at the end of a label's line, behind a name."""
        token, before = self._tokens[index], self._tokens[index - 1]
        if not before.removed or not is_name(token.folded):
            return False
        ordinary = self._style in ("mixed", "title") and token.capital
        return ordinary or (label and self._text[token.end : token.end + 1] in ("", "\n", ".", ",", ";"))

    def _next_is_name(self, index: int, *, comma: bool = False) -> bool:
        if index + 1 >= len(self._tokens) or not self._adjacent(index + 1, comma=comma):
            return False
        after = self._tokens[index + 1]
        if not after.is_letter_word or after.folded in _cues("stop") or after.fixed:
            return False
        return (
            after.covered
            or not after.known
            or is_name(after.folded)
            or (self._style == "mixed" and after.capital)
        )

    def _adjacent(self, index: int, *, comma: bool) -> bool:
        """Whether only what stands inside names lies between a token and the one before."""
        if index == 0:
            return True
        between = self._text[self._tokens[index - 1].end : self._tokens[index].start]
        allowed = " .:-'^_=\t" + ("," if comma else "")
        before = self._tokens[index - 1]
        if "." in between and len(before.folded) > 4 and before.folded not in _cues("titles"):
            return False
        return len(between) <= 4 and all(char in allowed for char in between)

    def after_initials(self) -> None:
        """ "J. Costa": a single letter with a stop, and a word that is a name."""
        for index in range(len(self._tokens) - 1):
            one, two = self._tokens[index], self._tokens[index + 1]
            if len(one.folded) != 1 or not one.is_letter_word or not self._has_stop(one):
                continue
            cased = self._style != "mixed" or (one.capital and two.capital and not two.text.isupper())
            likely = not two.known or (is_name(two.folded) and not _is_everyday(two))
            if (
                cased
                and likely
                and two.is_letter_word
                and not two.fixed
                and self._adjacent(index + 1, comma=False)
            ):
                one.removed, two.removed = not one.covered, not two.covered

    def before_ages(self) -> None:
        """ "Hill, 62-year-old patient": what opens a sentence before an age is a name."""
        for index in range(1, len(self._tokens) - 1):
            if self._tokens[index].text.isdigit() and self._tokens[index + 1].folded in (
                "year",
                "years",
                "yo",
                "y",
            ):
                self._opens_sentence(index)

    def _opens_sentence(self, index: int) -> None:
        back = index - 1
        while back >= 0 and index - back <= 3 and self._adjacent(back + 1, comma=True):
            one = self._tokens[back]
            name = one.covered or not one.known or len(one.folded) == 1 or is_name(one.folded)
            name = name or is_rare(one.folded)
            if not one.is_letter_word or one.folded in _cues("stop") or not name:
                return
            back -= 1
        between = self._text[self._tokens[back].end : self._tokens[back + 1].start] if back >= 0 else "."
        if index - back > 1 and any(char in between for char in ".!?\n()"):
            for one in self._tokens[back + 1 : index]:
                one.removed = not one.covered

    def _has_stop(self, token: Token) -> bool:
        return self._text[token.end : token.end + 1] == "."

    # -- neighbours ---------------------------------------------------------------------------------

    def beside_names(self) -> None:
        """Initials, particles and names that are words too, beside a name that is none."""
        tokens = self._tokens
        for index in range(1, len(tokens)):
            # "Smith, Grace" ends where a name may end; "Smith, long axis" goes on.
            comma = not _is_everyday(tokens[index]) and self._ends_name(index)
            if self._is_surely_name(tokens[index - 1]) and self._adjacent(index, comma=comma):
                self._follow(index, before=False)
        for index in range(len(tokens) - 2, -1, -1):
            if self._is_surely_name(tokens[index + 1]) and self._adjacent(index + 1, comma=True):
                self._follow(index, before=True)
        if self._style == "mixed":
            self._pairs()

    def _is_surely_name(self, token: Token) -> bool:
        if not token.removed or token.fixed:
            return False
        if self._style == "mixed" and token.capital and not token.text.isupper():
            return True
        return token.folded in given_names() or token.folded in surnames() or not token.known

    def _follow(self, index: int, *, before: bool) -> None:
        token = self._tokens[index]
        if token.removed or token.covered or token.fixed or not token.is_letter_word:
            return
        if token.folded in _cues("stop") or token.folded in _cues("titles"):
            return
        initial = len(token.folded) == 1 and (
            self._has_stop(token) or (token.capital and token.folded not in "ai")
        )
        suffix = not before and token.folded in _cues("suffixes")
        if initial or suffix or token.soft or self._is_name_here(token, before=before):
            token.removed = True

    def _is_name_here(self, token: Token, *, before: bool) -> bool:
        """Whether a word beside a name is one too: by its capital, else by the lists."""
        if self._style == "mixed":
            return token.capital and (is_name(token.folded) or is_rare(token.folded))
        if self._style == "title" or before:
            return (is_name(token.folded) or is_rare(token.folded)) and not _is_everyday(token)
        return is_name(token.folded) or is_rare(token.folded)

    def _pairs(self) -> None:
        """A given name and a surname that both are words, both with a capital: "Grace Young"."""
        tokens = self._tokens
        for index in range(len(tokens) - 1):
            one, two = tokens[index], tokens[index + 1]
            if not (one.capital and two.capital) or one.text.isupper() or two.text.isupper():
                continue
            if one.fixed or two.fixed or {one.folded, two.folded} & _cues("stop"):
                continue
            if (
                one.folded in given_names()
                and two.folded in surnames(5_000)
                and self._adjacent(index + 1, comma=False)
            ):
                one.removed = two.removed = True

    # -- places -------------------------------------------------------------------------------------

    def before_places(self) -> None:
        """Words right before "Hospital" or "Clinic" name the place: capitalised ones, else names."""
        for index, token in enumerate(self._tokens):
            if (
                token.folded == "klinikum"
                and index + 1 < len(self._tokens)
                and self._adjacent(index + 1, comma=False)
            ):
                self._take(index + 1, sure=True)
            elif token.folded in _cues("places") and (token.capital or self._style != "mixed"):
                self._place_before(index)

    def _place_before(self, index: int) -> None:
        for back in range(index - 1, max(-1, index - 5), -1):
            one = self._tokens[back]
            if one.fixed or not self._adjacent(back + 1, comma=False) or not one.is_letter_word:
                return
            if one.folded in _cues("generic") or len(one.folded) == 1:
                continue
            named = (
                one.capital
                if self._style == "mixed"
                else is_name(one.folded) and not is_domain_word(one.folded)
            )
            if not named or one.folded in _cues("stop"):
                return
            one.removed = not one.covered


def _is_everyday(token: Token) -> bool:
    """Words of pictures that are names as well: in running small letters they mean what they say."""
    return token.folded in _cues("stop") or token.folded in _cues("everyday")
