"""Normal appearance: an exclusive label that needs a normal organ or study and nothing abnormal beside it."""

from __future__ import annotations

from usds.taxonomy.assertion import Sweep
from usds.taxonomy.context import Context
from usds.taxonomy.lexicon import Hit
from usds.taxonomy.mentions import Mention, Normality
from usds.taxonomy.rules import Fact, RuleBook

__all__ = ["normal_facts"]

_GAP = 2  # tokens that may stand between "normal" and the noun it belongs to


def normal_facts(sweep: Sweep, facts: list[Fact], book: RuleBook, context: Context) -> list[Fact]:
    """Facts about normal appearance, with their assertion.

    Parameters
    ----------
    sweep : Sweep
        After its run.
    facts : list of Fact
        What the caption states otherwise.
    """
    if book.normal is None or not sweep.normality:
        return []
    found: list[Fact] = []
    for word in sweep.normality:
        assertion = _verdict(sweep, word)
        if assertion is None:
            continue
        hit = sweep.hits[word.hit]
        mention = Mention(hit.first, hit.last, word.sentence, assertion)
        found.append(Fact(book.normal, assertion, mention, "normal", "exact"))
    if any(f.assertion != "negated" for f in found) and _abnormal(sweep, facts, book, context):
        found = [f for f in found if f.assertion == "negated"]
    return found


def _abnormal(sweep: Sweep, facts: list[Fact], book: RuleBook, context: Context) -> bool:
    if book.comparator.found_in(context):
        return True
    stated = ("present", "uncertain")
    if any(fact.assertion in stated and fact.column in book.abnormal for fact in facts):
        return True
    return any(m.abnormal and m.assertion in stated for m in sweep.mentions)


def _verdict(sweep: Sweep, word: Normality) -> str | None:
    """present, negated, uncertain or None for one word of normality."""
    state = word.state
    if state in ("other", "history"):
        return None
    if "phrases" in word.roles:
        return "negated" if state == "negated" else state
    if "negated_words" in word.roles:
        return "negated" if state == "present" and _whole(sweep, word.hit) else None
    if "abnormality" in word.roles:
        return "present" if state == "negated" else None
    if "words" not in word.roles or not _whole(sweep, word.hit):
        return None
    return state


def _whole(sweep: Sweep, index: int) -> bool:
    """Whether "normal" is said of an organ or study, not of one attribute."""
    hits = sweep.hits
    at = hits[index]
    noun, position = _next_noun(hits, index + 1, at.last)
    if noun == "attribute":
        return _attributes(hits, position) >= 2
    if noun == "site":
        # "a normal left ventricle (LV) cavity size" is about one attribute
        after, bracketed = "site", False
        while after == "site":
            after, position = _next_noun(hits, position + 1, hits[position].last, gap=1 + bracketed)
            bracketed = after == "site"
        return after != "attribute"
    return _predicate(sweep, index)


def _kind(hit: Hit) -> str:
    if "attributes" in hit.mark.normals:
        return "attribute"
    if "objects" in hit.mark.normals or any(item.role == "site" for item, _ in hit.labels):
        return "site"
    return ""


def _next_noun(hits: list[Hit], start: int, end: int, gap: int = _GAP) -> tuple[str, int]:
    for k in range(start, min(start + 4, len(hits))):
        hit = hits[k]
        if hit.first - end > gap or any(cue in _BREAKS for cue in hit.mark.cues):
            return "", k
        kind = _kind(hit)
        if kind:
            return kind, k
    return "", start


def _attributes(hits: list[Hit], start: int) -> int:
    """Number of attributes in the list that starts at `start`."""
    count = 0
    end = hits[start].first
    for hit in hits[start : start + 10]:
        if hit.first - end > _GAP:
            break
        if _kind(hit) == "attribute":
            count += 1
        elif any(cue in _ENDS for cue in hit.mark.cues):
            break
        end = hit.last
    return count


def _predicate(sweep: Sweep, index: int) -> bool:
    """ "The liver is normal": look left over the verb for what is called normal."""
    hits = sweep.hits
    verb = False
    attributes = 0
    for k in range(index - 1, max(-1, index - 9), -1):
        hit = hits[k]
        cues = hit.mark.cues
        if any(cue in ("period", "stop", "semicolon", "but") for cue in cues):
            break
        if "verb" in cues:
            if verb:
                break
            verb = True
            continue
        kind = _kind(hit)
        if kind == "attribute":
            attributes += 1
        elif kind == "site":
            if k > 1 and "in" in hits[k - 1].mark.cues and _kind(hits[k - 2]) == "attribute":
                return False  # "the flow in both testes is normal"
            return attributes != 1 and (verb or hits[index].first - hit.last <= _GAP or attributes >= 2)
    return attributes >= 2


_BREAKS = frozenset(["period", "stop", "semicolon", "comma", "verb", "with", "but", "break"])
_ENDS = frozenset(["period", "stop", "semicolon", "verb", "with", "but", "break"])
