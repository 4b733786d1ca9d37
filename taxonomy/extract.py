"""Captions to labels: the extractor.

Normalise, gate, find phrases, correct spelling, assert, apply the rules, collapse to caption-level sets;
every label keeps the evidence it rests on. The whole is linear in the caption and needs no model.

What each step hands to the next:

    Normalised  the text in NFKC, the same in lower case, offsets back to the given text
    Tokens      its words in lower case; where they stand is worked out when asked for
    nodes       a word's place in the lexicon's table: None where unknown, () where it begins no phrase
    Hit         a phrase at a place, with the Mark that says what it means
    Mention     a label at a place, with what the caption says of it
    Fact        a label, its assertion, and the mention and rule it comes from
    Extraction  labels by dimension; the Evidence rows are made when asked for
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import resources
from typing import Any, NamedTuple

from rapidfuzz import fuzz

from usds.taxonomy.actions import bind_actions
from usds.taxonomy.age import AgeRule
from usds.taxonomy.assertion import Sweep
from usds.taxonomy.context import Context
from usds.taxonomy.fuzzy import Speller
from usds.taxonomy.gate import Gate
from usds.taxonomy.lexicon import Lexicon, load_language
from usds.taxonomy.mentions import Mention
from usds.taxonomy.normalise import Normalised, Tokens, normalise, tokenise
from usds.taxonomy.normality import normal_facts
from usds.taxonomy.rules import Fact, RuleBook
from usds.taxonomy.udt import Taxonomy

__all__ = ["Evidence", "Extraction", "Extractor", "Span", "explain"]

Labels = dict[str, tuple[str, ...]]
LITERAL = 100.0  # score of a match that is no guess
UNMEASURED = 0.5  # confidence of a method that was never measured


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
        Similarity of the match: 100 for a literal one, rapidfuzz's ratio for a misspelt word.
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


class Extraction:
    """Labels of one caption; dimensions without a label are left out.

    Parameters
    ----------
    present, negated, uncertain : dict of str to tuple of str
        Labels by dimension, both in the order of the taxonomy.
    abstained : str or None
        Why the caption was not labelled.
    rows : callable or None
        Gives the evidence; called once, when the evidence is first asked for.
    conflict : bool
        A label is both present and negated.
    """

    __slots__ = ("_evidence", "_rows", "abstained", "conflict", "negated", "present", "uncertain")

    def __init__(
        self,
        present: Labels,
        negated: Labels,
        uncertain: Labels,
        abstained: str | None = None,
        *,
        rows: Callable[[], tuple[Evidence, ...]] | None = None,
        conflict: bool = False,
    ) -> None:
        self.present = present
        self.negated = negated
        self.uncertain = uncertain
        self.abstained = abstained
        self.conflict = conflict
        self._rows = rows
        self._evidence: tuple[Evidence, ...] = ()

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Where every label comes from, in reading order."""
        if self._rows is not None:
            self._evidence = self._rows()
            self._rows = None
        return self._evidence

    def to_json(self) -> dict[str, Any]:
        """Plain JSON form: labels by dimension, and the evidence row by row."""
        return {
            "present": self.present,
            "negated": self.negated,
            "uncertain": self.uncertain,
            "abstained": self.abstained,
            "conflict": self.conflict,
            "evidence": [row._asdict() for row in self.evidence],
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extraction) and self._fields() == other._fields()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        names = ("present", "negated", "uncertain", "abstained", "conflict", "evidence")
        return f"Extraction({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._fields(),)

    def _fields(self) -> tuple[Any, ...]:
        return self.present, self.negated, self.uncertain, self.abstained, self.conflict, self.evidence


def _restored(fields: tuple[Any, ...]) -> Extraction:
    *labels, conflict, evidence = fields
    return Extraction(*labels, rows=lambda: evidence, conflict=conflict)


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
        self.gate = Gate(language, self.lexicon.known)
        self.speller = Speller(taxonomy, self.lexicon.known)
        self.confidence = method_confidence()
        pediatric = taxonomy.document.pediatric
        self.age = AgeRule(pediatric) if pediatric is not None else None
        # Words without which a caption speaks neither of a special site (an unborn child) nor of a child.
        self.triggers = self.book.site_triggers | (self.age.triggers if self.age else frozenset())
        # What evidence says of the label of a column, and where it stands in reading order.
        self.shown = tuple([(*key, self._code(key)) for key in self.book.keys])
        order = {name: i for i, name in enumerate(taxonomy.dimension_names)}
        ranked = sorted(self.book.keys, key=lambda key: (order[key[0]], key[1]))
        self.ranks = [ranked.index(key) for key in self.book.keys]
        bind_actions(self.lexicon.marks)

    def __reduce__(self) -> tuple[type[Extractor], tuple[Taxonomy]]:
        return Extractor, (self.taxonomy,)

    def _code(self, key: tuple[str, str]) -> str | None:
        codes = self.taxonomy.label(*key).codes
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
        words = tokens.words
        nodes = list(map(self.lexicon.table.get, words))
        unknown = [word for word, node in zip(words, nodes, strict=True) if node is None]
        reason = self.gate.check(normal, words, unknown, self.speller.lookup)
        if reason is not None:
            return Extraction({}, {}, {}, reason)
        context = Context(normal.text, tokens)
        hits = self.lexicon.scan(words, nodes, context)
        if unknown:
            hits = self.speller.correct(words, unknown, hits)
        reason = self.gate.check_hits(hits, words, notable=context.notable)
        if reason is not None:
            return Extraction({}, {}, {}, reason)
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
        if pediatric or not self.triggers.isdisjoint(context.tokens.words):
            site = book.site_rule(context)
            if site is not None:
                facts = book.apply_site(site, facts)
            else:
                facts = self._by_age(facts, normal, context, pediatric)
        if sweep.normality:
            facts += normal_facts(sweep, facts, book, context)
        return book.regions_and_parents(facts)

    def _by_age(self, facts: list[Fact], normal: Normalised, context: Context, pediatric: bool) -> list[Fact]:
        if self.age is None:
            return facts
        child, infant = self.age.judge(normal.lower, context)
        return self.book.apply_pediatric(facts, infant) if child or pediatric else facts

    def _collapse(self, facts: list[Fact], tokens: Tokens, normal: Normalised) -> Extraction:
        present: set[int] = set()
        negated: set[int] = set()
        uncertain: set[int] = set()
        for column, assertion, _, _, _, _ in facts:
            if assertion == "present":
                present.add(column)
            elif assertion == "negated":
                negated.add(column)
            elif assertion == "uncertain":
                uncertain.add(column)
        return Extraction(
            self._sets(present),
            self._sets(negated) if negated else {},
            self._sets(uncertain) if uncertain else {},
            rows=partial(self._rows, facts, tokens, normal),
            conflict=not present.isdisjoint(negated),
        )

    def _sets(self, labels: set[int]) -> Labels:
        out: dict[str, tuple[str, ...]] = {}
        for column in sorted(labels):
            dimension, label = self.book.keys[column]
            out[dimension] = (*out[dimension], label) if dimension in out else (label,)
        return out

    def _rows(self, facts: list[Fact], tokens: Tokens, normal: Normalised) -> tuple[Evidence, ...]:
        rows: dict[tuple[int, int, int, str], Evidence] = {}
        starts, ends, text = tokens.starts, tokens.ends, normal.text
        shown, ranks, confidence = self.shown, self.ranks, self.confidence
        for column, assertion, mention, rule_id, method, _ in facts:
            last = mention.last
            start, end = (starts[mention.first], ends[last - 1]) if last else (0, 0)
            key = (start, end, ranks[column], assertion)
            if key in rows:
                continue
            surface = text[start:end]
            cue = mention.cue
            if cue is not None:
                cue = normal.span(starts[cue[0]], ends[cue[1] - 1])
            if normal.offsets is not None:
                start, end = normal.span(start, end)
            dimension, label, code = shown[column]
            score = _score(surface, mention) if method == "fuzzy" else LITERAL
            values = (
                dimension, label, code, assertion, start, end, surface, cue, rule_id,
                method, score, confidence.get(method, UNMEASURED),
            )  # fmt: skip
            rows[key] = tuple.__new__(Evidence, values)  # half the time of Evidence(...)
        return tuple([rows[key] for key in sorted(rows)])


def _score(surface: str, mention: Mention) -> float:
    """Similarity of a misspelt word and the form that it stands for."""
    return round(fuzz.ratio(surface.lower(), mention.form.text.lower()), 1) if mention.form else LITERAL


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
