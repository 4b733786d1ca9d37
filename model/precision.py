"""Precision of the parts that never run in half precision."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["full_precision"]


def full_precision(values: Tensor) -> Tensor:
    """Return the values in float32, or untouched where they are float64 already."""
    return values if values.dtype == torch.float64 else values.float()
