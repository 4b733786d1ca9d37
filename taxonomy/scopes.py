"""Scopes: how far a cue reaches, and what ends it.

State of one pass over the phrases of a caption. Scopes never cross a sentence; commas, conjunctions,
prepositions and verbs end them by the rules below.
"""

from __future__ import annotations

from usds.taxonomy import direction
from usds.taxonomy.lexicon import Hit
from usds.taxonomy.mentions import Mention
from usds.taxonomy.normalise import Tokens

__all__ = ["ARTICLES", "LABELS", "REACH", "SHORT", "SITES", "Scopes"]

SITES = ("site", "system")  # roles of dimensions that say where, not what
ARTICLES = frozenset(["a", "an", "the"])

SHORT = 6  # tokens that a bare "not" reaches, and that a look back spans
_NEAR = 3  # tokens between a verb and the cue it belongs to ("is no longer seen")
_ABBREVIATED = frozenset(
    ["fig", "figs", "dr", "prof", "approx", "vs", "al", "ca", "cf", "resp", "st", "mr", "mrs"]
)
_HEADINGS = frozenset(["absent", "none", "nil"])
_ORIGINS = frozenset(
    [
        "arises",
        "arise",
        "originates",
        "arising",
        "originating",
        "origin",
        "coming",
        "derived",
        "be",
        "located",
        "lie",
    ]
)
_JOINS = frozenset(["or", "and", "/", ",", "versus", "vs", "&", "+"])
LABELS = 4  # mentions that one phrase may give
REACH = 100  # mentions that a look back covers: more than any clause has, yet a bound for a text without end
_ELSEWHERE = ("metasta", "secondar")  # "metastases from breast carcinoma": another place


class Scopes:
    """Open scopes at the current place of a pass.

    Slots, since an instance with a dictionary finds more than 30 attributes slowly.
    """

    __slots__ = (
        *("hits", "tokens", "text", "mentions", "sentence", "sentence_starts", "clause", "comma_at"),
        *("other", "advised", "sentence_has_ultrasound", "last_ultrasound"),
        *("negation", "suspended", "verb_in_negation", "verb_at", "negation_limit", "shared_at"),
        *("doubt", "doubt_list", "doubt_nouns_only", "doubt_sites", "doubt_paused"),
        *("predicate_doubt", "predicate_negation", "past", "past_adverb", "asked", "hypothesis"),
        *("landmark", "looked_back", "looked_back_on_denial", "heading", "of_the"),
        *("subject", "comma", "conjunction", "preposition", "pending_modifier", "pending_head"),
    )

    def __init__(self, hits: list[Hit], tokens: Tokens, text: str) -> None:
        self.hits = hits
        self.tokens = tokens
        self.text = text
        self.mentions: list[Mention] = []
        self.sentence = 0
        self.sentence_starts = [0]
        self.other: Hit | None = None
        self.advised: Hit | None = None
        self.sentence_has_ultrasound = False
        self.last_ultrasound = -99
        self.comma_at = -99
        self.clause = 0
        self.heading: int | None = None
        self.end_negation()
        self.end_doubt()
        self.past: Hit | None = None
        self.past_adverb: Hit | None = None
        self.asked: Hit | None = None
        self.predicate_doubt: Hit | None = None
        self.predicate_negation: Hit | None = None
        self.looked_back: Hit | None = None
        self.looked_back_on_denial: Hit | None = None
        self.verb_at = -1
        self.hypothesis: Hit | None = None
        self.landmark: Hit | None = None
        self.new_subject()

    # ---- scopes -------------------------------------------------------------------------------------------

    def subject_start(self) -> int:
        """The first mention that a cue behind the subject speaks of."""
        # "It shows septa, and necrosis cannot be excluded": behind a verb the comma begins a statement.
        if (self.conjunction and self.verb_at < 0) or self.comma >= len(self.mentions):
            return self.subject
        return max(self.subject, self.comma)

    def new_clause(self) -> None:
        self.clause = len(self.mentions)
        self.heading = None
        if self.negation is not None:
            self.end_negation()
        if self.doubt is not None:
            self.end_doubt()
        self.past = None
        self.past_adverb = None
        self.hypothesis = None
        self.landmark = None
        self.new_subject()

    def new_subject(self) -> None:
        self.subject = self.comma = len(self.mentions)
        self.conjunction = False
        self.of_the: int | None = None
        self.preposition: int | None = None
        self.pending_modifier: tuple[int, Hit, Mention | None] | None = None
        self.pending_head: Mention | None = None

    def end_negation(self) -> None:
        self.negation: Hit | None = None
        self.suspended = False
        self.verb_in_negation = False
        self.negation_limit = 1 << 60
        self.shared_at = -1

    def end_doubt(self) -> None:
        self.doubt: Hit | None = None
        self.doubt_list = False
        self.doubt_nouns_only = False
        self.doubt_sites = True
        self.doubt_paused = False

    # ---- terminators --------------------------------------------------------------------------------------

    def on_period(self, index: int, hit: Hit) -> None:
        at = hit.first
        words = self.tokens.words
        if at + 1 < len(words):
            before = words[at - 1] if at else ""
            if self.tokens.touch(at) and not self._capital(at + 1):
                return
            if before in _ABBREVIATED or (
                len(before) == 1 and before.isalpha() and not self._capital(at + 1)
            ):
                return
        self.on_stop(index, hit)

    def _capital(self, at: int) -> bool:
        return self.text[self.tokens.starts[at]].isupper()

    def on_stop(self, index: int, hit: Hit) -> None:
        del index
        self.sentence += 1
        if self.other is not None and (self.sentence_has_ultrasound or self.other is self.advised):
            self.other = None  # what is only advised ends with its sentence
        self.asked = None
        self.predicate_doubt = None
        self.predicate_negation = None
        self.verb_at = -1
        self.sentence_starts.append(hit.last)
        self.sentence_has_ultrasound = False
        self.last_ultrasound = -99
        self.new_clause()

    def on_clause(self, index: int, hit: Hit) -> None:
        del hit
        if not self._aside(index):
            self.new_clause()

    def _aside(self, index: int) -> bool:
        """ "A hydrocele, however, was not seen": a word between commas inside one clause."""
        around = self.hits[index - 1 : index] + self.hits[index + 1 : index + 2]
        if len(around) < 2 or any("comma" not in hit.mark.cues for hit in around):
            return False
        following = direction.following_hit(self.hits, index + 1)
        if following is None:
            return False
        return "verb" in following.mark.cues or direction.looks_back(self.tokens.words, self.hits, index + 2)

    def on_colon(self, index: int, hit: Hit) -> None:
        del index
        heading = self._denying_heading(hit)
        self.end_doubt()
        if self.sentence_has_ultrasound:
            self.other = None
        self.past = None
        self.past_adverb = None
        self.hypothesis = None
        self.landmark = None
        self.end_negation()
        self.heading = self.subject_start()
        head = self.pending_head
        self.new_subject()
        if head is not None and head.last == hit.first:
            self.pending_head = head  # "margin: smooth"
        self.negation = heading
        if self.predicate_doubt is not None:
            self.start_predicate()
            self.doubt_list = True

    def _denying_heading(self, hit: Hit) -> Hit | None:
        """ "No longer seen: the collection", "absent: effusion"."""
        cue, gap = self.looked_back_on_denial, 1
        if self.negation is not None and self.tokens.words[self.negation.first] in _HEADINGS:
            cue, gap = self.negation, 0
        starts = cue is not None and cue.first == self.sentence_starts[-1]
        return cue if cue is not None and starts and hit.first - cue.last <= gap else None

    def on_and_the(self, index: int, hit: Hit) -> None:
        del index, hit
        self.end_negation()
        if not self.doubt_list:  # "the differential includes a cyst and a carcinoma"
            self.end_doubt()
        self.past = None
        self.new_subject()

    def on_affirm(self, index: int, hit: Hit) -> None:
        del index, hit
        self.end_negation()
        self.landmark = None

    def on_with(self, index: int, hit: Hit) -> None:
        del index
        self.end_doubt()
        self.past = None
        self.hypothesis = None
        self.past_adverb = None
        self.landmark = None
        if self.negation is not None and self.tokens.words[self.negation.first] == "without":
            self.end_negation()
        if self.preposition is None and len(self.mentions) > self.subject:
            self.preposition = len(self.mentions)
        self.comma = len(self.mentions)
        self.pending_head = None
        self.pending_modifier = None
        self.start_predicate()
        del hit

    def on_comma_with(self, index: int, hit: Hit) -> None:
        self.on_with(index, hit)
        self.end_negation()

    def on_verb(self, index: int, hit: Hit) -> None:
        following = direction.following_hit(self.hits, index)
        near = following is not None and following.first - hit.last <= _NEAR
        if near and direction.looks_back(self.tokens.words, self.hits, index + 1):
            return
        if self.doubt is not None and self.since(self.doubt):
            self.end_doubt()
        if self.past is not None and self.since(self.past):
            self.past = None
        self.hypothesis = None
        self.landmark = None
        self.past_adverb = None
        if self.negation is not None and self.since(self.negation):
            self.verb_in_negation = True
        elif self.negation is not None and self.comma_at >= self.negation.last:
            self.end_negation()  # "has no perceptible wall, is anechoic"
        head = self.pending_head
        self.new_subject()
        self.pending_head = head
        self.verb_at = hit.first
        self.start_predicate()

    def start_predicate(self) -> None:
        """What follows the verb of "it is unclear if the mass ..." is in doubt; of "none of ...", denied."""
        if self.predicate_doubt is not None:
            self.doubt, self.predicate_doubt = self.predicate_doubt, None
        if self.predicate_negation is not None:
            self.end_negation()
            self.negation, self.predicate_negation = self.predicate_negation, None

    def named(self, cue: Hit, hit: Hit) -> bool:
        """Whether what is doubted was named without a label: "suspicious for malignancy in the breast"."""
        between = self.tokens.words[cue.last : hit.first]
        return bool(between) and between[-1].isalpha() and _ORIGINS.isdisjoint(between)

    def since_label(self, hit: Hit) -> bool:
        """Whether a label ends right before `hit`."""
        return bool(self.mentions) and self.mentions[-1].last == hit.first

    def behind(self) -> list[Mention]:
        """What a cue looks back at and leaves for the next to look at."""
        return self.mentions[max(self.subject, len(self.mentions) - REACH) :]

    def since(self, cue: Hit) -> bool:
        return bool(self.mentions) and self.mentions[-1].first >= cue.last

    def on_in(self, index: int, hit: Hit) -> None:
        del index
        if self.negation is not None and (self.since(self.negation) or self.named(self.negation, hit)):
            self.suspended = True
        origin = hit.first and self.tokens.words[hit.first - 1] in _ORIGINS  # "arises from the ovary"
        if self.doubt is not None and not origin and (self.since(self.doubt) or self.named(self.doubt, hit)):
            self.doubt_sites = False
            self.doubt_paused = not self.doubt_list
        if self.landmark is not None and self.tokens.words[hit.first] in ("in", "within", "inside"):
            self.landmark = None
        if self.preposition is None and len(self.mentions) > self.subject:
            self.preposition = len(self.mentions)
        elif self.of_the is None and self.tokens.words[hit.first] == "of":
            self.of_the = len(self.mentions)

    def trails(self, hit: Hit) -> bool:
        """ "Possible abscess right breast": a site behind the finding says where, and is in no doubt."""
        if self.doubt is None or not self.since(self.doubt):
            return False
        last = self.mentions[-1]
        if self.verb_at > last.first:
            return False  # "the cyst arises from the ovary"
        said = [m.item.role for m in self.mentions[-LABELS:] if m.first == last.first and m.item is not None]
        if "finding" not in said or last.first == hit.first:
            return False
        return _JOINS.isdisjoint(self.tokens.words[last.last : hit.first])

    def qualifies(self, index: int, hit: Hit) -> bool:
        """ "Behind the breast mass": the site of a finding that is a landmark is a site of a finding."""
        following = direction.following_hit(self.hits, index)
        if following is None or following.first != hit.last or self.landmark is None:
            return False
        if self.tokens.words[self.landmark.first].startswith(_ELSEWHERE):
            return False
        return any(item.role == "finding" for item, _ in following.labels)
