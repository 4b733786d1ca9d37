"""Assertion: which findings a caption affirms, denies, doubts, or only refers to.

One sweep over the phrases of a caption, after the idea of ConText (Harkema et al., J Biomed Inform 2009): a
cue
opens a scope, a terminator closes it, a cue that stands after its finding looks back. The sweep visits every
phrase once, so it is linear in the caption.
"""

from __future__ import annotations

from usds.taxonomy.document import CompoundEntry
from usds.taxonomy.keys import in_key
from usds.taxonomy.lexicon import Hit, Item
from usds.taxonomy.mentions import Mention, Normality
from usds.taxonomy.normalise import Tokens
from usds.taxonomy.scopes import SHORT, Scopes

__all__ = ["Sweep"]

_DEFINITE = frozenset(["the", "this", "these", "that", "it", "its"])
_EXCLUSION = frozenset(["excluded", "ruled"])
_SITES = ("site", "system")
_ADVERBS = frozenset(["possibly", "probably", "questionably", "perhaps", "potentially", "presumably"])
_SPAN = 2  # further tokens that a compound may span over a verb: "flow in both testes is normal"


class Sweep(Scopes):
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
        return self.mentions

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
            if item.role in _SITES:
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
        following = self.hits[index + 1] if index + 1 < len(self.hits) else None
        if following is not None and following.first == hit.last and following.labels:
            self.end_doubt()

    def _finding(self, item: Item, first: int, assertion: str, cue: Hit | None) -> tuple[str, Hit | None]:
        if assertion == "uncertain" and self.doubt_nouns_only and item.role == "descriptor":
            return self._without_doubt(first)
        if assertion == "present" and self.past_adverb is not None and item.adjectival:
            return "history", self.past_adverb
        return assertion, cue

    def _site(self, index: int, hit: Hit, assertion: str, cue: Hit | None) -> tuple[str, Hit | None]:
        """Sites are the topic: never denied, and not labelled where they only say where something else
        lies."""
        if assertion in ("other", "history") and cue is not self.hypothesis and cue is not self.asked:
            return assertion, cue
        if self.landmark is not None and not self.qualifies(index, hit):
            return "other", self.landmark
        if assertion != "uncertain" or not self.doubt_sites or self.doubt_nouns_only:
            return "present", None
        if self.trails(hit) or (cue is not None and self.comma_at >= cue.last and not self.doubt_list):
            return "present", None
        return assertion, cue

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
        if "abnormal" in roles:
            mention = Mention(hit.first, hit.last, self.sentence, assertion)
            mention.abnormal = True
            mention.cue = (cue.first, cue.last) if cue is not None else None
            self.mentions.append(mention)

    # ---- cues ---------------------------------------------------------------------------------------------

    def on_negation(self, index: int, hit: Hit) -> None:
        if self.answers(hit):
            self.on_negation_after(index, hit)
            return
        self.end_negation()
        self.negation = hit

    def on_category(self, index: int, hit: Hit) -> None:
        """A reporting category is stated, whatever it says about the finding."""
        del index, hit
        self.end_doubt()
        self.end_negation()

    def on_negation_short(self, index: int, hit: Hit) -> None:
        if self.negation is None or hit.first >= self.negation_limit:
            self.on_negation(index, hit)
            self.negation_limit = hit.last + SHORT

    def on_negation_prefix(self, index: int, hit: Hit) -> None:
        """ "Non-shadowing": the prefix denies the word that carries it and nothing after it."""
        if self.negation is None or hit.first >= self.negation_limit:
            self.on_negation(index, hit)
            self.negation_limit = hit.last + (self.tokens.words[hit.first] == "non")

    def on_uncertain(self, index: int, hit: Hit) -> None:
        if self.denied_doubt(hit):
            return
        if self.closes(hit):
            self.on_uncertain_after(index, hit)
            return
        self.end_doubt()
        self.doubt = hit
        self.landmark = None

    def on_uncertain_clause(self, index: int, hit: Hit) -> None:
        """ "It is unclear if the collection contains septa": what is said of the collection is in doubt."""
        words = self.tokens.words
        if hit.last < len(words) and words[hit.last] in _DEFINITE:
            self.predicate_doubt = hit
        else:
            self.on_uncertain_list(index, hit)

    def on_asked_after(self, index: int, hit: Hit) -> None:
        """ "A mass should be excluded": asked for, not found."""
        del index
        self.on_after(hit, "other")
        self.new_subject()

    def on_uncertain_list(self, index: int, hit: Hit) -> None:
        self.on_uncertain(index, hit)
        self.doubt_list = True

    def on_asked(self, index: int, hit: Hit) -> None:
        """ "Indication: rule out abscess." is a question, not an answer."""
        del index
        self.asked = hit

    def on_past(self, index: int, hit: Hit) -> None:
        del index
        self.past = hit

    def on_past_adverb(self, index: int, hit: Hit) -> None:
        del index
        self.past_adverb = hit

    def on_hypothesis(self, index: int, hit: Hit) -> None:
        del index
        self.hypothesis = hit

    def on_generic(self, index: int, hit: Hit) -> None:
        """ "An abscess can mimic a tumour" is about no image; "the cyst can mimic" is about this."""
        start = self.sentence_starts[-1]
        subject = self.mentions[self.subject :]
        if subject and (subject[0].first == start or self.tokens.words[start] in ("a", "an")):
            for mention in subject:
                mention.assertion = "other"
        self.on_hypothesis(index, hit)

    def on_landmark(self, index: int, hit: Hit) -> None:
        del index
        if self.negation is not None and self.since(self.negation):
            self.suspended = True
        if self.doubt is not None and self.since(self.doubt):
            self.doubt_paused = not self.doubt_list
        self.landmark = hit

    def on_ultrasound(self, index: int, hit: Hit) -> None:
        del index
        self.other = None
        self.sentence_has_ultrasound = True
        self.last_ultrasound = hit.last

    def on_other_modality(self, index: int, hit: Hit) -> None:
        del index
        # "on ultrasound and CT": one statement about both
        if hit.first - self.last_ultrasound > 2:
            self.other = hit

    def on_after(self, hit: Hit, assertion: str) -> None:
        """A cue that stands after its finding: look back over the subject of the clause."""
        if self.other_subject(hit):
            return
        start = (
            self.subject
            if self.conjunction or self.comma >= len(self.mentions)
            else max(self.subject, self.comma)
        )
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
        for mention in self.mentions[start:stop]:
            descriptors = whole or (asks and mention.last == hit.first)
            self._mark_after(mention, hit, assertion, descriptors)

    def _mark_after(self, mention: Mention, hit: Hit, assertion: str, descriptors: bool) -> None:
        role = mention.item.role if mention.item is not None else "finding"
        if assertion == "negated" and role in ("site", "system"):
            return
        if assertion == "uncertain" and (
            role in ("site", "system") or (role == "descriptor" and not descriptors)
        ):
            return
        if assertion == "negated" and mention.assertion == "other":
            return
        if assertion == "uncertain" and mention.assertion == "other":
            return
        mention.assertion = assertion
        mention.cue = (hit.first, hit.last)

    def on_negation_after(self, index: int, hit: Hit) -> None:
        del index
        self.on_after(hit, "negated")
        self.new_subject()

    def on_uncertain_after(self, index: int, hit: Hit) -> None:
        del index
        self.on_after(hit, "uncertain")
        self.new_subject()

    def on_versus(self, index: int, hit: Hit) -> None:
        following, reach = hit.first, SHORT
        doubted: set[str] = set()
        for mention in reversed(self.mentions[self.subject :]):
            if following - mention.last > reach:
                break
            label = mention.item.label if mention.item is not None else ""
            if label in doubted and following > mention.last:
                break  # "a mass, myxoma versus thrombus": the mass itself is in no doubt
            if label:
                doubted.add(label)
            following, reach = mention.first, 1  # further terms only where they join: "cyst, abscess versus"
            beside = (
                mention.last == hit.first and mention.item is not None and mention.item.role == "descriptor"
            )
            finding = mention.item is not None and mention.item.role == "finding"
            if (finding or beside) and mention.assertion == "present":
                mention.assertion = "uncertain"
                mention.cue = (hit.first, hit.last)
        self.on_uncertain(index, hit)

    def on_question(self, index: int, hit: Hit) -> None:
        starts, ends = self.tokens.starts, self.tokens.ends
        at = hit.first
        after = starts[at + 1] if at + 1 < len(starts) else len(self.text)
        touches_next = after == ends[at] and at + 1 < len(starts)
        apart_before = at == 0 or starts[at] > ends[at - 1]
        if touches_next or (apart_before and at + 1 < len(starts)):
            self.on_uncertain(index, hit)
        else:
            self.on_after(hit, "uncertain")
            self.on_stop(index, hit)
