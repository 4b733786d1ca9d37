"""Classification through the text tower: each image against the prompts of every label of a dimension.

Contrastive batches show a label's word only inside whole captions, and a label that few captions carry is
hardly ever a negative. This term puts the question of zero-shot evaluation into the training: among the
prompts of a dimension's labels, those of the record come first. Labels that no record carries are learned as
negatives. The attribute scores of a model trained with it rest on training labels; a report must say so.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from usds.model.distributed import world_size
from usds.model.labels import LabelTensors
from usds.model.network import UltrasoundCLIP

__all__ = ["LabelPrompts", "label_loss"]


def label_loss(
    image: Tensor, prompts: Tensor, scale: Tensor, labels: LabelTensors, widths: Sequence[int]
) -> Tensor:
    """Cross-entropy of a record's labels among the prompts of their dimension.

    Parameters
    ----------
    image : Tensor (B, E)
        Unit image vectors of this rank.
    prompts : Tensor (V, E)
        Unit vectors of one prompt a label.
    scale : Tensor ()
        s = exp(theta).
    labels : LabelTensors
        Labels of the records; a record with several labels in a dimension spreads its target over them.
    widths : sequence of int
        Number of labels of each dimension.

    Returns
    -------
    Tensor ()
        Mean over the pairs (record, dimension that it fills) of all ranks, times ranks over this rank's
        share, so that averaged gradients are those of the whole batch; 0 where no record has a label.
    """
    with torch.autocast(image.device.type, enabled=False):
        logits = scale.float() * image.float() @ prompts.float().T
        total = logits.sum() * 0.0
        for block, target, filled in zip(
            logits.split(list(widths), dim=1),
            labels.x.split(list(widths), dim=1),
            labels.filled.T,
            strict=True,
        ):
            if block.shape[1] > 1:
                total = total - (target * F.log_softmax(block, dim=1))[filled].sum()
    pairs = labels.filled[:, [width > 1 for width in widths]].sum().float()
    if world_size() > 1:
        dist.all_reduce(pairs)
    return total * world_size() / pairs.clamp_min(1.0)


class LabelPrompts:
    """Tokens of every label's prompts; each step takes one prompt a label, in turn.

    Parameters
    ----------
    model : UltrasoundCLIP
        Gives taxonomy, tokenizer and text tower.
    device : torch.device
        Where the tokens lie.
    """

    def __init__(self, model: UltrasoundCLIP, device: torch.device) -> None:
        taxonomy = model.taxonomy
        groups = [taxonomy.prompts(*key) or (key[1],) for key in taxonomy.label_index]
        most = max(len(group) for group in groups)
        self._model = model
        self._widths = taxonomy.widths
        self._tokens = [
            model.tokenize([group[i % len(group)] for group in groups]).to(device) for i in range(most)
        ]

    def loss(self, image: Tensor, labels: LabelTensors, step: int) -> Tensor:
        """:func:`label_loss` of a batch with the prompts of this step."""
        prompts = self._model.encode_text(self._tokens[step % len(self._tokens)])
        return label_loss(image, prompts, self._model.logit_scale, labels, self._widths)
