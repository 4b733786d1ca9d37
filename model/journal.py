"""What a run writes down while it trains: metrics.jsonl, TensorBoard, plots, images/s and time left."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usds.model.run import Run
from usds.schemas.files import atomic_path

if TYPE_CHECKING:
    from usds.model.step import StepResult

__all__ = ["EpochLosses", "Journal", "Pace", "read_metrics", "step_figures"]


@dataclass
class Pace:
    """Speed since the start of this process.

    Attributes
    ----------
    images : int
        Images trained on.
    """

    start: float = 0.0
    images: int = 0
    steps: int = 0

    def begin(self) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def add(self, images: int) -> None:
        """Count one step of ``images`` images over all ranks."""
        self.images += images
        self.steps += 1

    @property
    def images_per_second(self) -> float:
        """Mean over this process's steps, validation included."""
        return self.images / max(1e-9, time.perf_counter() - self.start)

    def seconds_left(self, steps_left: int) -> float:
        """Expected time for the steps that are left."""
        return steps_left * (time.perf_counter() - self.start) / max(1, self.steps)


@dataclass
class EpochLosses:
    """Mean loss of the first and of the last epoch that were seen."""

    _first: _EpochLoss | None = None
    _last: _EpochLoss | None = None

    def add(self, epoch: int, loss: float) -> None:
        """Count the loss of one step; epochs come in order."""
        if self._last is None or self._last.epoch != epoch:
            self._last = _EpochLoss(epoch)
        self._first = self._first or self._last
        self._last.values.append(loss)

    @property
    def first(self) -> float | None:
        """Mean of the first epoch; None before any step."""
        return self._first.mean if self._first else None

    @property
    def last(self) -> float | None:
        """Mean of the last epoch; None before any step."""
        return self._last.mean if self._last else None


@dataclass
class _EpochLoss:
    epoch: int
    values: list[float] = field(default_factory=list[float])

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)


def step_figures(result: StepResult, scale: float, pace: Pace) -> dict[str, float]:
    """What is written down of one step; ``scale`` is exp(theta)."""
    parts = result.parts
    return {
        "train/loss": float(parts.total),
        "train/clip": float(parts.clip),
        "train/semantic": float(parts.semantic),
        "train/accuracy": float(parts.accuracy),
        "train/gradient_norm": result.gradient_norm,
        "train/rate": result.rate,
        "train/logit_scale": scale,
        "train/images_per_second": pace.images_per_second,
    }


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """All lines of metrics.jsonl; a last line that a kill cut short is left out."""
    if not run.metrics.is_file():
        return []
    rows: list[dict[str, Any]] = []
    for line in run.metrics.read_text("utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


class Journal:
    """Writes a run's metrics; used by the first rank only.

    Parameters
    ----------
    run : Run
        Its folder.
    step : int
        Step that training starts from: what an earlier process wrote beyond it is dropped.
    """

    def __init__(self, run: Run, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._run = run
        kept = [row for row in read_metrics(run) if row["step"] <= step]
        with atomic_path(run.metrics) as partial:
            partial.write_text("".join(_line(row) for row in kept), "utf-8")
        self._stream = run.metrics.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run.folder / "tensorboard"), purge_step=step + 1, flush_secs=30)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add the figures of one step."""
        self._stream.write(_line({"step": step, **values}))
        self._stream.flush()
        for name, value in values.items():
            if math.isfinite(value):
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush everything and draw the plots."""
        self._stream.close()
        self._board.close()
        rows = read_metrics(self._run)
        if any("train/loss" in row for row in rows):
            plot_training(self._run, rows)


def _line(row: Mapping[str, Any]) -> str:
    plain = {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in row.items()}
    return json.dumps(plain, sort_keys=True) + "\n"


def plot_training(run: Run, rows: list[dict[str, Any]]) -> None:
    """Draw loss, learning rate and validation figures against the step into ``plots/training.png``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels: Any = figure.subplots(1, 3)
    series = [
        ("loss", {"train/loss": "loss", "train/clip": "contrastive part"}),
        ("learning rate", {"train/rate": "rate"}),
        ("validation", {"valid/mrr": "mean reciprocal rank", "valid/AvgAcc": "AvgAcc"}),
    ]
    for panel, (title, names) in zip(panels, series, strict=True):
        for name, label in names.items():
            points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            if points:
                panel.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 20 else "")
        panel.set(title=title, xlabel="step")
        if len(panel.get_lines()) > 1:
            panel.legend(frameon=False, fontsize=8)
    (run.folder / "plots").mkdir(exist_ok=True)
    with atomic_path(run.folder / "plots" / "training.png") as partial:
        figure.savefig(partial, dpi=120, format="png")
