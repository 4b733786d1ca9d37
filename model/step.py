"""One optimizer step: loss, gradient (whole or cached), and what happens when one is not finite."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from usds.model.ema import EMA
from usds.model.label_prompts import LabelPrompts
from usds.model.losses import LossParts
from usds.model.network import Batch, Embeddings, UltrasoundCLIP
from usds.model.optim import Schedule, clip_gradients
from usds.model.runtime import Runtime, agree, average_gradients
from usds.model.settings import TrainSettings
from usds.schemas.errors import ContentError

__all__ = ["StepResult", "Stepper"]


@dataclass(frozen=True)
class StepResult:
    """What one step did.

    Attributes
    ----------
    parts : LossParts
        The loss, mean over the ranks' rows of this rank.
    gradient_norm : float
        Before clipping; 0 for a skipped step.
    rate : float
        Learning rate.
    skipped : bool
        Loss or gradient was not finite: no weight changed on any rank.
    stop : bool
        Some rank was asked to stop.
    """

    parts: LossParts
    gradient_norm: float
    rate: float
    skipped: bool
    stop: bool


class Stepper:
    """Takes optimizer steps.

    Parameters
    ----------
    model, optimizer, schedule, ema
        What is trained and how.
    settings : TrainSettings
        Accumulation, clipping, patience with non-finite losses.
    device : Runtime
        Device, ranks, precision.
    """

    def __init__(
        self,
        model: UltrasoundCLIP,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        *,
        ema: EMA | None,
        settings: TrainSettings,
        device: Runtime,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.ema = ema
        self.settings = settings
        self.device = device
        self.bad_steps = 0
        self.prompts = LabelPrompts(model, device.device) if settings.model.loss.prompt_weight > 0 else None

    def __call__(self, batch: Batch, step: int, *, stop: bool = False) -> StepResult:
        """Do step number ``step`` (from 0).

        Parameters
        ----------
        batch : Batch
            This rank's records, on its device.
        stop : bool
            This rank was asked to stop; every rank learns of it.

        Raises
        ------
        ContentError
            Too many steps in a row without a finite loss.
        """
        rate = self.schedule.apply(self.optimizer, step)
        self.optimizer.zero_grad(set_to_none=True)
        pieces = _pieces(batch, self.settings.run.accumulate)
        whole = len(pieces) == 1
        encoded = self._encode(batch, step, 0) if whole else self._cached(pieces, step)
        parts = self._loss(encoded, batch, step)
        flags = agree(torch.stack([~torch.isfinite(parts.total.detach()), _flag(stop, parts.total)]).float())
        bad, asked = bool(flags[0] > 0), bool(flags[1] > 0)
        norm = 0.0
        if not bad:
            parts.total.backward()
            if not whole:
                self._replay(pieces, encoded, step)
            norm, bad = self._update()
        self._count(bad, step, parts)
        return StepResult(parts.detach(), norm, rate, bad, asked)

    def _loss(self, encoded: Embeddings, batch: Batch, step: int) -> LossParts:
        """Contrastive loss, plus the classification among label prompts where the settings ask for it."""
        parts = self.model.embedding_loss(encoded, batch)
        if self.prompts is None or batch.labels is None:
            return parts
        chosen = self.settings.model.loss
        self.device.seed_step(self.settings.run.seed, step, -1)
        with self.device.autocast():
            both = chosen.prompt_sides == "both"
            extra = self.prompts.loss(encoded, batch.labels, step, captions=both)
        return replace(parts, total=parts.total + chosen.prompt_weight * extra)

    def _encode(self, batch: Batch, step: int, piece: int) -> Embeddings:
        self.device.seed_step(self.settings.run.seed, step, piece)
        with self.device.autocast():
            return self.model(batch.images, batch.tokens, batch.labels)

    def _cached(self, pieces: list[Batch], step: int) -> Embeddings:
        """Vectors of all pieces without graphs, for the loss of the whole batch (arXiv 2101.06983)."""
        with torch.no_grad():
            parts = [self._encode(piece, step, i) for i, piece in enumerate(pieces)]
        image, text, tagged = (torch.cat(rows).requires_grad_() if rows else None for rows in _columns(parts))
        assert image is not None
        assert text is not None
        return Embeddings(image, text, self.model.logit_scale, tagged)

    def _replay(self, pieces: list[Batch], encoded: Embeddings, step: int) -> None:
        """Encode each piece again, with the same dropout, and push the vectors' gradients through it."""
        at = 0
        for i, piece in enumerate(pieces):
            end = at + len(piece.images)
            again = _columns([self._encode(piece, step, i)])
            wholes = zip(_columns([encoded]), again, strict=True)
            pairs = [
                (rows[0], whole[0].grad[at:end])
                for whole, rows in wholes
                if rows and whole[0].grad is not None
            ]
            torch.autograd.backward([vectors for vectors, _ in pairs], [gradient for _, gradient in pairs])
            at = end

    def _update(self) -> tuple[float, bool]:
        """Average, clip, step; return the gradient norm and whether it was not finite."""
        parameters = list(self.model.parameters())
        average_gradients(parameters, self.device.world)
        norm = float(clip_gradients(parameters, self.settings.optimizer.clip_norm))
        if not torch.isfinite(torch.tensor(norm)):
            return 0.0, True
        self.optimizer.step()
        self.model.clamp_logit_scale_()
        if self.ema is not None:
            self.ema.update(self.model)
        return norm, False

    def _count(self, bad: bool, step: int, parts: LossParts) -> None:
        self.bad_steps = self.bad_steps + 1 if bad else 0
        if self.bad_steps >= self.settings.run.max_bad_steps:
            raise ContentError(
                f"loss or gradient was not finite in {self.bad_steps} steps in a row (last at step {step}, "
                f"loss {float(parts.total.detach())}): lower optimizer.learning_rate (now "
                f"{self.settings.optimizer.learning_rate:g}), lengthen schedule.warmup_steps or set "
                "run.precision to fp32; the checkpoints before are whole"
            )


def _flag(value: bool, like: Tensor) -> Tensor:
    return torch.tensor(value, device=like.device)


def _columns(parts: list[Embeddings]) -> list[list[Tensor]]:
    """Image, text and tagged vectors of some pieces; empty where a model has none."""
    tagged = [part.tagged for part in parts if part.tagged is not None]
    return [[part.image for part in parts], [part.text for part in parts], tagged]


def _pieces(batch: Batch, count: int) -> list[Batch]:
    """The batch in at most ``count`` pieces of nearly equal size."""
    n = len(batch.images)
    if count <= 1 or n <= 1:
        return [batch]
    size = -(-n // count)
    return [
        Batch(
            batch.images[start : start + size],
            batch.tokens[start : start + size],
            batch.labels.slice(start, min(start + size, n)) if batch.labels is not None else None,
        )
        for start in range(0, n, size)
    ]
