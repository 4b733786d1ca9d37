"""Semantic similarity of the records of a batch: the soft targets of the training.

Everything is a chain of matrix products over the packed labels; nothing loops over pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

__all__ = ["TargetMode", "batch_target", "scale_rows", "target_rows"]

TargetMode = Literal["paper", "masked"]
_TINY = 1e-12


def batch_target(
    x: Tensor,
    s: Tensor,
    filled: Tensor | None = None,
    mode: TargetMode = "paper",
    weights: Tensor | None = None,
    widths: Sequence[int] | None = None,
) -> Tensor:
    """Return the pairwise semantic similarity T of B records.

    Parameters
    ----------
    x : Tensor (B, V)
        Multi-hot labels; within a dimension each row is divided by its number of labels.
    s : Tensor (V, V)
        Block-diagonal label similarity, symmetric, unit diagonal, values in [0, 1].
    filled : Tensor (B, D), bool
        Dimensions that a record fills; required by ``masked``.
    mode : {"paper", "masked"}
        ``paper``: mean over all D dimensions, an empty one counting 0 (arXiv 2604.01749).
        ``masked``: each dimension divided by sqrt(T_ii T_jj), so that identical label sets score 1; mean
        over the dimensions that both records fill; 0 where there is none.
    weights : Tensor (D,), optional
        Weight of each dimension; default: equal.
    widths : sequence of int, optional
        Number of labels of each dimension; default: those of the bundled taxonomy.

    Returns
    -------
    Tensor (B, B)
        float32, symmetric, in [0, 1], ones on the diagonal.

    Raises
    ------
    ValueError
        Shapes that do not fit, an unknown mode, or ``masked`` without ``filled``.
    """
    sizes = tuple(widths) if widths is not None else _bundled_widths()
    _check(x, s, filled, mode=mode, weights=weights, widths=sizes)
    with torch.autocast(x.device.type, enabled=False):
        rows = scale_rows(x, s, filled, mode, sizes)
        target = target_rows(
            rows,
            rows,
            s,
            filled_rows=filled,
            filled_columns=filled,
            mode=mode,
            weights=weights,
            widths=sizes,
        )
        target = (target + target.T) * 0.5
        target.fill_diagonal_(1.0)
    return target


@lru_cache(maxsize=1)
def _bundled_widths() -> tuple[int, ...]:
    from usds.taxonomy.udt import load_taxonomy

    return load_taxonomy("udt").widths


def _check(
    x: Tensor,
    s: Tensor,
    filled: Tensor | None,
    *,
    mode: str,
    weights: Tensor | None,
    widths: tuple[int, ...],
) -> None:
    if mode not in ("paper", "masked"):
        raise ValueError(f"unknown target mode {mode!r}; the modes are 'paper' and 'masked'")
    if mode == "masked" and filled is None:
        raise ValueError("target mode 'masked' needs filled: (B, D) bool, the dimensions each record fills")
    if x.ndim != 2 or s.shape != (x.shape[1], x.shape[1]):
        raise ValueError(f"x must be (B, V) and s (V, V); got {tuple(x.shape)} and {tuple(s.shape)}")
    if sum(widths) != x.shape[1]:
        raise ValueError(
            f"widths sum to {sum(widths)}, but x has {x.shape[1]} columns: pass the taxonomy's widths"
        )
    if filled is not None and filled.shape != (len(x), len(widths)):
        raise ValueError(f"filled must be ({len(x)}, {len(widths)}), got {tuple(filled.shape)}")
    if weights is not None and weights.shape != (len(widths),):
        raise ValueError(f"weights must be ({len(widths)},), got {tuple(weights.shape)}")


def scale_rows(
    x: Tensor, s: Tensor, filled: Tensor | None, mode: TargetMode, widths: Sequence[int]
) -> Tensor:
    """Return the rows in float32 so that a plain bilinear form gives T_k.

    ``paper`` leaves them as they are. ``masked`` divides each dimension by sqrt(T_ii,k) and clears the
    dimensions that are not filled; x (B, V) -> (B, V).
    """
    x = x.float()
    if mode == "paper" or filled is None:
        return x
    blocks = _membership(widths, x.device)
    own = ((x @ s.float()) * x) @ blocks
    factor = torch.where(filled & (own > 0), own.clamp_min(_TINY).rsqrt(), 0.0)
    return x * (factor @ blocks.T)


def target_rows(
    rows: Tensor,
    columns: Tensor,
    s: Tensor,
    *,
    filled_rows: Tensor | None,
    filled_columns: Tensor | None,
    mode: TargetMode,
    weights: Tensor | None,
    widths: Sequence[int],
) -> Tensor:
    """Return T between scaled rows (R, V) and scaled columns (C, V), float32 (R, C); no diagonal is set."""
    device = rows.device
    share = torch.ones(len(widths), device=device) if weights is None else weights.to(device).float()
    spread = share.repeat_interleave(torch.tensor(list(widths), device=device), output_size=rows.shape[1])
    total = (rows * spread) @ s.float() @ columns.T
    if mode == "paper" or filled_rows is None or filled_columns is None:
        return (total / share.sum()).clamp(0.0, 1.0)
    both = (filled_rows.float() * share) @ filled_columns.float().T
    return torch.where(both > 0, total / both.clamp_min(_TINY), 0.0).clamp(0.0, 1.0)


def _membership(widths: Sequence[int], device: torch.device) -> Tensor:
    """(V, D) indicator of the dimension of each label."""
    return torch.block_diag(*[torch.ones(width, 1, device=device) for width in widths])
