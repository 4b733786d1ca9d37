"""The network: parameters, gradients, unit vectors, determinism, label path."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from usds.model.labels import LabelTensors
from usds.model.network import Batch, UltrasoundCLIP
from usds.model.settings import ModelSettings, build_settings
from usds.schemas.errors import UsageError
from usds.taxonomy.graph import pack_labels
from usds.taxonomy.udt import Taxonomy


def unit(vectors: torch.Tensor) -> None:
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("preset", ["improved", "small", "tiny"])
def test_every_parameter_gets_a_gradient(
    preset: str, settings_of: Callable[..., ModelSettings], taxonomy: Taxonomy, labels: LabelTensors
) -> None:
    torch.manual_seed(0)
    model = UltrasoundCLIP(settings_of(preset), taxonomy)
    before = {name for name, _ in model.named_parameters()}
    tokens = model.tokenize([f"frame {i} of a nodule" for i in range(12)])
    model.loss(Batch(torch.randn(12, 3, 16, 16), tokens, labels, torch.arange(12) // 2)).total.backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert dead == []
    assert {name for name, _ in model.named_parameters()} == before


@pytest.mark.slow
def test_shipped_tiny_preset_gives_every_parameter_a_gradient(
    taxonomy: Taxonomy, labels: LabelTensors
) -> None:
    torch.manual_seed(0)
    model = UltrasoundCLIP(build_settings({"preset": "tiny"}).model, taxonomy)
    tokens = model.tokenize([f"frame {i} of a nodule" for i in range(12)])
    model.loss(Batch(torch.randn(12, 3, 96, 96), tokens, labels, torch.arange(12) // 2)).total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_vectors_have_unit_length_with_and_without_labels(network: UltrasoundCLIP, batch: Batch) -> None:
    network.eval()
    with torch.no_grad():
        unit(network.encode_image(batch.images))
        unit(network.encode_text(batch.tokens))
        unit(network.encode_text(batch.tokens, batch.labels))


def test_paper_preset_leaves_fused_text_unnormalised(
    settings_of: Callable[..., ModelSettings], taxonomy: Taxonomy, batch: Batch
) -> None:
    model = UltrasoundCLIP(settings_of("paper"), taxonomy).eval()
    with torch.no_grad():
        assert float(model.encode_text(batch.tokens, batch.labels).norm(dim=1).min()) > 2
        unit(model.encode_text(batch.tokens))


def test_dropped_tags_leave_the_text_alone(network: UltrasoundCLIP, batch: Batch) -> None:
    assert batch.labels is not None
    use = torch.arange(12) % 2 == 0
    network.eval()
    with torch.no_grad():
        text = network.encode_text(batch.tokens)
        mixed = network.encode_text(batch.tokens, replace(batch.labels, use=use))
    torch.testing.assert_close(mixed[~use], text[~use], atol=1e-6, rtol=0)
    changed = (mixed - text).norm(dim=1) > 1e-3
    has_labels = batch.labels.offsets.diff() > 0
    assert torch.equal(changed, use & has_labels)


@pytest.mark.parametrize("how", ["both", "beside"])
def test_text_with_labels_is_trained_apart(
    how: str, settings_of: Callable[..., ModelSettings], taxonomy: Taxonomy, batch: Batch
) -> None:
    """Beside, the towers' gradient is to the bit that of the network without a label path."""

    chosen = settings_of()
    apart = chosen.model_copy(update={"fusion": chosen.fusion.model_copy(update={"train": how})})

    def gradients(labels: LabelTensors | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(7)
        model = UltrasoundCLIP(apart, taxonomy).train()
        model.embedding_loss(model(batch.images, batch.tokens, labels), batch).total.backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}

    alone, found = gradients(None), gradients(batch.labels)
    assert {name.split(".")[0] for name in alone} == {"towers"}
    assert {name.split(".")[0] for name in found} == {"towers", "graph", "fusion"}
    assert all(torch.equal(found[name], alone[name]) for name in alone) == (how == "beside")


def test_records_do_not_see_each_other(network: UltrasoundCLIP, batch: Batch) -> None:
    assert batch.labels is not None
    network.eval()
    with torch.no_grad():
        whole = network.encode_text(batch.tokens, batch.labels)
        alone = [
            network.encode_text(batch.tokens[i : i + 1], batch.labels.slice(i, i + 1)) for i in range(12)
        ]
    torch.testing.assert_close(torch.cat(alone), whole, atol=1e-6, rtol=0)


def test_record_without_a_diagnosis_uses_the_unknown_token(network: UltrasoundCLIP) -> None:
    records = [{"organ": ["Liver"]}, {"organ": ["Liver"], "diagnosis": ["cyst"]}, {}]
    tags = network.graph(LabelTensors.from_batch(pack_labels(network.taxonomy, records)))  # type: ignore[misc]
    assert tags.present.tolist() == [[True, True, False], [False, True, True], [False, False, False]]


def test_slices_and_concatenation_are_inverse(labels: LabelTensors) -> None:
    parts = [labels.slice(0, 5), labels.slice(5, 6), labels.slice(6, 12)]
    back = LabelTensors.concatenate(parts)
    for name in ("nodes", "offsets", "x", "filled", "use"):
        assert torch.equal(getattr(back, name), getattr(labels, name))


def test_same_seed_gives_the_same_bits(
    settings_of: Callable[..., ModelSettings], taxonomy: Taxonomy, batch: Batch
) -> None:
    def run() -> list[torch.Tensor]:
        torch.manual_seed(7)
        model = UltrasoundCLIP(settings_of(), taxonomy)
        parts = model.loss(batch)
        parts.total.backward()
        return [parts.total.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    for left, right in zip(run(), run(), strict=True):
        assert torch.equal(left, right)


def test_bf16_autocast_keeps_vectors_and_loss_in_float32(network: UltrasoundCLIP, batch: Batch) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoded = network(batch.images, batch.tokens, batch.labels)
        parts = network.embedding_loss(encoded, batch)
    assert encoded.image.dtype == encoded.text.dtype == parts.total.dtype == torch.float32
    unit(encoded.text.detach())


def test_short_tokens_equal_padded_ones(network: UltrasoundCLIP) -> None:
    texts = ["cyst", "solid ! mass !"]
    network.eval()
    with torch.no_grad():
        short = network.tokenize(texts)
        full = network.towers.tokenize_full(texts)
        direct = F.normalize(network.towers.clip.encode_text(full), dim=1)
        torch.testing.assert_close(network.encode_text(short), direct, atol=1e-6, rtol=0)
    assert short.shape[1] == 8
    assert full.shape[1] == 24


def test_theta_stays_within_its_bound_and_alive(network: UltrasoundCLIP) -> None:
    with torch.no_grad():
        network.towers.clip.logit_scale.fill_(9.0)
    assert float(network.logit_scale.detach()) == pytest.approx(100.0, rel=1e-5)
    network.clamp_logit_scale_()
    network.logit_scale.backward()
    assert float(network.towers.clip.logit_scale.detach()) == pytest.approx(math.log(100))
    assert float(network.towers.clip.logit_scale.grad) > 0  # type: ignore[arg-type]


def test_label_embeddings_start_from_the_text_tower(network: UltrasoundCLIP) -> None:
    table = network.graph.label_embedding.detach()  # type: ignore[union-attr]
    network.eval()
    names = [label for _, label in network.taxonomy.label_index]
    with torch.no_grad():
        text = network.encode_text(network.tokenize(names))
    text = F.normalize(text - text.mean(0), dim=1)
    table = F.normalize(table, dim=1)
    paired = torch.corrcoef(torch.stack([(text @ text.T).flatten(), (table @ table.T).flatten()]))[0, 1]
    assert float(paired) > 0.7


def test_grad_checkpointing_changes_nothing(network: UltrasoundCLIP, batch: Batch) -> None:
    plain = network.loss(batch).total
    network.set_grad_checkpointing()
    torch.testing.assert_close(network.loss(batch).total, plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"graph": {"diagnosis_dimension": "colour"}},
            "no dimension 'colour'.*diagnosis_dimension to one of",
        ),
        ({"graph": {"heads": 3}}, "model.graph.heads 3 does not divide model.graph.width 256"),
        ({"loss": {"dimension_weights": {"orgn": 2.0}}}, "names 'orgn', which taxonomy udt"),
        ({"towers": {"name": "VIT-B-17"}}, "no open_clip architecture.*did you mean"),
        ({"towers": {"name": "hf-hub:some/model"}}, "nothing is downloaded"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    change: dict,
    message: str,
    settings_of: Callable[..., ModelSettings],
    taxonomy: Taxonomy,
    tower_file: object,
) -> None:
    model = {"towers": {"name": str(tower_file)}} | change
    with pytest.raises(UsageError, match=message):
        UltrasoundCLIP(build_settings({"preset": "improved", "model": model}).model, taxonomy)
