"""Guarded correction of misspelt words.

A similarity cut-off cannot tell typing errors from opposites: hypoechoic and hyperechoic differ by two
letters,
vascular and avascular by one. So a word is corrected only if it is long, unknown, one edit away (optimal
string
alignment) from exactly one target with the same first letter, and the dimension allows it in the taxonomy
file.
"""

from __future__ import annotations

from rapidfuzz.distance import OSA

from usds.taxonomy.lexicon import Hit, Item, Mark, new_hit, new_item
from usds.taxonomy.udt import Form, Taxonomy

__all__ = ["Speller"]

MIN_LENGTH = 8
_CACHE = 50_000
# A prefix that turns the meaning round; a word that begins so is never the correction of one that does not.
_REVERSING = (
    "hypo",
    "hyper",
    "iso",
    "an",
    "a",
    "non",
    "un",
    "in",
    "ir",
    "intra",
    "extra",
    "inter",
    "sub",
    "supra",
)


class Speller:
    """Finds the label a misspelt word stands for.

    Parameters
    ----------
    taxonomy : Taxonomy
        Dimensions with ``fuzzy: true`` give the targets.
    known : frozenset of str
        Words that are never taken for a misspelling.
    """

    def __init__(self, taxonomy: Taxonomy, known: frozenset[str]) -> None:
        self.known = known
        self.right = set(known)  # and, as they come, words that were looked at and need no correction
        self.targets: dict[tuple[str, int], list[str]] = {}
        self.marks: dict[str, Mark] = {}
        self.cache: dict[str, str | None] = {}
        for dimension in taxonomy.dimensions:
            if not dimension.fuzzy:
                continue
            for label in dimension.labels:
                for form in label.forms:
                    self._target(form, new_item(taxonomy, dimension, label, form, "fuzzy", "fuzzy"))

    def _target(self, form: Form, item: Item) -> None:
        word = form.text.lower()
        plain = not (form.require or form.block or form.case)
        if not (word.isalpha() and len(word) >= MIN_LENGTH and plain) or form.group in (
            "misspellings",
            "regions",
        ):
            return
        mark = self.marks.setdefault(word, Mark())
        if all(other.dimension != item.dimension for other, _ in mark.labels):
            mark.labels += ((item, form),)
        bucket = self.targets.setdefault((word[0], len(word)), [])
        if word not in bucket:
            bucket.append(word)

    def correct(self, words: list[str], unknown: list[str], hits: list[Hit]) -> list[Hit]:
        """Add hits for misspelt words, some of `unknown`, that no phrase covers; order is kept."""
        if self.right.issuperset(unknown):
            return hits
        found: list[Hit] = []
        for i in [k for k, word in enumerate(words) if word not in self.right]:
            target = self._judge(words[i])
            if target is not None:
                mark = self.marks[target]
                found.append(new_hit(i, i + 1, mark, mark.labels))
        if not found:
            return hits
        covered = {i for hit in hits for i in range(hit.first, hit.last)}
        found = [hit for hit in found if hit.first not in covered]
        return sorted([*hits, *found], key=lambda hit: hit.first) if found else hits

    def _judge(self, word: str) -> str | None:
        """As :meth:`lookup`, and remember words that need no correction."""
        target = self.lookup(word) if len(word) >= MIN_LENGTH - 1 else None
        if target is None:
            if len(self.right) >= len(self.known) + _CACHE:
                self.right = set(self.known)
            self.right.add(word)
        return target

    def lookup(self, word: str) -> str | None:
        """The one word that `word` misspells, or None."""
        try:
            return self.cache[word]
        except KeyError:
            if len(self.cache) >= _CACHE:
                self.cache.clear()
            self.cache[word] = target = self._search(word)
            return target

    def _search(self, word: str) -> str | None:
        if not word.isalpha():
            return None
        near = [
            target
            for size in (len(word) - 1, len(word), len(word) + 1)
            for target in self.targets.get((word[0], size), ())
            if OSA.distance(word, target, score_cutoff=1) <= 1
        ]
        labels = {
            tuple((item.dimension, item.label) for item, _ in self.marks[target].labels) for target in near
        }
        if len(labels) != 1 or _inflected(word, near[0]):
            return None
        return near[0]


def _inflected(word: str, target: str) -> bool:
    """A different word, not a slip: another ending, or a prefix that reverses the meaning."""
    if word[:-1] == target[:-1] or word == target[:-1] or word[:-1] == target:
        return not (word + "s" == target or target + "s" == word)
    return any(word.startswith(p) != target.startswith(p) for p in _REVERSING if len(p) > 1)
