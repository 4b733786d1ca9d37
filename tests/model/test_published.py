"""The `paper` preset equals the recorded forward of the published modules to 1e-6."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from usds.model.fusion import GatedFusion
from usds.model.graph_encoder import BipartiteEncoder, label_sides
from usds.model.labels import LabelTensors
from usds.model.losses import ContrastiveLoss, semantic_loss
from usds.model.settings import LossSettings
from usds.model.targets import batch_target
from usds.model.weights import ImportReport, _import_fusion, _import_graph
from usds.taxonomy.udt import Taxonomy


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def released(published: dict[str, Any]) -> dict[str, Tensor]:
    """The recorded weights under the names of a released checkpoint."""
    state = {k: v for k, v in published.items() if isinstance(v, Tensor)}
    graph = {
        f"graph_encoder.{k.removeprefix('graph.')}": v for k, v in state.items() if k.startswith("graph.")
    }
    fusion = {
        f"text_graph_fusion.{k.removeprefix('fusion.')}": v
        for k, v in state.items()
        if k.startswith("fusion.")
    }
    return graph | fusion


@pytest.fixture(scope="module")
def encoder(released: dict[str, Tensor], taxonomy: Taxonomy) -> BipartiteEncoder:
    encoder = BipartiteEncoder(label_sides(taxonomy, None), 16, 32, 2, 0.1).eval()
    report = ImportReport()
    _import_graph(encoder, taxonomy, released, report)
    assert {name for name, _ in encoder.named_parameters()} == {
        k.removeprefix("graph.") for k in report.loaded
    }
    return encoder


def similarity_block(published: dict[str, Any], taxonomy: Taxonomy) -> Tensor:
    blocks = []
    for dimension in taxonomy.dimension_names:
        order = [published["vocabulary_order"][dimension].index(w) for w in taxonomy.vocabulary(dimension)]
        blocks.append(published[f"similarity.{dimension}"][order][:, order])
    return torch.block_diag(*blocks)


def test_graph_output(encoder: BipartiteEncoder, published: dict[str, Any], labels: LabelTensors) -> None:
    close(encoder(labels), published["graph_output"])


def test_batch_without_any_edge_gives_zeros(encoder: BipartiteEncoder, labels: LabelTensors) -> None:
    assert torch.equal(encoder(labels.slice(5, 6)), torch.zeros(1, 32))


def test_fused_text(released: dict[str, Tensor], published: dict[str, Any]) -> None:
    fusion = GatedFusion(32, 0.2)
    _import_fusion(fusion, released, ImportReport())
    fused = fusion(F.normalize(published["text"], dim=1), published["graph_output"])
    close(fused, published["fused_text"])
    assert float(fused.detach().norm(dim=1).min()) > 2, "the published text is not normalised again"


def test_target(published: dict[str, Any], labels: LabelTensors, taxonomy: Taxonomy) -> None:
    close(batch_target(labels.x, similarity_block(published, taxonomy)), published["target"])


@pytest.mark.parametrize("text", ["text", "fused_text"])
def test_semantic_losses(published: dict[str, Any], text: str) -> None:
    cosine = F.normalize(published["image"], dim=1) @ F.normalize(published[text], dim=1).T
    name = "semantic_loss_text" if text == "text" else "semantic_loss_fused"
    got = semantic_loss(cosine, published["target"], published["temperature"])
    assert float(got) == pytest.approx(published[name], abs=1e-6)


def test_whole_loss_uses_fused_text_as_published(
    published: dict[str, Any], labels: LabelTensors, taxonomy: Taxonomy
) -> None:
    block = similarity_block(published, taxonomy)
    criterion = ContrastiveLoss(LossSettings(kind="paper", target="paper"), block, taxonomy.widths)
    image, text, scale = F.normalize(published["image"], dim=1), published["fused_text"], torch.tensor(14.3)
    parts = criterion(image, text, scale, labels)
    logits = scale * image @ text.T
    clip = (F.cross_entropy(logits, torch.arange(12)) + F.cross_entropy(logits.T, torch.arange(12))) / 2
    assert float(parts.semantic) == pytest.approx(published["semantic_loss_fused"], abs=1e-6)
    assert float(parts.clip) == pytest.approx(float(clip), rel=1e-6)
    assert float(parts.total) == pytest.approx(float(parts.clip + parts.semantic), rel=1e-6)


def test_dropout_keeps_the_mean_of_a_side(taxonomy: Taxonomy) -> None:
    encoder = BipartiteEncoder(label_sides(taxonomy, None), 16, 32, 2, 0.4).train()
    mean, count = torch.ones(4000, 3), torch.full((4000, 1), 3.0)
    torch.manual_seed(0)
    dropped = encoder._drop(mean, count)
    torch.testing.assert_close(dropped.mean(0), torch.ones(3), atol=0.03, rtol=0)
    assert set((dropped[:, 0] * 1.8).round().tolist()) == {0.0, 1.0, 2.0, 3.0}
