"""What a tool left of known text, and what it took of the picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from benchmarks.deid.lettering import Placed
from benchmarks.deid.scenes import Scene

Mask = NDArray[np.uint8]
HIT = 0.90
"""Share of a string's ink that must be black for it to count as removed inside the area."""
HEIGHTS = ((6, 7), (8, 10), (12, 28))
"""Heights of capitals, in pixels, for which visible strings inside the area are counted apart."""


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
class Record:
    """One scored scene; made of plain values, so that it can be stored and read again.

    Attributes
    ----------
    strings : list of (class, height, hit, description)
        A string of a clip counts once, and only as removed when it is in every frame that shows it.
    false, overlap, trace : list of float
        One value a frame: share of the area blacked far from any ink, intersection over union of the found
        area, share of the trace that was kept.
    kept : list of float
        Share of the whole picture that is still shown; real pictures only.
    seconds, unit : float
        Processor time of the tool, and of a fixed piece of work just before.
    """

    name: str
    kind: str
    frames: int
    outcome: str
    seconds: float
    unit: float
    strings: list[tuple[str, int, bool, str]] = field(default_factory=list[tuple[str, int, bool, str]])
    false: list[float] = field(default_factory=list[float])
    overlap: list[float] = field(default_factory=list[float])
    trace: list[float] = field(default_factory=list[float])
    kept: list[float] = field(default_factory=list[float])


def score(scene: Scene, outcome: str, frames: Sequence[Blacked], seconds: float, unit: float) -> Record:
    """Score the frames of one scene; a tool that writes none has removed everything."""
    record = Record(scene.name, scene.kind, len(scene.frames), outcome, seconds, unit)
    for placed in scene.strings:
        shares = [_share(placed, frame) for frame in frames if frame.index >= placed.first]
        if shares:
            record.strings.append(_judged(scene, placed, min(shares)))
    for frame in frames:
        _picture(record, scene, frame)
    return record


def _share(placed: Placed, frame: Blacked) -> float:
    return float(frame.black[placed.ink[:, 0], placed.ink[:, 1]].mean())


def _judged(scene: Scene, placed: Placed, share: float) -> tuple[str, int, bool, str]:
    hit = share == 1.0 if placed.klass.startswith("outside") else share >= HIT
    words = (
        f"{scene.name} {scene.kind} {placed.klass} {placed.size}px contrast {placed.contrast:.0f} "
        f"{placed.font.rsplit('/', 1)[-1]} {share:.2f} {placed.text}"
    )
    return placed.klass, placed.size, hit, words


def _picture(record: Record, scene: Scene, frame: Blacked) -> None:
    truth = scene.area if scene.area is not None else frame.area
    if truth is None or frame.area is None:
        return
    ink = np.zeros_like(frame.black)
    for placed in scene.strings:
        if frame.index >= placed.first:
            ink[placed.ink[:, 0], placed.ink[:, 1]] = 1
    near = cv2.dilate(ink, np.ones((33, 33), np.uint8))
    wrong = frame.boxes & truth & (1 - near)
    record.false.append(float(wrong.sum() / max(1, int(truth.sum()))))
    if scene.trace is not None:
        record.trace.append(float(frame.area[scene.trace > 0].mean()))
    if scene.area is None:
        record.kept.append(float((frame.black == 0).mean()))
    else:
        union = (truth | frame.area).sum()
        record.overlap.append(float((truth & frame.area).sum() / max(1, int(union))))


def report(records: Iterable[Record]) -> dict[str, Any]:
    """Figures ready for printing or JSON."""
    recall: dict[str, list[bool]] = defaultdict(list)
    heights: dict[str, list[bool]] = defaultdict(list)
    outcomes: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    measures: dict[str, dict[str, list[float]]] = {
        name: defaultdict(list)
        for name in ("false_redaction", "area_iou", "trace_kept", "kept", "seconds", "quiet")
    }
    records = list(records)
    fastest = min((record.unit for record in records), default=1.0)
    for record in records:
        group = _group(record)
        outcomes[group][{"ok": 0, "review": 1}.get(record.outcome, 2)] += 1
        for klass, height, hit, _ in record.strings:
            recall[klass].append(hit)
            if klass in ("inside_grey", "inside_doppler"):
                low, high = next(span for span in HEIGHTS if span[0] <= height <= span[1])
                heights[f"{klass} {low}-{high} px"].append(hit)
        for name, values in (
            ("false_redaction", record.false), ("area_iou", record.overlap), ("trace_kept", record.trace),
            ("kept", record.kept),
        ):  # fmt: skip
            measures[name]["trace" if record.trace else group.split("-")[0]].extend(values)
        kind = "clip" if record.frames > 1 else "still"
        kind += " with flow colours" if "doppler" in record.kind else ""
        measures["seconds"][kind].append(record.seconds)
        measures["quiet"][kind].append(record.seconds * fastest / record.unit)
    return {
        "recall": {name: interval(sum(hits), len(hits)) for name, hits in sorted(recall.items())},
        "heights": {name: interval(sum(hits), len(hits)) for name, hits in sorted(heights.items())},
        "outcomes": {
            name: dict(zip(("ingested", "review", "rejected"), counts, strict=True))
            for name, counts in sorted(outcomes.items())
        },
        **{
            name: {group: _spread(values) for group, values in sorted(groups.items()) if values}
            for name, groups in measures.items()
        },
    }


def _group(record: Record) -> str:
    if record.kind == "clean":
        return f"clean-{record.name.split('-')[1]}"
    if record.kind.startswith("real"):
        return "clean" if record.kind.endswith("clean") else "real"
    return "clean" if record.kind.endswith("clean") else "generated"


def interval(hits: int, total: int) -> dict[str, float]:
    """Share with its exact 95 % interval (Clopper and Pearson, 1934)."""
    low = float(beta.ppf(0.025, hits, total - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, total - hits)) if hits < total else 1.0
    return {"hits": hits, "n": total, "share": hits / total if total else 0.0, "low": low, "high": high}


def _spread(values: Sequence[float]) -> dict[str, float]:
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
