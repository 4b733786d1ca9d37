"""The gate: texts that are no English ultrasound caption are not labelled, and the reason is kept."""

from __future__ import annotations

import re
from collections.abc import Callable

from usds.taxonomy.lexicon import Hit, Language
from usds.taxonomy.normalise import Normalised

__all__ = ["Gate"]

_LONG_CLUSTER = re.compile(r"[bcdfghjklmnpqrstvwxz]{5,}")
_LETTER = re.compile(r"[^\W\d_]")
_LATIN = re.compile(r"[a-zà-öø-ÿāăąćčďđęěğīıłńňőřśşšťůűźżž]", re.IGNORECASE)
_CODE_SIGNS = ("{", "()", "def ", "function", "#include", "import ", "<", "SELECT", "console", "=>", "http")
_CODE = re.compile(
    r"\bdef \w+\(|\bfunction \w+\(|\bfunction\(|#include\b|^\s*(?:import|from) \w+(?: import| as|$)"
    r"|</?(?:html|body|div|script|xml|table)\b|\bSELECT\b.+\bFROM\b|console\.log|=>|\w\(\)\s*[{;:]"
    r"|^\s*[{\[]\s*\"\w+\"\s*:|^\s*https?://\S+\s*$"
)
_SAMPLE = 4000  # words looked at: enough to know a language, whatever the length
_HEAD = 2000  # characters searched for the marks of code
_SPELLED = 50  # unknown words that may be read as misspellings before a text counts as noise
_LABEL_ROLES = ("finding", "descriptor")


class Gate:
    """Decides whether a text is labelled at all.

    Reasons: ``empty``, ``garbage``, ``not_english``, ``not_ultrasound``, ``no_findings``.
    """

    def __init__(self, language: Language, known: frozenset[str]) -> None:
        gate = language.gate
        self.function_words = frozenset(gate["function_words"])
        foreign = frozenset(word.lower() for word in gate["foreign_words"])
        self.foreign_words = foreign - self.function_words
        self.foreign_terms = frozenset(word.lower() for word in gate["foreign_terms"]) - known
        self.known = frozenset(w for w in known | self.function_words | language.known_words if w.isalpha())

    def check(self, text: Normalised, words: list[str], correct: Callable[[str], str | None]) -> str | None:
        """Reason that the bare words give, or None; the phrases are judged by :meth:`check_hits`.

        Parameters
        ----------
        text : Normalised
            The text.
        words : list of str
            Its tokens.
        correct : callable
            Gives the word that a misspelt word stands for, or None.
        """
        sample = words[:_SAMPLE]
        n_words = sum(map(str.isalpha, sample))
        if not n_words or _is_code(text.text[:_HEAD]):
            return "empty" if not text.text.strip() else "garbage"
        if not text.text.isascii() and _foreign_script(text.text[:20_000]):
            return "not_english"
        function = self.function_words
        n_known = sum(map(self.known.__contains__, sample))
        if n_known * 10 >= n_words * 7:
            return "garbage" if n_words > 5 and len(set(sample)) == 1 else None
        alphabetic = [word for word in sample if word.isalpha()]
        if n_known * 2 < n_words:
            n_known += sum(1 for word in alphabetic[:_SPELLED] if word not in self.known and correct(word))
        foreign = sum(1 for word in alphabetic if word in self.foreign_words)
        english = sum(1 for word in alphabetic if word in function)
        terms = sum(1 for word in alphabetic if word in self.foreign_terms)
        if foreign + 2 * terms > english + 1 and foreign + terms >= 1:
            return "not_english"
        if terms and english == 0:
            return "not_english"
        return self._noise(alphabetic, n_known, text)

    def _noise(self, words: list[str], n_known: int, text: Normalised) -> str | None:
        odd = sum(1 for word in words if len(word) >= 4 and _unpronounceable(word))
        long_words = sum(1 for word in words if len(word) >= 4) or 1
        if odd * 2 >= long_words and n_known * 2 < len(words):
            return "garbage"
        if n_known == 0:
            return "garbage" if text.text.isascii() else "not_english"
        if n_known * 5 < len(words) and len(words) >= 5:
            return "garbage" if text.text.isascii() else "not_english"
        letters = sum(len(word) for word in words)
        if letters * 4 < len(text.text.strip()) and len(text.text) > 40 and n_known < 3:
            return "garbage"
        return None

    def check_hits(self, hits: list[Hit]) -> str | None:
        """Reason that the phrases give: another modality, or a statement that nothing was described."""
        first_other = -1
        ultrasound = -1
        reference = False
        for hit in hits:
            for cue in hit.mark.cues:
                if cue in ("other_modality", "other_guidance") and first_other < 0:
                    first_other = hit.first
                elif cue == "reference" and first_other >= 0:
                    reference = True
                elif cue in ("period", "stop", "semicolon"):
                    reference = False
                elif cue == "ultrasound" and ultrasound < 0 and not reference:
                    ultrasound = hit.first
        if first_other >= 0 and ultrasound < 0:
            return "not_ultrasound"
        return self._nothing_described(hits)

    def _nothing_described(self, hits: list[Hit]) -> str | None:
        if not any("no_findings" in hit.mark.cues for hit in hits):
            return None
        labelled = any(item.role in _LABEL_ROLES for hit in hits for item, _ in hit.labels)
        return None if labelled else "no_findings"


def _foreign_script(text: str) -> bool:
    letters = _LETTER.findall(text)
    if not letters:
        return False
    latin = sum(1 for letter in letters if _LATIN.match(letter))
    return latin * 10 < len(letters) * 7


def _is_code(text: str) -> bool:
    return any(sign in text for sign in _CODE_SIGNS) and _CODE.search(text) is not None


def _unpronounceable(word: str) -> bool:
    return not set(word) & set("aeiouy") or _LONG_CLUSTER.search(word) is not None or len(set(word)) <= 2
