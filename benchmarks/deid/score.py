"""What a tool left of known text, and what it took of the picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from benchmarks.deid.scenes import Scene

Mask = NDArray[np.uint8]
HIT = 0.90
"""Share of a string's ink that must be black for it to count as removed inside the area."""


@dataclass(frozen=True, slots=True)
class Blacked:
    """What a tool did to one frame, in native pixels.

    Attributes
    ----------
    index : int
        Frame of the scene.
    black : (rows, columns) uint8
        1 where pixels are hidden or cut away.
    boxes : (rows, columns) uint8
        1 where a text box is blacked.
    area : (rows, columns) uint8 or None
        Image area the tool found.
    """

    index: int
    black: Mask
    boxes: Mask
    area: Mask | None


@dataclass(slots=True)
class Tally:
    """Sums over scenes."""

    removed: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    missed: list[str] = field(default_factory=list[str])
    false_share: list[float] = field(default_factory=list[float])
    overlap: list[float] = field(default_factory=list[float])
    outcomes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0]))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list[float]))

    def add_frames(self, scene: Scene, frames: Sequence[Blacked]) -> None:
        """Score the frames of one scene."""
        for frame in frames:
            ink = np.zeros_like(frame.black)
            for placed in scene.strings:
                if frame.index < placed.first:
                    continue
                y, x = placed.ink[:, 0], placed.ink[:, 1]
                ink[y, x] = 1
                share = float(frame.black[y, x].mean())
                outside = placed.klass.startswith("outside")
                hit = share == 1.0 if outside else share >= HIT
                count = self.removed[placed.klass]
                count[0] += int(hit)
                count[1] += 1
                if not hit:
                    self.missed.append(
                        f"{scene.name} {scene.kind} {placed.klass} {placed.size}px "
                        f"contrast {placed.contrast:.0f} {placed.font} {share:.2f} {placed.text}"
                    )
            self._picture(scene, frame, ink)

    def _picture(self, scene: Scene, frame: Blacked, ink: Mask) -> None:
        truth = scene.area if scene.area is not None else frame.area
        if truth is None or frame.area is None:
            return
        near = cv2.dilate(ink, np.ones((33, 33), np.uint8))
        wrong = frame.boxes & truth & (1 - near)
        self.false_share.append(float(wrong.sum() / max(1, int(truth.sum()))))
        if scene.area is not None:
            union = (truth | frame.area).sum()
            self.overlap.append(float((truth & frame.area).sum() / max(1, int(union))))

    def report(self) -> dict[str, Any]:
        """Figures ready for printing or JSON."""
        return {
            "recall": {name: interval(*count) for name, count in sorted(self.removed.items())},
            "false_redaction": _spread(self.false_share),
            "area_iou": _spread(self.overlap),
            "outcomes": {
                name: {"ingested": c[0], "review": c[1], "rejected": c[2]}
                for name, c in sorted(self.outcomes.items())
            },
            "seconds": {name: _spread(values) for name, values in sorted(self.seconds.items())},
        }


def interval(hits: int, total: int) -> dict[str, float]:
    """Share with its exact 95 % interval (Clopper and Pearson, 1934)."""
    low = float(beta.ppf(0.025, hits, total - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, total - hits)) if hits < total else 1.0
    return {"hits": hits, "n": total, "share": hits / total if total else 0.0, "low": low, "high": high}


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"n": 0}
    array = np.asarray(values)
    return {
        "n": len(values),
        "mean": float(array.mean()),
        "median": float(np.median(array)),
        "p05": float(np.percentile(array, 5)),
        "p95": float(np.percentile(array, 95)),
        "worst": float(array.max()),
        "least": float(array.min()),
    }


def enlarged(mask: NDArray[Any], shape: tuple[int, ...]) -> Mask:
    """Nearest-neighbour resize to (rows, columns)."""
    size = (shape[1], shape[0])
    return cast(Mask, cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST))
