"""The caption as conditions see it: its words, its letters, and quick questions about phrases."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from usds.taxonomy.normalise import Tokens, normalise, tokenise
from usds.taxonomy.udt import Form, expand

__all__ = ["Context", "PhraseSet", "phrase_tokens"]

_PLAIN = re.compile(r"[a-z]+(?: [a-z]+)*").fullmatch


@lru_cache(maxsize=65536)
def phrase_tokens(text: str) -> tuple[str, ...]:
    """Tokens of a phrase, cut as captions are."""
    if _PLAIN(text) is not None:  # most phrases: words and spaces
        return tuple(text.split(" "))
    return tuple(tokenise(normalise(text)).words)


@lru_cache(maxsize=65536)
def _needle(phrase: str) -> str:
    return f" {' '.join(phrase_tokens(phrase))}"


class Context:
    """The caption as conditional forms see it: its words, and its letters as written."""

    __slots__ = ("_counts", "_folded", "_word_set", "notable", "shouting", "text", "tokens")

    def __init__(self, text: str, tokens: Tokens) -> None:
        self.text = text
        self.tokens = tokens
        self._counts: dict[str, int] = {}
        self._folded: str | None = None
        self._word_set: frozenset[str] | None = None
        # Set by the search for phrases: one of them is a reason to look at the caption as a whole.
        self.notable = False
        # In a caption written in capitals only, case says nothing.
        self.shouting = text.isupper()

    @property
    def folded(self) -> str:
        """All tokens joined by single spaces, with one space at each end."""
        if self._folded is None:
            self._folded = f" {' '.join(self.tokens.words)} "
        return self._folded

    @property
    def word_set(self) -> frozenset[str]:
        """The distinct tokens."""
        if self._word_set is None:
            self._word_set = frozenset(self.tokens.words)
        return self._word_set

    def has(self, phrase: str) -> bool:
        """Whether a phrase occurs, its last word possibly as the beginning of a longer one."""
        return self._count(phrase) > 0

    def _count(self, phrase: str) -> int:
        """Occurrences in the whole caption, counted once: a long text asks for the same phrase very often."""
        count = self._counts.get(phrase)
        if count is None:
            count = self._counts[phrase] = self.folded.count(_needle(phrase))
        return count

    def case_matches(self, first: int, last: int, written: str) -> bool:
        """Whether the letters stand as `written` (hyphens and spaces count as the same)."""
        if self.shouting:
            return True
        found = self.text[self.tokens.starts[first] : self.tokens.ends[last - 1]]
        if found == written or (found.isalnum() and written.isalnum()):
            return found == written
        return "".join(filter(str.isalnum, found)) == "".join(filter(str.isalnum, written))

    def allows(self, form: Form, first: int, last: int) -> bool:
        """Whether the conditions of a form hold here."""
        if form.case and not self.case_matches(first, last, form.text):
            return False
        for phrase in form.block:
            if self._count(phrase):
                return False
        for phrase in form.require:
            if self._count(phrase) and self._elsewhere(phrase, first, last):
                return True
        return not form.require

    def _elsewhere(self, phrase: str, first: int, last: int) -> bool:
        """A required phrase must stand outside the form itself."""
        inside = f" {' '.join(self.tokens.words[first:last])} "
        return self._count(phrase) > inside.count(_needle(phrase))


class PhraseSet:
    """A set of whole words and phrases that is quickly looked for in many captions."""

    def __init__(self, patterns: Iterable[str]) -> None:
        phrases = {phrase_tokens(text) for pattern in patterns for text in expand(pattern)}
        self.words = frozenset(phrase[0] for phrase in phrases if len(phrase) == 1)
        self.phrases: dict[str, list[str]] = {}
        for phrase in sorted(phrases):
            if len(phrase) > 1:
                # Filed under its longest word, which few captions have ("gestation", not "of").
                self.phrases.setdefault(max(phrase, key=len), []).append(f" {' '.join(phrase)} ")
        self.triggers = self.words.union(self.phrases)

    def found_in(self, context: Context) -> bool:
        """Whether any of the phrases occurs."""
        found = self.triggers & context.word_set
        if not found:
            return False
        return not self.words.isdisjoint(found) or any(
            phrase in context.folded for word in found for phrase in self.phrases[word]
        )
