"""What cues of denial, doubt, history and place do to the open scopes and to what was said before them."""

from __future__ import annotations

from usds.taxonomy import direction
from usds.taxonomy.lexicon import Hit
from usds.taxonomy.lookback import ENDS, LookBack
from usds.taxonomy.scopes import ARTICLES, LABELS, SHORT

__all__ = ["Cues"]

_DEFINITE = frozenset(["the", "this", "these", "that", "it", "its"])
_NOT = frozenset(["not", "t", "never", "nor"])  # "t" ends "isn't" and "can't"
_HINDERED = _NOT | {"cannot", "unable", "difficult", "hard", "impossible", "without", "insufficient"}
_DENIABLE = (
    *("either", "suspicio", "suspect", "suggest", "concern", "worrisome", "questionable", "seem"),
    "hint",
)
_ABLE = frozenset(["can", "could", "able", "helps", "helped", "us", "allows"])
_ABILITY = ("can", "ca", "could", "couldn", "would", "unable", "not")
_STARTS = frozenset([".", ",", ";", ":", "!"])
_CLOSES = frozenset([".", ";", ")", "!"])
_DEEP = frozenset(["behind", "beneath", "deep", "distal", "posterior", "below", "underneath", "beyond"])
_ARTEFACTS = frozenset(["shadow", "shadows", "shadowing", "enhancement", "reverberation", "transmission"])
_AGO = 4  # tokens from "drained" to "ago"
_NEAR_ARTEFACT = 4  # tokens from an artefact to the word for its place: "shadowing is clearly seen behind"


class Cues(LookBack):
    """Scopes that react to cues."""

    __slots__ = ()

    def on_negation(self, index: int, hit: Hit) -> None:
        if self.answers(hit):
            if not self._answer(hit, "negated"):
                self.on_negation_after(index, hit)
            return
        alone = "negation_prefix" not in hit.mark.cues and self.tokens.words[hit.first - 1] != "or"
        if self.doubt is not None and hit.first - self.doubt.last > 1 and alone:
            self.end_doubt()  # "likely reactive, without abscess", but "possibly no flow"
        self.end_negation()
        self.negation = hit

    def on_negation_contrast(self, index: int, hit: Hit) -> None:
        """ "Likely a cyst rather than a mass": the mass is denied, and not in doubt."""
        self.end_doubt()
        shared = self._shared(index, hit)
        self.on_negation(index, hit)
        if shared is not None:
            self.share(shared)

    def share(self, shared: Hit) -> None:
        """Deny what a phrase says of a noun, and not the noun."""
        self.negation_limit = shared.last
        self.shared_at = shared.first

    def _shared(self, index: int, hit: Hit) -> Hit | None:
        """ "A solid rather than cystic mass": one noun for both."""
        following = direction.following_hit(self.hits, index)
        if following is None or following.first != hit.last or not self.mentions:
            return None
        if self.mentions[-1].last < hit.first - 1:  # "cystic, not solid mass"
            return None
        first = self.mentions[-1].first
        roles = {m.item.role for m in self.mentions[-LABELS:] if m.first == first and m.item is not None}
        if self.tokens.words[hit.last - 1] in ARTICLES or "finding" in roles:
            return None
        return following if any(item.role in roles for item, _ in following.labels) else None

    def on_confirmation(self, index: int, hit: Hit) -> None:
        """ "Cyst? Yes."."""
        del index
        self._answer(hit, "present")

    def _answer(self, hit: Hit, assertion: str) -> bool:
        """Settle what the question mark before `hit` had put in doubt."""
        asked = (hit.first - 1, hit.first)
        settled = False
        for mention in reversed(self.mentions):
            if mention.cue != asked:
                break
            mention.assertion = assertion
            settled = True
        return settled

    def on_negation_either(self, index: int, hit: Hit) -> None:
        """ "Absent flow" and "flow is absent"."""
        if direction.said_before(self.tokens.words, hit.first, _NOT, 2):
            return
        if self.answers(hit) and self._answer(hit, "negated"):
            return
        if self.judges_subject(index, hit) or self.answers(hit):
            self.on_negation_after(index, hit)
        elif hit.last < len(self.tokens.words) and self.tokens.words[hit.last] not in ENDS:
            self.on_negation(index, hit)

    def on_negation_verdict(self, index: int, hit: Hit) -> None:
        if self.judges_subject(index, hit) or self.answers(hit):
            self.on_negation_after(index, hit)

    def on_minus(self, index: int, hit: Hit) -> None:
        """ "Calcification (-)", "Doppler -ve": hyphens are no tokens, so the text tells."""
        start = self.tokens.starts[hit.first] - (hit.last - hit.first == 1)
        if "-" not in self.text[max(0, start) : self.tokens.ends[hit.last - 1]]:
            return
        if hit.first == 0 or self.tokens.words[hit.first - 1] in _STARTS:  # "(-) ascites, (-) effusion"
            self.on_negation(index, hit)
        else:
            self.on_negation_after(index, hit)

    def on_negation_subject(self, index: int, hit: Hit) -> None:
        """ "None of the nodules is calcified": what is said of the nodules is denied, they are not."""
        for following in self.hits[index + 1 : index + 6]:
            cues = following.mark.cues
            if "verb" in cues or "with" in cues:
                self.predicate_negation = hit
                return
            if "colon" in cues or "period" in cues or self.tokens.words[following.first] in ("nor", "or"):
                break
        self.on_negation(index, hit)

    def on_negation_aux(self, index: int, hit: Hit) -> None:
        """ "A cyst could not be seen", "does not show a cyst"."""
        if direction.denies_showing(self.hits, index):
            self.on_negation(index, hit)
        elif self.tokens.words[hit.first] not in _ABILITY or direction.looks_back(
            self.tokens.words, self.hits, index
        ):
            self.on_negation_short(index, hit)

    def on_exclusion(self, index: int, hit: Hit) -> None:
        """Excluded, not excluded, to be excluded: the words before it say which."""
        words = self.tokens.words
        verb, before = words[hit.first], words[hit.first - 1] if hit.first else ""
        back = hit.last >= len(words) or words[hit.last] in ENDS or self.judges_subject(index, hit)
        asked = verb in ("to", "exclude", "rule")
        if direction.said_before(words, hit.first, _HINDERED, SHORT):
            self.end_negation()
            if back:
                self.on_uncertain_after(index, hit)
            else:
                self.on_uncertain(index, hit)
        elif asked and not direction.said_before(words, hit.first, _ABLE, 3):
            if verb == "to" or before == "to":
                self.on_hypothesis(index, hit)
            else:
                self.on_uncertain(index, hit)  # "rule out abscess"
        elif back:
            self.on_negation_after(index, hit)
        else:
            self.on_negation(index, hit)

    def on_category(self, index: int, hit: Hit) -> None:
        """A reporting category is stated, whatever it says about the finding."""
        del index, hit
        self.end_doubt()
        self.end_negation()

    def on_negation_short(self, index: int, hit: Hit) -> None:
        if direction.looks_back(self.tokens.words, self.hits, index):
            if direction.denies_shown(self.hits, index):
                self.on_negation_after(index, hit)
        elif self.negation is None or hit.first >= self.negation_limit:
            shared = self._shared(index, hit)
            self.on_negation(index, hit)
            self.negation_limit = hit.last + SHORT
            if shared is not None:
                self.share(shared)

    def on_negation_prefix(self, index: int, hit: Hit) -> None:
        """ "Non-shadowing": the prefix denies the word that carries it and nothing after it."""
        if self.negation is None or hit.first >= self.negation_limit:
            self.on_negation(index, hit)
            self.negation_limit = hit.last + (self.tokens.words[hit.first] == "non")

    def on_uncertain(self, index: int, hit: Hit) -> None:
        if self.denied_doubt(hit) or self._denied(hit):
            return
        if self._afterthought(hit):
            self.on_after(hit, "uncertain")
            return
        self.end_doubt()
        self.doubt = hit
        self.landmark = None

    def _afterthought(self, hit: Hit) -> bool:
        """ "A lipoma, probably."."""
        words = self.tokens.words
        ends = hit.last >= len(words) or words[hit.last] in _CLOSES
        return ends and words[hit.last - 1].endswith("ly") and bool(self.behind())

    def _denied(self, hit: Hit) -> bool:
        """ "Not thought to be an abscess": the denial goes on over the doubt."""
        return (
            self.negation is not None
            and self.negation.last <= hit.first <= self.negation.last + 1
            and (direction.said_before(self.tokens.words, hit.first, _NOT, 2))
        )

    def on_uncertain_either(self, index: int, hit: Hit) -> None:
        """ "Possible abscess" and "an abscess is possible"."""
        back = self.judges_subject(index, hit)
        if direction.said_before(self.tokens.words, hit.first, _NOT, 2):
            if back:
                self.on_negation_after(index, hit)
        elif back:
            self.on_after(hit, "uncertain")
            if self.verb_at >= self.sentence_starts[-1]:  # "a mass suspected in 2019 is gone" goes on
                self.new_subject()
            if self.tokens.words[hit.last : hit.last + 1] == ["than"]:
                self.doubt = hit
        else:
            self.on_uncertain(index, hit)

    def on_uncertain_verdict(self, index: int, hit: Hit) -> None:
        """ "An abscess was considered", "considered to be an abscess"; bare, the word doubts nothing."""
        if self.judges_subject(index, hit) or direction.goes_on(self.tokens.words, hit):
            self.on_uncertain_either(index, hit)

    def on_uncertain_between(self, index: int, hit: Hit) -> None:
        """ "A collection cannot be distinguished from a cyst"; "the collection" would be in no doubt."""
        if self.tokens.words[self.sentence_starts[-1]] in ("a", "an"):
            self.on_after(hit, "uncertain")
        self.on_uncertain(index, hit)
        self.doubt_sites = False

    def on_uncertain_modal(self, index: int, hit: Hit) -> None:
        """ "Could be an abscess", but not "a cyst could be seen"."""
        if not direction.perceives(self.hits, index):
            self.on_uncertain(index, hit)

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

    def on_past_either(self, index: int, hit: Hit) -> None:
        """ "Initially suspected to be a cyst" and "a cyst was initially suspected"."""
        if self.judges_subject(index, hit):
            self.on_after(hit, "history")
        else:
            self.past = hit

    def on_uncertain_heading(self, index: int, hit: Hit) -> None:
        """ "Differential for this lesion: cyst, abscess"."""
        del index
        self.predicate_doubt = hit

    def on_includes(self, index: int, hit: Hit) -> None:
        del index, hit
        if self.predicate_doubt is not None:
            self.start_predicate()
            self.doubt_list = True

    def on_past(self, index: int, hit: Hit) -> None:
        del index
        if self.since_label(hit) and "ago" in self.tokens.words[hit.last : hit.last + _AGO]:
            self.on_after(hit, "history")  # "an abscess drained two weeks ago"
        self.past = hit

    def on_past_adverb(self, index: int, hit: Hit) -> None:
        del index
        self.past_adverb = hit

    def on_hypothesis(self, index: int, hit: Hit) -> None:
        if self.tokens.words[hit.first] == "whether" and hit.first == self.sentence_starts[-1]:
            self.on_uncertain_clause(index, hit)  # "Whether the cyst is septated is unclear"
        else:
            self.hypothesis = hit

    def on_likeness(self, index: int, hit: Hit) -> None:
        """ "An aneurysm mimicking a pancreatic cyst" is in no pancreas."""
        del index
        self.hypothesis = self.landmark = hit

    def on_generic(self, index: int, hit: Hit) -> None:
        """ "An abscess can mimic a tumour" is about no image; "the cyst can mimic" is about this."""
        start = self.sentence_starts[-1]
        subject = self.behind()
        if subject and (subject[0].first == start or self.tokens.words[start] in ("a", "an")):
            for mention in subject:
                mention.assertion = "other"
        self.on_hypothesis(index, hit)

    def on_landmark(self, index: int, hit: Hit) -> None:
        del index
        words, doubt = self.tokens.words, self.doubt
        graded = doubt is not None and words[doubt.first - 1] in ("more", "less", "rather")
        if graded and words[hit.first] == "than":
            return  # "more likely to be a cyst than an abscess": neither is sure
        if self.negation is not None and self.since(self.negation):
            self.suspended = True
        if self.doubt is not None and self.since(self.doubt):
            self.doubt_paused = not self.doubt_list
        if words[hit.first] in _DEEP and direction.said_before(words, hit.first, _ARTEFACTS, _NEAR_ARTEFACT):
            return  # "shadowing behind the thyroid nodule": the nodule throws it
        self.landmark = hit

    def on_ultrasound(self, index: int, hit: Hit) -> None:
        del index
        self.other = None
        self.sentence_has_ultrasound = True
        self.last_ultrasound = hit.last

    def on_other_modality(self, index: int, hit: Hit) -> None:
        del index
        if direction.only_advised(self.tokens.words, hit):
            self.other = self.advised = hit
        # "on ultrasound and CT": one statement about both
        elif hit.first - self.last_ultrasound > 2:
            self.other = hit

    def on_versus(self, index: int, hit: Hit) -> None:
        following, reach = hit.first, SHORT
        doubted: set[str] = set()
        for mention in reversed(self.behind()):
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
        words = self.tokens.words
        if at and words[at - 1] in ("(", "[") and words[at + 1 : at + 2] in ([")"], ["]"]):
            self.on_after(hit, "uncertain")
        elif touches_next or (apart_before and at + 1 < len(starts)):
            self.on_uncertain(index, hit)
        else:
            self.on_after(hit, "uncertain")
            self.on_stop(index, hit)

    def denied_doubt(self, hit: Hit) -> bool:
        """ "No suspicious mass", "no mass suspicious for carcinoma": the denial covers the doubt."""
        negation = self.negation
        if negation is None or self.suspended or hit.first >= self.negation_limit:
            return False
        words = self.tokens.words
        if not any(word.startswith(_DENIABLE) for word in words[hit.first : hit.last]):
            return False
        return "," not in words[max(negation.last, hit.first - SHORT) : hit.first]
