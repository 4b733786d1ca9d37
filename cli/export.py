"""`usds export`: a run, or the dataset, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from usds.cli.console import DEFAULT_DATASET, DatasetOption, JsonOption, Output, progress
from usds.cli.export_dataset import add_dataset_formats
from usds.schemas.errors import UsageError

__all__ = ["register"]

RunArgument = Annotated[
    Path | None, typer.Argument(help="Run folder.  [default: the newest in ./runs]", metavar="[RUN]")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Where to write; must not exist yet.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    group = typer.Typer(no_args_is_help=True, help="Write the dataset or a run in another tool's format.")
    add_dataset_formats(group)
    group.command("open_clip", epilog="Example:  usds export open_clip --out ultrasound-clip")(open_clip)
    group.command("onnx", epilog="Example:  usds export onnx --out onnx")(onnx)
    group.command("embeddings", epilog="Example:  usds export embeddings --out vectors.parquet")(embeddings)
    group.command("card", epilog="Example:  usds export card --out MODEL_CARD.md")(card)
    app.add_typer(group, name="export")


def _model(output: Output, run: Path | None) -> tuple[Any, Any]:
    from usds.model.checkpoint import load_model
    from usds.model.run import find_run

    found = find_run(run)
    output.note(f"exporting {found.folder}" + ("" if run else " (the newest run)"))
    return found, load_model(found.folder)


def open_clip(
    run: RunArgument = None, *, out: OutOption = Path("open_clip"), json: JsonOption = False
) -> None:
    """A folder that `open_clip.create_model("local-dir:FOLDER")` loads, and the model card."""
    from usds.model.card import write_card
    from usds.model.export import export_open_clip

    output = Output(json)
    found, model = _model(output, run)
    folder = export_open_clip(model, out)
    write_card(found, folder / "README.md")
    output.data({"folder": str(folder)})
    output.show(f'wrote {folder}: open_clip.create_model("local-dir:{folder}") loads it')


def onnx(run: RunArgument = None, *, out: OutOption = Path("onnx"), json: JsonOption = False) -> None:
    """image.onnx and text.onnx, compared with the model before the command ends, and the model card."""
    from usds.model.card import write_card
    from usds.model.export import export_onnx

    output = Output(json)
    found, model = _model(output, run)
    differences = export_onnx(model, out)
    write_card(found, out / "README.md")
    output.data({"folder": str(out), "cosine_difference": differences})
    told = ", ".join(f"{tower} {value:.1e}" for tower, value in differences.items())
    output.show(f"wrote {out}; largest cosine difference to the model: {told}")


def embeddings(
    run: RunArgument = None,
    *,
    dataset: DatasetOption = DEFAULT_DATASET,
    out: OutOption = Path("embeddings.parquet"),
    json: JsonOption = False,
) -> None:
    """The image vector of every frame as Parquet: frame_id, subject_id, caption, vector."""
    import shutil

    import torch

    from usds.model.search import embed_dataset
    from usds.schemas.dataset import Dataset
    from usds.schemas.files import atomic_path, make_folder

    output = Output(json)
    _refuse_existing(out)
    make_folder(out.parent)
    opened = Dataset.open(dataset)
    found, model = _model(output, run)
    with progress("encoding frames") as bar:
        path = embed_dataset(
            found,
            opened,
            model,
            torch.device("cpu"),
            progress=lambda done, total: bar.update(done=done, total=total),
        )
    with atomic_path(out) as partial:
        shutil.copyfile(path, partial)
    output.data({"file": str(out)})
    output.show(f"wrote {out}")


def card(
    run: RunArgument = None, *, out: OutOption = Path("MODEL_CARD.md"), json: JsonOption = False
) -> None:
    """The model card: what the run is, from what it was made, what was measured."""
    from usds.model.card import write_card
    from usds.model.run import find_run

    output = Output(json)
    _refuse_existing(out)
    path = write_card(find_run(run), out)
    output.data({"file": str(path)})
    output.show(f"wrote {path}")


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path} exists; nothing is overwritten: give another name with --out")
