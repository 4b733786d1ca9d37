"""Cues that judge what stands before them: which mentions they mean."""

from __future__ import annotations

from usds.taxonomy import direction
from usds.taxonomy.coordination import Coordination
from usds.taxonomy.lexicon import Hit
from usds.taxonomy.mentions import Mention
from usds.taxonomy.scopes import LABELS, REACH, SHORT, SITES

__all__ = ["ENDS", "LookBack"]

ENDS = frozenset([".", ",", ";", ")", "!"])
_ANSWERS = frozenset(["no", "none", "nil", "n"])
_ASKS = frozenset([":", "|", "=", "?"])
_ANSWER_ENDS = frozenset([".", ",", ";", "|", "(", ")", "!", "in", "on"])
_AUXILIARIES = frozenset(
    ["cannot", "can", "could", "is", "was", "be", "been", "has", "have", "not", "t", "it", "may", "also"]
)
_INDEFINITE = frozenset(["a", "an"])
_EXCLUSION = frozenset(["excluded", "ruled", "exclude", "rule"])
_ASIDES = frozenset(
    ["which", "however", "therefore", "though", "it", "they", "this", "these", "and", "but", "also"]
)


class LookBack(Coordination):
    """Scopes whose cues can look back over the subject of a clause."""

    __slots__ = ()

    def judges_subject(self, index: int, hit: Hit) -> bool:
        """Whether a word that may stand on either side of its finding stands behind it."""
        named_to = self.mentions[-1].last if len(self.mentions) > self.clause else -1
        words = self.tokens.words
        return direction.closes(words, hit, named_to) or direction.points_back(words, self.hits, index)

    def answers(self, hit: Hit) -> bool:
        """ "Calcification: no." and "abscess ruled out;" answer what stands before them."""
        words = self.tokens.words
        if hit.first and words[hit.first - 1] == "(" and words[hit.last : hit.last + 1] == [")"]:
            return bool(self.mentions) and self.mentions[-1].last == hit.first - 1  # "cyst (no)"
        if not hit.first or words[hit.first - 1] not in _ASKS:
            # "Cyst no, septa no": a bare answer ends the phrase.
            ends = hit.last >= len(words) or words[hit.last] in ENDS
            return ends and words[hit.first] in _ANSWERS and self.since_label(hit)
        return hit.last >= len(words) or words[hit.last] in _ANSWER_ENDS

    def on_after(self, hit: Hit, assertion: str) -> None:
        """A cue that stands after its finding: look back over the subject of the clause."""
        self.looked_back = hit
        if self.other_subject(hit):
            return
        start = self.subject_start()
        if self.of_the == start < len(self.mentions):
            return  # "the origin of the mass is uncertain": not the mass
        if self.heading is not None and start >= len(self.mentions):
            start = self.heading  # "cyst, mass or collection: none"
        if start >= len(self.mentions) == self.clause and self._contrasted(hit):
            self._turn(hit, assertion)
        stop = (
            self.preposition
            if self.preposition is not None and self.preposition > start
            else len(self.mentions)
        )
        if start >= len(self.mentions) > self.clause:
            start = stop = len(self.mentions)
            while start > self.clause and self.mentions[start - 1].first == self.mentions[stop - 1].first:
                start -= 1
        # "A solid nodule cannot be excluded": the whole phrase is in doubt, its adjectives too.
        words = self.tokens.words
        whole = not _EXCLUSION.isdisjoint(words[hit.first : hit.last])
        asks = words[hit.first] == "?"  # "Calcification?"
        for mention in self.mentions[max(start, stop - REACH) : stop]:
            role = mention.item.role if mention.item is not None else "finding"
            if role in SITES:
                # A site is the topic, unless it is what is doubted.
                meant = assertion not in ("negated", "uncertain") or self.doubted_site(
                    mention, hit, assertion
                )
                if not meant and mention.assertion in ("history", "uncertain") and assertion == "negated":
                    mention.assertion = "present"  # "the previous hepatic cyst is not seen": the liver is
            elif role == "descriptor" and assertion == "uncertain":
                # "Calcification is possible": the subject itself, not an adjective of it.
                subject = (
                    mention.last == hit.first if asks else direction.is_subject(words, mention.last, hit)
                )
                meant = whole or subject
            else:
                meant = True
            if meant and (mention.assertion != "other" or assertion not in ("negated", "uncertain")):
                mention.assertion = assertion
                mention.cue = (hit.first, hit.last)

    def _contrasted(self, hit: Hit) -> bool:
        """ "Unlikely but cannot be excluded": behind the contrast stands no subject of its own."""
        if not self.mentions or self.mentions[-1].sentence != self.sentence:
            return False
        words = self.tokens.words[max(self.mentions[-1].last, hit.first - SHORT) : hit.first]
        at = words.index("but") if "but" in words else len(words)
        return at < len(words) and all(w in _AUXILIARIES or w.endswith("ly") for w in words[at + 1 :])

    def _turn(self, hit: Hit, assertion: str) -> None:
        """Judge once more what was said in front of the contrast."""
        last = self.mentions[-1]
        for mention in self.mentions[-LABELS:]:
            role = mention.item.role if mention.item is not None else "finding"
            judged = mention.assertion in ("uncertain", "negated")
            if mention.first == last.first and role not in SITES and judged:
                mention.assertion = assertion
                mention.cue = (hit.first, hit.last)

    def doubted_site(self, mention: Mention, hit: Hit, assertion: str) -> bool:
        """ "A necrotic node could not be excluded": the site itself is the thing in doubt."""
        if assertion != "uncertain" or not direction.is_subject(self.tokens.words, mention.last, hit):
            return False
        said = [m.item for m in self.behind() if m.first == mention.first and m.item is not None]
        if "finding" in [item.role for item in said]:
            # "Parathyroid adenoma is possible": the gland comes with the name. "Pericardial effusion is
            # possible": the pericardium was looked at.
            return "implied" in [item.method for item in said]
        return direction.said_before(self.tokens.words, mention.first, _INDEFINITE, SHORT)

    def other_subject(self, hit: Hit) -> bool:
        """Whether what is denied or doubted has no label: "a nodule, malignancy cannot be excluded"."""
        if self.comma < len(self.mentions):
            return False
        named_to = self.mentions[-1].last if self.mentions else 0
        words = self.tokens.words[max(self.comma_at + 1, named_to, hit.first - SHORT) : hit.first]
        return self.comma_at >= hit.first - SHORT and any(
            len(word) > 3 and word.isalpha() and word not in _ASIDES and not word.endswith("ly")
            for word in words
        )

    def on_negation_after(self, index: int, hit: Hit) -> None:
        del index
        self.looked_back_on_denial = hit
        self.on_after(hit, "negated")
        self.new_subject()

    def on_uncertain_after(self, index: int, hit: Hit) -> None:
        del index
        self.on_after(hit, "uncertain")
        self.new_subject()
