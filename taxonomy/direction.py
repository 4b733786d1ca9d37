"""Which way a cue points: "suspected abscess" but "an abscess is suspected", "not seen" but "did not show".

The words around a cue decide, so that no list has to hold every mixture of verb, adverb and participle.
"""

from __future__ import annotations

from collections.abc import Sequence

from usds.taxonomy.lexicon import Hit

__all__ = [
    "closes",
    "denies_showing",
    "denies_shown",
    "following_hit",
    "goes_on",
    "is_subject",
    "looks_back",
    "only_advised",
    "perceives",
    "points_back",
    "said_before",
]

_AHEAD = 3  # tokens between a cue and the word that completes it: "not clearly seen"
_BEFORE = 5  # tokens from a verb to what it says of its subject: "is the most likely diagnosis"
_BE = frozenset(
    ["is", "are", "was", "were", "be", "been", "being", "isn", "aren", "wasn", "weren", "becomes"]
) | {"remains", "remain", "remained", "seems", "seem", "seemed", "appears", "appear", "appeared"}
_DETERMINERS = frozenset(["the", "a", "an", "this", "these", "any", "no", "some", "its"])
_STOPS = frozenset([".", ",", ";", ":", "(", ")", "!", "?", "which", "that", "and", "or"])
_PHRASE_STOPS = _STOPS | {"in", "on", "at", "with", "by", "from", "for"}
_EMPTY = frozenset(["there", "here"])  # "there is a suspected abscess" has no other subject
_AFTER_SUBJECT = _BE | {"may", "might", "could", "cannot", "should", "must", "in", "within", "of", "not", "("}
_PAUSES = frozenset([".", ",", ";", "(", ")", "!", "|", "]"])
_GOES_ON = frozenset(
    [
        "to",
        "a",
        "an",
        "that",
        "the",
        "of",
        "for",
        "is",
        "are",
        "was",
        "were",
        "be",
        "being",
        ":",
        "about",
        "as",
    ]
) | {"due", "representing", "reflecting", "related", "secondary", "consistent", "compatible", "regarding"}
_DEGREES = frozenset(["(", "less", "more", "most", "very", "highly", "also", "still", "strongly", "quite"])
_PLACES = frozenset(["in", "on", "at", "by", "with", "here", "from", "within", "and", "or", "but", "|"])
_ALWAYS = frozenset(["negation_after", "uncertain_after"])
_EITHER = frozenset(
    ["negation_either", "negation_verdict", "exclusion", "history_either", "uncertain_either"]
) | {"uncertain_verdict"}
_NEGATIONS = frozenset(["negation_short", "negation_aux"])
_SENTENCE_ENDS = frozenset([".", ";", ":", "!", "?"])
_ADVISING = frozenset(
    ["recommend", "recommends", "recommended", "recommending", "advise", "advised", "suggest", "consider"]
) | {"correlate", "refer"}
_ADVISED = frozenset(
    ["recommended", "advised", "advisable", "suggested", "indicated", "needed", "required", "warranted"]
) | {"awaited", "pending", "planned", "requested"}
_REASONS = frozenset([",", "(", ")", "for", "to", "if", "in", "as", "given", "and", "or", "with", "because"])
_ADVICE = 7  # words between an examination and the word that advises it


def following_hit(hits: Sequence[Hit], index: int) -> Hit | None:
    """The next phrase; None behind the last one."""
    return hits[index + 1] if index + 1 < len(hits) else None


def looks_back(words: Sequence[str], hits: Sequence[Hit], index: int) -> bool:
    """Whether the cue `hits[index]` judges the subject before it, whose verb then does not end it."""
    hit = hits[index]
    for cue in hit.mark.cues:
        if cue in _ALWAYS or (cue in _EITHER and points_back(words, hits, index)):
            return True
        if cue in _NEGATIONS and (denies_shown(hits, index) or _before_either(words, hits, index)):
            return True
    return False


def points_back(words: Sequence[str], hits: Sequence[Hit], index: int) -> bool:
    """Whether a word that may stand on either side is said of a subject: "is suspected"."""
    hit = hits[index]
    following = following_hit(hits, index)
    verdict = "uncertain_verdict" in hit.mark.cues and words[hit.last : hit.last + 1] in (["for"], ["of"])
    if goes_on(words, hit) and not verdict:
        return False
    if hit.first and words[hit.first - 1] in _DETERMINERS and "uncertain_verdict" not in hit.mark.cues:
        return False  # "was seen in the suspected clot"
    if hit.last < len(words) and words[hit.last] in _PLACES:
        return predicated(words, hit.first)
    if following is not None and following.labels and following.first - hit.last < _BEFORE:
        return False  # "is likely an early abscess"
    return predicated(words, hit.first)


def predicated(words: Sequence[str], at: int) -> bool:
    """Whether a form of "to be" stands before the word `at`, with adverbs and adjectives between them."""
    for i in range(at - 1, max(-1, at - 1 - _BEFORE), -1):
        if words[i] in _BE:
            return i == 0 or words[i - 1] not in _EMPTY
        if words[i] in _PHRASE_STOPS:
            return False
    return False


def goes_on(words: Sequence[str], hit: Hit) -> bool:
    """Whether the word behind a cue leads on to what it judges: "suspected to be", "possibility of"."""
    return hit.last < len(words) and words[hit.last] in _GOES_ON


def is_subject(words: Sequence[str], end: int, hit: Hit) -> bool:
    """Whether the label that ends at `end` is the subject that the cue behind it judges, not an adjective."""
    return end == hit.first or (end < len(words) and words[end] in _AFTER_SUBJECT)


def closes(words: Sequence[str], hit: Hit, named_to: int) -> bool:
    """ "Cyst suspected, right adnexa", "abscess (possible)": the word ends the phrase that it judges.

    `named_to` is the end of the last label before it.
    """
    before = hit.first
    while before > 0 and words[before - 1] in _DEGREES:  # "abscess less likely"
        before -= 1
    if named_to != before:
        return False
    return hit.last >= len(words) or words[hit.last] in _PAUSES or words[hit.last] in _PLACES


def denies_shown(hits: Sequence[Hit], index: int) -> bool:
    """ "Could not be clearly seen": the participle makes the denial look back."""
    return _completed(hits, index, "shown")


def denies_showing(hits: Sequence[Hit], index: int) -> bool:
    """ "Does not clearly show": the verb makes the denial look ahead."""
    return _completed(hits, index, "show") or _completed(hits, index, "see")


def perceives(hits: Sequence[Hit], index: int) -> bool:
    """ "Could be seen", "could see": said of what was seen, and so no doubt."""
    return _completed(hits, index, "shown") or _completed(hits, index, "see")


def _completed(hits: Sequence[Hit], index: int, cue: str) -> bool:
    end = hits[index].last
    for hit in hits[index + 1 : index + 3]:
        if hit.first - end >= _AHEAD:
            return False
        if cue in hit.mark.cues:
            return True
        if hit.labels or not hit.mark.modifiers:  # "clearly" is one
            return False
    return False


def _before_either(words: Sequence[str], hits: Sequence[Hit], index: int) -> bool:
    """ "Is not suspected", "is not excluded": the word behind the denial says which way it points."""
    following = following_hit(hits, index)
    if following is None or following.first - hits[index].last >= _AHEAD:
        return False
    return any(cue in _EITHER for cue in following.mark.cues) and points_back(words, hits, index + 1)


def said_before(words: Sequence[str], at: int, wanted: frozenset[str], reach: int) -> bool:
    """Whether one of the words `wanted` stands up to `reach` words before `at`, in the same phrase."""
    for i in range(at - 1, max(-1, at - 1 - reach), -1):
        if words[i] in wanted:
            return True
        if words[i] in _STOPS:
            return False
    return False


def only_advised(words: Sequence[str], hit: Hit) -> bool:
    """ "CT is recommended", "consider MRI": an examination that is still to be made shows nothing."""
    for i in range(hit.first - 1, max(-1, hit.first - 1 - _ADVICE), -1):
        if words[i] in _ADVISING:
            return True
        if words[i] in _SENTENCE_ENDS:
            break
    for i in range(hit.last, min(len(words), hit.last + _ADVICE)):
        if words[i] in _SENTENCE_ENDS:
            return i == hit.last and words[hit.first - 2 : hit.first] == ["up", "with"]
        if words[i] in _ADVISED:
            after = words[i + 1 : i + 2]  # "CT indicated a mass" goes on
            return not after or after[0] in _SENTENCE_ENDS or after[0] in _REASONS
    return False
