"""Classification among label prompts: its definition, its sides, its share in a step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from usds.model.label_prompts import LabelPrompts, label_loss
from usds.model.labels import LabelTensors
from usds.model.network import Batch, UltrasoundCLIP
from usds.taxonomy.graph import LabelBatch

WIDTHS = (3, 2, 1)


def records(x: list[list[float]]) -> LabelTensors:
    hot = np.array(x, np.float32)
    blocks = np.split(hot, np.cumsum(WIDTHS)[:-1], axis=1)
    filled = np.stack([block.any(axis=1) for block in blocks], axis=1)
    nodes = [np.flatnonzero(row) for row in hot]
    offsets = np.concatenate([[0], np.cumsum([len(n) for n in nodes])]).astype(np.int64)
    return LabelTensors.from_batch(LabelBatch(np.concatenate(nodes), offsets, hot, filled))


@pytest.fixture
def vectors() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    image = F.normalize(torch.randn(3, 8, generator=generator), dim=1)
    return image, F.normalize(torch.randn(6, 8, generator=generator), dim=1)


def test_each_dimension_counts_the_same(vectors: tuple[Tensor, Tensor]) -> None:
    """Three records fill the first dimension, one the second; the third has one label and asks nothing."""
    image, prompts = vectors
    labels = records([[1, 0, 0, 0, 1, 1], [0, 0.5, 0.5, 0, 0, 1], [0, 0, 1, 0, 0, 0]])
    found = label_loss(image, prompts, torch.tensor(4.0), labels, WIDTHS)
    logits = 4.0 * image @ prompts.T
    first = logits[:, :3].log_softmax(1)
    one = -(first[0, 0] + (first[1, 1] + first[1, 2]) / 2 + first[2, 2]) / 3
    two = -logits[0, 3:5].log_softmax(0)[1]
    assert float(found) == pytest.approx(float((one + two) / 2), rel=1e-6)


def test_a_batch_without_labels_adds_nothing(vectors: tuple[Tensor, Tensor]) -> None:
    image, prompts = vectors
    image.requires_grad_()
    found = label_loss(image, prompts, torch.tensor(4.0), records([[0.0] * 6] * 3), WIDTHS)
    found.backward()
    assert float(found.detach()) == 0.0
    assert image.grad is not None
    assert not image.grad.any()


def test_captions_are_asked_too_unless_the_image_alone_is_wanted(
    network: UltrasoundCLIP, batch: Batch
) -> None:
    assert batch.labels is not None
    encoded = network(batch.images, batch.tokens, batch.labels)
    prompts = LabelPrompts(network, torch.device("cpu"))
    both = prompts.loss(encoded, batch.labels, 0)
    image = prompts.loss(encoded, batch.labels, 0, captions=False)
    texts = network.encode_text(prompts._tokens[0])
    own = label_loss(encoded.text, texts, network.logit_scale, batch.labels, network.taxonomy.widths)
    assert float((both - image).detach()) == pytest.approx(float(own.detach()), rel=1e-4)
    (grown,) = torch.autograd.grad(image, encoded.text, allow_unused=True, retain_graph=True)
    assert grown is None
    (grown,) = torch.autograd.grad(both, encoded.text)
    assert grown.abs().sum() > 0
