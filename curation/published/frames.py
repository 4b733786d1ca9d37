"""Frames, captions and source rows of a published release: tasks of whole cases, written once, in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from usds.curation.deid.identity import Ids
from usds.curation.frames import mode, phash, quality
from usds.curation.outcomes import source_row
from usds.curation.published.images import ReleasedImages, publishable
from usds.curation.published.release import Pair, by_case
from usds.curation.readers.base import RGB
from usds.schemas.dataset import Dataset
from usds.schemas.errors import UsageError
from usds.schemas.files import canonical_json
from usds.schemas.shards import TaskWriter
from usds.schemas.state import State

__all__ = ["NO_FINDINGS", "FrameWriter", "ReleaseIds"]

NO_FINDINGS: Final = "no_findings"
"""Warning of a picture whose caption was left out, because it says that nothing is described."""
_TASK_FRAMES: Final = 1024
_AHEAD: Final = 4
"""Pictures that each thread may be ahead of the writer."""

Told = Callable[[int], None]


class ReleaseIds:
    """Keyed ids of what a release holds; frames go by file name, which its records use as their key."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def frame(self, image: str) -> str:
        """Id of a picture."""
        return self._ids.keyed_hash("frame", "us365k", image)

    def subject(self, pair: Pair) -> str:
        """Id of a case, the finest subject that the release knows."""
        return self._ids.subject("us365k", pair.case)

    def study(self, pair: Pair) -> str:
        """Id of a case, as a study."""
        return self._ids.study("us365k", pair.case)

    def clip(self, pair: Pair) -> str:
        """Id of the pictures of a case that share a caption."""
        return self._ids.keyed_hash("clip", "us365k", pair.case, pair.caption)

    def caption(self, pair: Pair) -> str:
        """Id of the caption of those pictures."""
        return self._ids.keyed_hash("caption", self.clip(pair), "dataset", "", pair.caption)

    def source(self, image: str) -> str:
        """Source key of a picture or another file."""
        return self._ids.source("us365k", image)

    def task(self, content: Any) -> str:
        """Name of a task, from what it holds."""
        return self._ids.keyed_hash("task", "us365k", canonical_json(content).decode())


@dataclass(frozen=True, slots=True)
class _Picture:
    """Bytes to store, size (rows, cols), and the columns that the pixels decide."""

    data: bytes
    shape: tuple[int, int]
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, data: bytes, rgb: RGB) -> _Picture:
        """Look at a decoded picture."""
        rated = quality(rgb, np.asarray(rgb.max(axis=2) > 0))
        facts = {
            "mode": mode(rgb), "quality": rated.label, "blank": rated.blank, "saturated": rated.saturated,
            "blurred": rated.blurred, "phash": f"{phash(rgb):016x}",
        }  # fmt: skip
        return cls(data, (rgb.shape[0], rgb.shape[1]), facts)


class FrameWriter:
    """Writes the tasks of a release that the dataset lacks.

    Parameters
    ----------
    dataset : Dataset
        Its lock is held.
    state : State
        Gets the ledger.
    pairs : sequence of Pair
        Everything that the release lists, with cases.
    images : ReleasedImages
    silent : set of str
        Captions that are left out.
    """

    def __init__(
        self, dataset: Dataset, state: State, pairs: Sequence[Pair], images: ReleasedImages, silent: Set[str]
    ) -> None:
        self.ids = ReleaseIds(Ids(state.key))
        self._dataset = dataset
        self._state = state
        self._pairs = pairs
        self._images = images
        self._silent = silent

    def write(self, files: Sequence[Path], told: Callable[[int, int], None]) -> int:
        """Write what is missing.

        Parameters
        ----------
        files : sequence of Path
            Files of the release that are no pictures; each gets a row in ``sources``.
        told : callable
            Takes (pictures done, pictures in all).

        Returns
        -------
        int
            Pictures that were worked on.

        Raises
        ------
        UsageError
            The dataset holds tasks of another copy of the release.
        """
        tasks = {self._name(group): group for group in _tasks(self._pairs)}
        own = self.ids.task([path.name for path in files])
        there = self._dataset.manifests().keys()
        if there - tasks.keys() - {own}:
            raise UsageError(
                f"{self._dataset.root} holds pictures of another copy of the release: import into a new "
                "folder with --dataset"
            )
        before = done = sum(len(group) for name, group in tasks.items() if name in there)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for name, group in tasks.items():
                if name not in there:
                    self._task(name, group, pool, _counted(told, done, len(self._pairs)))
                    done += len(group)
        if own not in there:
            self._files(own, files)
        return done - before

    def _name(self, pairs: Sequence[Pair]) -> str:
        return self.ids.task([[pair.case, pair.image, pair.caption] for pair in pairs])

    def _files(self, name: str, files: Sequence[Path]) -> None:
        rows: list[dict[str, Any]] = []
        with self._dataset.writer(name, ()) as writer:
            for path in files:
                key = self.ids.source(path.name)
                writer.add_source(source_row(key, "sidecar", "ok"))
                rows.append({"source_key": key, "path": str(path), "kind": "sidecar", "reason": "ok"})
            writer.commit()
        self._state.record_sources(rows)

    def _task(self, name: str, pairs: Sequence[Pair], pool: ThreadPoolExecutor, told: Told) -> None:
        places = _places(pairs, self.ids)
        spoken: set[str] = set()
        ledger: list[dict[str, Any]] = []
        inputs = tuple(self.ids.source(pair.image) for pair in pairs)
        with self._dataset.writer(name, inputs) as writer:
            found = _ahead(pool, self._look, pairs)
            for number, (pair, picture) in enumerate(zip(pairs, found, strict=True), 1):
                ledger.append(self._pair(writer, pair, picture, places[pair.image], spoken))
                told(number)
            writer.commit()
        self._state.record_sources(ledger)

    def _look(self, pair: Pair) -> _Picture | str:
        """Runs in a thread: reading, decoding and rating leave the interpreter's lock."""
        if pair.image not in self._images:
            return "unmatched_sidecar"
        data = self._images.read(pair.image)
        found = "unreadable" if data is None else publishable(data)
        return found if isinstance(found, str) else _Picture.of(*found)

    def _pair(
        self,
        writer: TaskWriter,
        pair: Pair,
        picture: _Picture | str,
        place: tuple[int, int],
        spoken: set[str],
    ) -> dict[str, Any]:
        """Rows of one picture; the first of its clip brings the caption. Returns its row of the ledger."""
        key, reason = self.ids.source(pair.image), picture if isinstance(picture, str) else "ok"
        quiet, clip = pair.caption in self._silent, self.ids.clip(pair)
        speaks = reason == "ok" and not quiet and clip not in spoken
        if not isinstance(picture, str):
            writer.add_frame(self._frame_row(pair, key, place, picture), picture.data)
        if speaks:
            spoken.add(clip)
            writer.add_caption(self._caption_row(pair, key))
        warnings = [NO_FINDINGS] if quiet and reason == "ok" else []
        writer.add_source(
            source_row(
                key, "image", reason, frames=int(reason == "ok"), captions=int(speaks), warnings=warnings
            )
        )
        path = self._images.place(pair.image) if pair.image in self._images else pair.image
        subject = self.ids.subject(pair)
        return {"source_key": key, "path": path, "kind": "image", "subject_id": subject, "reason": reason}

    def _caption_row(self, pair: Pair, key: str) -> dict[str, Any]:
        return {
            "caption_id": self.ids.caption(pair), "scope": "clip", "target_id": self.ids.clip(pair),
            "text": pair.caption, "origin": "dataset", "section": None, "language": "en", "n_removed": 0,
            "source_key": key,
        }  # fmt: skip

    def _frame_row(self, pair: Pair, key: str, place: tuple[int, int], picture: _Picture) -> dict[str, Any]:
        rows, cols = picture.shape
        names = ("vendor", "model_family", "transducer", "body_part", "sex", "age_band")
        return {
            **dict.fromkeys(names, "unknown"), **picture.facts, "frame_id": self.ids.frame(pair.image),
            "clip_id": self.ids.clip(pair), "study_id": self.ids.study(pair), "series_id": None,
            "subject_id": self.ids.subject(pair), "subject_rule": pair.rule, "subject_conflict": False,
            "source_key": key, "frame_index": place[0], "source_frames": place[1], "media": "image",
            "rows": rows, "cols": cols, "native_rows": rows, "native_cols": cols, "crop_x0": 0, "crop_y0": 0,
            "crop_x1": cols, "crop_y1": rows, "scale": 1.0, "spacing_row_mm": None, "spacing_col_mm": None,
            "header_codes": [], "area": [], "area_method": "none", "text_boxes": [], "redacted_fraction": 0.0,
            "verified_by": "none", "duplicate_of": None,
        }  # fmt: skip


def _counted(told: Callable[[int, int], None], base: int, total: int) -> Told:
    return lambda number: told(base + number, total)


def _tasks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Whole cases, about a thousand pictures together."""
    task: list[Pair] = []
    for case in by_case(pairs):
        if task and len(task) + len(case) > _TASK_FRAMES:
            yield task
            task = []
        task += case
    if task:
        yield task


def _places(pairs: Sequence[Pair], ids: ReleaseIds) -> dict[str, tuple[int, int]]:
    """Number of each picture in its clip, and how many the clip has."""
    clips: dict[str, list[str]] = {}
    for pair in pairs:
        clips.setdefault(ids.clip(pair), []).append(pair.image)
    return {image: (i, len(images)) for images in clips.values() for i, image in enumerate(images)}


def _ahead(
    pool: ThreadPoolExecutor, look: Callable[[Pair], _Picture | str], pairs: Iterable[Pair]
) -> Iterator[_Picture | str]:
    """Results in order; only a few are held."""
    rest = iter(pairs)
    waiting: deque[Future[_Picture | str]] = deque()
    for pair in islice(rest, _AHEAD * (os.cpu_count() or 1)):
        waiting.append(pool.submit(look, pair))
    try:
        while waiting:
            yield waiting.popleft().result()
            for pair in islice(rest, 1):
                waiting.append(pool.submit(look, pair))
    finally:
        for future in waiting:
            future.cancel()
