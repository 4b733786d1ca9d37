"""How good the labels are: extraction against gold captions.

A label is a triple (dimension, label, assertion). Micro figures pool all present triples; macro-F1 is the
mean
over the dimensions with gold support. A dangerous error is a gold-negated label called present.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from usds.schemas.errors import ContentError
from usds.taxonomy.extract import Extraction, Extractor

__all__ = ["Evaluation", "GoldRecord", "Score", "evaluate", "method_precision", "read_gold"]

ASSERTIONS: Mapping[str, str] = {"present": "expected", "negated": "negated", "uncertain": "uncertain"}
Triples = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class GoldRecord:
    """One labelled caption; `abstain` is None where the gold does not say."""

    id: str
    text: str
    labels: Mapping[str, Triples]
    abstain: bool | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """Counts and what follows from them; `low` and `high` bound F1 (95 % bootstrap), NaN where not asked
    for."""

    tp: int
    fp: int
    fn: int
    precision: float
    recall: float
    f1: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures of one run; `to_json` gives plain values."""

    n: int
    micro: Score
    macro_f1: float
    macro_low: float
    macro_high: float
    dimensions: dict[str, Score]
    negated: Score
    uncertain: Score
    dangerous: int
    dangerous_of: int
    dangerous_low: float
    dangerous_high: float
    abstained_right: int
    abstained_of: int
    abstained_wrong: int
    worst: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; undefined numbers become null."""
        return cast("dict[str, Any]", _plain(asdict(self)))


def read_gold(path: Path) -> list[GoldRecord]:
    """Read {id, text, expected, negated, uncertain[, abstain]} lines.

    Raises
    ------
    ContentError
        A line is not such a record; the message names file and line.
    """
    records: list[GoldRecord] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                records.append(_record(line, f"{path}, line {number}"))
    if not records:
        raise ContentError(f"{path}: holds no labelled captions")
    return records


def _record(line: str, place: str) -> GoldRecord:
    try:
        entry = json.loads(line)
        labels = {
            assertion: frozenset((d, label) for d, names in (entry.get(key) or {}).items() for label in names)
            for assertion, key in ASSERTIONS.items()
        }
        return GoldRecord(str(entry["id"]), str(entry["text"]), labels, entry.get("abstain"))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ContentError(
            f"{place}: not a record of id, text, expected, negated, uncertain"
            f" ({type(error).__name__}: {error})"
        ) from error


def evaluate(
    extractor: Extractor,
    records: Sequence[GoldRecord],
    *,
    resamples: int = 1000,
    seed: int = 0,
    worst: int = 10,
) -> Evaluation:
    """Compare the extractor with gold.

    Parameters
    ----------
    extractor : Extractor
        What is judged.
    records : sequence of GoldRecord
        Labelled captions.
    resamples : int
        Bootstrap samples of captions for the 95 % intervals; 0 leaves them out.
    seed : int
        Of the bootstrap.
    worst : int
        How many captions with the most errors to return.
    """
    found = [extractor.extract(record.text) for record in records]
    names = extractor.taxonomy.dimension_names
    counts = np.array([_counts(r, e, names) for r, e in zip(records, found, strict=True)], dtype=np.int64)
    boot = _bootstrap(counts, len(names), resamples, seed)
    total = counts.sum(axis=0)
    dimensions = {name: _score(total[i]) for i, name in enumerate(names) if total[i].sum()}
    micro = _score(total[: len(names)].sum(axis=0))
    danger, danger_of = int(total[-1][0]), int(total[-1][1])
    low, high = _wilson(danger, danger_of)
    right, of, wrong = _abstention(records, found)
    return Evaluation(
        n=len(records),
        micro=_with_interval(micro, boot["micro"]),
        macro_f1=_macro(total[: len(names)]),
        macro_low=_quantile(boot["macro"], 0.025),
        macro_high=_quantile(boot["macro"], 0.975),
        dimensions=dimensions,
        negated=_with_interval(_score(total[len(names)]), boot["negated"]),
        uncertain=_with_interval(_score(total[len(names) + 1]), boot["uncertain"]),
        dangerous=danger,
        dangerous_of=danger_of,
        dangerous_low=low,
        dangerous_high=high,
        abstained_right=right,
        abstained_of=of,
        abstained_wrong=wrong,
        worst=_worst(records, found, worst),
    )


def predicted(extraction: Extraction, assertion: str) -> Triples:
    """(dimension, label) pairs of one assertion."""
    labels: Mapping[str, Sequence[str]] = getattr(extraction, assertion)
    return frozenset((d, label) for d, names in labels.items() for label in names)


def _counts(record: GoldRecord, extraction: Extraction, names: Sequence[str]) -> list[list[int]]:
    """Rows of (tp, fp, fn): one a dimension, negated, uncertain; last (dangerous, gold negated, 0)."""
    gold, mine = record.labels["present"], predicted(extraction, "present")
    rows = [_row({k for k in gold if k[0] == name}, {k for k in mine if k[0] == name}) for name in names]
    for assertion in ("negated", "uncertain"):
        rows.append(_row(set(record.labels[assertion]), set(predicted(extraction, assertion))))
    only_negated = record.labels["negated"] - gold
    rows.append([len(only_negated & mine), len(only_negated), 0])
    return rows


def _row(gold: set[tuple[str, str]], mine: set[tuple[str, str]]) -> list[int]:
    return [len(gold & mine), len(mine - gold), len(gold - mine)]


def _score(row: Any) -> Score:
    tp, fp, fn = (int(value) for value in row)
    precision = tp / (tp + fp) if tp + fp else 1.0
    recall = tp / (tp + fn) if tp + fn else 1.0
    return Score(tp, fp, fn, precision, recall, _f1(tp, fp, fn))


def _f1(tp: float, fp: float, fn: float) -> float:
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0


def _macro(rows: Any) -> float:
    scores = [_f1(*row) for row in rows if row[0] + row[2]]
    return sum(scores) / len(scores) if scores else 1.0


def _bootstrap(counts: Any, n_dimensions: int, resamples: int, seed: int) -> dict[str, list[float]]:
    generator = np.random.default_rng(seed)
    out: dict[str, list[float]] = {"micro": [], "macro": [], "negated": [], "uncertain": []}
    for _ in range(resamples):
        total = counts[generator.integers(0, len(counts), len(counts))].sum(axis=0)
        out["micro"].append(_f1(*total[:n_dimensions].sum(axis=0)))
        out["macro"].append(_macro(total[:n_dimensions]))
        out["negated"].append(_f1(*total[n_dimensions]))
        out["uncertain"].append(_f1(*total[n_dimensions + 1]))
    return out


def _quantile(values: list[float], q: float) -> float:
    return float(np.quantile(values, q)) if values else float("nan")


def _with_interval(score: Score, values: list[float]) -> Score:
    low, high = _quantile(values, 0.025), _quantile(values, 0.975)
    return Score(score.tp, score.fp, score.fn, score.precision, score.recall, score.f1, low, high)


def _wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson, JASA 1927)."""
    if n == 0:
        return 0.0, 1.0
    p = hits / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * ((p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def _abstention(records: Sequence[GoldRecord], found: Sequence[Extraction]) -> tuple[int, int, int]:
    pairs = list(zip(records, found, strict=True))
    should = [extraction for record, extraction in pairs if record.abstain]
    wrong = sum(
        1 for r, e in pairs if e.abstained is not None and (any(r.labels.values()) or r.abstain is False)
    )
    return sum(1 for e in should if e.abstained is not None), len(should), wrong


def _worst(records: Sequence[GoldRecord], found: Sequence[Extraction], n: int) -> tuple[dict[str, Any], ...]:
    rows: list[dict[str, Any]] = []
    for record, extraction in zip(records, found, strict=True):
        missed: list[str] = []
        invented: list[str] = []
        for assertion in ASSERTIONS:
            mine = predicted(extraction, assertion)
            missed += [f"{assertion} {d}: {label}" for d, label in sorted(record.labels[assertion] - mine)]
            invented += [f"{assertion} {d}: {label}" for d, label in sorted(mine - record.labels[assertion])]
        if missed or invented:
            rows.append({"id": record.id, "text": record.text, "missed": missed, "invented": invented})
    rows.sort(key=lambda row: (-len(row["missed"]) - len(row["invented"]), row["id"]))
    return tuple(rows[:n])


def method_precision(extractor: Extractor, records: Iterable[GoldRecord]) -> dict[str, dict[str, float]]:
    """Smoothed precision of each extraction method: (right + 1) / (n + 2) over stated evidence rows."""
    right: dict[str, int] = {}
    total: dict[str, int] = {}
    for record in records:
        for row in extractor.extract(record.text).evidence:
            if row.assertion in ASSERTIONS:
                total[row.method] = total.get(row.method, 0) + 1
                hit = (row.dimension, row.label) in record.labels[row.assertion]
                right[row.method] = right.get(row.method, 0) + hit
    return {
        method: {"confidence": round((right[method] + 1) / (total[method] + 2), 4), "n": total[method]}
        for method in sorted(total)
    }


def _plain(value: object) -> object:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast("dict[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("Sequence[object]", value)]
    return value
