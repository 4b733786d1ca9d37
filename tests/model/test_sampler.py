"""Batches planned by subject."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usds.model.sampler import plan_batches, record_rng
from usds.schemas.errors import ContentError


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=30), st.integers(2, 40), st.integers(0, 5))
def test_a_subject_comes_at_most_once_a_batch(frames: list[int], batch: int, epoch: int) -> None:
    subjects = np.repeat(np.arange(len(frames)), frames)
    plan = plan_batches(subjects, batch, seed=1)
    rows = plan.epoch(epoch)
    assert rows.shape == (-(-len(subjects) // plan.batch_size), min(batch, len(frames)))
    for line in rows:
        assert len(set(subjects[line])) == len(line)


def test_subjects_take_turns_and_show_every_frame() -> None:
    subjects = np.repeat(np.arange(10), 4)
    plan = plan_batches(subjects, 4, seed=0)
    rows = plan.epoch(0)
    assert sorted(rows.ravel()) == list(range(40))  # ten batches of four, four visits of four frames each
    visits = np.bincount(subjects[rows[:5].ravel()], minlength=10)
    assert visits.max() - visits.min() <= 1


def test_the_plan_is_a_function_of_seed_and_epoch() -> None:
    subjects = np.arange(20) // 2
    plan, again = plan_batches(subjects, 5, 3), plan_batches(subjects, 5, 3)
    np.testing.assert_array_equal(plan.epoch(7), again.epoch(7))
    assert (plan.epoch(7) != plan.epoch(8)).any()
    assert (plan.epoch(7) != plan_batches(subjects, 5, 4).epoch(7)).any()


def test_ranks_share_a_batch_in_order() -> None:
    plan = plan_batches(np.arange(12), 6, 0, world=2)
    whole = plan.epoch(1)
    np.testing.assert_array_equal(np.concatenate([plan.local(1, 0, 2), plan.local(1, 1, 2)], axis=1), whole)


def test_too_few_subjects_shrink_the_batch() -> None:
    plan = plan_batches(np.arange(5), 32, 0, world=2)
    assert (plan.batch_size, plan.shrunk_from) == (4, 32)


def test_one_subject_is_refused() -> None:
    with pytest.raises(ContentError, match=r"the training side has 1 subject: .*another split"):
        plan_batches(np.zeros(9, np.int64), 4, 0)


def test_more_ranks_than_pairs_are_refused() -> None:
    with pytest.raises(ContentError, match=r"too few for 4 ranks.*nproc-per-node"):
        plan_batches(np.arange(6), 6, 0, world=4)


def test_random_numbers_of_a_frame_depend_on_nothing_else() -> None:
    first = record_rng(0, 1, "frame", "image").random(3)
    np.testing.assert_array_equal(first, record_rng(0, 1, "frame", "image").random(3))
    others = [
        (1, 1, "frame", "image"),
        (0, 2, "frame", "image"),
        (0, 1, "other", "image"),
        (0, 1, "frame", "tags"),
    ]
    for place in others:
        assert (record_rng(*place).random(3) != first).any()
