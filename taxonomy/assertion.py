"""Assertion: which findings a caption affirms, denies, doubts, or only refers to.

One sweep over the phrases of a caption, after the idea of ConText (Harkema et al., J Biomed Inform 2009): a
cue opens a scope, a terminator closes it, a cue that stands after its finding looks back. The sweep visits
every phrase once, so it is linear in the caption.
"""

from __future__ import annotations

import re

from usds.taxonomy import direction
from usds.taxonomy.cues import Cues
from usds.taxonomy.document import CompoundEntry
from usds.taxonomy.keys import in_key
from usds.taxonomy.lexicon import Hit, Item
from usds.taxonomy.mentions import Mention, Normality
from usds.taxonomy.normalise import Tokens
from usds.taxonomy.scopes import REACH, SITES

__all__ = ["Sweep"]

_ADVERBS = frozenset(["possibly", "probably", "questionably", "perhaps", "potentially", "presumably"])
_SIGN = re.compile(r":?[ \t]+([-+YN])(?=[ \t]*(?:[.,;\n]|$))")
_SIGNS = 2  # a single dash at the end of a caption may be a slip, a single N the letter in the picture
_ENTRY = re.compile(r"(?:^|[.,;\n])[ \t]*(?:[^\s.,;]+[ \t]+){0,2}[^\s.,;]+$")  # three words of a worksheet
_ENTRY_LENGTH = 60  # characters
_BOX = re.compile(r"\[[ \t]?\]|\u2610")
_BOX_ENDS = re.compile(r"[\[\n;.\u2610-\u2612]")
_SPAN = 2  # further tokens that a compound may span over a verb: "flow in both testes is normal"


class Sweep(Cues):
    """One pass over the phrases of a caption; use :meth:`run` once."""

    __slots__ = ("compounds", "normality")

    def __init__(
        self, hits: list[Hit], tokens: Tokens, text: str, compounds: tuple[CompoundEntry, ...]
    ) -> None:
        super().__init__(hits, tokens, text)
        self.compounds = compounds
        self.normality: list[Normality] = []

    # ---- the pass -----------------------------------------------------------------------------------------

    def run(self) -> list[Mention]:
        """Assign an assertion to every label of the caption."""
        for index, hit in enumerate(self.hits):
            mark = hit.mark
            for action in mark.actions:
                action(self, index, hit)
            if mark.mute:
                continue
            if hit.labels:
                self._mention(index, hit)
            if mark.modifiers:
                self._modifier(hit)
            if mark.heads:
                self._head(hit)
            if mark.judges:
                self._normal(index, hit)
        text = self.text
        if " -" in text or " N," in text or " N." in text or " N;" in text or text.endswith(" N"):
            self._signs()
        if "[" in text or "\u2610" in text:
            self._boxes()
        return self.mentions

    def _signs(self) -> None:
        """ "Effusion -, synovitis N": signs behind findings; hyphens are no tokens, so the text tells."""
        signs = list(_SIGN.finditer(self.text))
        if len(signs) == 1 and (signs[0][1] != "-" or not self._entry(signs[0].start())):
            return
        denied = {sign.start() for sign in signs if sign[1] in "-N"}
        for mention in self._findings():
            if self.tokens.ends[mention.last - 1] in denied:
                mention.assertion = "negated"

    def _entry(self, end: int) -> bool:
        """Whether the few words before `end` are an entry of their own: "gallstones -"."""
        return _ENTRY.search(self.text[max(0, end - _ENTRY_LENGTH) : end]) is not None

    def _boxes(self) -> None:
        """ "[ ] mass [x] cyst": what a worksheet offers and nobody ticked is not said."""
        for box in _BOX.finditer(self.text):
            end = _BOX_ENDS.search(self.text, box.end())
            stop = end.start() if end is not None else len(self.text)
            for mention in self._findings():
                if box.end() <= self.tokens.starts[mention.first] < stop:
                    mention.assertion = "other"

    def _findings(self) -> list[Mention]:
        return [
            m
            for m in self.mentions
            if m.assertion == "present" and not (m.item is not None and m.item.role in SITES)
        ]

    def _state(self, first: int) -> tuple[str, Hit | None]:
        if self.other is not None:
            return "other", self.other
        if self.past is not None:
            return "history", self.past
        unsaid = self.asked or self.hypothesis
        if unsaid is not None:
            return "other", unsaid
        if self.doubt is not None and not self.doubt_paused:
            return "uncertain", self.doubt
        if self.negation is not None and not self.suspended and first < self.negation_limit:
            return "negated", self.negation
        return "present", None

    def _mention(self, index: int, hit: Hit) -> None:
        assertion, cue = self._state(hit.first)
        plain = assertion == "present" and self.past_adverb is None
        adjectival = False
        for said in hit.labels:
            item = said[0]
            verdict, by = assertion, cue
            if item.role in SITES:
                if self.landmark is not None or not plain:
                    if item.region and assertion == "uncertain":
                        verdict = "present"
                    else:
                        verdict, by = self._site(index, hit, assertion, cue)
                if verdict == "present" and in_key(self.tokens, self.text, hit.first, hit.last):
                    verdict = "other"
            elif not plain:
                verdict, by = self._finding(item, hit.first, assertion, cue)
            mention = Mention(hit.first, hit.last, self.sentence, verdict, said)
            if by is not None:
                mention.cue = (by.first, by.last)
            self.mentions.append(mention)
            adjectival = adjectival or item.adjectival
        if adjectival:
            self._comparison(hit)
        else:
            self.past_adverb = None
        if assertion == "uncertain" and cue is not None and cue.last == hit.first:
            self._adverb(index, hit, cue)

    def _adverb(self, index: int, hit: Hit, cue: Hit) -> None:
        """ "A possibly calcified nodule": the adverb doubts its adjective, not the nodule."""
        if self.tokens.words[cue.last - 1] not in _ADVERBS or hit.labels[0][0].role != "descriptor":
            return
        following = direction.following_hit(self.hits, index)
        if following is not None and following.first == hit.last and following.labels:
            self.end_doubt()

    def _finding(self, item: Item, first: int, assertion: str, cue: Hit | None) -> tuple[str, Hit | None]:
        if assertion == "uncertain" and self.doubt_nouns_only and item.role == "descriptor":
            return self._without_doubt(first)
        if assertion == "negated" and first == self.shared_at and item.role == "finding":
            return "present", None  # "a solid rather than cystic mass"
        if assertion == "present" and self.past_adverb is not None and item.adjectival:
            return "history", self.past_adverb
        return assertion, cue

    def _site(self, index: int, hit: Hit, assertion: str, cue: Hit | None) -> tuple[str, Hit | None]:
        """Sites are the topic: never denied, and not labelled where they only place something else."""
        if assertion in ("other", "history") and cue is not self.hypothesis and cue is not self.asked:
            return assertion, cue
        alike = self.landmark is not None and self.landmark is self.hypothesis
        if self.landmark is not None and (alike or not self.qualifies(index, hit)):
            return "other", self.landmark
        if assertion != "uncertain" or not self.doubt_sites or self.doubt_nouns_only:
            return "present", None
        if self.trails(hit) or (cue is not None and self.comma_at >= cue.last and not self.doubt_list):
            return "present", None
        return ("present", None) if self._looked_at(index, hit) else (assertion, cue)

    def _looked_at(self, index: int, hit: Hit) -> bool:
        """ "Possible liver lesion", "likely normal appendix": the site itself is in no doubt."""
        if index and "words" in self.hits[index - 1].mark.normals:
            return True
        if "disease" not in hit.mark.normals:  # "a possible umbilical hernia" holds both
            following = direction.following_hit(self.hits, index)
            if following is None or following.first != hit.last or "abnormal" not in following.mark.normals:
                return False
        said = self.mentions[max(self.clause, len(self.mentions) - REACH) :]
        # but "a mass, possibly a liver lesion" may come from elsewhere
        return not any(m.item is not None and m.item.role == "finding" for m in said)

    def _without_doubt(self, first: int) -> tuple[str, Hit | None]:
        if self.negation is not None and not self.suspended and first < self.negation_limit:
            return "negated", self.negation
        return "present", None

    def _comparison(self, hit: Hit) -> None:
        """An echogenicity "to" or "as" an organ compares with it."""
        words = self.tokens.words
        at = hit.last
        if at < len(words) and (words[at] in ("to", "as", "than", "relative") or words[at - 1] == "to"):
            self.landmark = hit

    # ---- compounds ----------------------------------------------------------------------------------------

    def _modifier(self, hit: Hit) -> None:
        own = self.mentions[-1] if self.mentions and self.mentions[-1].first == hit.first else None
        head = self.pending_head
        if head is not None and head.head is not None:
            for i in hit.mark.modifiers:
                rule = self.compounds[i]
                if rule.heads != head.head or rule.order == "before":
                    continue
                if hit.first - head.last <= rule.gap + (self.verb_at > head.first) * _SPAN:
                    if own is not None and own.item is not None and own.item.label != rule.label:
                        own.assertion = "other"
                    self._compound(i, head.first, hit.last, hit)
                    if self.tokens.words[hit.last : hit.last + 1] not in (["nor"], ["or"]):
                        head.head = ""
                    self.pending_modifier = None
                    return
        self.pending_modifier = (len(self.mentions), hit, own)

    def _head(self, hit: Hit) -> None:
        pending = self.pending_modifier
        for name in hit.mark.heads:
            if pending is not None:
                _, modifier, own = pending
                denied = self.negation is not None and self.negation.first >= modifier.last
                for i in () if denied else modifier.mark.modifiers:
                    rule = self.compounds[i]
                    if rule.heads == name and rule.order != "after" and hit.first - modifier.last <= rule.gap:
                        if own is not None and own.item is not None and own.item.label != rule.label:
                            own.assertion = "other"
                        self._compound(i, modifier.first, hit.last, modifier)
                        return
            assertion, cue = self._state(hit.first)
            mention = Mention(hit.first, hit.last, self.sentence, assertion)
            mention.head = name
            mention.cue = (cue.first, cue.last) if cue is not None else None
            self.mentions.append(mention)
            self.pending_head = mention

    def _compound(self, rule: int, first: int, last: int, at: Hit) -> None:
        assertion, cue = self._state(at.first)
        mention = Mention(first, last, self.sentence, assertion)
        mention.modifier = rule
        mention.cue = (cue.first, cue.last) if cue is not None else None
        self.mentions.append(mention)

    def _normal(self, index: int, hit: Hit) -> None:
        roles = hit.mark.normals
        assertion, cue = self._state(hit.first)
        self.normality.append(Normality(index, roles, self.sentence, assertion))
        if "abnormal" in roles and self.looked_back is not hit:  # "ascites is absent" is no absent organ
            mention = Mention(hit.first, hit.last, self.sentence, assertion)
            mention.abnormal = True
            mention.cue = (cue.first, cue.last) if cue is not None else None
            self.mentions.append(mention)
