"""Which files a person shall look at: those in doubt, or files of the dataset with what the black covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow.compute as pc

from usds.curation.executor import Job
from usds.curation.review_folder import Pictures, ReviewFolder, Seen, pictures_in_dataset
from usds.curation.run import ExecutorFactory
from usds.curation.settle import ingest_settings
from usds.curation.waiting import KnownFile, known_files
from usds.curation.worker import WorkerSetup
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.state import State

__all__ = ["Candidate", "files_in_doubt", "files_named", "frames_of", "most_redacted"]

_FRAME_COLUMNS: Final = (
    "frame_id", "source_key", "frame_index", "source_frames", "native_rows", "native_cols", "crop_x0",
    "crop_y0", "crop_x1", "crop_y1", "rows", "cols", "scale", "area", "text_boxes", "redacted_fraction",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Candidate:
    """One file to look at.

    Attributes
    ----------
    file : KnownFile
    reason : str
        Of its row in ``sources``: a doubt, "ok", "kept_out".
    pictures : Pictures or None
        None where nothing is kept of it.
    folder : ReviewFolder or None
        Where its native frames lie; None where only the redacted ones of the dataset can be shown.
    reachable : bool
        Whether the raw file is where it was.
    frames : mapping
        Rows of the table ``frames`` by frame number.
    focus : int or None
        The frame that was asked for.
    """

    file: KnownFile
    reason: str
    pictures: Pictures | None
    folder: ReviewFolder | None
    reachable: bool
    frames: Mapping[int, Mapping[str, Any]]
    focus: int | None = None

    @property
    def seen(self) -> tuple[Seen, ...]:
        """What can be shown of its frames."""
        return self.pictures.frames if self.pictures else ()


def files_in_doubt(
    dataset: Dataset, state: State, limit: int | None = None, *, among: Sequence[str] | None = None
) -> list[Candidate]:
    """The files whose outcome is "review", by doubt; their frames were kept when they were ingested."""
    review = ReviewFolder.doubted(state)
    wanted = pc.field("outcome") == "review"
    if among is not None:
        wanted = wanted & pc.field("source_key").isin(list(among))
    doubted = _sources(dataset, wanted)
    known = known_files(state)
    keys = sorted((key for key in doubted if key in known), key=lambda key: (doubted[key], key))
    return [
        Candidate(_present(known[key]), doubted[key], review.read(key), review, _is_there(known[key]), {})
        for key in keys[:limit]
    ]


def most_redacted(dataset: Dataset, state: State, limit: int, executor: ExecutorFactory) -> list[Candidate]:
    """Files of the dataset, those first of which the largest share of a frame is black."""
    with dataset.connect() as connection:
        rows = connection.execute(
            "SELECT source_key FROM frames GROUP BY 1 ORDER BY max(redacted_fraction) DESC, 1 LIMIT ?",
            [limit],
        ).fetchall()
    return _look_beneath(dataset, state, [(key, None) for (key,) in rows], executor)


def files_named(
    dataset: Dataset, state: State, names: Sequence[str], executor: ExecutorFactory
) -> list[Candidate]:
    """The files of some frames, named by the beginning of a frame id, or by their source key.

    Raises
    ------
    UsageError
        If a name fits no frame and no file, or several.
    """
    wanted: dict[str, int | None] = {}
    with dataset.connect() as connection:
        for name in names:
            found = connection.execute(
                "SELECT source_key, frame_index FROM frames WHERE starts_with(frame_id, ?1) UNION ALL "
                "SELECT source_key, NULL FROM sources WHERE source_key = ?1 LIMIT 2",
                [name],
            ).fetchall()
            if not found:
                raise UsageError(
                    f'no frame {name!r}; `usds sql "SELECT frame_id FROM frames LIMIT 5"` lists some'
                )
            if len(found) > 1:
                raise UsageError(f"{name!r} is the beginning of several frame ids: type more of it")
            wanted[found[0][0]] = found[0][1]
    doubted = {one.file.source_key: one for one in files_in_doubt(dataset, state, among=list(wanted))}
    settled = [(key, focus) for key, focus in wanted.items() if key not in doubted]
    return [
        *(doubted[key] for key in wanted if key in doubted),
        *_look_beneath(dataset, state, settled, executor),
    ]


def _look_beneath(
    dataset: Dataset, state: State, wanted: Sequence[tuple[str, int | None]], executor: ExecutorFactory
) -> list[Candidate]:
    """Have workers read the native frames of files into the private state, for as long as they are shown."""
    known = known_files(state)
    keys = [key for key, _ in wanted]
    if missing := [key for key in keys if key not in known]:
        raise ContentError(
            f"the private state does not know the file {missing[0]}: only what `usds ingest` wrote can be "
            "settled here"
        )
    folder = ReviewFolder.viewed(state)
    there = [key for key in keys if _is_there(known[key])]
    read = _lay_out(dataset, state, there, folder, executor) if there else set[str]()
    reasons = _sources(dataset, pc.field("source_key").isin(keys))
    rows = frames_of(dataset, keys)
    found: list[Candidate] = []
    for key, focus in wanted:
        frames = {row["frame_index"]: row for row in rows.get(key, ())}
        kept = folder.read(key) if key in read else pictures_in_dataset(list(frames.values()))
        place, where = _present(known[key]), folder if key in read else None
        reachable = _is_there(known[key])
        found.append(Candidate(place, reasons.get(key, "ok"), kept, where, reachable, frames, focus))
    return found


def _lay_out(
    dataset: Dataset, state: State, keys: Sequence[str], folder: ReviewFolder, executor: ExecutorFactory
) -> set[str]:
    """Have workers read the native frames of files; those that could be read."""
    settings = ingest_settings(dataset)
    setup = WorkerSetup(
        "usds.curation.viewing:viewer", str(state.folder), str(dataset.root),
        settings.run.memory_mb * 1_000_000,
    )  # fmt: skip
    try:
        with executor(setup, settings) as workers:
            done = workers.map([Job((key,)) for key in keys])
            return {one.item for one in done if one.reason == "ok"}
    except BaseException:  # Ctrl-C too: native pictures lie there only while a person looks at them
        for key in keys:
            folder.clear(key)
        raise


def frames_of(dataset: Dataset, keys: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Rows of the table ``frames`` by source key, in the order of their numbers."""
    mine = pc.field("source_key").isin(keys)
    table = dataset.arrow("frames").to_table(columns=list(_FRAME_COLUMNS), filter=mine)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in table.sort_by("frame_index").to_pylist():
        found.setdefault(row["source_key"], []).append(row)
    return found


def _sources(dataset: Dataset, wanted: Any) -> dict[str, str]:
    table = dataset.arrow("sources").to_table(columns=["source_key", "reason"], filter=wanted)
    return {row["source_key"]: row["reason"] for row in table.to_pylist()}


def _present(places: Sequence[KnownFile]) -> KnownFile:
    """The place where a file still lies, else the first."""
    return next((file for file in places if file.disk_path.exists()), places[0])


def _is_there(places: Sequence[KnownFile]) -> bool:
    return any(file.disk_path.exists() for file in places)
