"""What frozen image vectors, or a tuned image tower, know: linear probe, few-shot, fine-tune.

Classes of a dimension are its labels; only records with exactly one label of the dimension count. Classes
that the training side lacks cannot be predicted; test records of such a class count as misses.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

from usds.model.evaluate.intervals import Interval, case_bootstrap
from usds.model.network import UltrasoundCLIP

__all__ = ["Features", "ProbeResult", "few_shot", "fine_tune", "linear_probe"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

STRENGTHS: Final = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
SHOTS: Final = (1, 4, 16)
SEEDS: Final = 5
FINE_TUNE_SEEDS: Final = 3


@dataclass(frozen=True, eq=False)
class Features:
    """Image vectors (N, E), classes (N,) and cases (N,) of one side."""

    x: Floats
    y: Ints
    cases: Ints

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class ProbeResult:
    """A probe of one dimension.

    Attributes
    ----------
    dimension, n_train, n_test, classes
        What was probed; classes are those of the training side.
    accuracy : Interval
        On the test side, case bootstrap; over seeds where there are several.
    balanced : float
        Mean recall of the classes of the test side.
    majority : float
        Accuracy of the most frequent training class.
    settings : dict
        C and how it was chosen, shots, seeds.
    """

    dimension: str
    n_train: int
    n_test: int
    classes: int
    accuracy: Interval
    balanced: float
    majority: float
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> dict[str, Any]:
        """Plain form."""
        return asdict(self)


def _fit(train: Features, strength: float) -> Callable[[Floats], Ints]:
    mean, sd = train.x.mean(axis=0), train.x.std(axis=0) + 1e-6
    probe: Any = LogisticRegression(C=strength, max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # large C on few records: the figure decides
        probe.fit((train.x - mean) / sd, train.y)
    return lambda x: np.asarray(probe.predict((x - mean) / sd), np.int64)


def _probable(train: Features, test: Features) -> bool:
    return len(test) > 0 and len(np.unique(train.y)) >= 2


def _judge(
    dimension: str, train: Features, test: Features, predicted: Ints, settings: dict[str, Any]
) -> ProbeResult:
    hits = (predicted == test.y).astype(np.float64)
    values = case_bootstrap(lambda w: {"accuracy": float(w @ hits / max(w.sum(), 1))}, test.cases)
    classes, counts = np.unique(train.y, return_counts=True)
    majority = float((test.y == classes[counts.argmax()]).mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # predicted classes that the test side lacks
        balanced = float(balanced_accuracy_score(test.y, predicted))
    return ProbeResult(
        dimension, len(train), len(test), len(classes), values["accuracy"], balanced, majority, settings
    )


def linear_probe(dimension: str, train: Features, valid: Features, test: Features) -> ProbeResult | None:
    """Multinomial logistic regression on standardised vectors; C by accuracy on the validation side.

    Returns
    -------
    ProbeResult or None
        None where the training side has fewer than two classes or the test side no record.
    """
    if not _probable(train, test):
        return None
    chosen, how = 1.0, "1.0: no validation record"
    if len(valid):
        accuracy = [float((_fit(train, c)(valid.x) == valid.y).mean()) for c in STRENGTHS]
        chosen, how = STRENGTHS[int(np.argmax(accuracy))], f"by accuracy on {len(valid)} validation records"
    predicted = _fit(train, chosen)(test.x)
    return _judge(dimension, train, test, predicted, {"C": chosen, "C chosen": how})


def few_shot(
    dimension: str, train: Features, test: Features, shots: Sequence[int] = SHOTS, seeds: int = SEEDS
) -> list[dict[str, Any]]:
    """Linear probe (C = 1) on k records of each class; mean and standard deviation over seeds.

    A class with fewer than k records gives all it has.
    """
    if not _probable(train, test):
        return []
    rows: list[dict[str, Any]] = []
    for k in shots:
        scores: list[float] = []
        for seed in range(seeds):
            rng = np.random.default_rng([seed, k])
            picked = np.concatenate([_pick(np.flatnonzero(train.y == c), k, rng) for c in np.unique(train.y)])
            few = Features(train.x[picked], train.y[picked], train.cases[picked])
            scores.append(float((_fit(few, 1.0)(test.x) == test.y).mean()))
        rows.append(
            {
                "dimension": dimension,
                "shots": k,
                "seeds": seeds,
                "accuracy": float(np.mean(scores)),
                "sd": float(np.std(scores)),
                "n_test": len(test),
            }
        )
    return rows


def _pick(rows: npt.NDArray[np.intp], k: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    return rng.choice(rows, min(k, len(rows)), replace=False)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Frames of one side.

    Attributes
    ----------
    pixels : callable
        Rows int64 (b,) -> network input uint8 (b, 3, S, S); a whole side would not fit the memory.
    y, cases : int64 (N,)
        Classes and cases.
    """

    pixels: Callable[[Ints], Tensor]
    y: Ints
    cases: Ints


def fine_tune(
    model: UltrasoundCLIP,
    dimension: str,
    train: Pictures,
    test: Pictures,
    device: torch.device,
    *,
    epochs: int = 10,
    batch: int = 32,
    rate: float = 1e-4,
    seeds: int = FINE_TUNE_SEEDS,
) -> ProbeResult | None:
    """Tune a copy of the image tower with a linear head on one dimension; accuracy averaged over seeds.

    Returns
    -------
    ProbeResult or None
        None where the training side has fewer than two classes or the test side no record.
    """
    classes = np.unique(train.y)
    if len(classes) < 2 or not len(test.y):
        return None
    runs = [
        _tune_once(
            model, classes, train, test, device=device, epochs=epochs, batch=batch, rate=rate, seed=seed
        )
        for seed in range(seeds)
    ]
    empty = np.zeros((len(train.y), 1), np.float32)
    sides = (
        Features(empty, train.y, train.cases),
        Features(np.zeros((len(test.y), 1), np.float32), test.y, test.cases),
    )
    scores = [float((predicted == test.y).mean()) for predicted in runs]
    settings = {
        "seeds": seeds,
        "epochs": epochs,
        "rate": rate,
        "accuracies": scores,
        "sd": float(np.std(scores)),
    }
    middle = runs[int(np.argsort(scores)[len(scores) // 2])]
    return _judge(
        dimension, sides[0], sides[1], middle, {**settings, "interval": "of the seed with the median"}
    )


def _tune_once(
    model: UltrasoundCLIP,
    classes: Ints,
    train: Pictures,
    test: Pictures,
    *,
    device: torch.device,
    epochs: int,
    batch: int,
    rate: float,
    seed: int,
) -> Ints:
    torch.manual_seed(seed)
    tower = copy.deepcopy(model.towers).to(device).train()
    head = nn.Linear(model.width, len(classes)).to(device)
    spec = model.image_transform(True)
    optimizer = torch.optim.AdamW(
        [
            {"params": tower.clip.visual.parameters(), "lr": rate},
            {"params": head.parameters(), "lr": rate * 10},
        ],
        weight_decay=0.05,
    )
    target = torch.from_numpy(np.searchsorted(classes, train.y))
    for _ in range(epochs):
        for rows in torch.randperm(len(target)).split(batch):
            pixels = spec.normalise(train.pixels(rows.numpy()).to(device))
            scores = head(tower.encode_image(pixels) * 10.0)
            loss = F.cross_entropy(scores, target[rows].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    tower.eval()
    with torch.inference_mode():
        parts = [
            head(tower.encode_image(spec.normalise(test.pixels(rows).to(device))) * 10.0).argmax(1).cpu()
            for rows in np.split(np.arange(len(test.y)), range(64, len(test.y), 64))
        ]
    return classes[torch.cat(parts).numpy()]
