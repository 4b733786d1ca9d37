"""One rank of a two-rank run, started by the tests with the environment that torchrun sets."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from usds.model.run import Run
from usds.model.train import train
from usds.schemas.dataset import Dataset


def main() -> None:
    """Train with the settings of one folder into another."""
    torch.set_num_threads(1)
    dataset, source, target = (Path(argument) for argument in sys.argv[1:4])
    run = Run(source)
    train(Dataset.open(dataset), run.taxonomy(), run.settings(), target, exact=True)


if __name__ == "__main__":
    main()
