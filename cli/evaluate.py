"""`usds evaluate`: retrieval, zero-shot labels and probes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from usds.cli.console import (
    DEFAULT_DATASET,
    ConfigOption,
    DatasetOption,
    JsonOption,
    Output,
    load_settings,
    progress,
)

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate", epilog="Example:  usds evaluate runs/20260402T120000Z-tiny-1a2b3c --side test")(
        evaluate
    )


def evaluate(
    *,
    run: Annotated[
        Path | None, typer.Argument(help="Run folder.  [default: the newest in ./runs]", metavar="[RUN]")
    ] = None,
    dataset: DatasetOption = DEFAULT_DATASET,
    side: Annotated[str | None, typer.Option(help="test or valid.  [default: test]")] = None,
    split: Annotated[str | None, typer.Option(help="Name of the split.  [default: the run's]")] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Label set to judge by.  [default: the run's, else the current]", metavar="SET"),
    ] = None,
    probe: Annotated[
        bool | None, typer.Option("--probe/--no-probe", help="Linear probe and few-shot.")
    ] = None,
    fine_tune: Annotated[
        list[str] | None, typer.Option(help="Tune the image tower on this dimension (slow); repeat it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report.  [default: RUN/evaluation]")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Measure a run on the side of the split that it did not see; refuses a split that leaks.

    Writes evaluation.json, pictures and one HTML page. Every figure stands beside its gallery size, its
    number of cases and its baseline; the definitions are in the report.
    """
    from usds.model.evaluate.pictures import write_pictures
    from usds.model.evaluate.run import EvaluateSettings
    from usds.model.evaluate.run import evaluate as measure
    from usds.model.run import find_run
    from usds.schemas.dataset import Dataset
    from usds.schemas.files import make_folder

    output = Output(json)
    opened = Dataset.open(dataset)
    found = find_run(run)
    output.note(f"evaluating {found.folder}" + ("" if run else " (the newest run)"))
    settings = load_settings(
        EvaluateSettings,
        config,
        "evaluate",
        {
            "side": side,
            "split": split,
            "labels": labels,
            "probe": probe,
            "fine_tune": tuple(fine_tune) if fine_tune else None,
        },
    )
    target = make_folder(out or found.folder / "evaluation")
    with progress("encoding frames") as bar:
        result = measure(
            found,
            opened,
            settings,
            note=output.note,
            progress=lambda done, total: bar.update(done=done, total=total),
        )
    page = write_pictures(result, target, examples=settings.examples)
    output.data({**result.report, "page": str(page)})
    _show(output, result)
    output.show(f"report: {page}")


def _show(output: Output, result: Any) -> None:
    from usds.model.evaluate.tables import attribute_rows, probe_rows, retrieval_rows

    report = result.report
    where = f"{report['side']} side, {report['n']} frames of {report['cases']} cases"
    output.show(_table(f"Retrieval, {where}", retrieval_rows(report)))
    output.show(
        _table(f"Zero-shot attributes, {where} (95 % intervals by case)", attribute_rows(result.attributes))
    )
    if report["probes"].get("linear"):
        output.show(_table("Probes on frozen image vectors", probe_rows(report)))
    for sentence in report["verdict"]:
        output.show(sentence)


def _table(title: str, rows: Sequence[Sequence[str]]) -> Any:
    from rich.table import Table

    table = Table(*rows[0], title=title)
    for row in rows[1:]:
        table.add_row(*row)
    return table
