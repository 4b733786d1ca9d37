"""``usds ingest``: raw exports to de-identified frames and captions."""

from __future__ import annotations

import signal
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usds.cli import console
from usds.cli.console import ConfigOption, DatasetOption, DryRunOption, JsonOption
from usds.schemas.errors import UsageError

if TYPE_CHECKING:
    from usds.curation.ingest import IngestReport

__all__ = ["register"]

_ROLES = ("image", "caption", "subject")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "ingest",
        epilog="Example:  usds ingest raw/ --dataset dataset  (run again after an interruption, it goes on)",
    )(ingest)


def ingest(
    raw: Annotated[list[Path], typer.Argument(help="Folders or files of the raw export.", metavar="RAW...")],
    *,
    dataset: DatasetOption = console.DEFAULT_DATASET,
    config: ConfigOption = None,
    subjects: Annotated[
        Path | None,
        typer.Option(help="CSV file,subject: who a file or a PatientID belongs to.", metavar="FILE"),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option("--map", help="Columns of caption tables.", metavar="image=COL,caption=COL,subject=COL"),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Key of a new dataset; a random one without it.", metavar="FILE")
    ] = None,
    redo: Annotated[bool, typer.Option("--redo", help="Write every file again, with these settings.")] = (
        False
    ),
    retry: Annotated[
        bool, typer.Option("--retry", help="Try failures again that may have passed: permission, disk, time.")
    ] = False,
    retry_review: Annotated[
        bool, typer.Option("--retry-review", help="Try the files under review again.")
    ] = False,
    retry_quarantined: Annotated[
        bool, typer.Option("--retry-quarantined", help="Try the quarantined files again.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; all cores without it.")
    ] = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> int:
    """Raw exports -> de-identified frames and captions.

    DICOM, stills, clips, archives and the text beside them are told by content. What cannot be used is
    named with a reason; nothing is written that was not verified. Exit code 3: done, but some files were
    rejected or quarantined.
    """
    from usds.curation.ingest import IngestOptions, preview
    from usds.curation.ingest import ingest as run
    from usds.curation.linking import LinkOptions
    from usds.curation.settings import IngestSettings

    output = console.Output(json)
    overrides: dict[str, Any] = {"run.workers": workers, "columns": _columns(columns)}
    settings = console.load_settings(IngestSettings, config, "ingest", overrides)
    again = {"transient": retry, "review": retry_review, "quarantined": retry_quarantined}
    options = IngestOptions(
        key_file=key, link=LinkOptions.read(subjects), redo=redo,
        retry=frozenset(name for name, wanted in again.items() if wanted), command=console.command_line(),
    )  # fmt: skip
    if dry_run:
        found = preview(raw, dataset, settings, options)
        output.data(found)
        output.show(f"{found['files']} files, {found['bytes'] / 1e6:.1f} MB below {_names(raw)}")
        if found["dataset_exists"]:
            output.show(f"{dataset}: {found['new']} of them are new or changed")
        output.note("dry run: nothing was written")
        return 0
    with _interruptible(), console.progress("looking for files") as bar:
        report = run(raw, dataset, settings, options, watcher=bar)
    _show(output, report)
    return report.exit_code


@contextmanager
def _interruptible() -> Generator[None]:
    """Let a polite kill end the run as an interrupt does: workers stop, the lock is released."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _columns(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    for role, mark, column in pairs:
        if not mark or not column or role.strip() not in _ROLES:
            raise UsageError(f"--map {text!r}: write image=COL,caption=COL,subject=COL; each may be left out")
    return {role.strip(): column.strip() for role, _, column in pairs}


def _names(raw: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in raw)


def _show(output: console.Output, report: IngestReport) -> None:
    from dataclasses import asdict

    from rich.table import Table

    from usds.curation.outcomes import HARMLESS, outcome_of

    output.data({**asdict(report), "exit_code": report.exit_code})
    if report.done == 0:
        output.show(f"{report.dataset}: nothing to do, all {report.files} files are known")
    table = Table("outcome", "reason", "files", title=None)
    for reason, count in sorted(report.reasons.items(), key=lambda item: (outcome_of(item[0]), item[0])):
        table.add_row(outcome_of(reason), reason, str(count))
    output.show(table)
    output.show(
        f"{report.dataset}: {report.frames} frames, {report.captions} captions, {report.subjects} subjects"
        f" ({report.near_duplicates} near duplicates)"
    )
    if report.withheld_captions:
        output.show(f"captions withheld: {report.withheld_captions}; they stay in the private state")
    if report.refused:
        query = (
            "SELECT source_key, reason FROM sources WHERE outcome IN ('rejected', 'quarantined') "
            f"AND reason NOT IN {tuple(sorted(HARMLESS))}"
        )
        output.show(
            f'files refused: {report.refused}; usds sql "{query}" lists them, usds locate KEY names each'
        )
    if waiting := sum(n for reason, n in report.reasons.items() if outcome_of(reason) == "review"):
        output.show(f"files under review: {waiting}; `usds review --pictures` shows and settles them")
    for warning in report.warnings:
        output.note(f"warning: {warning}")
