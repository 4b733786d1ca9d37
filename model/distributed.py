"""What the loss needs from torch.distributed; one process without a group counts as a world of one."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["gather_rows", "gather_with_gradient", "local_rows", "rank", "world_size"]


def world_size() -> int:
    """Number of ranks."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Rank of this process."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def local_rows(n: int, device: torch.device) -> Tensor:
    """Places of this rank's n rows in the gathered batch; every rank has the same number of rows."""
    return torch.arange(n, device=device) + rank() * n


def gather_rows(rows: Tensor) -> Tensor:
    """Rows (n, ...) of every rank in order (world * n, ...), without gradient."""
    if world_size() == 1:
        return rows
    # gloo moves no booleans
    plain = rows.to(torch.uint8) if rows.dtype == torch.bool else rows.contiguous()
    parts = [torch.empty_like(plain) for _ in range(world_size())]
    dist.all_gather(parts, plain)
    return torch.cat(parts).to(rows.dtype)


class _Gather(torch.autograd.Function):
    """All-gather whose backward pass sums what every rank says about a row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.n = len(rows)
        return gather_rows(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total[rank() * ctx.n : (rank() + 1) * ctx.n]


def gather_with_gradient(rows: Tensor) -> Tensor:
    """Rows of every rank, differentiable: the gradient of a row is summed over ranks."""
    if world_size() == 1:
        return rows
    gathered: Tensor = _Gather.apply(rows)  # pyright: ignore[reportAssignmentType]
    return gathered
