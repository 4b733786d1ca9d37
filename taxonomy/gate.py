"""The gate: texts that are no English ultrasound caption are not labelled, and the reason is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice

from usds.taxonomy.context import phrase_tokens
from usds.taxonomy.direction import only_advised
from usds.taxonomy.lexicon import Hit, Language
from usds.taxonomy.normalise import Normalised

__all__ = ["Gate"]

_LONG_CLUSTER = re.compile(r"[bcdfghjklmnpqrstvwxz]{5,}")
_NO_LETTER = re.compile(r"[\W\d_]+")
_LATIN = re.compile(r"[a-zà-öø-ÿāăąćčďđęěğīıłńňőřśşšťůűźżž]+")
# No text is code without one of these tokens, or one of these at its beginning, or "()".
_CODE_WORDS = frozenset(["{", "<", ">", "#", "def", "function", "import", "select", "console"])
_CODE_STARTS = frozenset(["[", "http", "https"])
_CODE = re.compile(
    r"\bdef \w+\(|\bfunction \w+\(|\bfunction\(|#include\b|^\s*(?:import|from) \w+(?: import| as|$)"
    r"|</?(?:html|body|div|script|xml|table)\b|\bSELECT\b.+\bFROM\b|\bconsole\.log|=>|\w\(\)\s*[{;:]"
    r"|^\s*[{\[]\s*\"\w+\"\s*:|^\s*https?://\S+\s*$"
)
_SAMPLE = 4000  # words looked at: enough to know a language, whatever the length
_HEAD = 2000  # characters searched for the marks of code
_SENTENCE = 4  # words, mostly unknown and none of them English grammar: a sentence of another language
_SPELLED = 50  # unknown words that may be read as misspellings before a text counts as noise
_CONTENT = 4  # letters of a word that says something
_TITLE = 2  # words in which the kind of a picture is named
_STRANGE = 2  # such words, unknown to the field, without which a text may be a caption
_LABEL_ROLES = ("finding", "descriptor")


class Gate:
    """Decides whether a text is labelled at all.

    Reasons: ``empty``, ``garbage``, ``not_english``, ``not_ultrasound``, ``no_findings``.
    """

    def __init__(self, language: Language, known: frozenset[str]) -> None:
        gate = language.gate
        self.known = known
        self.function_words = frozenset(gate["function_words"])
        foreign = frozenset(word.lower() for word in gate["foreign_words"])
        self.foreign_words = foreign - self.function_words
        self.foreign_terms = frozenset(word.lower() for word in gate["foreign_terms"]) - known
        self.nothing = frozenset(" ".join(phrase_tokens(text)) for text in gate["nothing"])

    def check(
        self, text: Normalised, words: list[str], unknown: list[str], correct: Callable[[str], str | None]
    ) -> str | None:
        """Reason that the bare words give, or None; the phrases are judged by :meth:`check_hits`.

        Parameters
        ----------
        text : Normalised
            The text.
        words, unknown : list of str
            Its tokens, and those of them that are no known word.
        correct : callable
            Gives the word that a misspelt word stands for, or None.
        """
        if len(words) > _SAMPLE:
            words = words[:_SAMPLE]
            unknown = [word for word in words if word not in self.known]
        n_odd = sum(map(str.isalpha, unknown))
        enough = max(1, -(-n_odd * 10 // 3))  # words of which seven in ten are then known
        n_words = len(list(islice(filter(str.isalpha, words), enough)))
        if not n_words or _is_code(text.text, words):
            return "empty" if not text.text.strip() else "garbage"
        if not text.text.isascii() and _foreign_script(text.lower[:20_000]):
            return "not_english"
        if n_words >= enough:
            one_word = len(words) > 5 and words[0] == words[-1] and len(set(words)) == 1
            return "garbage" if one_word else None
        return self._stranger(text, list(filter(str.isalpha, words)), n_words - n_odd, correct)

    def _stranger(
        self, text: Normalised, words: list[str], n_known: int, correct: Callable[[str], str | None]
    ) -> str | None:
        """Judge a text with many unknown words: another language, noise, or English with odd names."""
        if n_known * 2 < len(words):
            n_known += sum(1 for word in words[:_SPELLED] if word not in self.known and correct(word))
        foreign = sum(map(self.foreign_words.__contains__, words))
        english = sum(map(self.function_words.__contains__, words))
        terms = sum(map(self.foreign_terms.__contains__, words))
        if foreign + 2 * terms > english + 1 and foreign + terms >= 1:
            return "not_english"
        if english == 0 and (terms or (len(words) >= _SENTENCE and n_known * 2 < len(words))):
            return "not_english"
        return self._noise(words, n_known, text)

    def _noise(self, words: list[str], n_known: int, text: Normalised) -> str | None:
        if n_known * 2 < len(words):
            long_words = [word for word in words if len(word) >= 4]
            odd = sum(map(_unpronounceable, long_words))
            if odd * 2 >= (len(long_words) or 1):
                return "garbage"
        if n_known == 0:
            return "garbage" if text.text.isascii() else "not_english"
        if n_known * 5 < len(words) and len(words) >= 5:
            return "garbage" if text.text.isascii() else "not_english"
        if n_known >= 3 or len(text.text) <= 40:
            return None
        letters = sum(map(len, words))
        return "garbage" if letters * 4 < len(text.text.strip()) else None

    def check_hits(self, hits: list[Hit], words: list[str], *, notable: bool) -> str | None:
        """Reason that the phrases give: another modality, or a statement that nothing was described.

        `notable` says that one of them is such a phrase.
        """
        if not notable:
            for hit in hits:
                if hit.labels or "ultrasound" in hit.mark.cues:
                    return None
            return self._no_caption(words)
        first_other = -1
        ultrasound = -1
        labelled = about = False
        reference = False
        for hit in hits:
            labelled = labelled or bool(hit.labels)
            for cue in hit.mark.cues:
                if cue in ("other_modality", "other_guidance") and first_other < 0:
                    if not only_advised(words, hit):
                        first_other = hit.first
                        about = first_other < _TITLE and words[hit.last : hit.last + 1] == ["of"]
                elif cue == "reference" and first_other >= 0:
                    reference = True
                elif cue in ("period", "stop", "semicolon"):
                    reference = False
                elif cue == "ultrasound" and ultrasound < 0 and not reference:
                    ultrasound = hit.first
        if first_other >= 0 and (ultrasound < 0 or (about and not labelled)):
            return "not_ultrasound"  # the latter: "photograph of the transducer"
        return self._nothing_described(hits)

    def _no_caption(self, words: list[str]) -> str | None:
        """Reason for a text without one word of ultrasound: a placeholder, or talk of other things."""
        spoken = list(filter(str.isalpha, words))
        if " ".join(spoken) in self.nothing:
            return "no_findings"
        if not any(len(word) > 2 and word in self.known for word in spoken):
            return "garbage"
        strange = sum(len(word) >= _CONTENT and word not in self.known for word in spoken)
        return "not_ultrasound" if strange >= _STRANGE and strange * 4 >= len(spoken) else None

    def _nothing_described(self, hits: list[Hit]) -> str | None:
        if not any("no_findings" in hit.mark.cues for hit in hits):
            return None
        labelled = any(item.role in _LABEL_ROLES for hit in hits for item, _ in hit.labels)
        return None if labelled else "no_findings"


def _foreign_script(lower: str) -> bool:
    letters = _NO_LETTER.sub("", lower)
    return len(_LATIN.sub("", letters)) * 10 > len(letters) * 3


def _is_code(text: str, words: list[str]) -> bool:
    if words[0] not in _CODE_STARTS and _CODE_WORDS.isdisjoint(words) and "()" not in text:
        return False
    return _CODE.search(text[:_HEAD]) is not None


def _unpronounceable(word: str) -> bool:
    return not set(word) & set("aeiouy") or _LONG_CLUSTER.search(word) is not None or len(set(word)) <= 2
