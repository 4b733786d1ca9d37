"""Image-text retrieval: definitions are ours and are printed with the numbers.

A gallery is a set of pairs; each image looks for its text among the gallery's texts and the other way round.
What counts as found: the exact pair, any item with the same caption, or any item of the same case. A rank is
the expected place of the first such item when items of equal score stand in random order (for one such item
the mid-rank), so that a model that gives every item the same score has the rank of guessing and not rank 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["DEPTHS", "MATCHES", "Pairs", "best_ranks", "evaluate_retrieval", "ndcg"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Match = Literal["exact pair", "same caption", "same case"]
Direction = Literal["image to text", "text to image"]

DEPTHS: Final = (1, 5, 10, 50)
MATCHES: Final[tuple[Match, ...]] = ("exact pair", "same caption", "same case")
GALLERIES: Final = (1000, 5000)
DRAWS: Final = 10
_NDCG_DEPTH: Final = 10
_ROWS: Final = 1024
_CELLS: Final = 1 << 25  # scores held at a time


@dataclass(frozen=True, eq=False)
class Pairs:
    """Embedded pairs.

    Attributes
    ----------
    image, text : float32 (N, E)
        Vectors, compared by cosine.
    captions, cases : int64 (N,)
        Equal for equal captions, equal for records of one case.
    relevance : callable or None
        Rows, rows -> semantic similarity (R, C) in [0, 1], for nDCG.
    """

    image: Floats
    text: Floats
    captions: Ints
    cases: Ints
    relevance: Any = None

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: Ints) -> Pairs:
        """The pairs at some rows."""
        wanted = self.relevance
        relevance = None if wanted is None else (lambda a, b: wanted(rows[a], rows[b]))
        return Pairs(self.image[rows], self.text[rows], self.captions[rows], self.cases[rows], relevance)


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def best_ranks(scores: Floats, relevant: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Rank (from 1) of the best relevant item of each row, in expectation over the order of ties.

    Parameters
    ----------
    scores : float32 (R, C)
        Higher is better.
    relevant : bool (R, C)
        At least one item a row.

    Returns
    -------
    float64 (R,)
        Items above + (t + 1) / (r + 1), with t items at the best relevant score, r of them relevant: the
        first of r among t in random order. For r = 1 the mid-rank.
    """
    rows, items = np.divmod(np.flatnonzero(relevant), relevant.shape[1])
    return _ranks(scores, rows, items)


def _ranks(scores: Floats, rows: Ints, items: Ints) -> npt.NDArray[np.float64]:
    """:func:`best_ranks` from the places of the relevant items, row by row."""
    begin = np.searchsorted(rows, np.arange(len(scores)))
    own = scores[rows, items]
    best = np.maximum.reduceat(own, begin)
    above = np.count_nonzero(scores > best[:, None], axis=1)
    level = np.count_nonzero(scores == best[:, None], axis=1)
    relevant_level = np.add.reduceat((own == best[rows]).astype(np.int64), begin)
    return above + (level + 1.0) / (relevant_level + 1.0)


def ndcg(scores: Floats, relevance: Floats, depth: int = _NDCG_DEPTH) -> npt.NDArray[np.float64]:
    """Normalised discounted cumulative gain of each row, gain = semantic similarity, log2 discount.

    Items of equal score share the mean of the gains at their places; nothing relevant gives 0.
    """
    depth = min(depth, scores.shape[1])
    discount = 1.0 / np.log2(np.arange(depth) + 2.0)
    ideal = _largest(relevance, depth).astype(np.float64) @ discount
    top = np.flatnonzero(scores >= _largest(scores, depth)[:, -1:])
    rows, items = np.divmod(top, scores.shape[1])
    values, gains = scores[rows, items], relevance[rows, items].astype(np.float64)
    order = np.lexsort((-values, rows))
    rows, values, gains = rows[order], values[order], _share_ties(rows[order], values[order], gains[order])
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = place < depth
    found = np.bincount(rows[kept], gains[kept] * discount[place[kept]], minlength=len(scores))
    return np.divide(found, ideal, out=np.zeros(len(scores)), where=ideal > 0)


def _largest(values: Floats, depth: int) -> Floats:
    """The largest values of each row, falling."""
    return torch.topk(torch.from_numpy(values), depth, dim=1).values.numpy()


def _share_ties(rows: Ints, values: Floats, gains: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Give items of equal value in a row the mean of their gains."""
    starts = np.flatnonzero(np.r_[True, (rows[1:] != rows[:-1]) | (values[1:] != values[:-1])])
    lengths = np.diff(np.r_[starts, len(rows)])
    return np.repeat(np.add.reduceat(gains, starts) / lengths, lengths)


@dataclass(frozen=True, eq=False)
class _Groups:
    """Which items have the same number: an order in which they stand together, where each begins and ends."""

    numbers: Ints
    order: Ints
    begin: Ints
    end: Ints

    @classmethod
    def of(cls, numbers: Ints) -> _Groups:
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        return cls(
            numbers,
            order,
            np.searchsorted(ordered, numbers, "left"),
            np.searchsorted(ordered, numbers, "right"),
        )

    def members(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """Items that have the number of items ``start`` to ``stop``: rows (from 0) and items."""
        begin, end = self.begin[start:stop], self.end[start:stop]
        sizes = end - begin
        rows = np.repeat(np.arange(stop - start), sizes)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return rows, self.order[begin[rows] + within]


def _directions(pairs: Pairs) -> dict[Direction, dict[str, npt.NDArray[np.float64]]]:
    """Ranks of each kind of match and nDCG, one value a query; works on blocks of queries."""
    image, text = _unit(pairs.image), _unit(pairs.text)
    sides: dict[Direction, tuple[Floats, Floats]] = {
        "image to text": (image, text),
        "text to image": (text, image),
    }
    n = len(pairs)
    groups = {
        "exact pair": _Groups.of(np.arange(n)),
        "same caption": _Groups.of(pairs.captions),
        "same case": _Groups.of(pairs.cases),
    }
    found: dict[Direction, dict[str, npt.NDArray[np.float64]]] = {
        side: {name: np.zeros(n) for name in (*groups, *(["ndcg"] if pairs.relevance else []))}
        for side in sides
    }
    step = max(1, min(_ROWS, _CELLS // n))
    for start in range(0, n, step):
        stop = min(start + step, n)
        relevance = pairs.relevance(np.arange(start, stop), np.arange(n)) if pairs.relevance else None
        for side, (query, items) in sides.items():
            scores = query[start:stop] @ items.T
            for match, group in groups.items():
                found[side][match][start:stop] = _ranks(scores, *group.members(start, stop))
            if relevance is not None:
                found[side]["ndcg"][start:stop] = ndcg(scores, relevance)
    return found


def _summary(values: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, dict[str, float]]:
    result: dict[str, dict[str, float]] = {}
    for match in MATCHES:
        ranks = values[match]
        recall = {f"R@{depth}": float((ranks <= depth).mean()) for depth in DEPTHS}
        result[match] = {**recall, "median rank": float(np.median(ranks))}
    if "ndcg" in values:
        result["semantic"] = {f"nDCG@{_NDCG_DEPTH}": float(values["ndcg"].mean())}
    return result


def _one_gallery(pairs: Pairs) -> dict[str, Any]:
    return {direction: _summary(values) for direction, values in _directions(pairs).items()}


def evaluate_retrieval(
    pairs: Pairs, *, galleries: Sequence[int] = GALLERIES, draws: int = DRAWS, seed: int = 0
) -> list[dict[str, Any]]:
    """Retrieval at every gallery size that the data allow.

    A gallery smaller than the data is drawn ``draws`` times with seeds of its own; mean and standard
    deviation over the draws are given. The last entry is the full gallery.

    Returns
    -------
    list of dict
        ``gallery`` (size), ``draws``, ``chance`` (R@1 of guessing the exact pair), ``distinct_captions``, and
        per direction and match the mean; ``sd`` holds the same tree for drawn galleries.
    """
    result: list[dict[str, Any]] = []
    for size in galleries:
        if size >= len(pairs):
            continue
        runs: list[dict[str, Any]] = []
        for draw in range(draws):
            rng = np.random.default_rng([seed, size, draw])
            runs.append(_one_gallery(pairs.take(np.sort(rng.choice(len(pairs), size, replace=False)))))
        result.append({**_facts(size, draws, pairs), **_combine(runs, np.mean), "sd": _combine(runs, np.std)})
    result.append({**_facts(len(pairs), 1, pairs), **_one_gallery(pairs)})
    return result


def _facts(size: int, draws: int, pairs: Pairs) -> dict[str, Any]:
    return {
        "gallery": size,
        "draws": draws,
        "chance R@1": 1.0 / size,
        "distinct captions in the data": len(np.unique(pairs.captions)),
        "cases in the data": len(np.unique(pairs.cases)),
    }


def _combine(runs: Sequence[Mapping[str, Any]], reduce: Any) -> dict[str, Any]:
    first = runs[0]
    return {
        key: _combine([run[key] for run in runs], reduce)
        if isinstance(first[key], Mapping)
        else float(reduce([run[key] for run in runs]))
        for key in first
    }
