"""Lists and alternatives: how far a cue reaches over commas, "and" and "or"."""

from __future__ import annotations

from usds.taxonomy import direction
from usds.taxonomy.lexicon import Hit, Item
from usds.taxonomy.mentions import Mention
from usds.taxonomy.scopes import ARTICLES, LABELS, Scopes

__all__ = ["Coordination"]

_AHEAD = 14  # phrases that are looked at to see whether a list goes on
_LIST_ENDS = frozenset(
    ["period", "stop", "semicolon", "but", "break", "verb", "with", "comma_with", "negation"]
)
_NO_ALTERNATIVE = frozenset(
    ["without", "more", "less", "not", "so", "other", "in", "on", "at", "with"]
)  # "cysts or more"
_ITEM_ENDS = _LIST_ENDS | {"in", "landmark", "uncertain", "uncertain_either"}
_LIST = 12  # mentions in which the thing that a list of names stands for is looked for
_QUANTITIES = frozenset(
    ["small", "moderate", "large", "trace", "minimal", "mild", "tiny", "some", "single", "multiple", "few"]
) | {"several", "little", "two", "three"}


class Coordination(Scopes):
    """Scopes that go on over lists."""

    __slots__ = ()

    def on_comma(self, index: int, hit: Hit) -> None:
        self.comma_at = hit.first
        self.landmark = None
        self.hypothesis = None
        self.past_adverb = None
        self.pending_head = None
        following = direction.following_hit(self.hits, index)
        pending = self.pending_modifier
        # "Increased, chaotic flow" goes on behind the comma, "index elevated, flow present" does not.
        if pending is not None and (
            pending[1].last != hit.first
            or (following is not None and following.mark.heads and following.first == hit.last)
        ):
            self.pending_modifier = None
        continues = self.list_goes_on(index)
        if continues == "or":
            self.deny_on(index)
        if self.past is not None and not continues:
            self.past = None
        if self.doubt is not None and not self.doubt_list:
            if continues:
                self.doubt_nouns_only = True
            elif self.since(self.doubt):
                self.end_doubt()
        denial = self.negation
        if denial is not None and (
            not self.negation_goes_on(index, continues) if self.since(denial) else self._amount_follows(hit)
        ):
            self.end_negation()  # also in "no hydronephrosis, small cyst"
        self.comma = len(self.mentions)
        self.conjunction = False

    def on_break(self, index: int, hit: Hit) -> None:
        """ "A cyst, an abscess, or a tumour": an article behind a comma may begin an item."""
        if self.doubt is not None and self.doubt.last == hit.first:
            return  # "or, less likely, an abscess"
        if (self.negation is not None or self.doubt is not None) and self._item_follows(index, hit):
            self.on_comma(index, hit)
        else:
            self.on_clause(index, hit)

    def _item_follows(self, index: int, hit: Hit) -> bool:
        words = self.tokens.words
        if words[hit.first] != "," or words[hit.last - 1] not in ARTICLES:
            return False
        listed = self.doubt is not None and self.doubt_list
        ended = words[hit.first + 1] == "and"
        for following in self.hits[index + 1 : index + 1 + _AHEAD]:
            for cue in following.mark.cues:
                if cue == "break" and words[following.last - 1] in ARTICLES:
                    ended = ended or "and" in words[following.first : following.last]
                elif cue in ("period", "stop", "semicolon"):
                    return listed and ended
                elif cue in _ITEM_ENDS:
                    return False
                elif cue == "or" and not ended:
                    return True
                elif cue == "and":
                    ended = True
        return listed and ended

    def on_and(self, index: int, hit: Hit) -> None:
        del hit
        self.conjunction = True
        if self.past_adverb is not None and not self.since(self.past_adverb):
            self.past_adverb = None  # "loss of stratification and echogenic fat"
        doubt = self.doubt
        if doubt is not None and not self.doubt_list and self.since(doubt) and self.changes_kind(index):
            self.end_doubt()
        if self.negation is None or not self.since(self.negation):
            return
        if self.verb_in_negation or self.suspended or self.changes_kind(index):
            self.end_negation()

    def on_or(self, index: int, hit: Hit) -> None:
        self.deny_on(index)
        if self.alternative(index, hit):
            first = self.mentions[-1].first
            for mention in self.mentions[-LABELS:]:
                if mention.first == first and mention.item is not None and mention.item.role == "finding":
                    mention.assertion = "uncertain"
                    mention.cue = (hit.first, hit.last)
            self.doubt = hit
            self.doubt_sites = False
        elif self.second_alternative(index, hit):
            self.doubt = hit
        self.conjunction = True
        self.suspended = False
        self.doubt_paused = False

    def deny_on(self, index: int) -> None:
        """ "No internal echoes or septa": a label that holds "no" lends it to its list."""
        before = self.hits[index - 1] if index else None
        if before is None or not before.labels or before.last != self.hits[index].first:
            return
        if self.tokens.words[before.first] in ("no", "without"):
            self.end_negation()
            self.negation = before

    def alternative(self, index: int, hit: Hit) -> bool:
        """ "A collection or a bowel loop": one of the two, and none of them sure."""
        words = self.tokens.words
        last = self.mentions[-1] if self.mentions else None
        if last is None or last.last != hit.first or last.assertion != "present" or last.item is None:
            return False
        if words[hit.first] != "or" or last.item.role != "finding" or words[hit.last : hit.last + 1] == []:
            return False
        other = self.next_item(index)
        if other is not None and other.label == last.item.label and not self._named_twice(last):
            return False  # "haematoma or abscess": a fluid collection either way
        return words[hit.last].isalpha() and words[hit.last] not in _NO_ALTERNATIVE

    def _named_twice(self, last: Mention) -> bool:
        """ "A mass, lymphoma or thymoma": the mass is sure, its names are not."""
        label = last.item.label if last.item is not None else ""
        return any(
            m.item is not None and m.item.label == label and m.first != last.first
            for m in self.mentions[max(self.clause, len(self.mentions) - _LIST) :]
        )

    def second_alternative(self, index: int, hit: Hit) -> bool:
        """ "Hyperplasia, polyp or carcinoma": the first has no label, and the second is no surer."""
        words = self.tokens.words
        following = direction.following_hit(self.hits, index)
        if following is None or following.first != hit.last or words[hit.first] != "or" or not hit.first:
            return False
        labelled = self.mentions[-1] if self.mentions else None
        if labelled is not None and labelled.last == hit.first and labelled.item is not None:
            return False
        open_scope = self.doubt is not None or self.negation is not None
        named = words[hit.first - 1].isalpha() and any(item.role == "finding" for item, _ in following.labels)
        return named and not open_scope

    def list_goes_on(self, index: int) -> str:
        """The conjunction that ends the list after this comma, or an empty string."""
        for hit in self.hits[index + 1 : index + 1 + _AHEAD]:
            for cue in hit.mark.cues:
                if cue in ("or", "and"):
                    return cue
                if cue in _LIST_ENDS:
                    return ""
        return ""

    def negation_goes_on(self, index: int, conjunction: str) -> bool:
        if self.verb_in_negation and conjunction != "or":
            return False
        if conjunction == "or":
            return True
        if conjunction == "and":
            return not self.changes_kind(index)
        if self._amount_follows(self.hits[index]):
            return False  # "no mass, small effusion"
        upcoming = self.next_item(index)
        last = self.mentions[-1].item if self.mentions else None
        return upcoming is not None and last is not None and upcoming.dimension == last.dimension

    def _amount_follows(self, hit: Hit) -> bool:
        words = self.tokens.words
        return hit.last < len(words) and words[hit.last] in _QUANTITIES

    def changes_kind(self, index: int) -> bool:
        """Whether the next label is an adjective where the denied one was a noun: a new statement."""
        upcoming = self.next_item(index)
        last = self.mentions[-1].item if self.mentions else None
        return upcoming is not None and upcoming.adjectival and not (last is not None and last.adjectival)

    def next_item(self, index: int) -> Item | None:
        for hit in self.hits[index + 1 : index + 1 + _AHEAD]:
            if hit.labels:
                return hit.labels[0][0]
        return None
