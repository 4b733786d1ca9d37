"""`usds doctor`: what works on this machine, what does not, how to mend it."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usds.cli.console import DEFAULT_DATASET, DatasetOption, JsonOption, Output

if TYPE_CHECKING:
    from rich.table import Table

    from usds.cli.checks import Check

__all__ = ["register"]

_MARKS = {"ok": ("ok", "green"), "warning": ("note", "yellow"), "fail": ("FAIL", "bold red")}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", epilog="Example:  usds doctor --json")(doctor)


def doctor(
    *,
    dataset: DatasetOption = DEFAULT_DATASET,
    runs: Annotated[Path, typer.Option("--runs", help="Folder of the training runs.")] = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Check versions, codecs, models, GPU, folders and the key. Exit 1 if anything fails."""
    from usds.cli.checks import run_checks

    output = Output(json)
    checks = list(run_checks(dataset, runs))
    failed = [check for check in checks if check.status == "fail"]
    output.data({"ok": not failed, "checks": checks})
    for group, members in groupby(checks, key=lambda check: check.group):
        output.show(_table(group, list(members)))
    output.show(f"{len(failed)} of {len(checks)} checks failed" if failed else "everything needed works")
    if failed:
        raise typer.Exit(1)


def _table(group: str, checks: list[Check]) -> Table:
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(
        Column(width=5), Column(width=24), Column(overflow="fold"),
        title=group, title_justify="left", title_style="bold", box=None, show_header=False,
    )  # fmt: skip
    for check in checks:
        mend = f"\n-> {check.mend}" if check.mend and check.status != "ok" else ""
        table.add_row(Text(*_MARKS[check.status]), Text(check.name), Text(check.detail + mend))
    return table
