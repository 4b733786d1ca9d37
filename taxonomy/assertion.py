"""Assertion: which findings a caption affirms, denies, doubts, or only refers to.

One sweep over the phrases of a caption, after the idea of ConText (Harkema et al., J Biomed Inform 2009): a cue
opens a scope, a terminator closes it, a cue that stands after its finding looks back. Scopes never cross a
sentence. The sweep visits every phrase once, so it is linear in the caption.
"""

from __future__ import annotations

from dataclasses import dataclass

from .document import CompoundEntry
from .lexicon import Hit, Item
from .normalise import Tokens
from .udt import Form

__all__ = ["Mention", "Sweep"]

_ABBREVIATED = frozenset(["fig", "figs", "dr", "prof", "approx", "vs", "al", "ca", "cf", "resp", "st", "mr", "mrs"])
_NEAR = 3  # tokens between a verb and the cue it belongs to ("is no longer seen")
_KEY_FILLERS = frozenset(["left", "right", "the", "distal", "proximal", "common", "normal", "upper", "lower"])
_SHORT = 6  # tokens that a bare "not" reaches
_AHEAD = 14  # phrases that are looked at to see whether a list goes on


@dataclass(slots=True)
class Mention:
    """One label found at one place, with what the caption says about it.

    `first` and `last` are the half-open token span; `head` names the group of a bare head word such as "flow",
    which is no label until a rule makes one of it; `abnormal` marks a word that forbids normal appearance.
    """

    first: int
    last: int
    sentence: int
    assertion: str
    item: Item | None = None
    form: Form | None = None
    cue: tuple[int, int] | None = None
    head: str | None = None
    abnormal: bool = False
    method: str = ""
    rule_id: str = ""
    score: float = 100.0
    modifier: int = -1


@dataclass(slots=True)
class Normality:
    """A word about normality, for the rules of normal appearance."""

    hit: int
    roles: list[str]
    sentence: int
    state: str


class Sweep:
    """State of one pass; use :meth:`run` once."""

    def __init__(self, hits: list[Hit], tokens: Tokens, text: str, compounds: tuple[CompoundEntry, ...]) -> None:
        self.hits = hits
        self.tokens = tokens
        self.text = text
        self.compounds = compounds
        self.mentions: list[Mention] = []
        self.normality: list[Normality] = []
        self.sentence = 0
        self.sentence_starts = [0]
        self.other: Hit | None = None
        self.sentence_has_ultrasound = False
        self.last_ultrasound = -99
        self._new_clause()

    # ---- scopes -------------------------------------------------------------------------------------------

    def _new_clause(self) -> None:
        self.negation: Hit | None = None
        self.negation_limit = 1 << 60
        self.suspended = False
        self.verb_in_negation = False
        self.doubt: Hit | None = None
        self.doubt_list = False
        self.doubt_nouns_only = False
        self.doubt_sites = True
        self.doubt_paused = False
        self.past: Hit | None = None
        self.past_adverb: Hit | None = None
        self.hypothesis: Hit | None = None
        self.landmark: Hit | None = None
        self._new_subject()

    def _new_subject(self) -> None:
        self.subject = len(self.mentions)
        self.comma = len(self.mentions)
        self.conjunction = False
        self.preposition: int | None = None
        self.pending_modifier: tuple[int, Hit, Mention | None] | None = None
        self.pending_head: Mention | None = None

    def _end_negation(self) -> None:
        self.negation = None
        self.suspended = False
        self.verb_in_negation = False
        self.negation_limit = 1 << 60

    def _end_doubt(self) -> None:
        self.doubt = None
        self.doubt_list = False
        self.doubt_nouns_only = False
        self.doubt_sites = True
        self.doubt_paused = False

    # ---- the pass -----------------------------------------------------------------------------------------

    def run(self) -> list[Mention]:
        """Assign an assertion to every label of the caption."""
        handlers = _HANDLERS
        for index, hit in enumerate(self.hits):
            mark = hit.mark
            for cue in mark.cues:
                handler = handlers.get(cue)
                if handler is not None:
                    handler(self, index, hit)
            if mark.ignore:
                continue
            if hit.labels:
                self._mention(hit)
            if mark.modifiers:
                self._modifier(hit)
            if mark.heads:
                self._head(hit)
            if mark.normals:
                self._normal(index, hit)
        return self.mentions

    def _state(self, first: int) -> tuple[str, Hit | None]:
        if self.other is not None:
            return "other", self.other
        if self.past is not None:
            return "history", self.past
        if self.hypothesis is not None:
            return "other", self.hypothesis
        if self.doubt is not None and not self.doubt_paused:
            return "uncertain", self.doubt
        if self.negation is not None and not self.suspended and first < self.negation_limit:
            return "negated", self.negation
        return "present", None

    def _mention(self, hit: Hit) -> None:
        assertion, cue = self._state(hit.first)
        landmark_next = False
        for item, form in hit.labels:
            verdict, by = assertion, cue
            if item.role in ("site", "system"):
                verdict, by = self._site(assertion, cue)
                if verdict == "present" and self._in_key(hit.first, hit.last):
                    verdict = "other"
            elif assertion == "uncertain" and self.doubt_nouns_only and item.role == "descriptor":
                verdict, by = self._without_doubt(hit.first)
            elif assertion == "present" and self.past_adverb is not None and item.adjectival:
                verdict, by = "history", self.past_adverb
            self.mentions.append(
                Mention(
                    hit.first,
                    hit.last,
                    self.sentence,
                    verdict,
                    item,
                    form,
                    (by.first, by.last) if by is not None else None,
                    method=item.method,
                    rule_id=item.rule_id,
                )
            )
            landmark_next = landmark_next or item.adjectival
        if landmark_next:
            self._comparison(hit)
        else:
            self.past_adverb = None

    def _in_key(self, first: int, last: int) -> bool:
        """Whether a site only explains an abbreviation: "RV: right ventricle", "CCA, carotid artery; ..."."""
        words, starts, ends = self.tokens.words, self.tokens.starts, self.tokens.ends
        if last - first == 1 and last < len(words) and words[last] in (":", "=", ",") and first:
            opens = words[first - 1] in (";", ".") or (words[first - 1] == "," and words[last] != ",")
            if opens and self.text[starts[first] : ends[first]].isupper():
                return True
        at = first - 1
        while at > first - 4 and at >= 0 and words[at] in _KEY_FILLERS:
            at -= 1
        if at < 1 or words[at] not in (":", "=", ","):
            return False
        short = self.text[starts[at - 1] : ends[at - 1]]
        if words[at] == "=":
            return len(short) <= 6
        if not (len(short) <= 5 and short.isupper() and short.isalpha()) and not (len(short) == 2 and short[0].isupper()):
            return False
        return words[at] == ":" or at < 2 or words[at - 2] in (";", ".", ")")

    def _site(self, assertion: str, cue: Hit | None) -> tuple[str, Hit | None]:
        """Sites are the topic: never denied, and not labelled where they only say where something else lies."""
        if assertion in ("other", "history") and cue is not self.hypothesis:
            return assertion, cue
        if self.landmark is not None:
            return "other", self.landmark
        if assertion == "uncertain" and self.doubt_sites and not self.doubt_nouns_only:
            return assertion, cue
        return "present", None

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
                if rule.heads == head.head and rule.order != "before" and hit.first - head.last <= rule.gap:
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
                for i in modifier.mark.modifiers:
                    rule = self.compounds[i]
                    if rule.heads == name and rule.order != "after" and hit.first - modifier.last <= rule.gap:
                        if own is not None and own.item is not None and own.item.label != rule.label:
                            own.assertion = "other"
                        self._compound(i, modifier.first, hit.last, modifier)
                        return
            assertion, cue = self._state(hit.first)
            mention = Mention(hit.first, hit.last, self.sentence, assertion, head=name)
            mention.cue = (cue.first, cue.last) if cue is not None else None
            self.mentions.append(mention)
            self.pending_head = mention

    def _compound(self, rule: int, first: int, last: int, at: Hit) -> None:
        assertion, cue = self._state(at.first)
        mention = Mention(first, last, self.sentence, assertion, modifier=rule, method="exact")
        mention.cue = (cue.first, cue.last) if cue is not None else None
        self.mentions.append(mention)

    def _normal(self, index: int, hit: Hit) -> None:
        roles = hit.mark.normals
        assertion, cue = self._state(hit.first)
        self.normality.append(Normality(index, roles, self.sentence, assertion))
        if "abnormal" in roles:
            mention = Mention(hit.first, hit.last, self.sentence, assertion, abnormal=True)
            mention.cue = (cue.first, cue.last) if cue is not None else None
            self.mentions.append(mention)

    # ---- cues ---------------------------------------------------------------------------------------------

    def _on_negation(self, index: int, hit: Hit) -> None:
        del index
        self._end_negation()
        self.negation = hit

    def _on_negation_short(self, index: int, hit: Hit) -> None:
        if self.negation is None:
            self._on_negation(index, hit)
            self.negation_limit = hit.last + _SHORT

    def _on_uncertain(self, index: int, hit: Hit) -> None:
        del index
        self._end_doubt()
        self.doubt = hit
        self.landmark = None

    def _on_uncertain_list(self, index: int, hit: Hit) -> None:
        self._on_uncertain(index, hit)
        self.doubt_list = True

    def _on_past(self, index: int, hit: Hit) -> None:
        del index
        self.past = hit

    def _on_past_adverb(self, index: int, hit: Hit) -> None:
        del index
        self.past_adverb = hit

    def _on_hypothesis(self, index: int, hit: Hit) -> None:
        del index
        self.hypothesis = hit

    def _on_landmark(self, index: int, hit: Hit) -> None:
        del index
        if self.negation is not None and self._since(self.negation):
            self.suspended = True
        self.landmark = hit

    def _on_ultrasound(self, index: int, hit: Hit) -> None:
        del index
        self.other = None
        self.sentence_has_ultrasound = True
        self.last_ultrasound = hit.last

    def _on_other_modality(self, index: int, hit: Hit) -> None:
        del index
        # "on ultrasound and CT": one statement about both
        if hit.first - self.last_ultrasound > 2:
            self.other = hit

    def _on_after(self, hit: Hit, assertion: str) -> None:
        """A cue that stands after its finding: look back over the subject of the clause."""
        start = self.subject if self.conjunction or self.comma >= len(self.mentions) else max(self.subject, self.comma)
        stop = self.preposition if self.preposition is not None and self.preposition > start else len(self.mentions)
        if start >= len(self.mentions) and self.mentions and self.mentions[-1].sentence == self.sentence:
            start, stop = len(self.mentions) - 1, len(self.mentions)
        for mention in self.mentions[start:stop]:
            self._mark_after(mention, hit, assertion)

    def _mark_after(self, mention: Mention, hit: Hit, assertion: str) -> None:
        role = mention.item.role if mention.item is not None else "finding"
        if assertion == "negated" and role in ("site", "system"):
            return
        if assertion == "uncertain" and role in ("site", "system", "descriptor"):
            return
        if assertion == "negated" and mention.assertion not in ("present", "history"):
            return
        if assertion == "uncertain" and mention.assertion == "other":
            return
        mention.assertion = assertion
        mention.cue = (hit.first, hit.last)

    def _on_negation_after(self, index: int, hit: Hit) -> None:
        del index
        self._on_after(hit, "negated")
        self._new_subject()

    def _on_uncertain_after(self, index: int, hit: Hit) -> None:
        del index
        self._on_after(hit, "uncertain")
        self._new_subject()

    def _on_versus(self, index: int, hit: Hit) -> None:
        for mention in reversed(self.mentions[self.subject :]):
            if hit.first - mention.last > _SHORT:
                break
            if mention.item is not None and mention.item.role == "finding" and mention.assertion == "present":
                mention.assertion = "uncertain"
                mention.cue = (hit.first, hit.last)
        self._on_uncertain(index, hit)

    def _on_question(self, index: int, hit: Hit) -> None:
        starts, ends = self.tokens.starts, self.tokens.ends
        at = hit.first
        after = starts[at + 1] if at + 1 < len(starts) else len(self.text)
        touches_next = after == ends[at] and at + 1 < len(starts)
        apart_before = at == 0 or starts[at] > ends[at - 1]
        if touches_next or (apart_before and at + 1 < len(starts)):
            self._on_uncertain(index, hit)
        else:
            self._on_after(hit, "uncertain")
            self._on_stop(index, hit)

    # ---- terminators --------------------------------------------------------------------------------------

    def _on_period(self, index: int, hit: Hit) -> None:
        at = hit.first
        words, starts, ends = self.tokens.words, self.tokens.starts, self.tokens.ends
        if at + 1 < len(words):
            before = words[at - 1] if at else ""
            glued = starts[at + 1] == ends[at]
            capital = self.text[starts[at + 1]].isupper()
            if glued and not capital:
                return
            if before in _ABBREVIATED or (len(before) == 1 and before.isalpha() and not capital):
                return
        self._on_stop(index, hit)

    def _on_stop(self, index: int, hit: Hit) -> None:
        del index
        self.sentence += 1
        self.sentence_starts.append(hit.last)
        if self.sentence_has_ultrasound and self.other is not None:
            self.other = None
        self.sentence_has_ultrasound = False
        self.last_ultrasound = -99
        self._new_clause()

    def _on_clause(self, index: int, hit: Hit) -> None:
        del index, hit
        self._new_clause()

    def _on_colon(self, index: int, hit: Hit) -> None:
        del index, hit
        self._end_doubt()
        self.past = None
        self.past_adverb = None
        self.hypothesis = None
        self.landmark = None
        self._end_negation()
        self._new_subject()

    def _on_and_the(self, index: int, hit: Hit) -> None:
        del index, hit
        self._end_negation()
        self._end_doubt()
        self.past = None
        self._new_subject()

    def _on_affirm(self, index: int, hit: Hit) -> None:
        del index, hit
        self._end_negation()
        self.landmark = None

    def _on_with(self, index: int, hit: Hit) -> None:
        del index
        self._end_doubt()
        self.past = None
        self.hypothesis = None
        self.past_adverb = None
        self.landmark = None
        if self.negation is not None and self.tokens.words[self.negation.first] == "without":
            self._end_negation()
        if self.preposition is None and len(self.mentions) > self.subject:
            self.preposition = len(self.mentions)
        self.comma = len(self.mentions)
        self.pending_head = None
        del hit

    def _on_comma_with(self, index: int, hit: Hit) -> None:
        self._on_with(index, hit)
        self._end_negation()

    def _on_verb(self, index: int, hit: Hit) -> None:
        following = self.hits[index + 1] if index + 1 < len(self.hits) else None
        if following is not None and following.first - hit.last <= _NEAR and _looks_back(following):
            return
        if self.doubt is not None and self._since(self.doubt):
            self._end_doubt()
        if self.past is not None and self._since(self.past):
            self.past = None
        self.hypothesis = None
        self.landmark = None
        self.past_adverb = None
        if self.negation is not None and self._since(self.negation):
            self.verb_in_negation = True
        head = self.pending_head
        self._new_subject()
        self.pending_head = head

    def _since(self, cue: Hit) -> bool:
        return bool(self.mentions) and self.mentions[-1].first >= cue.last

    def _on_in(self, index: int, hit: Hit) -> None:
        del index
        if self.negation is not None and self._since(self.negation):
            self.suspended = True
        if self.doubt is not None and self._since(self.doubt):
            self.doubt_sites = False
            self.doubt_paused = not self.doubt_list
        if self.landmark is not None and self.tokens.words[hit.first] in ("in", "within", "inside"):
            self.landmark = None
        if self.preposition is None and len(self.mentions) > self.subject:
            self.preposition = len(self.mentions)

    def _on_comma(self, index: int, hit: Hit) -> None:
        self.landmark = None
        self.hypothesis = None
        self.past_adverb = None
        self.pending_head = None
        if self.pending_modifier is not None and self.pending_modifier[1].last != hit.first:
            self.pending_modifier = None
        continues = self._list_goes_on(index)
        if self.past is not None and not continues:
            self.past = None
        if self.doubt is not None and not self.doubt_list:
            if continues:
                self.doubt_nouns_only = True
            elif self._since(self.doubt):
                self._end_doubt()
        if self.negation is not None and self._since(self.negation) and not self._negation_goes_on(index, continues):
            self._end_negation()
        self.comma = len(self.mentions)
        self.conjunction = False

    def _on_and(self, index: int, hit: Hit) -> None:
        del hit
        self.conjunction = True
        if self.negation is None or not self._since(self.negation):
            return
        if self.verb_in_negation or self.suspended or self._changes_kind(index):
            self._end_negation()

    def _on_or(self, index: int, hit: Hit) -> None:
        del index, hit
        self.conjunction = True
        self.suspended = False
        self.doubt_paused = False

    def _list_goes_on(self, index: int) -> str:
        """The conjunction that ends the list after this comma, or an empty string."""
        for hit in self.hits[index + 1 : index + 1 + _AHEAD]:
            for cue in hit.mark.cues:
                if cue in ("or", "and"):
                    return cue
                if cue in _LIST_ENDS:
                    return ""
        return ""

    def _negation_goes_on(self, index: int, conjunction: str) -> bool:
        if self.verb_in_negation and conjunction != "or":
            return False
        if conjunction == "or":
            return True
        if conjunction == "and":
            return not self._changes_kind(index)
        upcoming = self._next_item(index)
        last = self.mentions[-1].item if self.mentions else None
        return upcoming is not None and last is not None and upcoming.dimension == last.dimension

    def _changes_kind(self, index: int) -> bool:
        """Whether the next label is an adjective where the denied one was a noun: a new statement."""
        upcoming = self._next_item(index)
        last = self.mentions[-1].item if self.mentions else None
        return upcoming is not None and upcoming.adjectival and not (last is not None and last.adjectival)

    def _next_item(self, index: int) -> Item | None:
        for hit in self.hits[index + 1 : index + 1 + _AHEAD]:
            if hit.labels:
                return hit.labels[0][0]
        return None


_LIST_ENDS = frozenset(["period", "stop", "semicolon", "but", "break", "verb", "with", "comma_with", "negation"])
_AFTER = frozenset(["negation_after", "uncertain_after"])


def _looks_back(hit: Hit) -> bool:
    return any(cue in _AFTER for cue in hit.mark.cues)


_HANDLERS = {
    "negation": Sweep._on_negation,
    "negation_short": Sweep._on_negation_short,
    "negation_after": Sweep._on_negation_after,
    "uncertain": Sweep._on_uncertain,
    "uncertain_list": Sweep._on_uncertain_list,
    "uncertain_after": Sweep._on_uncertain_after,
    "versus": Sweep._on_versus,
    "history": Sweep._on_past,
    "history_adverb": Sweep._on_past_adverb,
    "family": Sweep._on_past,
    "hypothetical": Sweep._on_hypothesis,
    "landmark": Sweep._on_landmark,
    "but": Sweep._on_clause,
    "break": Sweep._on_clause,
    "and_the": Sweep._on_and_the,
    "affirm": Sweep._on_affirm,
    "with": Sweep._on_with,
    "comma_with": Sweep._on_comma_with,
    "verb": Sweep._on_verb,
    "in": Sweep._on_in,
    "and": Sweep._on_and,
    "or": Sweep._on_or,
    "comma": Sweep._on_comma,
    "semicolon": Sweep._on_clause,
    "colon": Sweep._on_colon,
    "stop": Sweep._on_stop,
    "period": Sweep._on_period,
    "question": Sweep._on_question,
    "ultrasound": Sweep._on_ultrasound,
    "other_modality": Sweep._on_other_modality,
}
