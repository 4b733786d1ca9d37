"""`usds train`: train Ultrasound-CLIP on the dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usds.cli.console import (
    DEFAULT_DATASET,
    ConfigOption,
    DatasetOption,
    DryRunOption,
    JsonOption,
    Output,
    command_line,
    progress,
    read_config,
)
from usds.cli.errors import INTERRUPTED
from usds.schemas.errors import UsageError

if TYPE_CHECKING:
    from usds.model.plan import RunPlan
    from usds.model.settings import TrainSettings
    from usds.model.train import Hooks, TrainResult
    from usds.schemas.dataset import Dataset
    from usds.taxonomy.udt import Taxonomy

__all__ = ["register"]

_EXAMPLE = (
    "Examples:  usds train    |    usds train --preset tiny --epochs 10    |    "
    "usds train --set optimizer.learning_rate=3e-4 --dry-run    |    "
    "torchrun --nproc-per-node 8 -m usds.cli.main train --preset improved"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", epilog=_EXAMPLE)(train)


def train(
    *,
    dataset: DatasetOption = DEFAULT_DATASET,
    preset: Annotated[
        str | None,
        typer.Option(help="paper, improved, small or tiny.  [default: improved with a GPU, else tiny]"),
    ] = None,
    config: ConfigOption = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting, as key=value; repeat it.", metavar="KEY=VALUE"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs (schedule.epochs).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs a step (data.batch_size).")] = None,
    split: Annotated[str | None, typer.Option(help="Name of the split (data.split).")] = None,
    text_tower: Annotated[
        Path | None,
        typer.Option(help="Folder of a BERT text tower (model.towers.text_tower).", metavar="DIR"),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Weights of the towers to start from: a checkpoint, an open_clip folder, or a run "
            "(model.towers.pretrained).",
            metavar="FILE",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Label set to train on (data.labels).  [default: the current]", metavar="SET"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.  [default: a new one in ./runs]")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run; its own settings hold.", metavar="RUN")
    ] = None,
    json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> int | None:
    """Train on the captioned frames of the training side; validate on the validation side.

    Makes the split `default` when the dataset has none. The run folder holds settings, taxonomy, data
    manifest, metrics, plots and checkpoints. Ctrl-C and SIGTERM end a run after the current step, with a
    checkpoint.
    """
    from usds.model.records import dataset_taxonomy
    from usds.model.runtime import process_group
    from usds.schemas.dataset import Dataset

    output = Output(json)
    opened = Dataset.open(dataset)
    given = {
        "preset": preset,
        "schedule.epochs": epochs,
        "data.batch_size": batch_size,
        "data.split": split,
        "model.towers.text_tower": text_tower,
        "model.towers.pretrained": init,
        "data.labels": labels,
    }
    with process_group():
        note = output.note if _first() else _silent
        if resume is not None:
            _refuse_changes(given, values, config)
            return _resumed(output, opened, resume, note)
        settings = _settings(config, values or [], given, note)
        taxonomy = dataset_taxonomy(opened, settings.data.labels)
        if dry_run:
            return _planned(output, opened, taxonomy, settings, note)
        _ensure_split(opened, settings.data.split, note)
        return _trained(output, opened, taxonomy, settings, out=out, note=note)


def _first() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def _silent(_: str) -> None:
    """Ranks after the first say nothing."""


# -- settings -------------------------------------------------------------------------------------------


def _settings(config: Path | None, values: list[str], given: Mapping[str, Any], note: Any) -> TrainSettings:
    import torch

    from usds.model.settings import build_settings

    chosen: dict[str, Any] = read_config(config) if config else {}
    if isinstance(chosen.get("train"), dict):
        chosen = chosen["train"]
    for name, value in [*_parsed(values), *given.items()]:
        if value is not None:
            _put(chosen, name, value)
    on_gpu = torch.cuda.is_available()
    if "preset" not in chosen:
        chosen["preset"] = "improved" if on_gpu else "tiny"
        why = "a GPU is present" if on_gpu else "there is no GPU"
        note(f"preset {chosen['preset']}: {why} (--preset chooses another)")
    if not on_gpu and "workers" not in chosen.get("data", {}):
        _put(chosen, "data.workers", 0)  # the network's own threads need the cores
    settings = build_settings(chosen)
    _say_weights(settings, note)
    return settings


def _parsed(values: list[str]) -> list[tuple[str, Any]]:
    import yaml

    pairs: list[tuple[str, Any]] = []
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(
                f"--set {text!r}: write key=value, for instance --set optimizer.learning_rate=3e-4"
            )
        parsed = yaml.safe_load(value)
        pairs.append((name, _number(parsed)))
    return pairs


def _number(value: Any) -> Any:
    """YAML reads 3e-4 (no dot) as text; people mean a number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    *folders, last = name.split(".")
    for folder in folders:
        inner = values.get(folder)
        values[folder] = dict(inner) if isinstance(inner, dict) else {}
        values = values[folder]
    values[last] = value


def _say_weights(settings: TrainSettings, note: Any) -> None:
    towers = settings.model.towers
    local = towers.name.startswith("local-dir:") or towers.text_tower is not None
    given = (towers.pretrained, towers.pretrained_image, towers.pretrained_text)
    if not local and not any(given) and settings.preset != "tiny":
        note(
            f"towers {towers.name}: trained from scratch, for no local weights are named "
            "(model.towers.pretrained, or model.towers.name local-dir:FOLDER); nothing is downloaded"
        )


def _refuse_changes(given: Mapping[str, Any], values: list[str] | None, config: Path | None) -> None:
    if values or config or any(value is not None for value in given.values()):
        raise UsageError(
            "--resume goes on with the run's own settings: leave out --preset, --set, --config and the like"
        )


# -- the split ------------------------------------------------------------------------------------------


def _ensure_split(dataset: Dataset, name: str, note: Any) -> None:
    """Make the split `default` where it is missing; with several ranks the first one does."""
    from usds.model.runtime import wait_for_all

    if name != "default" and name not in dataset.split_names():
        there = ", ".join(dataset.split_names()) or "none"
        raise UsageError(
            f"{dataset.root} has no split {name!r} (there are: {there}): name one with --split, or make it "
            f"with `usds split --name {name}`"
        )
    if _first() and name not in dataset.split_names():
        from usds.curation.split import SplitSettings, split_dataset, split_key

        with dataset.lock(command_line()):
            report = split_dataset(dataset, split_key(dataset), SplitSettings(), name=name)
        sides = ", ".join(f"{side} {count}" for side, count in report.subjects.items())
        note(f"made the split {name!r} by subject ({sides}); `usds split` makes others")
    wait_for_all()


# -- running --------------------------------------------------------------------------------------------


def _planned(
    output: Output, dataset: Dataset, taxonomy: Taxonomy, settings: TrainSettings, note: Any
) -> None:
    from usds.model.train import Hooks, dry_run

    if settings.data.split not in dataset.split_names():
        raise UsageError(
            f"the dataset has no split {settings.data.split!r} yet, so a dry run cannot count its sides: "
            "run `usds split` first (a real run makes the split itself)"
        )
    plan = dry_run(dataset, taxonomy, settings, Hooks(note))
    output.data(plan)
    output.show(_plan_table(plan))


def _plan_table(plan: RunPlan) -> Any:
    from rich.table import Table

    table = Table("what", "how much", title="usds train would do")
    for part, count in plan.parameters.items():
        table.add_row(f"parameters, {part}", f"{count:,}")
    table.add_row("memory of one process (estimate)", f"{plan.memory_bytes / 2**30:.2f} GiB")
    table.add_row("steps", f"{plan.steps:,} ({plan.steps_per_epoch} an epoch, {plan.epochs} epochs)")
    table.add_row("batch size", str(plan.batch_size))
    for side, frames in plan.data["frames"].items():
        subjects = plan.data["subjects"].get(side, 0)
        table.add_row(f"side {side}", f"{frames:,} frames, {subjects:,} subject{'s' * (subjects != 1)}")
    return table


def _trained(
    output: Output,
    dataset: Dataset,
    taxonomy: Taxonomy,
    settings: TrainSettings,
    *,
    out: Path | None,
    note: Any,
) -> int | None:
    from usds.model import train as training

    with progress("training") as bar:
        base, exact = (out, True) if out is not None else (Path("runs"), False)
        result = training.train(dataset, taxonomy, settings, base, hooks=_hooks(note, bar), exact=exact)
    return _ended(output, result)


def _resumed(output: Output, dataset: Dataset, folder: Path, note: Any) -> int | None:
    from usds.model import train as training
    from usds.model.run import find_run

    with progress("training") as bar:
        result = training.resume(dataset, find_run(folder), hooks=_hooks(note, bar))
    return _ended(output, result)


def _hooks(note: Any, bar: Any) -> Hooks:
    from usds.model.train import Hooks

    def step(values: Mapping[str, float]) -> None:
        minutes, seconds = divmod(round(values["seconds_left"]), 60)
        speed = f"{values['images_per_second']:.0f} images/s"
        label = f"loss {values['loss']:.3f}, {speed}, {minutes}:{seconds:02d} left"
        bar.update(done=values["step"], total=values["steps"], label=label)

    def cache(done: int, total: int) -> None:
        bar.update(done=done, total=total, label="resizing frames")

    return Hooks(note, step, cache)


def _ended(output: Output, result: TrainResult) -> int | None:
    if not _first():
        return INTERRUPTED if result.interrupted else None
    output.data(
        {
            "run": str(result.run.folder),
            "steps": result.steps,
            "planned_steps": result.planned,
            "interrupted": result.interrupted,
            "first_loss": result.first_loss,
            "last_loss": result.last_loss,
            "images_per_second": result.images_per_second,
        }
    )
    output.show(f"run {result.run.folder}: {result.steps} of {result.planned} steps")
    if result.first_loss is not None and result.last_loss is not None:
        output.show(
            f"loss {result.first_loss:.3f} (first epoch) -> {result.last_loss:.3f} (last epoch), "
            f"{result.images_per_second:.0f} images/s"
        )
    if result.interrupted:
        output.note(f"go on with:  usds train --resume {result.run.folder}")
        return INTERRUPTED
    output.show(f"next:  usds evaluate {result.run.folder}")
    return None
