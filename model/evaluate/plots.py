"""Pictures of an evaluation: attribute accuracy with intervals, confusion matrices, retrieval examples."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from usds.model.evaluate.attributes import AttributeResult
from usds.schemas.files import atomic_path

__all__ = ["Example", "plot_accuracy", "plot_confusion", "plot_examples"]

_MOST_LABELS = 30
_MOST_COUNTED = 15  # labels up to which the cells of a confusion matrix hold their counts
_CELL, _ROW = 2.1, 3.0  # inches of a retrieved picture with its note, and of a row with its query


@dataclass(frozen=True, eq=False)
class Example:
    """A text query with the frames it found.

    Attributes
    ----------
    query : str
        The text.
    images : sequence of uint8 (H, W, 3)
        Best first.
    notes : sequence of str
        What stands below each picture.
    hits : sequence of bool
        Whether a picture has the query's caption.
    """

    query: str
    images: Sequence[npt.NDArray[np.uint8]]
    notes: Sequence[str]
    hits: Sequence[bool]


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format="png")
    return path


def _title(dimension: str) -> str:
    return dimension.replace("_", " ")


def plot_accuracy(results: Sequence[AttributeResult], path: Path) -> Path | None:
    """Accuracy of each judged dimension with its interval, beside the majority baseline."""
    judged = [r for r in results if r.n]
    if not judged:
        return None
    figure = Figure(figsize=(8, 0.5 * len(judged) + 1.2), layout="constrained")
    panel: Any = figure.subplots()
    for row, result in enumerate(reversed(judged)):
        found = result.metrics["accuracy"]
        value = found.value or 0.0
        low, high = (found.low, found.high) if found.low is not None else (value, value)
        panel.errorbar(
            value,
            row,
            xerr=[[value - (low or 0.0)], [(high or 0.0) - value]],
            fmt="o",
            color="tab:blue",
            capsize=3,
        )
        if result.majority is not None:
            panel.plot(
                result.majority, row, "D", color="tab:orange", markersize=6, fillstyle="none", zorder=3
            )
    panel.plot([], [], "o-", color="tab:blue", label="accuracy, 95 % interval by case")
    panel.plot([], [], "D", color="tab:orange", fillstyle="none", label="majority label of the training side")
    panel.set_yticks(range(len(judged)), [f"{_title(r.dimension)} (n={r.n})" for r in reversed(judged)])
    panel.set(xlim=(-0.02, 1.02), xlabel="zero-shot accuracy")
    panel.grid(axis="x", color="0.9")
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    return _save(figure, path)


def plot_confusion(result: AttributeResult, path: Path) -> Path | None:
    """Gold labels (rows, as shares of the row) by predicted labels, those that occur only."""
    counts = result.confusion
    seen = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    if not len(seen):
        return None
    seen = np.sort(seen[np.argsort(-(counts.sum(axis=0) + counts.sum(axis=1))[seen])][:_MOST_LABELS])
    part = counts[np.ix_(seen, seen)]
    share = part / np.maximum(part.sum(axis=1, keepdims=True), 1)
    names = [result.labels[i] for i in seen]
    side = max(3.5, 0.42 * len(seen) + 2.4)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    panel: Any = figure.subplots()
    picture = panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    panel.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    panel.set_yticks(
        range(len(names)), [f"{n} ({int(part[i].sum())})" for i, n in enumerate(names)], fontsize=8
    )
    if len(names) <= _MOST_COUNTED:
        for i, j in zip(*np.nonzero(part), strict=True):
            colour = "white" if share[i, j] > 0.5 else "black"
            panel.text(j, i, str(int(part[i, j])), ha="center", va="center", fontsize=8, color=colour)
    panel.set(title=_title(result.dimension), xlabel="predicted", ylabel="gold (n)")
    figure.colorbar(picture, shrink=0.7, label="share of the gold label")
    return _save(figure, path)


def plot_examples(examples: Sequence[Example], path: Path) -> Path | None:
    """One row a query: its text and the frames it found; a green frame marks the query's own caption."""
    if not examples:
        return None
    width = max(len(example.images) for example in examples)
    figure = Figure(figsize=(_CELL * width, _ROW * len(examples)))
    for line, example in enumerate(examples):
        top = 1 - line / len(examples)
        query = textwrap.fill(example.query, 24 * width, max_lines=2, placeholder=" ...")
        figure.text(0.01, top - 0.06 / len(examples), query, fontsize=9, weight="bold", va="top")
        for place, image in enumerate(example.images):
            # Below two lines of query, above two lines of note; the same square for every picture.
            box = (
                (place + 0.06) / width,
                1 - (line + 0.84) / len(examples),
                0.88 / width,
                0.64 / len(examples),
            )
            panel: Any = figure.add_axes(box)
            panel.imshow(image)
            panel.set_xticks([])
            panel.set_yticks([])
            note = textwrap.fill(example.notes[place], 30, max_lines=2, placeholder=" ...")
            panel.set_xlabel(note, fontsize=7)
            for edge in panel.spines.values():
                edge.set(
                    color="tab:green" if example.hits[place] else "0.7",
                    linewidth=3 if example.hits[place] else 1,
                )
    return _save(figure, path)
