"""An evaluation in words and tables; every number stands beside what it was measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from usds.model.evaluate.attributes import AttributeResult
from usds.model.evaluate.intervals import Interval
from usds.model.journal import read_metrics
from usds.model.run import Run

__all__ = ["attribute_rows", "probe_rows", "retrieval_rows", "verdict"]

Rows = list[list[str]]


def attribute_rows(results: Sequence[AttributeResult]) -> Rows:
    """Header and one row a dimension; dimensions without records say so."""
    rows: Rows = [["dimension", "n", "cases", "accuracy", "majority", "macro recall", "macro F1", "AUROC"]]
    for r in results:
        if not r.n:
            rows.append([r.dimension, "0", "0", "no record carries it", "", "", "", ""])
            continue
        base = "-" if r.majority is None else f"{r.majority:.3f} ({r.majority_label})"
        rows.append(
            [
                r.dimension,
                str(r.n),
                str(r.cases),
                r.metrics["accuracy"].text(),
                base,
                r.metrics["recall"].text(),
                r.metrics["f1"].text(),
                r.metrics["auroc"].text(),
            ]
        )
    return rows


def retrieval_rows(report: Mapping[str, Any]) -> Rows:
    """Header and one row per protocol, gallery, direction and kind of match."""
    rows: Rows = [
        ["protocol", "gallery", "direction", "found", "R@1", "R@5", "R@10", "R@50", "median rank", "nDCG@10"]
    ]
    for protocol, galleries in report["retrieval"].items():
        for gallery in galleries:
            size = str(gallery["gallery"]) + (f" x {gallery['draws']}" if gallery["draws"] > 1 else " (all)")
            for direction in ("image to text", "text to image"):
                found = gallery[direction]
                for match, values in found.items():
                    if match != "semantic":
                        rows.append(
                            [
                                protocol,
                                size,
                                direction,
                                match,
                                *[f"{values[f'R@{k}']:.3f}" for k in (1, 5, 10, 50)],
                                f"{values['median rank']:.1f}",
                                f"{found['semantic']['nDCG@10']:.3f}" if match == "exact pair" else "",
                            ]
                        )
    return rows


def probe_rows(report: Mapping[str, Any]) -> Rows:
    """Header and one row a probed dimension."""
    rows: Rows = [
        [
            "dimension",
            "n train",
            "n test",
            "classes",
            "linear probe",
            "majority",
            "1-shot",
            "4-shot",
            "16-shot",
        ]
    ]
    linear: Mapping[str, Any] = report["probes"].get("linear", {})
    shots: Sequence[Mapping[str, Any]] = report["probes"].get("few_shot", [])
    for name, values in linear.items():
        few = {
            row["shots"]: f"{row['accuracy']:.3f} ± {row['sd']:.3f}"
            for row in shots
            if row["dimension"] == name
        }
        rows.append(
            [
                name,
                str(values["n_train"]),
                str(values["n_test"]),
                str(values["classes"]),
                Interval(**values["accuracy"]).text(),
                f"{values['majority']:.3f}",
                *[few.get(k, "-") for k in (1, 4, 16)],
            ]
        )
    return rows


def verdict(results: Sequence[AttributeResult], cases: int, run: Run) -> list[str]:
    """Whether the zero-shot accuracy beats the majority label, and if not, what the figures say about why."""
    judged = [r for r in results if r.n and r.majority is not None]
    if not judged:
        return ["No record of this side carries a label that the training side has: nothing can be compared."]
    accuracy = float(np.mean([v for r in judged if (v := r.metrics["accuracy"].value) is not None]))
    majority = float(np.mean([r.majority for r in judged if r.majority is not None]))
    above = accuracy > majority
    sentences = [
        f"Zero-shot AvgAcc {accuracy:.3f} is {'above' if above else 'not above'} the majority baseline "
        f"{majority:.3f} (mean over {len(judged)} dimensions)."
    ]
    better = [r.dimension for r in judged if (r.metrics["above_majority"].low or 0.0) > 0]
    if better:
        sentences.append(
            f"Clearly above it (the interval of the difference excludes 0): {', '.join(better)}."
        )
    elif above:
        sentences.append("In no single dimension does the interval of the difference exclude 0.")
    return sentences if above else sentences + _reasons(judged, cases, run)


def _training_reasons(run: Run) -> list[str]:
    if run.imported:
        return ["the weights were trained elsewhere, perhaps on other organs, words or machines"]
    subjects = len(run.data()["subjects"].get("train", []))
    steps = max((row["step"] for row in read_metrics(run)), default=0)
    reasons: list[str] = []
    if subjects < 200:
        reasons.append(
            f"the run saw {subjects} training subjects, too few to learn words and pictures from scratch"
        )
    if steps < 500:
        reasons.append(f"it took {steps} steps (schedule.epochs, schedule.max_steps)")
    return reasons


def _reasons(judged: Sequence[AttributeResult], cases: int, run: Run) -> list[str]:
    reasons = _training_reasons(run)
    one = [r.dimension for r in judged if (r.confusion.sum(axis=1) > 0).sum() == 1]
    if one:
        reasons.append(
            f"in {', '.join(one)} every test record has the same label, which a constant answer gets right"
        )
    if cases < 30:
        reasons.append(f"the test side has {cases} cases, so each figure has a wide interval")
    if not reasons:
        return [
            "The training did not teach these labels; look at plots/training.png and at the label coverage."
        ]
    return ["Likely why: " + "; ".join(reasons) + "."]
