"""Zero-shot classification of every taxonomy dimension.

Definitions (ours, printed with the numbers; the paper does not give its own): a dimension is judged on the
records that carry at least one of its labels. Each label is the mean of its prompts' vectors. A record is hit
where its best-scoring label is among its gold labels. Acc is the share of hits; recall of a label is taken
over the records whose gold set contains it, macro recall averages over the labels that occur; F1 of a label
counts a
prediction as right where the gold set contains it; AUROC ranks the records of a dimension by a label's score,
averaged over labels that some, but not all, carry. AvgAcc and AvgRecall average over the dimensions that the
records carry. The majority baseline names the most frequent label of the training side for every record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from usds.model.evaluate.intervals import Interval, case_bootstrap

__all__ = ["AttributeResult", "attribute_metrics", "evaluate_attributes", "summarise"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AttributeResult:
    """One dimension.

    Attributes
    ----------
    dimension : str
        Its name.
    n, cases : int
        Records that carry it, and their cases.
    labels : tuple of str
        The whole vocabulary: every label competes.
    metrics : dict
        accuracy, recall, f1, auroc and above_majority (accuracy - majority), with intervals.
    majority : float
        Accuracy of the most frequent training label.
    majority_label : str or None
        That label; None where the training side has none.
    confusion : int64 (V, V)
        Gold label (rows, a record counts once for each of its labels) by predicted label.
    """

    dimension: str
    n: int
    cases: int
    labels: tuple[str, ...]
    metrics: dict[str, Interval]
    majority: float | None
    majority_label: str | None
    confusion: Ints

    def to_json(self) -> dict[str, Any]:
        """Plain form."""
        return {
            "n": self.n,
            "cases": self.cases,
            "labels": list(self.labels),
            **{name: asdict(value) for name, value in self.metrics.items()},
            "majority": self.majority,
            "majority_label": self.majority_label,
            "confusion": self.confusion.tolist(),
        }


def attribute_metrics(scores: Floats, gold: Bools, weights: Floats) -> dict[str, float]:
    """Accuracy, macro recall, macro F1 of weighted records.

    Parameters
    ----------
    scores : float64 (N, V)
        Score of each label.
    gold : bool (N, V)
        Labels that a record carries; at least one a row.
    weights : float64 (N,)
        Weight of each record.
    """
    return _rates(weights @ _votes(scores, gold), float(weights.sum()))


def _votes(scores: Floats, gold: Bools) -> Floats:
    """Labels that each record carries, is given, and is given rightly; float64 (N, 3 V)."""
    predicted = np.zeros_like(gold)
    predicted[np.arange(len(scores)), scores.argmax(axis=1)] = True
    return np.concatenate([gold, predicted, predicted & gold], axis=1).astype(np.float64)


def _rates(votes: Floats, total: float) -> dict[str, float]:
    """Accuracy, macro recall, macro F1 from the sums of so many records' votes (3 V,)."""
    carried, named, correct = np.split(votes, 3)
    occurring = carried > 0
    recall = np.divide(correct, carried, out=np.zeros_like(correct), where=occurring)
    f1 = np.divide(2 * correct, carried + named, out=np.zeros_like(correct), where=(carried + named) > 0)
    return {
        "accuracy": float(correct.sum() / total) if total > 0 else np.nan,
        "recall": float(recall[occurring].mean()) if occurring.any() else np.nan,
        "f1": float(f1[occurring].mean()) if occurring.any() else np.nan,
    }


def _intervals(votes: Floats, guess: Floats, cases: Ints, draws: int) -> dict[str, Interval]:
    """Metrics and their distance to the majority label's hits (N,); cases are summed up once, then drawn."""
    numbers, of = np.unique(cases, return_inverse=True)
    order = np.argsort(of, kind="stable")
    begin = np.searchsorted(of[order], np.arange(len(numbers)))
    columns = np.concatenate([votes, guess[:, None], np.ones((len(votes), 1))], axis=1)
    sums = np.add.reduceat(columns[order], begin)

    def statistic(weights: Floats) -> dict[str, float]:
        *drawn, hits, total = weights @ sums
        found = _rates(np.array(drawn), total)
        return {**found, "above_majority": found["accuracy"] - (hits / total if total > 0 else np.nan)}

    return case_bootstrap(statistic, np.arange(len(numbers)), draws=draws)


def _auroc(scores: Floats, gold: Bools) -> float:
    split = gold.any(axis=0) & ~gold.all(axis=0)
    values = [roc_auc_score(gold[:, i], scores[:, i]) for i in np.flatnonzero(split)]
    return float(np.mean(values)) if values else np.nan


def _confusion(scores: Floats, gold: Bools) -> Ints:
    confusion = np.zeros((gold.shape[1], gold.shape[1]), np.int64)
    rows, labels = np.nonzero(gold)
    np.add.at(confusion, (labels, scores.argmax(axis=1)[rows]), 1)
    return confusion


def evaluate_dimension(
    name: str,
    labels: Sequence[str],
    scores: Floats,
    gold: Bools,
    *,
    cases: Ints,
    train_counts: Ints,
    draws: int = 1000,
) -> AttributeResult:
    """Judge one dimension; records without any of its labels are left out.

    Parameters
    ----------
    name, labels : str, sequence of str
        Dimension and its vocabulary of V labels.
    scores : float64 (N, V)
        Similarity of each record to each label.
    gold : bool (N, V)
        Labels of each record.
    cases : int64 (N,)
        Case of each record, the unit of the bootstrap.
    train_counts : int64 (V,)
        How often the training side has each label: the majority baseline may not look at the test side.
    draws : int
        Bootstrap resamples.
    """
    carried = gold.any(axis=1)
    scores, gold, cases = scores[carried], gold[carried], cases[carried]
    top = int(train_counts.argmax()) if train_counts.sum() else None
    guess = gold[:, top].astype(np.float64) if top is not None else np.full(len(gold), np.nan)

    metrics: dict[str, Interval] = {}
    if len(gold):
        metrics = _intervals(_votes(scores, gold), guess, cases, draws)
        area = _auroc(scores, gold)
        metrics["auroc"] = Interval(area if np.isfinite(area) else None, None, None)
    base = float(guess.mean()) if len(gold) and top is not None else None
    label = labels[top] if top is not None else None
    confusion = _confusion(scores, gold)
    return AttributeResult(
        name, len(gold), len(np.unique(cases)), tuple(labels), metrics, base, label, confusion
    )


def evaluate_attributes(
    image: npt.NDArray[np.float32],
    prompts: Mapping[str, npt.NDArray[np.float32]],
    vocabularies: Mapping[str, Sequence[str]],
    gold: Bools,
    *,
    cases: Ints,
    train_counts: Ints,
    draws: int = 1000,
) -> list[AttributeResult]:
    """Judge every dimension.

    Parameters
    ----------
    image : float32 (N, E)
        Unit image vectors.
    prompts : mapping
        Dimension -> unit label vectors (V_k, E), in the order of the vocabulary.
    vocabularies : mapping
        Dimension -> labels.
    gold : bool (N, V)
        All labels of all records, dimensions one after another.
    cases : int64 (N,)
        Case of each record.
    train_counts : int64 (V,)
        Label counts of the training side.
    draws : int
        Bootstrap resamples.
    """
    results: list[AttributeResult] = []
    start = 0
    for name, labels in vocabularies.items():
        stop = start + len(labels)
        scores = (image @ prompts[name].T).astype(np.float64)
        part = evaluate_dimension(
            name,
            labels,
            scores,
            gold[:, start:stop],
            cases=cases,
            train_counts=train_counts[start:stop],
            draws=draws,
        )
        results.append(part)
        start = stop
    return results


def summarise(results: Sequence[AttributeResult]) -> dict[str, Any]:
    """AvgAcc, AvgRecall, average majority, and how many dimensions were judged."""
    judged = [r for r in results if r.n and r.majority is not None]
    if not judged:
        return {"dimensions": 0}

    def mean(name: str) -> float:
        return float(np.mean([v for r in judged if (v := r.metrics[name].value) is not None]))

    return {
        "dimensions": len(judged),
        "of": len(results),
        "AvgAcc": mean("accuracy"),
        "AvgRecall": mean("recall"),
        "AvgF1": mean("f1"),
        "majority": float(np.mean([r.majority for r in judged if r.majority is not None])),
        "without_records": [r.dimension for r in results if not r.n],
    }
