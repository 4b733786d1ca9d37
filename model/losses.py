"""Contrastive losses with semantic targets, over one process or all ranks, whole or in chunks of rows.

The ranks exchange embeddings and packed labels, never the (B, B) target. Each rank computes the rows of its
own records in both directions, scaled so that the mean over the ranks is the loss of the whole batch: with
the averaged gradients of data-parallel training, any number of ranks takes the same step as one process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from usds.model.distributed import gather_rows, gather_with_gradient, local_rows
from usds.model.labels import LabelTensors
from usds.model.precision import full_precision
from usds.model.settings import LossSettings
from usds.model.targets import scale_rows, target_rows

__all__ = ["ContrastiveLoss", "LossParts", "neighbour_target", "semantic_loss"]

# Similarities are compared on this grid, so that rounding in differently shaped products cannot reorder ties.
_GRID = 1 << 14
_BISECTIONS = 24


@dataclass(frozen=True, eq=False)
class LossParts:
    """A loss and what it is made of; scalars.

    Attributes
    ----------
    total : Tensor
        What is differentiated.
    clip : Tensor
        Cross-entropy against identity targets, both directions averaged.
    semantic : Tensor
        Semantic term without lambda (``paper``), or what soft targets add to ``clip`` (``multi_positive``).
    accuracy : Tensor
        Share of images whose own text comes first.
    """

    total: Tensor
    clip: Tensor
    semantic: Tensor
    accuracy: Tensor

    def detach(self) -> LossParts:
        """Return the parts without their graph."""
        return LossParts(*[getattr(self, field.name).detach() for field in fields(self)])


def semantic_loss(predicted: Tensor, target: Tensor, temperature: float = 0.07) -> Tensor:
    """Return 0.6 MSE + 0.4 KL between predicted and target similarity (arXiv 2604.01749), without lambda.

    Parameters
    ----------
    predicted : Tensor (R, C)
        Unscaled cosine similarity of images (rows) and texts (columns).
    target : Tensor (R, C)
        Semantic similarity.
    temperature : float
        Softmax temperature of both distributions of the KL term, which is averaged over rows.

    Raises
    ------
    ValueError
        Shapes differ, or the temperature is not positive.
    """
    if predicted.shape != target.shape or predicted.ndim != 2:
        raise ValueError(
            f"predicted and target must be equal (R, C): {tuple(predicted.shape)}, {tuple(target.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    with torch.autocast(predicted.device.type, enabled=False):
        predicted = full_precision(predicted)
        target = target.to(predicted.dtype)
        error = (predicted - target).square().mean()
        log_q = F.log_softmax(predicted / temperature, dim=1)
        log_p = F.log_softmax(target / temperature, dim=1)
        divergence = F.kl_div(log_q, log_p, reduction="sum", log_target=True) / len(predicted)
        return 0.6 * error + 0.4 * divergence


def neighbour_target(
    similarity: Tensor, same: Tensor, *, neighbours: int, threshold: float, perplexity: float, mix: float
) -> Tensor:
    """Return the soft target y = (1 - a) D + a R of some rows; each row sums to 1.

    Parameters
    ----------
    similarity : Tensor (R, C)
        Rows of the semantic target T.
    same : Tensor (R, C), bool
        Positives: the pair itself and items with the same caption. D is uniform over them.
    neighbours, threshold : int, float
        R spreads over at most ``neighbours`` further items with T at least ``threshold``.
    perplexity : float
        Effective number of neighbours: the row's softmax temperature is found by bisection. Ties above the
        perplexity stay uniform; a row with fewer candidates spreads evenly.
    mix : float
        a. A row without candidates has R = D.
    """
    hard = same.float() / same.sum(1, keepdim=True)
    columns = similarity.shape[1]
    grid = (similarity.clamp(0, 1) * _GRID).round().to(torch.int64)
    open_ = (grid >= round(threshold * _GRID)) & ~same
    # One integer orders by similarity, then by column: every row has one answer, whatever its neighbours.
    order = torch.arange(columns - 1, -1, -1, device=similarity.device)
    key = torch.where(open_, grid * columns + order, -1)
    best, index = key.topk(min(neighbours, columns), dim=1)
    chosen = best >= 0
    value = torch.gather(grid, 1, index).float() / _GRID
    share = _with_perplexity(value, chosen, perplexity)
    soft = torch.zeros_like(hard).scatter_(1, index, share)
    return torch.where(chosen.any(1, keepdim=True), (1 - mix) * hard + mix * soft, hard)


def _with_perplexity(value: Tensor, chosen: Tensor, perplexity: float) -> Tensor:
    """Softmax of ``value`` over ``chosen`` with the temperature that gives each row this perplexity."""
    low = value.new_full((len(value), 1), math.log(1e-3))
    high = value.new_full((len(value), 1), math.log(1e2))
    filled = value.masked_fill(~chosen, float("-inf"))
    empty = ~chosen.any(1, keepdim=True)
    filled = filled.masked_fill(empty, 0.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        p = torch.softmax(filled / middle.exp(), dim=1)
        entropy = -torch.xlogy(p, p).sum(1, keepdim=True)
        too_flat = entropy > math.log(perplexity)
        low, high = torch.where(too_flat, low, middle), torch.where(too_flat, middle, high)
    share = torch.softmax(filled / ((low + high) / 2).exp(), dim=1)
    return share * chosen


@dataclass(frozen=True, eq=False)
class _Candidates:
    """The columns that every row is compared with: the whole batch of all ranks."""

    image: Tensor
    text: Tensor
    rows: Tensor
    filled: Tensor
    captions: Tensor


class ContrastiveLoss(nn.Module):
    """The loss of :class:`LossSettings`, with the label similarity S as a buffer.

    Parameters
    ----------
    settings : LossSettings
        Kind of loss, kind of target and their constants.
    similarity : Tensor (V, V)
        Block-diagonal label similarity.
    widths : sequence of int
        Number of labels of each dimension.
    weights : Tensor (D,), optional
        Weight of each dimension in the target.
    """

    def __init__(
        self,
        settings: LossSettings,
        similarity: Tensor,
        widths: Sequence[int],
        weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.widths = tuple(widths)
        self.register_buffer("similarity", similarity.float())
        self.register_buffer("weights", weights, persistent=False)

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        logit_scale: Tensor,
        labels: LabelTensors | None = None,
        captions: Tensor | None = None,
    ) -> LossParts:
        """Return the loss of this rank's pairs against the pairs of all ranks.

        Parameters
        ----------
        image, text : Tensor (B, E)
            Embeddings of this rank; images of unit length, texts too except in the published model.
        logit_scale : Tensor ()
            s = exp(theta), within the settings' bound.
        labels : LabelTensors
            Required by the semantic losses.
        captions : Tensor (B,), int64
            Equal numbers for equal captions: positives of each other. Default: every caption differs.

        Raises
        ------
        ValueError
            A semantic loss without labels.
        """
        if labels is None and self.settings.kind != "clip":
            raise ValueError(f"loss kind '{self.settings.kind}' needs the labels of the batch")
        with torch.autocast(image.device.type, enabled=False):
            image, text = full_precision(image), full_precision(text)
            own = self._candidates(image, text, labels, captions)
            every = _Candidates(*[_gather(getattr(own, f.name)) for f in fields(own)])
            return self._sum_chunks(own, every, full_precision(logit_scale))

    def _candidates(
        self, image: Tensor, text: Tensor, labels: LabelTensors | None, captions: Tensor | None
    ) -> _Candidates:
        device = image.device
        if labels is None:
            rows = filled = torch.zeros(len(image), 0, device=device)
        else:
            mode = self.settings.target
            rows = scale_rows(labels.x, self.get_buffer("similarity"), labels.filled, mode, self.widths)
            filled = labels.filled
        if captions is None:
            # Negative, hence different from every real caption and, by rank, from each other.
            captions = -1 - local_rows(len(image), device)
        return _Candidates(image, text, rows, filled, captions)

    def _sum_chunks(self, own: _Candidates, every: _Candidates, scale: Tensor) -> LossParts:
        n = len(own.image)
        rows = local_rows(n, own.image.device)
        size = self.settings.chunk_rows or n
        totals = own.image.new_zeros(4)
        for start in range(0, n, size):
            part = _Candidates(*[getattr(own, f.name)[start : start + size] for f in fields(own)])
            here = rows[start : start + size]
            if size < n and torch.is_grad_enabled():
                # Recompute a chunk's logits in the backward pass instead of keeping all of them.
                totals = totals + checkpoint(self._chunk, part, every, here, scale, use_reentrant=False)
            else:
                totals = totals + self._chunk(part, every, here, scale)
        # Sums over this rank's rows -> means over the whole batch, times ranks: the mean over ranks is exact.
        total, clip, semantic, hits = (totals / n).unbind()
        return LossParts(total, clip.detach(), semantic.detach(), hits.detach())

    def _chunk(self, own: _Candidates, every: _Candidates, rows: Tensor, scale: Tensor) -> Tensor:
        """Sums over some rows: total, clip, semantic, hits; (4,)."""
        forward = scale * own.image @ every.text.T
        backward = scale * own.text @ every.image.T
        log_f, log_b = F.log_softmax(forward, dim=1), F.log_softmax(backward, dim=1)
        own_column = rows[:, None]
        clip = -(log_f.gather(1, own_column) + log_b.gather(1, own_column)).sum() / 2
        hits = (forward.detach().argmax(1) == rows).sum()
        if self.settings.kind == "clip":
            return torch.stack([clip, clip, clip * 0.0, hits.to(clip.dtype)])
        target = self._target(own, every, rows)
        if self.settings.kind == "paper":
            cosine = own.image @ F.normalize(every.text, dim=1).T
            semantic = semantic_loss(cosine, target, self.settings.temperature) * len(rows)
            return torch.stack([clip + self.settings.weight * semantic, clip, semantic, hits.to(clip.dtype)])
        soft = self._soft(target, own, every, rows).to(forward.dtype)
        total = -(soft * (log_f + log_b)).sum() / 2
        return torch.stack([total, clip, total - clip, hits.to(clip.dtype)])

    @torch.no_grad()
    def _target(self, own: _Candidates, every: _Candidates, rows: Tensor) -> Tensor:
        target = target_rows(
            own.rows,
            every.rows,
            self.get_buffer("similarity"),
            filled_rows=own.filled,
            filled_columns=every.filled,
            mode=self.settings.target,
            weights=self.weights if isinstance(self.weights, Tensor) else None,
            widths=self.widths,
        )
        return target.scatter_(1, rows[:, None], 1.0)

    @torch.no_grad()
    def _soft(self, target: Tensor, own: _Candidates, every: _Candidates, rows: Tensor) -> Tensor:
        """Soft target of some rows. T is symmetric, so it serves both directions."""
        same = own.captions[:, None] == every.captions[None, :]
        same.scatter_(1, rows[:, None], True)
        chosen = self.settings
        return neighbour_target(
            target,
            same,
            neighbours=chosen.neighbours,
            threshold=chosen.threshold,
            perplexity=chosen.perplexity,
            mix=chosen.mix,
        )


def _gather(rows: Tensor) -> Tensor:
    return gather_with_gradient(rows) if rows.requires_grad else gather_rows(rows)
