"""`usds audit`: search the finished dataset for what must not be in it."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usds.cli.console import DEFAULT_DATASET, JsonOption, Output, command_line, progress

if TYPE_CHECKING:
    from usds.curation.audit.run import AuditReport
    from usds.curation.deid.harvest import IdentifierIndex
    from usds.schemas.dataset import Dataset
    from usds.schemas.state import State

__all__ = ["register"]

_SHOWN = 40


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit", epilog="Example:  usds audit dataset --raw raw/ --html audit.html")(audit)


def audit(
    *,
    dataset: Annotated[
        Path, typer.Argument(envvar="USDS_DATASET", help="The dataset directory.", metavar="DATASET")
    ] = DEFAULT_DATASET,
    raw: Annotated[
        list[Path] | None,
        typer.Option("--raw", help="Harvest the identifiers again from this raw folder.", metavar="RAW"),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the findings as a page.")] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Keep the pictures in doubt in the private state, to look at.")
    ] = False,
    json: JsonOption = False,
) -> int:
    """Read the dataset as an adversary would: every string, every image, every file.

    Identifiers are compared with those of the private state, or of RAW; patterns are searched always. Images
    are read by Tesseract, another family than the one that cleaned them. Exit 1 on any finding; 3 when
    nothing was found but no independent reader is installed.
    """
    from usds.curation.audit.run import audit as run
    from usds.schemas.dataset import Dataset

    output = Output(json)
    opened = Dataset.open(dataset)
    state = _state(opened, required=show)
    index = _harvest(raw) if raw else _index(state, output)
    total = sum(manifest.files["images"].rows for manifest in opened.manifests().values())
    writable = os.access(opened.root, os.W_OK)
    if not writable:
        output.note("note: the dataset cannot be written here: its audit.json stays as it is")
    held = opened.lock(command_line()) if writable else nullcontext()
    with held, progress("reading images", total) as bar:
        report = run(opened, index, state=state, show=show, note=writable, advance=bar.advance)
    output.data(report.to_json())
    _render(report, output)
    if html is not None:
        from usds.curation.audit.report import write_audit_html

        write_audit_html(report, html)
        output.show(f"report: {html}")
    if show and state is not None and report.image_findings:
        output.note(f"pictures in doubt: {state.folder / 'audit'}")
    if report.findings:
        return 1
    return 0 if report.independent else 3


def _state(dataset: Dataset, *, required: bool) -> State | None:
    from usds.schemas.errors import ContentError
    from usds.schemas.state import State

    try:
        return State.open(dataset.info.dataset_id, dataset.info.key_fingerprint)
    except ContentError:
        if required:
            raise
        return None


def _index(state: State | None, output: Output) -> IdentifierIndex | None:
    from usds.curation.deid.harvest import IdentifierIndex

    if state is None:
        output.note("note: no private state of this dataset here and no --raw: only patterns are searched")
        return None
    return IdentifierIndex.load(state)


def _harvest(raws: list[Path]) -> IdentifierIndex:
    from usds.curation.harvesting import harvest_raw

    with progress("reading raw headers"):
        return harvest_raw(raws)


def _render(report: AuditReport, output: Output) -> None:
    from rich.table import Table

    from usds.curation.audit.report import verdict

    table = Table(title="Audit", title_justify="left")
    for column in ("class", "place", "masked value"):
        table.add_column(column, overflow="fold")
    for finding in report.findings[:_SHOWN]:
        table.add_row(finding.klass, finding.place, finding.masked)
    if report.findings:
        output.show(table)
    if len(report.findings) > _SHOWN:
        output.show(f"... and {len(report.findings) - _SHOWN:,} more: --json or --html has all of them")
    output.show(
        f"read: {report.images:,} images with {report.reader}, {report.strings:,} strings, "
        f"{report.files:,} files; compared with {report.identifiers:,} identifiers",
        f"combinations of facts that fewer than five subjects share: {len(report.cohorts):,} (see --html)",
        verdict(report),
    )
