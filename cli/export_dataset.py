"""`usds export hf|webdataset|croissant`: the dataset for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usds.cli.console import DEFAULT_DATASET, DatasetOption, JsonOption, Output, progress

__all__ = ["add_dataset_formats"]

FolderOption = Annotated[
    Path, typer.Option("--out", "-o", help="Folder to write; must not exist yet.", metavar="DIR")
]
SplitOption = Annotated[str, typer.Option("--split", help="Split whose sides are exported.")]
SetOption = Annotated[
    str | None, typer.Option("--set", help="Annotation set to export.  [default: the current one]")
]
TitleOption = Annotated[str, typer.Option("--title", help="Name of the dataset in its card.")]
LicenceOption = Annotated[
    str | None,
    typer.Option("--license", help="Licence that you, who hold the data, give it (e.g. cc-by-4.0)."),
]
_TITLE = "Ultrasound dataset"


def add_dataset_formats(group: typer.Typer) -> None:
    """Add the commands to the group `export`."""
    group.command("hf", epilog="Example:  usds export hf --out my-ultrasound --license cc-by-4.0")(hf)
    group.command("webdataset", epilog="Example:  usds export webdataset --out shards")(webdataset)
    group.command("croissant", epilog="Example:  usds export croissant --title 'Liver study'")(croissant)


def hf(
    *,
    dataset: DatasetOption = DEFAULT_DATASET,
    out: FolderOption = Path("hf"),
    split: SplitOption = "default",
    set_name: SetOption = None,
    title: TitleOption = _TITLE,
    licence: LicenceOption = None,
    json: JsonOption = False,
) -> None:
    """Parquet and a dataset card that Hugging Face's `load_dataset(DIR)` loads: image, caption, labels."""
    _write("hf", dataset, out, split, set_name, title, licence, json=json)


def webdataset(
    *,
    dataset: DatasetOption = DEFAULT_DATASET,
    out: FolderOption = Path("webdataset"),
    split: SplitOption = "default",
    set_name: SetOption = None,
    title: TitleOption = _TITLE,
    licence: LicenceOption = None,
    json: JsonOption = False,
) -> None:
    """Tar shards of image, .txt (caption) and .json (facts and labels) for webdataset loaders."""
    _write("webdataset", dataset, out, split, set_name, title, licence, json=json)


def croissant(
    *,
    dataset: DatasetOption = DEFAULT_DATASET,
    title: TitleOption = _TITLE,
    licence: LicenceOption = None,
    json: JsonOption = False,
) -> None:
    """Write croissant.json into the dataset directory: its tables in ML Commons' Croissant 1.0."""
    from usds.cli.console import command_line
    from usds.curation.croissant import write_croissant
    from usds.schemas.dataset import Dataset

    output = Output(json)
    opened = Dataset.open(dataset)
    with opened.lock(command_line()):
        path = write_croissant(opened, title=title, licence=licence)
    output.data({"file": str(path)})
    output.show(f"wrote {path}; write it again when the dataset has changed")


def _write(
    kind: str,
    dataset: Path,
    out: Path,
    split: str,
    set_name: str | None,
    title: str,
    licence: str | None,
    *,
    json: bool,
) -> None:
    from usds.curation import share
    from usds.curation.dataset_card import audit_state
    from usds.curation.samples import Samples
    from usds.schemas.dataset import Dataset

    output = Output(json)
    opened = Dataset.open(dataset)
    samples = Samples.of(opened, split=split, set_name=set_name)
    counts = samples.counts()
    export = {"hf": share.export_huggingface, "webdataset": share.export_webdataset}[kind]
    with progress("writing frames", sum(n["frames"] for s, n in counts.items() if s != "excluded")) as bar:
        export(samples, out, title=title, licence=licence, advance=bar.advance)
    state = audit_state(opened).replace("*", "")
    output.data({"folder": str(out), "sides": counts, "audit": state.replace("`", "'")})
    told = ", ".join(f"{side} {n['frames']:,}" for side, n in counts.items() if side != "excluded")
    output.show(f"wrote {out}: frames {told}")
    if excluded := counts.get("excluded", {}).get("frames"):
        output.note(f"note: {excluded:,} frames of excluded subjects were left out")
    output.note(f"note: {state} The card says so.")
    if licence is None:
        output.note("note: no licence is stated; --license writes one into the card")
