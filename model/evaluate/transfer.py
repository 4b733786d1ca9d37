"""What the image tower of a run transfers to: probes and fine-tunes, dimension by dimension."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from usds.model.cache import FrameCache
from usds.model.evaluate.probe import Features, Pictures, few_shot, fine_tune, linear_probe
from usds.model.evaluate.settings import EvaluateSettings
from usds.model.evaluate.sides import Sides
from usds.model.network import UltrasoundCLIP
from usds.model.records import Records
from usds.model.sampler import visits
from usds.model.stream import encode_frames, frame_pixels
from usds.taxonomy.udt import Taxonomy

__all__ = ["Transfer"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]

_SIDES: Final = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class _Classes:
    """Records of one side with exactly one label of a dimension: their rows, and that label."""

    rows: Ints
    y: Ints

    def spread(self, subjects: Ints, most: int, seed: int) -> _Classes:
        """At most so many of them, spread over the subjects: frames of one subject teach the same."""
        if len(self.rows) <= most:
            return self
        order = np.random.default_rng([seed, 2]).permutation(len(self.rows))
        early = np.argsort(visits(subjects[self.rows[order]]), kind="stable")[:most]
        chosen = np.sort(order[early])
        return _Classes(self.rows[chosen], self.y[chosen])


@dataclass(frozen=True, eq=False)
class Transfer:
    """Probes and fine-tunes of a run.

    Attributes
    ----------
    model, sides, cache, device, settings
        As in :func:`usds.model.evaluate.run.evaluate`.
    """

    model: UltrasoundCLIP
    sides: Sides
    cache: FrameCache
    device: torch.device
    settings: EvaluateSettings

    def probes(self, test: Floats, progress: Progress | None = None) -> dict[str, Any]:
        """Linear probe and few-shot of every dimension on frozen vectors.

        Parameters
        ----------
        test : float32 (N, E)
            Image vectors of the tested side.
        progress : callable, optional
            Takes (frames encoded, frames in all).
        """
        names = self.model.taxonomy.dimension_names
        chosen = {side: {name: self._classes(side, name) for name in names} for side in _SIDES}
        vectors = {"test": test}
        for side in _SIDES[:2]:
            vectors[side] = self._encode(side, [found.rows for found in chosen[side].values()], progress)
        linear: dict[str, Any] = {}
        shots: list[dict[str, Any]] = []
        for name in names:
            train, valid, held = (self._features(side, chosen[side][name], vectors[side]) for side in _SIDES)
            found = linear_probe(name, train, valid, held)
            if found is not None:
                linear[name] = found.to_json()
                shots += few_shot(name, train, held)
        return {"linear": linear, "few_shot": shots}

    def fine_tunes(self) -> dict[str, Any]:
        """A tuned copy of the image tower for each dimension that the settings name."""
        result: dict[str, Any] = {}
        for name in self.settings.fine_tune:
            train, test = (self._pictures(side, self._classes(side, name)) for side in ("train", "test"))
            epochs = self.settings.fine_tune_epochs
            found = fine_tune(self.model, name, train, test, self.device, epochs=epochs)
            result[name] = (
                found.to_json()
                if found is not None
                else {"skipped": "fewer than two classes, or no test record"}
            )
        return result

    def _records(self, side: str) -> Records:
        return {"train": self.sides.train, "valid": self.sides.valid, "test": self.sides.test}[side]

    def _classes(self, side: str, dimension: str) -> _Classes:
        records = self._records(side)
        found = _single(self.model.taxonomy, records, dimension)
        if side == "test":
            return found
        if side == "valid" and self.settings.side == "valid":  # what is tested on may not choose C
            return _Classes(found.rows[:0], found.y[:0])
        return found.spread(records.subjects, self.settings.probe_frames, self.settings.seed)

    def _encode(self, side: str, wanted: list[Ints], progress: Progress | None) -> Floats:
        """Vectors of a side, those of unwanted rows left zero."""
        records = self._records(side)
        vectors = np.zeros((len(records), self.model.width), np.float32)
        rows = np.unique(np.concatenate(wanted))
        if len(rows):
            spec = self.model.image_transform(False)
            vectors[rows] = encode_frames(
                self.model.encode_image, records.take(rows), self.cache, spec, self.device, progress=progress
            )
        return vectors

    def _features(self, side: str, found: _Classes, vectors: Floats) -> Features:
        return Features(vectors[found.rows], found.y, self._records(side).subjects[found.rows])

    def _pictures(self, side: str, found: _Classes) -> Pictures:
        records = self._records(side).take(found.rows)
        size = self.model.image_transform(False).size
        return Pictures(lambda rows: frame_pixels(records, self.cache, size, rows), found.y, records.subjects)


def _single(taxonomy: Taxonomy, records: Records, dimension: str) -> _Classes:
    place = taxonomy.dimension_names.index(dimension)
    start = sum(taxonomy.widths[:place])
    part = records.labels.x[:, start : start + taxonomy.widths[place]] > 0
    rows = np.flatnonzero(part.sum(axis=1) == 1)
    return _Classes(rows, part[rows].argmax(axis=1).astype(np.int64))
