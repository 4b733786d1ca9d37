"""AdamW with its parameter groups, and the learning rate of each step."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from usds.model.settings import OptimizerSettings, ScheduleSettings

__all__ = ["Schedule", "build_optimizer", "clip_gradients", "parameter_groups"]

# Where the depth stands in the name: open_clip and timm transformers, BERT layers, ConvNeXt stages.
_BLOCK = re.compile(r"\.(?:resblocks|blocks|layers|layer|stages)\.(\d+)\.")
_STEM = re.compile(
    r"(?:patch_embed|conv1|class_embedding|positional_embedding|pos_embed|cls_token|token_embedding|embeddings|stem)"
)


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Groups of equal weight decay and learning rate.

    Vectors and scalars (norms, biases, gates, theta) have no weight decay. With layer decay c < 1 a tower's
    block i of n learns with c^(n - i) of the rate, its stem with c^(n + 1), heads and labels with the full
    rate.

    Returns
    -------
    list of dict
        ``params``, ``weight_decay``, ``scale`` (of the learning rate) and ``name``.
    """
    depth = _depths(name for name, _ in model.named_parameters())
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = settings.weight_decay if parameter.ndim >= 2 else 0.0
        scale = settings.layer_decay ** _distance_to_head(name, depth)
        group = groups.setdefault(
            (decay, scale),
            {
                "params": [],
                "weight_decay": decay,
                "scale": scale,
                "name": f"decay {decay:g}, scale {scale:.3g}",
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def _tower(name: str) -> str:
    return "visual" if ".visual." in f".{name}" else "text" if ".text." in f".{name}" else ""


def _depths(names: Iterable[str]) -> dict[str, int]:
    """Number of blocks of each tower."""
    depth = {"visual": 0, "text": 0}
    for name in names:
        found = _BLOCK.search(f".{name}")
        if found and _tower(name):
            depth[_tower(name)] = max(depth[_tower(name)], int(found[1]) + 1)
    return depth


def _distance_to_head(name: str, depth: dict[str, int]) -> int:
    tower = _tower(name)
    if not tower:
        return 0
    found = _BLOCK.search(f".{name}")
    if found:
        return depth[tower] - int(found[1])
    return depth[tower] + 1 if _STEM.search(name) else 0


def build_optimizer(model: nn.Module, settings: OptimizerSettings, device: torch.device) -> torch.optim.AdamW:
    """AdamW, fused where the device has such a kernel."""
    return torch.optim.AdamW(
        parameter_groups(model, settings),
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        fused=device.type in ("cuda", "cpu"),
    )


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then a cosine; a function of the step alone, so resume needs no state.

    Parameters
    ----------
    settings : ScheduleSettings
        Warm-up and final fraction.
    steps : int
        Steps of the whole run.
    peak : float
        Highest learning rate.
    """

    settings: ScheduleSettings
    steps: int
    peak: float

    @property
    def warmup(self) -> int:
        """Warm-up steps: at most a tenth of a run, for a short run must not end before its peak."""
        return min(self.settings.warmup_steps, max(1, self.steps // 10))

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ..."""
        if step < self.warmup:
            return self.peak * (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        low = self.settings.final_fraction
        return self.peak * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set the learning rate of every group for a step; return the peak group's."""
        rate = self.rate(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        return rate


def clip_gradients(parameters: Iterable[Tensor], largest: float) -> Tensor:
    """Bring the total gradient norm to at most ``largest`` (0: leave it); return the norm before."""
    held = [p for p in parameters if p.grad is not None]
    return torch.nn.utils.clip_grad_norm_(held, largest if largest > 0 else math.inf)
