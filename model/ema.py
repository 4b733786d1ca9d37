"""The moving average of the weights, which often generalises better than the last step."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["EMA"]


class EMA:
    """Exponential moving average of the trainable parameters, in fp32.

    Parameters
    ----------
    model : nn.Module
        Gives the start.
    decay : float
        Weight of the past, in [0, 1); early steps use (1 + t) / (10 + t) where that is smaller, so that the
        random start is forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.average = {name: p.detach().clone().float() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after one step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        current = dict(model.named_parameters())
        for name, average in self.average.items():
            average.lerp_(current[name].detach().float(), 1 - decay)

    @contextmanager
    def applied(self, model: nn.Module) -> Generator[None]:
        """Run the block with the averaged weights in the model."""
        held = {name: p.detach().clone() for name, p in model.named_parameters()}
        _copy(model, self.average)
        try:
            yield
        finally:
            _copy(model, held)

    def state_of(self, model: nn.Module) -> dict[str, Tensor]:
        """The whole state of the model with averaged parameters; buffers are the model's own."""
        return {**model.state_dict(), **self.average}

    def restore(self, state: dict[str, Tensor], steps: int) -> None:
        """Go on from what :meth:`state_of` gave after ``steps`` updates."""
        self.steps = steps
        for name, value in self.average.items():
            value.copy_(state[name])


@torch.no_grad()
def _copy(model: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])
