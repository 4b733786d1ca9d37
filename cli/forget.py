"""``usds forget``: a subject withdraws."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from usds.cli import console
from usds.cli.console import DatasetOption, DryRunOption, JsonOption
from usds.schemas.errors import UsageError

__all__ = ["register"]

_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("forget", epilog="Example:  usds forget --from-raw raw/patient7/scan.dcm")(forget)


def forget(
    subject: Annotated[
        str | None, typer.Argument(help="Subject id as it stands in the dataset.", metavar="SUBJECT")
    ] = None,
    *,
    from_raw: Annotated[
        Path | None, typer.Option("--from-raw", help="A raw file of the subject.", metavar="FILE")
    ] = None,
    dataset: DatasetOption = console.DEFAULT_DATASET,
    runs: Annotated[Path, typer.Option(help="Folder of trained runs to look through.", metavar="DIR")] = Path(
        "runs"
    ),
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> int:
    """Remove a subject that withdraws: frames, captions, labels, splits, and what the private state knows.

    The subject is never ingested again. Trained runs that contain it are listed; they are not changed.
    """
    from usds.curation.forget import forget as remove
    from usds.curation.forget import holdings, runs_with, subject_of_file
    from usds.model.cache import cache_folder
    from usds.schemas.dataset import Dataset
    from usds.schemas.state import State

    if (subject is None) == (from_raw is None):
        raise UsageError("name the subject, or a raw file of it with --from-raw; one of the two")
    opened = Dataset.open(dataset)
    state = State.open(opened.info.dataset_id, opened.info.key_fingerprint)
    who = subject_of_file(state, from_raw) if from_raw is not None else str(subject)
    output = console.Output(json)
    if dry_run:
        found = holdings(opened, state, who)
        listed = runs_with(who, runs)
        output.data(
            {"subject_id": who, "frames": len(found.frames), "captions": len(found.captions), "runs": listed}
        )
        output.show(f"{who}: {len(found.frames)} frames and {len(found.captions)} captions would go")
        output.note("dry run: nothing was written")
        return 0
    with opened.lock(console.command_line()):
        report = remove(opened, state, who, runs=runs)
    # Training keeps resized frames of the whole dataset outside it; they are made again when needed.
    shutil.rmtree(cache_folder(None) / opened.info.dataset_id, ignore_errors=True)
    output.data(asdict(report))
    output.show(
        f"{who}: {report.frames} frames and {report.captions} captions of {report.sources} files are gone"
    )
    for frame in report.copies[:_SHOWN]:
        output.note(
            f"look at `usds show {frame}`: the same picture as one of this subject, filed under another"
        )
    if len(report.copies) > _SHOWN:
        output.note(f"and {len(report.copies) - _SHOWN:,} more: --json lists them")
    for run in report.runs:
        output.show(f"run {run} was made with this subject: delete {runs / run}, or train again")
    return 0
