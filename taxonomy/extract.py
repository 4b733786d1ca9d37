"""Captions to labels: the extractor.

Normalise, gate, find phrases, correct spelling, assert, apply the rules, collapse to caption-level sets;
every
label keeps the evidence it rests on. The whole is linear in the caption and needs no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

from usds.taxonomy.age import AgeRule
from usds.taxonomy.assertion import Sweep
from usds.taxonomy.context import Context
from usds.taxonomy.fuzzy import Speller
from usds.taxonomy.gate import Gate
from usds.taxonomy.lexicon import Lexicon, load_language
from usds.taxonomy.normalise import Normalised, Tokens, normalise, tokenise
from usds.taxonomy.normality import normal_facts
from usds.taxonomy.rules import Fact, RuleBook
from usds.taxonomy.udt import Taxonomy

__all__ = ["Evidence", "Extraction", "Extractor", "Span", "explain"]

Labels = dict[str, tuple[str, ...]]


class Evidence(NamedTuple):
    """Where a label comes from.

    Attributes
    ----------
    dimension, label : str
        The label.
    code : str or None
        Its first code as ``scheme:value``.
    assertion : str
        present, negated, uncertain, history or other (a landmark, another modality, a hypothesis).
    start, end : int
        Half-open span in code points of the given text.
    surface : str
        The text of the span.
    cue : tuple of int or None
        Span of the cue that decided the assertion.
    rule_id, method : str
        The rule, and how it matched: exact, variant, abbreviation, fuzzy, implied.
    score : float
        Similarity of the match, 100 for a literal one.
    confidence : float
        Smoothed precision of the method on labelled text (``data/confidence.json``).
    """

    dimension: str
    label: str
    code: str | None
    assertion: str
    start: int
    end: int
    surface: str
    cue: tuple[int, int] | None
    rule_id: str
    method: str
    score: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Extraction:
    """Labels of one caption; dimensions without a label are left out."""

    present: Labels = field(default_factory=dict[str, tuple[str, ...]])
    negated: Labels = field(default_factory=dict[str, tuple[str, ...]])
    uncertain: Labels = field(default_factory=dict[str, tuple[str, ...]])
    abstained: str | None = None
    evidence: tuple[Evidence, ...] = ()
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the caption with what was found there, for display."""

    start: int
    end: int
    assertion: str
    labels: tuple[str, ...]
    rules: tuple[str, ...]
    cue: tuple[int, int] | None


@lru_cache(maxsize=1)
def method_confidence() -> dict[str, float]:
    """Smoothed precision per method, measured on labelled text."""
    text = (resources.files("usds.taxonomy.data") / "confidence.json").read_text(encoding="utf-8")
    return {method: entry["confidence"] for method, entry in json.loads(text)["methods"].items()}


class Extractor:
    """Labels captions with one taxonomy.

    Building one takes a fraction of a second; it pickles as its taxonomy and is rebuilt in the other process.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        language = load_language()
        self.taxonomy = taxonomy
        self.lexicon = Lexicon(taxonomy, language)
        self.book = RuleBook(taxonomy)
        known = self.lexicon.vocabulary() | language.known_words
        self.gate = Gate(language, frozenset(known))
        self.speller = Speller(taxonomy, frozenset(known))
        self.confidence = method_confidence()
        self.codes = {key: self._code(key) for key in self.book.labels}
        pediatric = taxonomy.document.pediatric
        self.age = AgeRule(pediatric) if pediatric is not None else None
        self.index = taxonomy.label_index
        self.order = {name: i for i, name in enumerate(taxonomy.dimension_names)}

    def __reduce__(self) -> tuple[type[Extractor], tuple[Taxonomy]]:
        return Extractor, (self.taxonomy,)

    def _code(self, key: tuple[str, str]) -> str | None:
        codes = self.book.labels[key].codes
        return f"{codes[0].scheme}:{codes[0].value}" if codes else None

    def extract(self, text: str, *, pediatric: bool = False) -> Extraction:
        """Label one caption.

        Parameters
        ----------
        text : str
            The caption as stored; any length.
        pediatric : bool
            The patient is known to be under age from elsewhere (a header).
        """
        normal = normalise(text)
        tokens = tokenise(normal)
        reason = self.gate.check(normal, tokens.words, self.speller.lookup)
        if reason is not None:
            return Extraction(abstained=reason)
        context = Context(normal.text, tokens.words, tokens.starts, tokens.ends)
        hits = self.lexicon.scan(tokens.words, context)
        hits = self.speller.correct(tokens.words, hits)
        reason = self.gate.check_hits(hits)
        if reason is not None:
            return Extraction(abstained=reason)
        sweep = Sweep(hits, tokens, normal.text, self.book.compounds)
        sweep.run()
        facts = self._facts(sweep, normal, context, pediatric)
        return self._collapse(facts, tokens, normal)

    def extract_many(self, texts: Iterable[str]) -> Iterator[Extraction]:
        """Label captions one by one, in order."""
        for text in texts:
            yield self.extract(text)

    def _facts(self, sweep: Sweep, normal: Normalised, context: Context, pediatric: bool) -> list[Fact]:
        book = self.book
        facts = book.combine(book.facts(sweep.mentions), context)
        site = book.site_rule(context) if book.sites else None
        if site is not None:
            facts = book.apply_site(site, facts)
        else:
            facts = self._by_age(facts, normal, context, pediatric)
        facts += normal_facts(sweep, facts, book, context)
        return book.regions_and_parents(facts)

    def _by_age(self, facts: list[Fact], normal: Normalised, context: Context, pediatric: bool) -> list[Fact]:
        if self.age is None:
            return facts
        child, infant = self.age.judge(normal.lower, context)
        return self.book.apply_pediatric(facts, infant) if child or pediatric else facts

    def _collapse(self, facts: list[Fact], tokens: Tokens, normal: Normalised) -> Extraction:
        found: dict[str, dict[str, set[str]]] = {"present": {}, "negated": {}, "uncertain": {}}
        evidence: dict[tuple[str, str, str, int, int], Evidence] = {}
        for fact in facts:
            mention = fact.mention
            key = (fact.dimension, fact.label, fact.assertion, mention.first, mention.last)
            if key in evidence:
                continue
            evidence[key] = self._evidence(fact, tokens, normal)
            labels = found.get(fact.assertion)
            if labels is not None:
                if fact.dimension in labels:
                    labels[fact.dimension].add(fact.label)
                else:
                    labels[fact.dimension] = {fact.label}
        order = self.order
        rows = sorted(
            evidence.values(), key=lambda e: (e.start, e.end, order[e.dimension], e.label, e.assertion)
        )
        present = self._sets(found["present"])
        negated = self._sets(found["negated"])
        conflict = any(set(present.get(d, ())) & set(labels) for d, labels in negated.items())
        return Extraction(present, negated, self._sets(found["uncertain"]), None, tuple(rows), conflict)

    def _sets(self, labels: dict[str, set[str]]) -> Labels:
        if not labels:
            return {}
        index = self.index
        return {
            name: tuple(sorted(labels[name], key=lambda label: index[name, label]))
            if len(labels[name]) > 1
            else tuple(labels[name])
            for name in sorted(labels, key=self.order.__getitem__)
        }

    def _evidence(self, fact: Fact, tokens: Tokens, normal: Normalised) -> Evidence:
        mention = fact.mention
        if mention.last:
            start, end = tokens.starts[mention.first], tokens.ends[mention.last - 1]
            surface = normal.text[start:end]
            if normal.offsets is not None:
                start, end = normal.span(start, end)
        else:
            start, end, surface = 0, 0, ""
        cue = mention.cue
        if cue is not None:
            cue = normal.span(tokens.starts[cue[0]], tokens.ends[cue[1] - 1])
        return Evidence(
            fact.dimension,
            fact.label,
            self.codes[fact.dimension, fact.label],
            fact.assertion,
            start,
            end,
            surface,
            cue,
            fact.rule_id,
            fact.method,
            mention.score,
            self.confidence.get(fact.method, 0.5),
        )


def explain(extraction: Extraction, text: str) -> tuple[Span, ...]:
    """Spans of a caption with the labels and rules that they carry, in reading order.

    Parameters
    ----------
    extraction : Extraction
        What :meth:`Extractor.extract` gave for `text`.
    text : str
        The same text.
    """
    spans: dict[tuple[int, int, str], list[Evidence]] = {}
    for row in extraction.evidence:
        if row.end <= len(text):
            spans.setdefault((row.start, row.end, row.assertion), []).append(row)
    return tuple(
        Span(
            start,
            end,
            assertion,
            tuple(f"{row.dimension}: {row.label}" for row in rows),
            tuple(dict.fromkeys(row.rule_id for row in rows)),
            next((row.cue for row in rows if row.cue is not None), None),
        )
        for (start, end, assertion), rows in sorted(spans.items())
    )
