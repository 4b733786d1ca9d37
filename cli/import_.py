"""`usds import`: published datasets and released weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usds.cli.console import (
    DEFAULT_DATASET,
    DatasetOption,
    DryRunOption,
    JsonOption,
    Output,
    command_line,
    progress,
)
from usds.cli.taxonomies import TaxonomyOption, open_taxonomy

if TYPE_CHECKING:
    from usds.curation.published.us365k import ImportReport

__all__ = ["register"]

_SHOWN = 5
_WEIGHTS_EXAMPLE = (
    "Example:  usds import weights ultrasound_clip.pt --text-tower biomedbert/ --out runs/released  "
    "(then usds evaluate runs/released)"
)


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(no_args_is_help=True, help="Load a published dataset, or released weights.")
    group.command("us365k", epilog="Example:  usds import us365k US-365K/ --dataset us365k")(us365k)
    group.command("weights", epilog=_WEIGHTS_EXAMPLE)(weights)
    app.add_typer(group, name="import")


def us365k(
    release: Annotated[
        Path,
        typer.Argument(
            help="Folder with train.jsonl, valid.jsonl, test.jsonl, full_data.json, images/ or images.zip.",
            metavar="DIR",
        ),
    ],
    *,
    dataset: DatasetOption = DEFAULT_DATASET,
    taxonomy: TaxonomyOption = "udt",
    key: Annotated[
        Path | None, typer.Option(help="Key of a new dataset; a random one without it.", metavar="FILE")
    ] = None,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> int:
    """US-365K as released -> a dataset: pictures, captions, published labels and split.

    Pictures keep their bytes, without metadata; nothing is redacted, for the release is public. The published
    labels are the label set `us365k`; `usds annotate` adds its own beside it. Run the command again after an
    interruption: finished tasks are kept. Exit code 3: done, but some pictures or lines could not be used.
    """
    from usds.curation.published.us365k import import_us365k, preview_us365k
    from usds.schemas.state import read_key_file

    output = Output(json)
    loaded = open_taxonomy(taxonomy, output)
    if dry_run:
        report = preview_us365k(release, loaded)
    else:
        with progress("reading the release") as bar:
            report = import_us365k(
                release,
                dataset,
                loaded,
                key=read_key_file(key) if key else None,
                command=command_line(),
                progress=lambda done, total: bar.update(done=done, total=total, label="pictures"),
            )
    _show(output, report, dry_run=dry_run)
    return report.exit_code


def _show(output: Output, report: ImportReport, *, dry_run: bool) -> None:
    from dataclasses import asdict

    output.data({**asdict(report), "exit_code": report.exit_code})
    output.show(_table(report))
    for line in [*report.warnings, *_troubles(report)]:
        output.note(f"warning: {line}")
    if dry_run:
        output.note("dry run: nothing was written")
        return
    if not report.done:
        output.show(f"{report.dataset}: every picture was there already")
    output.show(f"next:  usds stats --dataset {report.dataset}    usds train --dataset {report.dataset}")


def _table(report: ImportReport) -> Any:
    from rich.table import Table

    table = Table("what", "how many")
    for name, count in (
        ("pairs in the split files", report.pairs),
        ("frames", report.frames),
        ("cases", report.cases),
        ("captions", report.captions),
        ("frames whose caption describes nothing", report.no_findings),
        ("frames without published labels", report.unlabelled),
        ("near duplicates", report.near_duplicates),
    ):
        if count:
            table.add_row(name, f"{count:,}")
    for side, count in report.sides.items():
        table.add_row(f"cases of the split default, {side}", f"{count:,}")
    for reason, count in report.refused.items():
        table.add_row(f"pictures refused, {reason}", f"{count:,}")
    return table


def _troubles(report: ImportReport) -> list[str]:
    found = [
        f"{name}: {len(numbers)} lines hold no pair {{image, caption}} (line {_some(numbers)})"
        for name, numbers in report.bad_lines.items()
    ]
    if report.refused.get("unmatched_sidecar"):
        found.append(
            f"{report.refused['unmatched_sidecar']} listed pictures are not there: download images.zip "
            "again, or go on without them"
        )
    if report.unknown_labels:
        some = [f"{name!r} ({count} records)" for name, count in list(report.unknown_labels.items())[:_SHOWN]]
        more = ", ..." if len(report.unknown_labels) > _SHOWN else ""
        found.append(
            f"labels that the taxonomy lacks were left out: {', '.join(some)}{more}; name a copy of it that "
            "has them with --taxonomy FILE"
        )
    if report.excluded:
        sides = ", ".join(f"{count} of {side}" for side, count in report.excluded.items())
        found.append(
            "the published split leaks: the split default leaves out cases that share a picture with a later "
            f"side ({sides}); the split published is as released"
        )
    return found


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:_SHOWN])) + (", ..." if len(numbers) > _SHOWN else "")


# -- weights --------------------------------------------------------------------------------------------


def weights(
    file: Annotated[
        Path, typer.Argument(help="A checkpoint, or an open_clip folder with one.", metavar="FILE")
    ],
    *,
    out: Annotated[Path | None, typer.Option(help="Run folder.  [default: a new one in ./runs]")] = None,
    towers: Annotated[
        str | None,
        typer.Option(
            help="Architecture: an open_clip name, a JSON configuration, local-dir:FOLDER.  "
            "[default: what the file or its folder says]",
            metavar="NAME",
        ),
    ] = None,
    text_tower: Annotated[
        Path | None, typer.Option(help="Folder of the BERT: config.json, vocab.txt.", metavar="DIR")
    ] = None,
    taxonomy: TaxonomyOption = "udt",
    json: JsonOption = False,
) -> None:
    """Released weights -> a run that evaluate, search and export take.

    Reads the released Ultrasound-CLIP layout (base_clip.*, graph_encoder.*, text_graph_fusion.*),
    BiomedCLIP-style and other open_clip checkpoints and folders, and runs of usds. What was loaded, dropped
    and left fresh is printed and kept in RUN/import.json. Nothing is downloaded.
    """
    from usds.model.imported import import_run

    output = Output(json)
    loaded = open_taxonomy(taxonomy, output)
    named = {"name": towers, "text_tower": str(text_tower) if text_tower else None}
    overrides = {"model": {"towers": {key: value for key, value in named.items() if value is not None}}}
    base, exact = (out, True) if out is not None else (Path("runs"), False)
    made = import_run(file, base, loaded, overrides, exact=exact)
    report = made.report
    output.data({"run": str(made.run.folder), "loaded": report.loaded, "dropped": report.dropped,
                 "missing": report.missing})  # fmt: skip
    settings = made.run.settings().model
    output.show(
        f"run {made.run.folder}: towers {settings.towers.name}, label path {settings.graph.kind}; "
        f"{len(report.loaded)} entries loaded, {len(report.dropped)} dropped, {len(report.missing)} left "
        "fresh"
    )
    for reason, names in _by_reason(report.dropped).items():
        output.show(f"dropped, {reason}: {_few(names)}")
    if report.missing:
        output.show(f"left fresh: {_few(report.missing)}")
    output.show(f"next:  usds evaluate {made.run.folder}")


def _by_reason(dropped: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, reason in dropped.items():
        found.setdefault(reason, []).append(name)
    return found


def _few(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
