"""Which records an evaluation looks at, by which labels, and what the run had seen before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from usds.model.cache import FrameCache, describe_unreadable
from usds.model.evaluate.settings import EvaluateSettings
from usds.model.network import UltrasoundCLIP
from usds.model.records import Records, load_records, require_side
from usds.model.run import Run
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError

__all__ = ["Sides", "choose_sides", "strangers", "trained_on"]

Note = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Sides:
    """The records of each side that can be read, and the label set that they are judged by."""

    train: Records
    valid: Records
    test: Records
    label_set: str


def choose_sides(
    run: Run,
    dataset: Dataset,
    model: UltrasoundCLIP,
    settings: EvaluateSettings,
    *,
    cache: FrameCache,
    note: Note,
) -> Sides:
    """The sides of the split that the settings or the run name.

    Raises
    ------
    UsageError
        There is no such split.
    ContentError
        The tested side is empty, or no labels of the run's taxonomy are there.
    """
    trained = run.settings().data
    split = settings.split or trained.split
    if split not in dataset.split_names():
        there = ", ".join(dataset.split_names()) or "none"
        raise UsageError(
            f"{dataset.root} has no split {split!r} (there are: {there}): name one with --split, or make it "
            f"with `usds split --name {split}`"
        )
    label_set = settings.labels or _set_name(dataset, model, run)
    records = load_records(dataset, model.taxonomy, split, modes=trained.modes, set_name=label_set)
    lost = [frame for frame in records.frame_ids if frame in cache.unreadable]
    if lost:
        note(describe_unreadable(lost))
    records = records.without(cache.unreadable)
    test = require_side(records, settings.side, split)
    return Sides(records.side("train"), records.side("valid"), test, label_set)


def _set_name(dataset: Dataset, model: UltrasoundCLIP, run: Run) -> str:
    """The label set to judge by: the run's, the current one, or that of the taxonomy, in this order.

    Labels of another taxonomy would be judged by the wrong words.
    """
    sets = dataset.annotations
    own = run.data()["annotation_set"] if _same(run, dataset) else None
    for name in (own, sets.current(), model.taxonomy.set_name):
        if name in sets.names() and sets.read(name).taxonomy_hash == model.taxonomy.content_hash:
            return name
    raise ContentError(
        f"the run was trained with taxonomy {model.taxonomy.set_name}, {dataset.root} has labels of "
        f"{', '.join(sets.names()) or 'none'}: annotate it with "
        f"`usds annotate --taxonomy {run.folder / 'taxonomy.yaml'}`"
    )


def strangers(run: Run, dataset: Dataset) -> str | None:
    """What to say where the gate cannot know what the model has seen."""
    if _same(run, dataset):
        return None
    whence = "its weights come from elsewhere" if run.imported else "it was trained on another dataset"
    return (
        f"the model may have seen these frames: {whence}, and only a training recorded on this dataset can "
        "be compared with the tested side"
    )


def trained_on(run: Run, dataset: Dataset, model: UltrasoundCLIP, sides: Sides) -> Records:
    """Every record that the run saw: of the subjects it recorded, whatever the split says today."""
    recorded: dict[str, list[str]] = run.data()["subjects"]
    seen = (
        {s for side in ("train", "valid") for s in recorded.get(side, [])}
        if _same(run, dataset)
        else set[str]()
    )
    if sides.test.sides[0] == "valid":
        seen -= set(recorded.get("valid", []))
    everything = load_records(dataset, model.taxonomy, run.settings().data.split, set_name=sides.label_set)
    rows = [i for i, subject in enumerate(everything.subject_ids) if subject in seen]
    return everything.take(np.array(rows, np.int64))


def _same(run: Run, dataset: Dataset) -> bool:
    return run.data()["dataset_id"] == dataset.info.dataset_id
