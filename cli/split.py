"""`usds split`: place subjects in train, valid and test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from usds.cli.console import (
    DEFAULT_DATASET,
    ConfigOption,
    DatasetOption,
    DryRunOption,
    JsonOption,
    Output,
    command_line,
    load_settings,
)
from usds.schemas.errors import ContentError

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("split", epilog="Example:  usds split --train 0.7 --valid 0.1 --test 0.2 --name wide")(split)


def split(
    *,
    dataset: DatasetOption = DEFAULT_DATASET,
    name: Annotated[str, typer.Option("--name", help="Name of the split.")] = "default",
    train: Annotated[float | None, typer.Option(help="Share of train.  [default: 0.6]")] = None,
    valid: Annotated[float | None, typer.Option(help="Share of valid.  [default: 0.2]")] = None,
    test: Annotated[float | None, typer.Option(help="Share of test.  [default: 0.2]")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look for leaks in the split; exit 1 if there are any.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Place every subject on one side: train, valid or test.

    Subjects placed earlier stay; new ones go where their organs are missing most. Subjects that share a
    near-duplicate picture move as one.
    """
    from usds.curation.split import SplitSettings, find_leaks, split_dataset, split_key
    from usds.schemas.dataset import Dataset

    output = Output(json)
    opened = Dataset.open(dataset)
    if check:
        leaks = find_leaks(opened, name)
        output.data([{"kind": leak.kind, "sides": leak.sides, "ids": leak.ids} for leak in leaks])
        if leaks:
            kinds = ", ".join(sorted({leak.kind for leak in leaks}))
            raise ContentError(
                f"split {name!r} leaks in {len(leaks)} places ({kinds}); --check --json lists them; `usds "
                f"split --name {name}` moves subjects that share a picture to the side `excluded`"
            )
        output.show(f"split {name!r}: no subject and no near-duplicate picture on two sides")
        return
    settings = load_settings(SplitSettings, config, "split", {"train": train, "valid": valid, "test": test})
    key = split_key(opened)
    if dry_run:
        report = split_dataset(opened, key, settings, name=name, dry_run=True)
    else:
        with opened.lock(command_line()):
            report = split_dataset(opened, key, settings, name=name)
    output.data(report)
    verb = "would place" if dry_run else "placed"
    output.show(f"split {name!r}: {verb} {report.placed_now} new subjects, kept {report.kept}")
    output.show(_table(report.subjects, report.frames))


def _table(subjects: Mapping[str, int], frames: Mapping[str, int]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("side", "subjects", "frames", box=box.SIMPLE_HEAD)
    for side in ("train", "valid", "test", "excluded"):
        if side in subjects:
            table.add_row(side, f"{subjects[side]:,}", f"{frames.get(side, 0):,}")
    return table
