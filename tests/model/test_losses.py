"""Losses: their definitions, chunks, caption positives, and two ranks as one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from usds.model.labels import LabelTensors
from usds.model.losses import ContrastiveLoss, neighbour_target, semantic_loss
from usds.model.settings import LossSettings
from usds.taxonomy.similarity import similarity
from usds.taxonomy.udt import Taxonomy

WORKER = Path(__file__).with_name("gloo_worker.py")
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    image = F.normalize(torch.randn(12, 8, generator=generator), dim=1)
    text = F.normalize(torch.randn(12, 8, generator=generator), dim=1)
    return image.requires_grad_(), text.requires_grad_()


def loss_of(taxonomy: Taxonomy, **settings: object) -> ContrastiveLoss:
    block = torch.from_numpy(similarity(taxonomy).block())
    return ContrastiveLoss(LossSettings.model_validate(settings), block, taxonomy.widths)


def test_semantic_loss_is_mse_and_kl_over_rows() -> None:
    p, t = torch.tensor([[0.9, 0.1], [0.3, 0.7]]), torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    target, got = torch.softmax(t / 0.1, 1), torch.softmax(p / 0.1, 1)
    kl = (target * (target.log() - got.log())).sum(1).mean()
    expected = 0.6 * ((p - t) ** 2).mean() + 0.4 * kl
    assert float(semantic_loss(p, t, 0.1)) == pytest.approx(float(expected), rel=1e-5)
    assert float(semantic_loss(t, t)) == pytest.approx(0.0, abs=1e-7)


def test_semantic_loss_names_wrong_inputs() -> None:
    with pytest.raises(ValueError, match=r"must be equal \(R, C\)"):
        semantic_loss(torch.zeros(2, 2), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="temperature must be positive"):
        semantic_loss(torch.zeros(2, 2), torch.zeros(2, 2), 0.0)


def test_clip_loss_is_cross_entropy_both_ways(taxonomy: Taxonomy, pair: tuple[Tensor, Tensor]) -> None:
    image, text = pair
    parts = loss_of(taxonomy, kind="clip")(image, text, torch.tensor(10.0))
    logits, own = 10.0 * image @ text.T, torch.arange(12)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert float(parts.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_multi_positive_without_mixing_spreads_over_equal_captions(
    taxonomy: Taxonomy, pair: tuple[Tensor, Tensor], labels: LabelTensors
) -> None:
    image, text = pair
    captions = torch.arange(12) // 2
    parts = loss_of(taxonomy, mix=0.0)(image, text, torch.tensor(5.0), labels, captions)
    soft = (captions[:, None] == captions[None]).float() / 2
    logits = 5.0 * image @ text.T
    expected = -(soft * (logits.log_softmax(1) + logits.T.log_softmax(1))).sum() / 24
    assert float(parts.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_losses_without_caption_numbers_have_one_positive_each(
    taxonomy: Taxonomy, pair: tuple[Tensor, Tensor], labels: LabelTensors
) -> None:
    parts = loss_of(taxonomy, mix=0.0)(*pair, torch.tensor(5.0), labels)
    assert float(parts.semantic) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("kind", ["clip", "paper", "multi_positive"])
@pytest.mark.parametrize("rows", [1, 5, 12])
def test_chunks_equal_the_whole(
    kind: str, rows: int, taxonomy: Taxonomy, pair: tuple[Tensor, Tensor], labels: LabelTensors
) -> None:
    results = []
    for chunk in (0, rows):
        criterion = loss_of(taxonomy, kind=kind, chunk_rows=chunk)
        parts = criterion(*pair, torch.tensor(20.0), labels, torch.arange(12) // 3)
        results.append((parts, torch.autograd.grad(parts.total, pair)))
    (whole, whole_grad), (parts, grad) = results
    for name in ("total", "clip", "semantic", "accuracy"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), atol=1e-6, rtol=1e-6)
    for left, right in zip(grad, whole_grad, strict=True):
        torch.testing.assert_close(left, right, atol=1e-6, rtol=0)


def test_semantic_loss_without_labels_is_refused(taxonomy: Taxonomy, pair: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="loss kind 'paper' needs the labels"):
        loss_of(taxonomy, kind="paper")(*pair, torch.tensor(1.0))


def test_neighbour_target_takes_the_nearest_above_the_threshold() -> None:
    similarity_ = torch.tensor([[1.0, 0.9, 0.6, 0.49, 0.8]])
    same = torch.tensor([[True, False, False, False, False]])
    y = neighbour_target(similarity_, same, neighbours=2, threshold=0.5, perplexity=2.0, mix=0.4)
    assert y[0, 0] == pytest.approx(0.6)
    assert y[0, 2] == 0
    assert y[0, 3] == 0
    assert float(y[0, 1] + y[0, 4]) == pytest.approx(0.4)
    assert float(y.sum()) == pytest.approx(1.0)


def test_row_without_neighbours_keeps_its_hard_target() -> None:
    same = torch.tensor([[True, False, True]])
    y = neighbour_target(
        torch.tensor([[1.0, 0.2, 1.0]]), same, neighbours=2, threshold=0.5, perplexity=2.0, mix=0.4
    )
    assert y.tolist() == [[0.5, 0.0, 0.5]]


def test_neighbour_share_has_the_wanted_perplexity() -> None:
    similarity_ = torch.linspace(0.99, 0.5, 17)[None]
    same = torch.zeros(1, 17, dtype=torch.bool)
    same[0, 0] = True
    y = neighbour_target(similarity_, same, neighbours=16, threshold=0.5, perplexity=3.0, mix=1.0)
    entropy = -(torch.xlogy(y, y)).sum()
    assert float(entropy.exp()) == pytest.approx(3.0, rel=1e-3)


def test_rounding_noise_does_not_reorder_ties() -> None:
    same = torch.eye(40, dtype=torch.bool)
    flat = torch.full((40, 40), 0.75)
    noisy = flat + torch.randn(40, 40, generator=torch.Generator().manual_seed(0)) * 1e-7
    constants = {"neighbours": 4, "threshold": 0.5, "perplexity": 3.0, "mix": 0.3}
    assert torch.equal(neighbour_target(flat, same, **constants), neighbour_target(noisy, same, **constants))


def test_loss_is_float32_under_autocast(
    taxonomy: Taxonomy, pair: tuple[Tensor, Tensor], labels: LabelTensors
) -> None:
    criterion = loss_of(taxonomy)
    plain = criterion(*pair, torch.tensor(5.0), labels).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = criterion(*pair, torch.tensor(5.0), labels).total
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)


def _alone(folder: Path) -> dict[str, Tensor]:
    """What one process computes: the same code, in this process."""
    spec = importlib.util.spec_from_file_location("gloo_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return worker.results(0, 1, folder)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
def test_two_gloo_ranks_equal_one_process(tmp_path: Path) -> None:
    """Real processes, DDP, shards of unequal content, all objectives: loss and gradients to 1e-6.

    In double precision every entry to 1e-6. In single precision the loss to 1e-6 of its value, and the
    gradient to 1e-6 of its norm: a float32 of the size of the largest entries (10 to 100) ends there.
    """
    store = tmp_path / "store"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": LOOPBACK}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(r), "2", str(store), str(tmp_path)], env=environment
        )
        for r in range(2)
    ]
    try:
        one = _alone(tmp_path)
        assert [rank.wait(timeout=900) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    two = torch.load(tmp_path / "ranks.pt", weights_only=True)
    assert one.keys() == two.keys()
    for name in one:
        if name.startswith("double/"):
            torch.testing.assert_close(
                two[name], one[name], atol=1e-6, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
            )
    for objective in ("paper", "multi_positive", "chunked", "prompts"):
        lead = f"single/{objective}/"
        loss, *parts = [name for name in one if name.startswith(lead)]
        assert loss == f"{lead}loss"
        torch.testing.assert_close(two[loss], one[loss], atol=0, rtol=1e-6)
        whole, other = (torch.cat([side[n].flatten().double() for n in parts]) for side in (one, two))
        assert float((other - whole).norm() / whole.norm()) <= 1e-6, objective
