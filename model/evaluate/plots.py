"""Pictures of an evaluation: attribute accuracy with intervals, confusion matrices, retrieval examples."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from usds.model.evaluate.attributes import AttributeResult
from usds.schemas.files import atomic_path

__all__ = ["Example", "plot_accuracy", "plot_confusion", "plot_examples", "write_page"]

_MOST_LABELS = 30


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
            panel.plot(result.majority, row, "|", color="black", markersize=14)
    panel.set_yticks(range(len(judged)), [f"{r.dimension} (n={r.n})" for r in reversed(judged)])
    panel.set(xlim=(0, 1.02), xlabel="zero-shot accuracy, 95 % interval by case;  | = majority label")
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
    panel.set(title=result.dimension, xlabel="predicted", ylabel="gold (n)")
    figure.colorbar(picture, shrink=0.7)
    return _save(figure, path)


def plot_examples(examples: Sequence[Example], path: Path) -> Path | None:
    """One row a query: its text and the frames it found; a green frame marks the query's own caption."""
    if not examples:
        return None
    width = max(len(example.images) for example in examples)
    figure = Figure(figsize=(1.9 * width, 2.5 * len(examples)), layout="constrained")
    grid: Any = figure.subplots(len(examples), width, squeeze=False)
    for line, example in zip(grid, examples, strict=True):
        for place, panel in enumerate(line):
            panel.set_xticks([])
            panel.set_yticks([])
            if place >= len(example.images):
                panel.axis("off")
                continue
            panel.imshow(example.images[place])
            panel.set_xlabel(example.notes[place], fontsize=7)
            for edge in panel.spines.values():
                edge.set(
                    color="tab:green" if example.hits[place] else "0.7",
                    linewidth=3 if example.hits[place] else 1,
                )
        line[0].set_title(example.query[:110], fontsize=8, loc="left")
    return _save(figure, path)


def write_page(
    title: str, tables: Sequence[tuple[str, Sequence[Sequence[str]]]], pictures: Sequence[Path], path: Path
) -> None:
    """One HTML file with tables and pictures inside; it needs nothing beside it."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for name, rows in tables:
        cells = "".join(
            "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
            for tag, row in zip(["th", *["td"] * len(rows)], rows, strict=False)
        )
        parts.append(f"<h2>{html.escape(name)}</h2><table>{cells}</table>")
    for picture in pictures:
        data = base64.b64encode(picture.read_bytes()).decode()
        parts.append(f'<p><img alt="{html.escape(picture.stem)}" src="data:image/png;base64,{data}"></p>')
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.2rem .7rem;"
        "border-bottom:1px solid #ddd;text-align:left}img{max-width:100%}"
    )
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style>{''.join(parts)}</html>"
    )
    with atomic_path(path) as partial:
        partial.write_text(page, "utf-8")
