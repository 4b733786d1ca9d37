"""The batch target: equal to the published loops, and its properties for any labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from usds.model.targets import batch_target, scale_rows, target_rows

WIDTHS = (3, 1, 4)


def pair_loop(x: Tensor, s: Tensor, widths: tuple[int, ...]) -> np.ndarray:
    """The published computation: mean label similarity of each pair, dimension by dimension."""
    n = len(x)
    out = np.eye(n)
    for i in range(n):
        for j in range(i + 1, n):
            scores, start = [], 0
            for width in widths:
                block = slice(start, start + width)
                left, right = x[i, block].nonzero()[:, 0], x[j, block].nonzero()[:, 0]
                values = [float(s[start + a, start + b]) for a in left for b in right]
                scores.append(np.mean(values) if values else 0.0)
                start += width
            out[i, j] = out[j, i] = np.mean(scores)
    return out


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Labels x, similarity s and filled for a few records."""
    n = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    hot = torch.from_numpy((rng.random((n, sum(WIDTHS))) < draw(st.floats(0, 0.8))).astype(np.float32))
    blocks = [torch.from_numpy(rng.random((w, w)).astype(np.float32)) for w in WIDTHS]
    blocks = [((b + b.T) / 2).fill_diagonal_(1.0) for b in blocks]
    counts = torch.stack([part.sum(1) for part in hot.split(WIDTHS, dim=1)], dim=1)
    x = hot / counts.clamp_min(1).repeat_interleave(torch.tensor(WIDTHS), dim=1)
    return x, torch.block_diag(*blocks), counts > 0


@settings(max_examples=60, deadline=None)
@given(problems())
def test_paper_target_equals_the_loops(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    x, s, _ = problem
    got = batch_target(x, s, widths=WIDTHS)
    np.testing.assert_allclose(got.numpy(), pair_loop(x, s, WIDTHS), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(problems(), st.sampled_from(["paper", "masked"]))
def test_target_is_symmetric_bounded_and_one_on_the_diagonal(
    problem: tuple[Tensor, Tensor, Tensor], mode: str
) -> None:
    x, s, filled = problem
    got = batch_target(x, s, filled, mode, widths=WIDTHS)  # type: ignore[arg-type]
    assert got.dtype == torch.float32
    assert torch.equal(got, got.T)
    assert float(got.min()) >= 0
    assert float(got.max()) <= 1
    assert torch.equal(got.diagonal(), torch.ones(len(x)))


@settings(max_examples=40, deadline=None)
@given(problems())
def test_masked_target_gives_identical_label_sets_one(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    x, s, filled = problem
    got = batch_target(torch.cat([x, x]), s, torch.cat([filled, filled]), "masked", widths=WIDTHS)
    twins = got[: len(x), len(x) :].diagonal()
    torch.testing.assert_close(twins, filled.any(1).float(), atol=1e-5, rtol=0)


@settings(max_examples=40, deadline=None)
@given(problems(), st.integers(0, 5))
def test_target_follows_a_permutation_of_the_records(
    problem: tuple[Tensor, Tensor, Tensor], seed: int
) -> None:
    x, s, filled = problem
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    got = batch_target(x[order], s, filled[order], "masked", widths=WIDTHS)
    expected = batch_target(x, s, filled, "masked", widths=WIDTHS)[order][:, order]
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_masked_target_averages_only_dimensions_that_both_fill() -> None:
    x = torch.tensor([[1.0, 0, 0, 1, 0, 0, 0, 0], [1.0, 0, 0, 0, 0, 0, 0, 0], [0.0, 0, 0, 1, 0, 0, 0, 0]])
    filled = torch.tensor([[True, True, False], [True, False, False], [False, True, False]])
    got = batch_target(x, torch.eye(8), filled, "masked", widths=WIDTHS)
    assert got[0, 1] == 1
    assert got[0, 2] == 1
    assert got[1, 2] == 0


def test_weights_choose_dimensions() -> None:
    x = torch.tensor([[1.0, 0, 0, 1, 0, 0, 0, 0], [1.0, 0, 0, 0, 0, 0, 0, 0]])
    only_first = batch_target(x, torch.eye(8), weights=torch.tensor([1.0, 0, 0]), widths=WIDTHS)
    equal = batch_target(x, torch.eye(8), widths=WIDTHS)
    assert only_first[0, 1] == 1
    assert equal[0, 1] == pytest.approx(1 / 3)


def test_rows_of_the_target_equal_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(9, 8, generator=generator) < 0.4).float()
    filled = torch.stack([part.any(1) for part in x.split(WIDTHS, dim=1)], dim=1)
    scaled = scale_rows(x, torch.eye(8), filled, "masked", WIDTHS)
    part = target_rows(
        scaled[:4],
        scaled,
        torch.eye(8),
        filled_rows=filled[:4],
        filled_columns=filled,
        mode="masked",
        weights=None,
        widths=WIDTHS,
    )
    whole = batch_target(x, torch.eye(8), filled, "masked", widths=WIDTHS)[:4]
    off = ~torch.eye(9, dtype=torch.bool)[:4]
    torch.testing.assert_close(part[off], whole[off], atol=1e-6, rtol=0)


def test_default_widths_are_those_of_the_bundled_taxonomy() -> None:
    assert batch_target(torch.zeros(2, 93), torch.eye(93)).shape == (2, 2)
    with pytest.raises(ValueError, match="widths sum to 93, but x has 8 columns"):
        batch_target(torch.zeros(2, 8), torch.eye(8))


def test_target_is_float32_under_autocast() -> None:
    x = torch.full((2, 8), 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = batch_target(x, torch.eye(8), widths=WIDTHS)
    assert got.dtype == torch.float32
    assert torch.equal(got, batch_target(x, torch.eye(8), widths=WIDTHS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "masked"}, "needs filled"),
        ({"mode": "soft"}, "unknown target mode 'soft'"),
        ({"s": torch.eye(7)}, r"x must be \(B, V\) and s \(V, V\)"),
        ({"filled": torch.ones(2, 2, dtype=torch.bool)}, r"filled must be \(2, 3\)"),
        ({"weights": torch.ones(2)}, r"weights must be \(3,\)"),
        ({"widths": (3, 1, 3)}, "widths sum to 7"),
    ],
)
def test_wrong_inputs_are_named(change: dict, message: str) -> None:
    given_ = {"x": torch.zeros(2, 8), "s": torch.eye(8), "widths": WIDTHS} | change
    with pytest.raises(ValueError, match=message):
        batch_target(**given_)
