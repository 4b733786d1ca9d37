"""What the review page shows and keeps: captions in doubt with their frames, and a person's labels."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final, cast

from usds.curation.annotate import AnnotateReport, AnnotateSettings, annotate_dataset
from usds.curation.corrections import append_corrections
from usds.curation.review import (
    ASSERTIONS,
    Doubt,
    Labels,
    current_taxonomy,
    differences,
    doubts,
    known_labels,
    with_parents,
)
from usds.curation.review_server import Malformed
from usds.schemas.dataset import Dataset
from usds.schemas.errors import UsageError

__all__ = ["ReviewSession"]

_FRAMES: Final = 12
"""Pictures shown beside a caption; a study can have hundreds."""


class ReviewSession:
    """One person's pass over the doubtful captions of a dataset.

    Every save appends to the corrections at once, under the dataset's lock, so a kill loses nothing; labels
    of the frames follow when :meth:`finish` annotates what was corrected. Safe to call from several threads.

    Parameters
    ----------
    dataset : Dataset
    set_name : str, optional
        Annotation set; by default the current one.
    limit : int
        Captions to show at most.
    every : bool
        Show every caption, not only those in doubt.

    Raises
    ------
    ContentError
        If the dataset is not annotated.
    """

    page = "review.html"

    def __init__(
        self, dataset: Dataset, *, set_name: str | None = None, limit: int = 2000, every: bool = False
    ) -> None:
        self.dataset = dataset
        self.set_name, self.taxonomy = current_taxonomy(dataset, set_name)
        with dataset.connect(self.set_name) as connection:
            found = list(islice(doubts(connection, self.taxonomy, every=every), limit + 1))
        self.is_cut = len(found) > limit
        self._queue: dict[str, Doubt] = {doubt.caption_id: doubt for doubt in found[:limit]}
        self._saved: dict[str, Labels] = {}
        self._lock = threading.Lock()
        self.corrections = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def saved(self) -> int:
        """Captions that were saved, changed or confirmed."""
        return len(self._saved)

    def data(self, path: list[str]) -> dict[str, Any] | None:
        """What the page asks for: ``overview``, or ``caption`` and its id."""
        match path:
            case ["overview"]:
                return self.overview()
            case ["caption", caption_id]:
                return self.caption(caption_id)
            case _:
                return None

    def keep(self, path: list[str], body: Any) -> dict[str, Any] | None:
        """What the page sends: the labels of a ``caption``.

        Raises
        ------
        Malformed
            If they are no lists of words.
        """
        match path:
            case ["caption", caption_id]:
                if not _is_labels(body):
                    raise Malformed("labels are lists of words by dimension, as JSON")
                return self.save(caption_id, body)
            case _:
                return None

    def overview(self) -> dict[str, Any]:
        """The taxonomy's dimensions and labels, and the captions to look at."""
        return {
            "set": self.set_name,
            "cut": self.is_cut,
            "dimensions": [
                {"name": name, "labels": list(self.taxonomy.vocabulary(name))}
                for name in self.taxonomy.dimension_names
            ],
            "captions": [
                {
                    "id": doubt.caption_id,
                    "why": doubt.why,
                    "begin": doubt.text[:80],
                    "saved": key in self._saved,
                }
                for key, doubt in self._queue.items()
            ],
        }

    def caption(self, caption_id: str) -> dict[str, Any]:
        """Text, findings, labels and frames of one caption.

        Returns
        -------
        dict
            ``spans`` are (start, end, assertion) in Unicode code points of ``text``.

        Raises
        ------
        UsageError
            If the caption is not among those to look at.
        """
        doubt = self._doubt(caption_id)
        with self.dataset.connect(self.set_name) as connection:
            spans = connection.execute(
                'SELECT DISTINCT start, "end", assertion FROM evidence '
                "WHERE caption_id = ? AND start IS NOT NULL ORDER BY ALL",
                [caption_id],
            ).fetchall()
            frames = connection.execute(
                "SELECT frame_id FROM frames JOIN captions c ON c.caption_id = ? "
                "AND c.target_id IN (frame_id, clip_id, study_id) ORDER BY clip_id, frame_index, frame_id",
                [caption_id],
            ).fetchall()
        labels = self._saved.get(caption_id, doubt.labels)
        return {
            "id": caption_id,
            "scope": doubt.scope,
            "why": doubt.why,
            "text": doubt.text,
            "spans": spans,
            "labels": _sorted(labels),
            "frames": [frame for (frame,) in frames[:_FRAMES]],
            "more_frames": max(0, len(frames) - _FRAMES),
        }

    def picture(self, frame_id: str) -> bytes:
        """Encoded image of a frame.

        Raises
        ------
        ContentError
            If it is not in the dataset.
        """
        return self.dataset.read_pixels([frame_id])[frame_id]

    def save(self, caption_id: str, items: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Keep the labels that a person gave a caption; confirming them unchanged is kept for the session.

        Parameters
        ----------
        caption_id : str
        items : mapping
            Dimension -> labels, ``negated`` and ``uncertain`` -> ``dimension: label``.

        Raises
        ------
        UsageError
            For a caption or a label that there is not; nothing is written.
        DatasetLocked
            If another process is writing to the dataset.
        """
        doubt = self._doubt(caption_id)
        strange = sorted(set(items) - {*self.taxonomy.dimension_names, *ASSERTIONS})
        if strange:
            raise UsageError(f"caption {caption_id}: no dimension {strange[0]!r} in {self.set_name}")
        wanted = known_labels(items, self.taxonomy, f"caption {caption_id}")
        with self._lock:
            now = self._saved.get(caption_id, doubt.labels)
            changes = list(differences(self.taxonomy, caption_id, doubt.target_id, now, wanted))
            if changes:
                with self.dataset.lock("usds review"):
                    append_corrections(self.dataset, changes)
            kept = self._saved[caption_id] = with_parents(self.taxonomy, now, wanted)
            self.corrections += len(changes)
        return {"corrections": len(changes), "labels": _sorted(kept)}

    def finish(self, settings: AnnotateSettings) -> AnnotateReport | None:
        """Annotate what was corrected; None if nothing was."""
        if not self.corrections:
            return None
        with self.dataset.lock("usds review"):
            return annotate_dataset(self.dataset, self.taxonomy, settings, set_name=self.set_name)

    def _doubt(self, caption_id: str) -> Doubt:
        if caption_id not in self._queue:
            raise UsageError(f"caption {caption_id!r} is not among those to look at")
        return self._queue[caption_id]


def _sorted(labels: Labels) -> dict[str, list[str]]:
    return {name: sorted(values) for name, values in labels.items()}


def _is_labels(body: Mapping[str, Any]) -> bool:
    return all(
        isinstance(items, list) and all(isinstance(item, str) for item in cast("list[Any]", items))
        for items in body.values()
    )
