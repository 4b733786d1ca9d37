"""`usds search`: find frames by text, or frames and labels by picture."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usds.cli.console import DEFAULT_DATASET, DatasetOption, JsonOption, Output, progress
from usds.schemas.errors import UsageError

if TYPE_CHECKING:
    from usds.model.search import Hit, LabelHit

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("search", epilog='Example:  usds search "hypoechoic nodule of the thyroid" --top 5')(search)


def search(
    *,
    text: Annotated[str | None, typer.Argument(help="What to look for, in words.", metavar="[TEXT]")] = None,
    image: Annotated[Path | None, typer.Option(help="A PNG or JPEG to look for.", metavar="FILE")] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder.  [default: the newest in ./runs]")] = None,
    dataset: DatasetOption = DEFAULT_DATASET,
    top: Annotated[int, typer.Option(min=1, help="How many frames.")] = 10,
    json: JsonOption = False,
) -> None:
    """Find the frames nearest to a text or a picture; for a picture also its likeliest labels.

    The vectors of all frames are made once and kept beside the run. `usds show FRAME` shows a frame.
    """
    from usds.model.run import find_run
    from usds.model.search import open_index, read_picture
    from usds.schemas.dataset import Dataset

    if (text is None) == (image is None):
        raise UsageError(
            'give a text or a picture: usds search "simple cyst of the liver", or usds search --image FILE'
        )
    output = Output(json)
    rgb = read_picture(image) if image is not None else None
    opened = Dataset.open(dataset)
    found = find_run(run)
    output.note(f"searching with {found.folder}" + ("" if run else " (the newest run)"))
    with progress("encoding frames") as bar:
        index = open_index(found, opened, progress=lambda done, total: bar.update(done=done, total=total))
    hits = index.by_text(text, top) if text is not None else index.by_picture(_given(rgb), top)
    labels = index.labels_of(rgb) if rgb is not None else []
    output.data({"frames": [asdict(h) for h in hits], "labels": [asdict(x) for x in labels]})
    output.show(_frames(hits, len(index.frame_ids)))
    if labels:
        output.show(_labels(labels))
        if index.unlearned:
            names = ", ".join(sorted(index.unlearned))
            output.note(f"no training record of the run had a label of {names}: none is guessed")


def _given(rgb: Any) -> Any:
    if rgb is None:
        raise UsageError("no picture: name one with --image")
    return rgb


def _frames(hits: list[Hit], n: int) -> Any:
    from rich.table import Table

    table = Table("cosine", "frame", "caption", title=f"nearest of {n} frames")
    for hit in hits:
        table.add_row(f"{hit.score:.3f}", hit.frame_id, hit.caption[:100] or "(none)")
    return table


def _labels(labels: list[LabelHit]) -> Any:
    from rich.table import Table

    table = Table(
        "dimension", "label", "share", title="likeliest labels (shares within a dimension; no diagnosis)"
    )
    last = ""
    for label in labels:
        table.add_row("" if label.dimension == last else label.dimension, label.label, f"{label.share:.2f}")
        last = label.dimension
    return table
