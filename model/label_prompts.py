"""Classification through the text tower: images and captions against the prompts of every label.

Contrastive batches show a label's word only inside whole captions, and a label that few captions carry is
hardly ever a negative. This term puts the question of zero-shot evaluation into the training: among the
prompts of a dimension's labels, those of the record come first. It is asked of the image and of the caption.
Asked of the image alone, the image tower learns directions that captions do not share, and retrieval does not
gain (docs/benchmarks/model.md). Every dimension counts the same, however few records fill it. Labels that no
record carries are learned as negatives. The attribute scores of a model trained with it rest on training
labels; a report must say so.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from usds.model.distributed import world_size
from usds.model.labels import LabelTensors
from usds.model.network import Embeddings, UltrasoundCLIP
from usds.model.precision import full_precision

__all__ = ["LabelPrompts", "label_loss"]


def label_loss(
    vectors: Tensor, prompts: Tensor, scale: Tensor, labels: LabelTensors, widths: Sequence[int]
) -> Tensor:
    """Cross-entropy of a record's labels among the prompts of their dimension.

    Parameters
    ----------
    vectors : Tensor (B, E)
        Unit vectors of this rank's images or texts.
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
        Mean over the dimensions with at least two labels that some record of the batch fills, of the mean
        over the records of all ranks that fill it; times ranks over this rank's share, so that averaged
        gradients are those of the whole batch. 0 where no record has a label.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        logits = full_precision(scale) * full_precision(vectors) @ full_precision(prompts).T
        parts = zip(logits.split(list(widths), dim=1), labels.x.split(list(widths), dim=1), strict=True)
        # An empty dimension has an empty target, so its rows add nothing.
        sums = torch.stack(
            [-(target.to(block) * F.log_softmax(block, dim=1)).sum() for block, target in parts]
        )
    counts = labels.filled.sum(0).float()
    if world_size() > 1:
        dist.all_reduce(counts)
    asked = (counts > 0) & torch.tensor([width > 1 for width in widths], device=counts.device)
    means = torch.where(asked, sums / counts.clamp_min(1.0), 0.0)
    return means.sum() * world_size() / asked.sum().clamp_min(1)


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

    def loss(self, encoded: Embeddings, labels: LabelTensors, step: int, *, captions: bool = True) -> Tensor:
        """Sum of :func:`label_loss` of a batch's images and, with ``captions``, of its texts."""
        prompts = self._model.encode_text(self._tokens[step % len(self._tokens)])
        scale = self._model.logit_scale
        total = label_loss(encoded.image, prompts, scale, labels, self._widths)
        if not captions:
            return total
        text = F.normalize(encoded.text, dim=1)
        return total + label_loss(text, prompts, scale, labels, self._widths)
