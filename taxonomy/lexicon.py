"""All phrases the engine knows, compiled from the taxonomy and the language file into one token trie.

A trie over whole tokens finds the longest phrase at each position in one pass, whatever the number of
phrases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, cast

import yaml

from usds.taxonomy.context import Context, phrase_tokens
from usds.taxonomy.udt import Dimension, Form, Label, Taxonomy, expand

__all__ = ["Hit", "Item", "Language", "Lexicon", "Mark", "load_language", "new_hit", "new_item"]


@dataclass(frozen=True, slots=True)
class Item:
    """What a phrase stands for: one label of one dimension."""

    dimension: str
    label: str
    column: int
    role: str
    adjectival: bool
    method: str
    rule_id: str
    region: bool


def new_item(
    taxonomy: Taxonomy, dimension: Dimension, label: Label, form: Form, method: str, rule: str
) -> Item:
    """What a form of a label says, found by a method and a rule."""
    return Item(
        dimension.name,
        label.name,
        taxonomy.label_index[dimension.name, label.name],
        dimension.role,
        dimension.adjectival,
        method,
        f"{dimension.name}/{label.name}/{rule}",
        form.group == "regions",
    )


Labels = tuple[tuple[Item, Form], ...]


@dataclass(slots=True)
class Mark:
    """Everything that one phrase (one token sequence) means to the engine.

    Tuples, since most are empty and there are tens of thousands: lists would keep the garbage collector busy.
    """

    labels: Labels = ()
    cues: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    modifiers: tuple[int, ...] = ()
    normals: tuple[str, ...] = ()
    ignore: bool = False
    case: str | None = None
    plain: bool = True
    # Set when the lexicon is complete:
    simple: bool = False  # nothing to look at but its words
    mute: bool = False  # nothing but a cue
    judges: bool = False  # a word of normality itself, not what is called normal
    gate: bool = False  # a reason to look at the caption as a whole
    actions: tuple[Callable[..., None], ...] = ()  # what the sweep does at its cues


class Hit:
    """A phrase found in a text: half-open token span, and what it means there.

    The most frequent object of all; made without arguments and then filled, which takes half the time.
    """

    __slots__ = ("first", "labels", "last", "mark")
    first: int
    last: int
    mark: Mark
    labels: Labels


def new_hit(first: int, last: int, mark: Mark, labels: Labels) -> Hit:
    """A hit with its fields."""
    hit = Hit()
    hit.first, hit.last, hit.mark, hit.labels = first, last, mark, labels
    return hit


_JUDGEMENTS = frozenset(["words", "phrases", "negated_words", "abnormality", "abnormal"])
_GATE_CUES = frozenset(["other_modality", "other_guidance", "no_findings"])
_NAME = re.compile(r"<(\w+)>")
Node = Any  # list of [Mark or None, dict of token -> Node or None]


@dataclass(frozen=True)
class Language:
    """Cues and gate words of the caption language."""

    cues: Mapping[str, tuple[str, ...]]
    gate: Mapping[str, tuple[str, ...]]
    known_words: frozenset[str]


@lru_cache(maxsize=1)
def load_language() -> Language:
    """Load the bundled English cues."""
    folder = resources.files("usds.taxonomy.data")
    data = yaml.load(
        (folder / "english.yaml").read_text(encoding="utf-8"),
        Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader),
    )
    words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
    named = cast("dict[str, str]", data["words"])
    cues, gate = cast("dict[str, list[Any]]", data["cues"]), cast("dict[str, list[Any]]", data["gate"])
    return Language(
        cues={key: _expanded(value, named) for key, value in cues.items()},
        gate={key: _expanded(value, named) for key, value in gate.items()},
        known_words=frozenset(words["words"]),
    )


def _expanded(patterns: Iterable[Any], named: Mapping[str, str]) -> tuple[str, ...]:
    for pattern in patterns:
        if not isinstance(pattern, str):  # YAML reads a bare no, on, off, yes as a truth value
            raise TypeError(f"english.yaml: {pattern!r} is no text: put the word into quotes")
    texts = (text for pattern in patterns for text in expand(_spelled_out(pattern, named)))
    return tuple(dict.fromkeys(texts))


def _spelled_out(pattern: str, named: Mapping[str, str]) -> str:
    """A pattern with the words that each ``<name>`` in it stands for."""
    return _NAME.sub(lambda match: f"{{{named[match[1]]}}}", pattern) if "<" in pattern else pattern


class Lexicon:
    """The compiled phrases.

    Parameters
    ----------
    taxonomy : Taxonomy
        Source of labels, compounds, words of normality.
    language : Language
        Source of cues.

    Attributes
    ----------
    known : frozenset of str
        Every word of a phrase or of the language: what is not here may be misspelt or foreign.
    table : dict
        Known word -> the node of the phrases that begin with it, or () where none does.
    """

    def __init__(self, taxonomy: Taxonomy, language: Language) -> None:
        self.root: dict[str, Node] = {}
        self.marks: list[Mark] = []
        self.conditions: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._add_labels(taxonomy)
        document = taxonomy.document
        for entry in document.ignore:
            for text in expand(entry.text):
                self._mark(text).ignore = True
        used = {compound.heads for compound in document.compounds}
        for name in used & set(document.groups):
            for pattern in document.groups[name]:
                for text in expand(pattern):
                    _add(self._mark(text), "heads", name)
        for i, compound in enumerate(document.compounds):
            for pattern in compound.modifiers:
                for text in expand(pattern):
                    _add(self._mark(text), "modifiers", i)
        self._add_normals(taxonomy)
        for cue, texts in (*language.cues.items(), ("no_findings", language.gate["no_findings"])):
            for text in texts:
                mark = self._mark(text)
                _add(mark, "cues", cue)
                if text.isupper() and text.isalpha() and not mark.labels:
                    mark.case = text
        self._nest_implied()
        self._settle()
        self.known = frozenset(
            self.vocabulary() | language.known_words | set(language.gate["function_words"])
        )
        self.table: dict[str, Node] = dict.fromkeys(self.known, ()) | self.root

    def _add_labels(self, taxonomy: Taxonomy) -> None:
        for dimension, label, form in taxonomy.forms():
            item = new_item(taxonomy, dimension, label, form, form.method, form.group)
            mark = self._mark(form.text)
            mark.labels += ((item, form),)
            if form.require or form.block or form.case:
                mark.plain = False

    def _add_normals(self, taxonomy: Taxonomy) -> None:
        normal = taxonomy.document.normal
        if normal is None:
            return
        for role in (
            "words",
            "phrases",
            "negated_words",
            "abnormality",
            "attributes",
            "objects",
            "comparator",
        ):
            for pattern in getattr(normal, role):
                for text in expand(pattern):
                    _add(self._mark(text), "normals", role)
        for pattern in normal.abnormal_findings:
            for text in expand(pattern):
                _add(self._mark(text), "normals", "abnormal")
        words = {word for word, node in self.root.items() if node[0] and "abnormal" in node[0].normals}
        for _, _, form in taxonomy.forms():  # "tricuspid regurgitation" is as abnormal as regurgitation
            tokens = phrase_tokens(form.text)
            if not words.isdisjoint(tokens):
                _add(self._mark(form.text), "normals", "abnormal")
            if len(tokens) > 1 and tokens[-1] in words:
                _add(self._mark(form.text), "normals", "disease")

    def _mark(self, text: str) -> Mark:
        children = self.root
        node: Node = [None, children]
        for token in phrase_tokens(text):
            if node[1] is None:
                node[1] = {}
            children = node[1]
            node = children.setdefault(token, [None, None])
        if node[0] is None:
            node[0] = Mark()
        return node[0]

    def _nest_implied(self) -> None:
        """Let a name such as "Baker cyst" also say the labels of other dimensions inside it ("cyst")."""
        stack: list[tuple[tuple[str, ...], Node]] = [((token,), node) for token, node in self.root.items()]
        additions: list[tuple[Mark, Labels]] = []
        while stack:
            path, node = stack.pop()
            mark: Mark | None = node[0]
            if mark is not None and len(path) > 1 and any(not f.whole for _, f in mark.labels):
                taken = {item.dimension for item, _ in mark.labels}
                inner = tuple(
                    [
                        pair
                        for hit in self._inside(path, taken)
                        for pair in hit.labels
                        if pair[0].dimension not in taken and not pair[0].region
                    ]
                )
                additions.append((mark, inner))
            if node[1]:
                stack.extend(((*path, token), child) for token, child in node[1].items())
        for mark, inner in additions:
            mark.labels += inner
            if any(form.require or form.block or form.case for _, form in inner):
                mark.plain = False

    def _settle(self) -> None:
        stack: list[Node] = list(self.root.values())
        while stack:
            mark, children = stack.pop()
            if mark is not None:
                says = mark.labels or mark.modifiers or mark.heads or mark.normals
                mark.mute = mark.ignore or not says
                mark.judges = not _JUDGEMENTS.isdisjoint(mark.normals)
                mark.gate = not _GATE_CUES.isdisjoint(mark.cues)
                mark.simple = mark.plain and mark.case is None and not mark.gate
                self.marks.append(mark)
            if children:
                stack.extend(children.values())

    def _inside(self, path: tuple[str, ...], taken: set[str]) -> list[Hit]:
        words = list(path)
        hits: list[Hit] = []
        for i in range(len(words)):
            for j in range(len(words), i, -1):
                if j - i == len(words):
                    continue
                mark = self._lookup(words[i:j])
                if mark is not None and (
                    mark.ignore or any(i.dimension not in taken for i, _ in mark.labels)
                ):
                    hits.append(new_hit(i, j, mark, () if mark.ignore else mark.labels))
                    break
        return hits

    def _lookup(self, words: list[str]) -> Mark | None:
        node: Node = [None, self.root]
        for word in words:
            children = node[1]
            node = children.get(word) if children else None
            if node is None:
                return None
        return node[0]

    def vocabulary(self) -> set[str]:
        """Every word of every phrase."""
        words: set[str] = set()
        stack: list[Node] = [[None, self.root]]
        while stack:
            children = stack.pop()[1]
            if children:
                words.update(children)
                stack.extend(children.values())
        return words

    def scan(self, words: list[str], nodes: list[Node], context: Context) -> list[Hit]:
        """Longest phrases from left to right; phrases whose conditions fail give way to shorter ones.

        Parameters
        ----------
        words, nodes : list
            Lower-case tokens, and what `table` says of each, or None.
        context : Context
            Answers the conditions of conditional forms.
        """
        hits: list[Hit] = []
        size = len(words)
        skip_to = 0
        for i, first in enumerate(nodes):
            if not first or i < skip_to:
                continue
            mark, children = first
            last = j = i + 1
            while children is not None and j < size:
                node = children.get(words[j])
                if node is None:
                    break
                j += 1
                if node[0] is not None:
                    mark, last = node[0], j
                children = node[1]
            if mark is None:
                continue
            if mark.simple:
                hit = Hit()
                hit.first, hit.last, hit.mark, hit.labels = i, last, mark, mark.labels
                hits.append(hit)
                skip_to = last
            else:
                found = self._longest(words, i, last, context)
                if found is not None:
                    hits.append(found)
                    skip_to = found.last
        return hits

    def _longest(self, words: list[str], first: int, last: int, context: Context) -> Hit | None:
        """The longest phrase between `first` and `last` whose conditions hold."""
        node: Node = [None, self.root]
        ends: list[tuple[int, Mark]] = []
        for j in range(first, last):
            node = node[1][words[j]]
            if node[0] is not None:
                ends.append((j + 1, node[0]))
        for end, mark in reversed(ends):
            found = self._accept(mark, first, end, context)
            if found is not None:
                context.notable = context.notable or mark.gate
                return found
        return None

    def _accept(self, mark: Mark, first: int, last: int, context: Context) -> Hit | None:
        if mark.plain:
            if mark.case is not None and not context.case_matches(first, last, mark.case):
                return None
            return new_hit(first, last, mark, mark.labels)
        labels = tuple([pair for pair in mark.labels if context.allows(pair[1], first, last)])
        if len(labels) > 1 and any(form.case for _, form in labels) and not context.shouting:
            # "TOE" is the examination, "toe" the digit.
            labels = tuple([pair for pair in labels if pair[1].case])
        if labels or mark.cues or mark.heads or mark.modifiers or mark.normals or mark.ignore:
            return new_hit(first, last, mark, labels)
        return None


def _add(mark: Mark, group: str, value: object) -> None:
    values = getattr(mark, group)
    if value not in values:
        setattr(mark, group, (*values, value))
