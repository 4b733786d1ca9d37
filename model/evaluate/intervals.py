"""95 % intervals by resampling whole cases: frames of one case are not independent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "case_bootstrap"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """A value with its 2.5 % and 97.5 % bootstrap quantiles; no bounds with fewer than two cases."""

    value: float | None
    low: float | None
    high: float | None

    def text(self, digits: int = 3) -> str:
        """For tables: value (low-high)."""
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def case_bootstrap(
    statistic: Callable[[Floats], Mapping[str, float]], cases: Ints, *, draws: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Intervals of weighted statistics under resampling of cases with replacement.

    Parameters
    ----------
    statistic : callable
        Weights of the records, float64 (N,), -> name -> value. A weight is the number of times that the
        record's case was drawn; all ones gives the value itself. NaN where it is not defined.
    cases : int64 (N,)
        Case of each record.
    draws : int
        Resamples.
    seed : int
        Seed of the resampling.
    """
    plain = statistic(np.ones(len(cases)))
    numbers, inverse = np.unique(cases, return_inverse=True)
    if len(numbers) < 2:
        return {name: Interval(_defined(value), None, None) for name, value in plain.items()}
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in plain}
    for _ in range(draws):
        times = np.bincount(rng.integers(len(numbers), size=len(numbers)), minlength=len(numbers))
        for name, value in statistic(times[inverse].astype(np.float64)).items():
            drawn[name].append(value)
    return {name: _interval(plain[name], np.array(values)) for name, values in drawn.items()}


def _interval(value: float, drawn: Floats) -> Interval:
    found = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(found):
        return Interval(_defined(value), None, None)
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
