"""`usds stats`: what is in the dataset, in the terminal, as JSON or as an HTML report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usds.cli.console import DEFAULT_DATASET, DatasetOption, JsonOption, Output, progress

if TYPE_CHECKING:
    from rich.table import Table

    from usds.curation.stats import CountTable, Stats

__all__ = ["register"]

TOP = 12


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("stats", epilog="Example:  usds stats --html report.html")(stats)


def stats(
    *,
    dataset: DatasetOption = DEFAULT_DATASET,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", help="Write a report with plots and pictures; counts below 5 are hidden in it."
        ),
    ] = None,
    set_name: Annotated[str | None, typer.Option("--set", help="Annotation set to count.")] = None,
    split: Annotated[str, typer.Option("--split", help="Split to count.")] = "default",
    json: JsonOption = False,
) -> None:
    """Count frames, subjects, labels, outcomes and de-identification.

    The terminal and --json show exact counts, for whoever holds the dataset; the HTML report is made to be
    handed on and prints counts of 1 to 4 as <5.
    """
    from usds.curation.stats import collect_stats
    from usds.schemas.dataset import Dataset

    output = Output(json)
    opened = Dataset.open(dataset)
    with progress("counting"):
        found = collect_stats(opened, set_name=set_name, split=split)
    output.data({**found.to_json(), "html": str(html) if html else None})
    for table in _tables(found):
        output.show(table)
    for hint in found.missing:
        output.note(f"note: {hint}")
    if html is not None:
        from usds.curation.report import write_report

        with progress("drawing the report"):
            write_report(opened, found, html)
        output.show(f"report: {html}")


def _tables(found: Stats) -> Iterator[Table]:
    yield _grid("Dataset", [(name.replace("_", " "), f"{count:,}") for name, count in found.totals.items()])
    if found.coverage is not None:
        frames = found.totals["frames"] or 1
        rows = [(name, f"{n:,}", f"{int(n) / frames:.0%}") for name, (n,) in found.coverage.rows]
        yield _grid(f"Frames with a label ({found.annotation_set})", rows, ("dimension", "frames", "share"))
    for label_table in found.labels:
        if label_table.rows:
            yield _counts(label_table)
    for key in ("split", "outcomes", "captions", "modes", "vendors", "quality"):
        table = found.table(key)
        if table is not None and table.rows:
            yield _counts(table)
    yield _grid("De-identification", [(name.replace("_", " "), _number(n)) for name, n in found.deid.items()])


def _number(value: float) -> str:
    """A count as it is, a share in percent."""
    return f"{value:.2%}" if isinstance(value, float) else f"{value:,}"


def _counts(table: CountTable) -> Table:
    rows = [(name, *(f"{count:,}" for count in counts)) for name, counts in table.rows[:TOP]]
    if len(table.rows) > TOP:
        rows.append((f"... {len(table.rows) - TOP} more, see --json", *([""] * len(table.columns))))
    return _grid(table.title, rows, ("", *table.columns))


def _grid(title: str, rows: list[tuple[str, ...]], columns: tuple[str, ...] = ("", "")) -> Table:
    from rich import box
    from rich.table import Column, Table
    from rich.text import Text

    first, *others = columns
    grid = Table(
        Column(first, min_width=34),
        *(Column(name, justify="right") for name in others),
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD if any(columns) else None,
    )  # fmt: skip
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    return grid
