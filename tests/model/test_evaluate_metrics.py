"""Retrieval and attribute figures against hand calculation."""

from __future__ import annotations

import numpy as np
import pytest

from usds.model.evaluate.attributes import attribute_metrics, evaluate_attributes, summarise
from usds.model.evaluate.intervals import case_bootstrap
from usds.model.evaluate.leakage import near_copies
from usds.model.evaluate.probe import Features, few_shot, linear_probe
from usds.model.evaluate.retrieval import Pairs, best_ranks, evaluate_retrieval, ndcg


def test_rank_of_the_best_match() -> None:
    scores = np.array([[0.1, 0.9, 0.5, 0.3]], np.float32)
    relevant = np.array([[True, False, False, True]])
    assert best_ranks(scores, relevant).tolist() == [3.0]


def test_ties_get_the_rank_of_guessing() -> None:
    flat = np.zeros((1, 9), np.float32)
    one = np.zeros((1, 9), bool)
    one[0, 4] = True
    assert best_ranks(flat, one).tolist() == [5.0]  # mid-rank
    two = one.copy()
    two[0, 7] = True
    assert best_ranks(flat, two)[0] == pytest.approx(10 / 3)  # the first of two among nine in random order
    assert best_ranks(flat, np.ones((1, 9), bool)).tolist() == [1.0]


def test_ndcg_by_hand() -> None:
    scores = np.array([[3.0, 2.0, 1.0]], np.float32)
    relevance = np.array([[0.0, 1.0, 0.5]], np.float32)
    expected = (1 / np.log2(3) + 0.5 / 2) / (1 + 0.5 / np.log2(3))
    assert ndcg(scores, relevance)[0] == pytest.approx(expected)
    assert ndcg(scores, relevance[:, ::-1] * 0)[0] == 0.0
    level = ndcg(np.zeros((1, 3), np.float32), relevance)[0]
    assert level == pytest.approx(0.5 * (1 + 1 / np.log2(3) + 0.5) / (1 + 0.5 / np.log2(3)))


def pairs(n: int, same: int = 1, seed: int = 0) -> Pairs:
    vectors = np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32)
    vectors = vectors[np.arange(n) // same * same]
    return Pairs(vectors, vectors, np.arange(n) // same, np.arange(n) // (2 * same))


def test_a_perfect_model_finds_everything_and_sizes_are_stated() -> None:
    report = evaluate_retrieval(pairs(40), galleries=(10, 4000), draws=3)
    assert [(g["gallery"], g["draws"], g["chance R@1"]) for g in report] == [(10, 3, 0.1), (40, 1, 0.025)]
    for gallery in report:
        assert gallery["image to text"]["exact pair"]["R@1"] == 1.0
        assert gallery["text to image"]["same case"]["median rank"] == 1.0
    assert report[0]["sd"]["image to text"]["exact pair"]["R@1"] == 0.0


def test_a_constant_model_is_no_better_than_guessing() -> None:
    constant = Pairs(
        np.ones((100, 4), np.float32), np.ones((100, 4), np.float32), np.arange(100), np.arange(100)
    )
    (full,) = evaluate_retrieval(constant, galleries=())
    assert full["image to text"]["exact pair"] == {
        "R@1": 0.0,
        "R@5": 0.0,
        "R@10": 0.0,
        "R@50": 0.0,
        "median rank": 50.5,
    }


def test_shared_captions_count_as_found_for_captions_only() -> None:
    (full,) = evaluate_retrieval(pairs(20, same=2), galleries=())
    assert full["image to text"]["same caption"]["R@1"] == 1.0
    assert full["image to text"]["exact pair"]["R@1"] == 0.0
    assert full["image to text"]["exact pair"]["median rank"] == 1.5


def test_drawn_galleries_repeat() -> None:
    noisy = pairs(60)
    noisy = Pairs(noisy.image + 2 * pairs(60, seed=1).image, noisy.text, noisy.captions, noisy.cases)
    first, again = (evaluate_retrieval(noisy, galleries=(20,), draws=4, seed=5) for _ in range(2))
    assert first == again
    assert first[0]["sd"]["image to text"]["exact pair"]["R@1"] > 0


def test_multi_label_accuracy_recall_and_f1_by_hand() -> None:
    scores = np.array([[3, 1, 0], [3, 1, 0], [0, 0, 3], [0, 3, 0]], float)  # predicted: 0, 0, 2, 1
    gold = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 1, 0]], bool)
    found = attribute_metrics(scores, gold, np.ones(4))
    assert found["accuracy"] == 0.75
    assert found["recall"] == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert found["f1"] == pytest.approx((2 / 3 + 2 / 4 + 1) / 3)
    double = attribute_metrics(scores, gold, np.array([1.0, 2.0, 1.0, 1.0]))
    assert double["accuracy"] == pytest.approx(0.6)


def test_only_records_that_carry_a_dimension_are_judged() -> None:
    image = np.eye(3, dtype=np.float32)
    prompts = {"echo": np.eye(3, dtype=np.float32)[:2], "shape": np.eye(3, dtype=np.float32)[[0, 2]]}
    words = {"echo": ("dark", "bright"), "shape": ("round", "flat")}
    gold = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    results = evaluate_attributes(
        image, prompts, words, gold, cases=np.arange(3), train_counts=np.array([3, 1, 0, 0]), draws=20
    )
    echo, shape = results
    assert (echo.n, echo.metrics["accuracy"].value, echo.majority, echo.majority_label) == (
        2,
        1.0,
        0.5,
        "dark",
    )
    assert echo.confusion.tolist() == [[1, 0], [0, 1]]
    assert echo.metrics["auroc"].value == 1.0
    assert (shape.n, shape.metrics, shape.majority) == (0, {}, None)
    assert summarise(results)["AvgAcc"] == 1.0
    assert summarise(results)["without_records"] == ["shape"]


def test_the_majority_is_that_of_the_training_side() -> None:
    gold = np.array([[0, 1], [0, 1], [1, 0]], bool)
    image = np.tile(np.array([[0.0, 1.0]], np.float32), (3, 1))
    prompts = {"d": np.eye(2, dtype=np.float32)}
    (result,) = evaluate_attributes(
        image, prompts, {"d": ("a", "b")}, gold, cases=np.arange(3), train_counts=np.array([5, 1]), draws=20
    )
    assert (result.majority_label, result.majority) == ("a", pytest.approx(1 / 3))


def test_intervals_resample_cases_not_records() -> None:
    hits = np.repeat([1.0, 0.0], 500)

    def accuracy(weights: np.ndarray) -> dict[str, float]:
        return {"a": float(weights @ hits / weights.sum())}

    by_record = case_bootstrap(accuracy, np.arange(1000))["a"]
    by_case = case_bootstrap(accuracy, np.repeat([0, 1], 500))["a"]
    assert by_record.value == by_case.value == 0.5
    assert by_record.low is not None
    assert by_record.low > 0.45
    assert (by_case.low, by_case.high) == (0.0, 1.0)
    single = case_bootstrap(accuracy, np.zeros(1000, np.int64))["a"]
    assert (single.value, single.low, single.high) == (0.5, None, None)


def test_near_copies_within_four_bits() -> None:
    first = 0x0123456789ABCDEF
    near, far = first ^ 0b1111, first ^ 0b11111
    assert near_copies([f"{first:016x}"], [f"{far:016x}", f"{near:016x}"]).tolist() == [[0, 1]]
    blank = near_copies(["0" * 16, ""], ["0" * 16, "f" * 16])
    assert blank.tolist() == []  # blank frames are no copies of each other


def test_thousands_of_equal_frames_on_both_sides_are_counted_once_each() -> None:
    found = near_copies(["0123456789abcdef"] * 20_000, ["fedcba9876543210", *["0123456789abcdee"] * 20_000])
    assert (len(found), found[-1].tolist()) == (20_000, [19_999, 1])


def features(n: int, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = np.eye(3, 8, dtype=np.float32)[y] * 2 + rng.normal(0, 0.5, (n, 8)).astype(np.float32)
    return Features(x, y, np.arange(n))


def test_a_probe_reads_separable_vectors_and_not_noise() -> None:
    train, valid, test = features(90, 0), features(30, 1), features(60, 2)
    found = linear_probe("d", train, valid, test)
    assert found is not None
    assert (found.accuracy.value or 0) > 0.95 > found.majority
    assert "30 validation records" in found.settings["C chosen"]
    noise = Features(np.random.default_rng(3).normal(size=(60, 8)).astype(np.float32), test.y, test.cases)
    lost = linear_probe("d", train, valid, noise)
    assert lost is not None
    assert (lost.accuracy.value or 1) < 0.6
    shots = few_shot("d", train, test)
    assert [row["shots"] for row in shots] == [1, 4, 16]
    assert shots[2]["accuracy"] > shots[0]["accuracy"]


def test_one_class_is_not_probed() -> None:
    train = features(30, 0)
    one = Features(train.x, np.zeros(30, np.int64), train.cases)
    assert linear_probe("d", one, one, one) is None
    assert few_shot("d", one, one) == []
