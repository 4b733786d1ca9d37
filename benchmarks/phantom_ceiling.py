"""How well a classifier reads each attribute off the phantoms: the ceiling of the ablation.

Run ``python -m benchmarks.phantom_ceiling [--steps N]``. The image tower of the ablation is trained at the
ablation's resolution with every label of every subject (no captions, no missing labels) and judged on
subjects that it has not seen. An attribute that stays near chance here could not be learned from captions.
"""

from __future__ import annotations

import argparse
import json
import time

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from benchmarks.phantom import SETTINGS, TOWERS
from benchmarks.phantom_data import PhantomSettings, draw_lesion, render
from usds.model.augment import centre
from usds.model.settings import TowerSettings
from usds.model.towers import Towers, build_towers

ATTRIBUTES = ("organ", "shape", "margin", "echo", "posterior", "internal")
_BATCH = 64


def main() -> None:
    """Train, judge, print one line an attribute."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--subjects", type=int, default=1200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    fixed = yaml.safe_load(SETTINGS.read_text("utf-8"))
    spec = PhantomSettings(**fixed["phantoms"])
    torch.manual_seed(0)
    start = time.process_time()
    towers = build_towers(TowerSettings(name=str(TOWERS)))
    # Subjects of numbers that no dataset of the ablation reaches.
    train = frames(spec, range(10**6, 10**6 + options.subjects), towers.spec.size)
    test = frames(spec, range(2 * 10**6, 2 * 10**6 + 300), towers.spec.size)
    found = {
        "steps": options.steps,
        "subjects": options.subjects,
        **fit(towers, train, test, options.steps),
        "cpu_seconds": time.process_time() - start,
    }
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print("| attribute | accuracy | guessing |\n|---|---|---|")
    for name, value in found["accuracy"].items():
        print(f"| {name} | {value:.3f} | {found['guessing'][name]:.3f} |")


def frames(spec: PhantomSettings, subjects: range, size: int) -> tuple[Tensor, Tensor]:
    """Pixels uint8 (N, 3, size, size) and class numbers int64 (N, 6) of some subjects' frames."""
    pixels: list[npt.NDArray[np.uint8]] = []
    values: list[list[str]] = []
    for subject in subjects:
        rng = np.random.default_rng([spec.seed, subject])
        lesion = draw_lesion(rng)
        for _ in range(spec.frames_per_subject):
            pixels.append(centre(render(lesion, spec.side, rng), size))
            values.append([str(getattr(lesion, name)) for name in ATTRIBUTES])
    table = np.array(values)
    columns = [np.unique(table[:, k], return_inverse=True)[1] for k in range(len(ATTRIBUTES))]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(columns, axis=1))


def fit(
    towers: Towers, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], steps: int
) -> dict[str, dict[str, float]]:
    """Accuracy on the test frames, and that of always naming the most frequent class."""
    tower = towers.clip.visual
    widths = [int(column.max()) + 1 for column in train[1].T]
    head = nn.Linear(towers.width, sum(widths))
    optimizer = torch.optim.AdamW([*tower.parameters(), *head.parameters()], lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(train[0]), (_BATCH,))
        logits = head(tower(towers.spec.normalise(train[0][rows]))).split(widths, dim=1)
        loss = sum(
            (F.cross_entropy(part, train[1][rows, k]) for k, part in enumerate(logits)), torch.zeros(())
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    tower.eval()
    with torch.inference_mode():
        parts = [head(tower(towers.spec.normalise(piece))) for piece in test[0].split(256)]
    right = [a.argmax(1) == test[1][:, k] for k, a in enumerate(torch.cat(parts).split(widths, dim=1))]
    return {
        "accuracy": {name: float(part.float().mean()) for name, part in zip(ATTRIBUTES, right, strict=True)},
        "guessing": {
            name: float((test[1][:, k] == train[1][:, k].mode().values).float().mean())
            for k, name in enumerate(ATTRIBUTES)
        },
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    main()
