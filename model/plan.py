"""What a run would do, before it does it: parameters, memory, steps and data (``usds train --dry-run``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from usds.model.labels import LabelTensors
from usds.model.network import Batch, UltrasoundCLIP
from usds.model.records import Records
from usds.model.sampler import BatchPlan
from usds.model.settings import TrainSettings
from usds.taxonomy.graph import pack_labels

__all__ = ["RunPlan", "activation_bytes", "plan_run", "total_steps"]

_SAMPLE = 2


@dataclass(frozen=True)
class RunPlan:
    """The facts of a dry run.

    Attributes
    ----------
    parameters : dict
        Trainable parameters of the image tower, text tower, label path and in all.
    memory_bytes : int
        Weights, gradients, optimizer and averages of one process, plus activations of one piece of the batch:
        an estimate, measured on two records; libraries and fragmentation come on top.
    steps, steps_per_epoch, epochs, batch_size : int
        Length of the run.
    data : dict
        Counts of the data manifest.
    """

    parameters: dict[str, int]
    memory_bytes: int
    steps: int
    steps_per_epoch: int
    epochs: int
    batch_size: int
    data: dict[str, Any]


def total_steps(plan: BatchPlan, settings: TrainSettings) -> int:
    """Optimizer steps of a whole run."""
    steps = plan.steps * settings.schedule.epochs
    return min(steps, settings.schedule.max_steps) if settings.schedule.max_steps else steps


def count_parameters(model: UltrasoundCLIP) -> dict[str, int]:
    """Trainable parameters by part."""
    counts = {"image tower": 0, "text tower": 0, "label path": 0, "temperature": 0}
    for name, parameter in model.named_parameters():
        if ".visual." in name:
            part = "image tower"
        elif ".text." in name:
            part = "text tower"
        else:
            part = "temperature" if "logit_scale" in name else "label path"
        counts[part] += parameter.numel() if parameter.requires_grad else 0
    return {**counts, "in all": sum(counts.values())}


def activation_bytes(model: UltrasoundCLIP, records: Records, *, half: bool) -> int:
    """Bytes that the backward pass needs per record, from what autograd keeps of two records."""
    seen: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    texts = [*records.texts[:_SAMPLE]]
    labels = LabelTensors.from_batch(pack_labels(model.taxonomy, [{}] * len(texts)))
    spec = model.image_transform(True)
    batch = Batch(torch.zeros(len(texts), 3, spec.size, spec.size), model.tokenize(texts), labels)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = model(batch.images, batch.tokens, batch.labels)
    del held
    return sum(seen.values()) // len(texts) // (2 if half else 1)


def plan_run(
    model: UltrasoundCLIP,
    records: Records,
    plan: BatchPlan,
    settings: TrainSettings,
    data: dict[str, Any],
    *,
    half: bool,
) -> RunPlan:
    """Work out a run without starting it."""
    parameters = count_parameters(model)
    copies = 4 + (1 if settings.run.ema_decay > 0 else 0)  # weight, gradient, two moments, average
    piece = -(-plan.batch_size // settings.run.accumulate)
    memory = parameters["in all"] * 4 * copies + piece * activation_bytes(model, records, half=half)
    kept = {key: value for key, value in data.items() if key not in ("subjects", "dataset")}
    subjects = {side: len(found) for side, found in data["subjects"].items()}
    return RunPlan(
        parameters,
        memory,
        total_steps(plan, settings),
        plan.steps,
        settings.schedule.epochs,
        plan.batch_size,
        {**kept, "subjects": subjects},
    )
