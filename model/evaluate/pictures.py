"""Writes an evaluation into a folder: figures as JSON, pictures, and one page that holds them all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from usds.model.evaluate.attributes import AttributeResult
from usds.model.evaluate.page import Picture, write_page
from usds.model.evaluate.plots import Example, plot_accuracy, plot_confusion, plot_examples
from usds.model.evaluate.run import Evaluation
from usds.model.evaluate.tables import attribute_rows, probe_rows, retrieval_rows
from usds.schemas.files import write_json

__all__ = ["retrieval_examples", "write_pictures"]


def write_pictures(evaluation: Evaluation, folder: Path, *, examples: int = 4, shown: int = 5) -> Path:
    """Write evaluation.json, the PNG files and index.html; return the page's path."""
    report = evaluation.report
    write_json(folder / "evaluation.json", report)
    tables = [
        ("Verdict", [["what the figures say"], *[[sentence] for sentence in report["verdict"]]]),
        ("Zero-shot attributes", attribute_rows(evaluation.attributes)),
        (
            "Retrieval (gallery sizes stated; text only and text + tags are not comparable)",
            retrieval_rows(report),
        ),
        (
            "Definitions",
            [
                ["what", "how"],
                *[[name, " ".join(text.split())] for name, text in report["definitions"].items()],
            ],
        ),
    ]
    if report["probes"]:
        tables.insert(3, ("Probes on frozen image vectors", probe_rows(report)))
    title = f"{report['run']}: {report['side']} side, {report['n']} frames of {report['cases']} cases"
    page = folder / "index.html"
    write_page(
        title, tables, _draw(evaluation, folder, retrieval_examples(evaluation, examples, shown)), page
    )
    return page


def _draw(evaluation: Evaluation, folder: Path, examples: list[Example]) -> list[Picture]:
    """Draw what can be drawn; a picture without data is left out."""
    judged = [result for result in evaluation.attributes if result.n]
    drawn = [
        (plot_accuracy(evaluation.attributes, folder / "accuracy.png"), "Zero-shot accuracy",
         "accuracy of each dimension with its interval, beside the majority label: the figures of the table"),
        (plot_examples(examples, folder / "retrieval.png"), "Frames found by text",
         "the frames nearest to some captions; a green frame marks the caption's own picture"),
        *((plot_confusion(result, folder / f"confusion-{result.dimension}.png"),
           f"Confusion, {result.dimension.replace('_', ' ')}", _confusion_in_words(result))
          for result in judged),
    ]  # fmt: skip
    return [Picture(path, heading, shows) for path, heading, shows in drawn if path is not None]


def _confusion_in_words(result: AttributeResult) -> str:
    rows = [
        (label, counts) for label, counts in zip(result.labels, result.confusion, strict=True) if counts.sum()
    ]
    most = "; ".join(f"{label} mostly as {result.labels[int(counts.argmax())]}" for label, counts in rows[:5])
    return f"share of each gold label by predicted label: {most}"


def retrieval_examples(evaluation: Evaluation, n: int, shown: int) -> list[Example]:
    """Text queries, drawn with a fixed seed among the distinct captions, with their nearest frames.

    Of each case the nearest frame is shown: frames of a clip look alike.
    """
    records = evaluation.records
    _, first = np.unique(records.captions, return_index=True)
    rng = np.random.default_rng(0)
    queries = np.sort(rng.choice(first, min(n, len(first)), replace=False))
    examples: list[Example] = []
    for row in queries:
        scores = evaluation.image @ evaluation.text[row]
        ranked = np.argsort(-scores, kind="stable")
        _, nearest = np.unique(records.subjects[ranked], return_index=True)
        best = ranked[np.sort(nearest)[:shown]]
        examples.append(
            Example(
                records.texts[int(row)],
                [evaluation.cache.image(records.frame_ids[int(i)]) for i in best],
                [f"{scores[i]:.2f}  {records.texts[int(i)]}" for i in best],
                [bool(records.captions[i] == records.captions[row]) for i in best],
            )
        )
    return examples
