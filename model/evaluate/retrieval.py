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

__all__ = ["DEPTHS", "MATCHES", "Pairs", "best_ranks", "evaluate_retrieval", "ndcg"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Match = Literal["exact pair", "same caption", "same case"]

DEPTHS: Final = (1, 5, 10, 50)
MATCHES: Final[tuple[Match, ...]] = ("exact pair", "same caption", "same case")
GALLERIES: Final = (1000, 5000)
DRAWS: Final = 10
_NDCG_DEPTH: Final = 10
_ROWS: Final = 1024


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
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
    above = (scores > best).sum(axis=1)
    level = scores == best
    return above + (level.sum(axis=1) + 1.0) / ((level & relevant).sum(axis=1) + 1.0)


def ndcg(scores: Floats, relevance: Floats, depth: int = _NDCG_DEPTH) -> npt.NDArray[np.float64]:
    """Normalised discounted cumulative gain of each row, gain = semantic similarity, log2 discount.

    Items of equal score share the mean of the gains at their places; nothing relevant gives 0.
    """
    discount = np.zeros(scores.shape[1])
    discount[:depth] = 1.0 / np.log2(np.arange(min(depth, scores.shape[1])) + 2.0)
    order = np.argsort(-scores, axis=1, kind="stable")
    gains = np.take_along_axis(relevance, order, axis=1).astype(np.float64)
    shared = _share_ties(np.take_along_axis(scores, order, axis=1), gains)
    ideal = -np.sort(-relevance, axis=1) @ discount
    return np.divide(shared @ discount, ideal, out=np.zeros(len(scores)), where=ideal > 0)


def _share_ties(ordered: Floats, gains: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    result = gains.copy()
    tied = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    for row in tied:
        starts = np.flatnonzero(np.r_[True, ordered[row, 1:] != ordered[row, :-1]])
        lengths = np.diff(np.r_[starts, ordered.shape[1]])
        result[row] = np.repeat(np.add.reduceat(gains[row], starts) / lengths, lengths)
    return result


def _direction(pairs: Pairs, query: Floats, items: Floats) -> dict[str, npt.NDArray[np.float64]]:
    """Ranks of each kind of match and nDCG, one value a query; works on blocks of queries."""
    n = len(pairs)
    parts: dict[str, list[npt.NDArray[np.float64]]] = {}
    for start in range(0, n, _ROWS):
        rows = np.arange(start, min(start + _ROWS, n))
        scores = query[rows] @ items.T
        found = {
            "exact pair": rows[:, None] == np.arange(n)[None, :],
            "same caption": pairs.captions[rows, None] == pairs.captions[None, :],
            "same case": pairs.cases[rows, None] == pairs.cases[None, :],
        }
        for match, relevant in found.items():
            parts.setdefault(match, []).append(best_ranks(scores, relevant))
        if pairs.relevance is not None:
            parts.setdefault("ndcg", []).append(ndcg(scores, pairs.relevance(rows, np.arange(n))))
    return {name: np.concatenate(values) for name, values in parts.items()}


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
    image, text = _unit(pairs.image), _unit(pairs.text)
    return {
        "image to text": _summary(_direction(pairs, image, text)),
        "text to image": _summary(_direction(pairs, text, image)),
    }


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
