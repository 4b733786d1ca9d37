"""The end of a review of pictures: bring the decisions into the dataset, as the next ingest would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from usds.curation.commit import mark_near_duplicates_again
from usds.curation.deid.pixels import OPENING_REFUSED
from usds.curation.ingest import INGESTS, IngestOptions, ingest
from usds.curation.linking import LinkOptions
from usds.curation.run import NOBODY, ExecutorFactory, Watcher, local_executor
from usds.curation.settings import IngestSettings
from usds.curation.sources import decode_path
from usds.curation.waiting import KnownFile, keep_out, known_files, undone
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError, UsdsError
from usds.schemas.state import State

__all__ = ["SettleReport", "ingest_settings", "settle"]


@dataclass(frozen=True, slots=True)
class SettleReport:
    """What became of the decisions.

    Attributes
    ----------
    outcomes : mapping
        Files that were done again, by what their row says now ("ok", "kept_out", a doubt).
    waiting : int
        Files whose raw file is not where it was; their decisions are kept.
    problems : tuple of str
        Why a raw folder could not be read again.
    refused : int
        Files that keep a box which a person removed, because text can be read in it.
    """

    outcomes: Mapping[str, int] = field(default_factory=dict[str, int])
    waiting: int = 0
    problems: tuple[str, ...] = ()
    refused: int = 0


def settle(
    dataset: Dataset,
    state: State,
    *,
    watcher: Watcher = NOBODY,
    executor: ExecutorFactory = local_executor,
) -> SettleReport:
    """Do again the files about which a person decided.

    Files that shall be kept out leave at once. The others are read again from the raw folders that earlier
    runs named, with the dataset's settings; a folder that is not there keeps its decisions waiting.

    Parameters
    ----------
    dataset : Dataset
        Not locked.
    state : State
    watcher, executor
        As of `usds.curation.ingest.ingest`.
    """
    wanted = set(undone(dataset, state))
    if not wanted:
        return SettleReport()
    with dataset.lock("usds review"):
        if keep_out(dataset, state):
            mark_near_duplicates_again(dataset)
    files = [file for group in known_files(state).values() for file in group if file.file_id in wanted]
    problems: list[str] = []
    for raws, subjects in _earlier_runs(state):
        left = undone(dataset, state)
        if not any(file.file_id in left and _below(file, raws) for file in files):
            continue
        try:
            options = IngestOptions(link=_link(subjects), command="usds review")
            settings = ingest_settings(dataset)
            ingest(raws, dataset.root, settings, options, watcher=watcher, executor=executor)
        except UsdsError as error:
            problems.append(str(error))
    return _report(dataset, state, files, problems)


def _report(
    dataset: Dataset, state: State, files: Sequence[KnownFile], problems: Sequence[str]
) -> SettleReport:
    """What the dataset says now of the files about which a person decided."""
    left = undone(dataset, state)
    keys = {file.source_key for file in files if file.file_id not in left}
    table = dataset.arrow("sources").to_table(columns=["source_key", "reason", "warnings"])
    rows = [row for row in table.to_pylist() if row["source_key"] in keys and row["reason"] != "duplicate"]
    refused = sum(OPENING_REFUSED in row["warnings"] for row in rows)
    return SettleReport(dict(Counter(row["reason"] for row in rows)), len(left), tuple(problems), refused)


def ingest_settings(dataset: Dataset) -> IngestSettings:
    """Settings that the dataset was made with.

    Raises
    ------
    ContentError
        If it was not made by ``usds ingest`` of this version.
    """
    stored = {name: value for name, value in dataset.info.settings.items() if name != "rules"}
    try:
        return IngestSettings.model_validate(stored)
    except ValidationError as error:
        raise ContentError(
            f"{dataset.root} was not made by `usds ingest` of this version: there is nothing to do again"
        ) from error


def _earlier_runs(state: State) -> Iterator[tuple[list[Path], Path | None]]:
    """Raw arguments of earlier runs that are all there, with their file of subjects."""
    runs: list[Any] = state.read(INGESTS) or []
    for entry in runs:
        raws = [Path(decode_path(raw)) for raw in entry["raws"]]
        if all(raw.exists() for raw in raws):
            yield raws, Path(decode_path(entry["subjects"])) if entry["subjects"] else None


def _link(subjects: Path | None) -> LinkOptions:
    """The subjects of an earlier run; without them files would be filed under somebody else."""
    try:
        return LinkOptions.read(subjects)
    except UsageError as error:
        raise UsageError(
            "the file that an earlier ingest was given with --subjects is gone or cannot be read: run "
            "`usds ingest RAW --subjects FILE` again"
        ) from error


def _below(file: KnownFile, raws: list[Path]) -> bool:
    return file.disk_path.exists() and any(file.disk_path.is_relative_to(raw) for raw in raws)
