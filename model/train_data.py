"""From a dataset and settings to what a run trains on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from usds.model.cache import FrameCache, describe_unreadable, open_cache
from usds.model.records import Records, load_records, record_labels, require_side
from usds.model.run import data_manifest
from usds.model.sampler import BatchPlan, plan_batches
from usds.model.settings import TrainSettings
from usds.model.stream import TrainStream, tokenise
from usds.model.towers import Towers
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError
from usds.taxonomy.similarity import Similarity, similarity
from usds.taxonomy.udt import Taxonomy

__all__ = ["TrainData", "label_prior", "load_train_data"]

Note = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class TrainData:
    """What a run trains on.

    Attributes
    ----------
    train, valid : Records
        The two sides; ``valid`` may be empty.
    plan : BatchPlan
        Batches of the training side.
    cache : FrameCache or None
        Pixels; None for a dry run.
    manifest : dict
        For the run folder; its ``hash`` decides whether a checkpoint may be resumed.
    """

    train: Records
    valid: Records
    plan: BatchPlan
    cache: FrameCache | None
    manifest: dict[str, Any]

    def stream(self, towers: Towers, settings: TrainSettings, rank: int, world: int) -> TrainStream:
        """The batches of one rank."""
        if self.cache is None:
            raise RuntimeError("a dry run has no pixels to stream")
        return TrainStream(
            self.train,
            self.cache,
            tokenise(towers, self.train),
            self.plan,
            towers.spec.size,
            settings.augment,
            settings.model.graph.tag_dropout if settings.model.graph.kind != "none" else 0.0,
            rank,
            world,
        )


def load_train_data(
    dataset: Dataset,
    taxonomy: Taxonomy,
    settings: TrainSettings,
    size: int,
    world: int,
    *,
    note: Note,
    progress: Progress | None = None,
    pixels: bool = True,
    label_set: str | None = None,
) -> TrainData:
    """Select the records, open their pixels and plan the batches.

    Parameters
    ----------
    size : int
        Input side of the image tower.
    world : int
        Number of ranks.
    note : callable
        Takes what a person should know: what was left out, a batch that shrank, dimensions without labels.
    pixels : bool
        False for a dry run: the cache is not built and unreadable frames are not known.
    label_set : str, optional
        Labels to train on; default: those that the settings name, else the current ones.

    Raises
    ------
    ContentError
        Nothing to train on, too few subjects, labels of another taxonomy, damaged shards.
    """
    chosen = settings.data
    label_set = label_set or chosen.labels or dataset.annotations.current()
    records = load_records(dataset, taxonomy, chosen.split, modes=chosen.modes, set_name=label_set)
    cache = open_cache(dataset, chosen.image_size or size, chosen.cache, progress) if pixels else None
    if cache is not None:
        lost = [frame for frame in records.frame_ids if frame in cache.unreadable]
        if lost:
            note(describe_unreadable(lost))
        records = records.without(cache.unreadable)
    train, valid = require_side(records, "train", chosen.split), records.side("valid")
    plan = plan_batches(train.subjects, chosen.batch_size, settings.run.seed, world)
    _tell(records, train, valid, plan=plan, taxonomy=taxonomy, settings=settings, note=note)
    return TrainData(
        train,
        _limit(valid, chosen.valid_frames, settings.run.seed),
        plan,
        cache,
        data_manifest(dataset, records, taxonomy, chosen.split, label_set),
    )


def _limit(records: Records, most: int, seed: int) -> Records:
    if len(records) <= most:
        return records
    rng = np.random.default_rng([seed, 1])
    return records.take(np.sort(rng.choice(len(records), most, replace=False)))


def _tell(
    records: Records,
    train: Records,
    valid: Records,
    *,
    plan: BatchPlan,
    taxonomy: Taxonomy,
    settings: TrainSettings,
    note: Note,
) -> None:
    note(
        f"data: {records.counts.sentence()}; train {len(train)} frames of {train.n_subjects} subjects, "
        f"valid {len(valid)} of {valid.n_subjects}"
    )
    if plan.shrunk_from is not None:
        note(
            f"batch size {plan.shrunk_from} -> {plan.batch_size}: a batch holds each subject once, and the "
            f"training side has {train.n_subjects}"
        )
    empty = [
        n
        for n, filled in zip(
            taxonomy.dimension_names, np.any(train.labels.filled, axis=0).tolist(), strict=True
        )
        if not filled
    ]
    if len(empty) == len(taxonomy.dimensions) and settings.model.loss.kind != "clip":
        raise ContentError(
            "no training record has a label: run `usds annotate` with a taxonomy that fits the captions, "
            "or train without labels (model.graph.kind: none, model.loss.kind: clip)"
        )
    if empty:
        note(f"no training record has a label of {', '.join(empty)}: neither learned nor compared")
    if not len(valid):
        note("the split has no validation side: the last checkpoint is taken instead of the best")


def label_prior(taxonomy: Taxonomy, settings: TrainSettings, train: Records) -> Similarity:
    """The label similarity S of the settings; co-occurrence counts the training side only."""
    chosen = settings.model.similarity
    records = record_labels(train, taxonomy) if chosen.mode == "cooccurrence" else None
    return similarity(taxonomy, chosen.mode, records, chosen.path, measure=chosen.measure)
