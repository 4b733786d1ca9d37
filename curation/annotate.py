"""Annotate a dataset: captions -> labels of a taxonomy, task by task, touching nothing but the labels.

A task is annotated again only when its captions, its frames' facts, the taxonomy or its corrections changed.
Several sets live beside each other; the one annotated last becomes the current one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Annotated, Any, Final

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from usds.curation.annotate_plan import plan_jobs
from usds.curation.annotate_task import Annotator, TaskJob
from usds.schemas.annotations import AnnotationSet
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError
from usds.taxonomy.lines import end_with_parent
from usds.taxonomy.udt import Taxonomy

__all__ = ["AnnotateReport", "AnnotateSettings", "annotate_dataset"]

WAVE: Final = 64
"""Most tasks between two commits: what a kill can cost."""
WAVE_CAPTIONS: Final = 100_000
"""Captions between two commits, or a little more: some ten seconds of work."""
SMALL: Final = 5000
"""Captions below which worker processes cost more than they save."""

Entry = dict[str, Any]


class AnnotateSettings(BaseModel):
    """Settings of ``usds annotate``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: Annotated[int, Field(ge=0, description="worker processes; 0 takes one a core")] = 0


@dataclass(frozen=True, slots=True)
class AnnotateReport:
    """What :func:`annotate_dataset` did, or would do.

    ``counts`` sums the finished tasks of the set: frames, labelled, conflicts, captions, abstained.
    """

    set_name: str
    taxonomy: str
    tasks_done: int
    tasks_kept: int
    counts: Mapping[str, int] = field(default_factory=dict[str, int])


def annotate_dataset(
    dataset: Dataset,
    taxonomy: Taxonomy,
    settings: AnnotateSettings | None = None,
    *,
    set_name: str | None = None,
    redo: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> AnnotateReport:
    """Annotate what changed and make the set current. Needs the dataset's lock unless ``dry_run``.

    Parameters
    ----------
    dataset : Dataset
    taxonomy : Taxonomy
    settings : AnnotateSettings, optional
    set_name : str, optional
        Name of the set; by default the taxonomy's id and the first 8 digits of its content hash.
    redo : bool
        Annotate every task again.
    dry_run : bool
        Only say how many tasks there are to do.
    progress : callable, optional
        Called with (tasks done, tasks to do).

    Raises
    ------
    ContentError
        If the dataset holds nothing, or worker processes die.
    UsageError
        If the set's name cannot be used.
    """
    tasks = dataset.manifests()
    if not tasks:
        raise ContentError(f"{dataset.root} holds no frames yet: run `usds ingest RAW` first")
    name = set_name or taxonomy.set_name
    sets = dataset.annotations
    old = sets.read(name) if name in sets.names() else None
    on_disk: Mapping[str, Mapping[str, Any]] = old.tasks if old else {}
    same = old is not None and old.taxonomy_hash == taxonomy.content_hash
    kept: dict[str, Entry] = {t: dict(e) for t, e in on_disk.items() if same and t in tasks}
    salts = {task: str(entry["fingerprint"]) for task, entry in on_disk.items()}
    jobs, bases = plan_jobs(dataset, taxonomy, name, {} if redo else kept, salts)

    if not dry_run:
        sets.write_taxonomy(name, taxonomy.source_text)
        workers = _workers(settings or AnnotateSettings(), jobs)
        manifest = AnnotationSet(name, taxonomy.id, taxonomy.content_hash, taxonomy.dimension_names, kept)
        done = 0
        for wave in _waves(jobs, taxonomy, workers):
            for task, entry in wave.items():
                kept[task] = {**entry, "basis": bases[task]}
            done += len(wave)
            if same or old is None or done == len(jobs):  # another taxonomy replaces a set in one step
                sets.commit(manifest)
            if progress is not None:
                progress(done, len(jobs))
        if not jobs:
            sets.commit(manifest)  # tasks that are gone leave the set
        sets.set_current(name)
    counts: Counter[str] = Counter()
    for entry in kept.values():
        counts.update(entry["counts"])
    return AnnotateReport(
        name, f"{taxonomy.id} {taxonomy.version}", len(jobs), len(tasks) - len(jobs), dict(counts)
    )


def _workers(settings: AnnotateSettings, jobs: Sequence[TaskJob]) -> int:
    """Processes that are worth starting; 1 means this one."""
    captions = sum(pq.read_metadata(job.captions).num_rows for job in jobs)
    if settings.workers == 0 and captions < SMALL:
        return 1
    return min(settings.workers or os.cpu_count() or 1, max(1, len(jobs)))


def _waves(jobs: Sequence[TaskJob], taxonomy: Taxonomy, workers: int) -> Iterator[dict[str, Entry]]:
    """Run the jobs; after each wave nothing is in flight, so its files can be named and the rest swept.

    The wave is a commit's granularity: files that no manifest names yet would be swept by it.
    """
    waves = _cut(jobs)
    if workers == 1:
        annotator = Annotator(taxonomy) if jobs else None
        for wave in waves:
            yield {job.task: annotator.run(job) for job in wave if annotator is not None}
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(taxonomy,)) as pool:
        try:
            for wave in waves:
                yield {job.task: entry for job, entry in zip(wave, pool.map(_run, wave), strict=True)}
        except BrokenProcessPool as error:
            raise ContentError(
                "a worker process died, perhaps for want of memory: run the same command again, with "
                "--workers 1 if it happens again; finished tasks are kept"
            ) from error


def _cut(jobs: Sequence[TaskJob]) -> list[list[TaskJob]]:
    """The jobs in waves."""
    waves: list[list[TaskJob]] = []
    captions = WAVE_CAPTIONS
    for job in jobs:
        if captions >= WAVE_CAPTIONS or len(waves[-1]) == WAVE:
            waves.append([])
            captions = 0
        waves[-1].append(job)
        captions += pq.read_metadata(job.captions).num_rows
    return waves


_annotator: Annotator | None = None


def _start(taxonomy: Taxonomy) -> None:
    """Load the taxonomy once in a worker process."""
    global _annotator  # noqa: PLW0603 - a process pool offers its workers no other place
    end_with_parent()
    _annotator = Annotator(taxonomy)


def _run(job: TaskJob) -> Entry:
    if _annotator is None:
        raise RuntimeError("the worker was not initialised")
    return _annotator.run(job)
