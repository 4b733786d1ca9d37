"""Tasks are stable: the same files make the same tasks, and finished deals are not dealt again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import sha256

from usds.curation.plan import PlannedFile, deal


def name(keys: Sequence[str]) -> str:
    return sha256(" ".join(keys).encode()).hexdigest()[:26]


def files(n: int, subjects: int = 7, size: int = 10) -> list[PlannedFile]:
    return [PlannedFile(f"k{i:04d}", f"s{i % subjects}", f"t{i % subjects}", size) for i in range(n)]


def test_every_file_is_dealt_once() -> None:
    tasks = deal(files(100), name, max_files=9)
    dealt = [key for task in tasks for key in task.sources]
    assert sorted(dealt) == [f"k{i:04d}" for i in range(100)]
    assert max(len(task.sources) for task in tasks) <= 9


def test_order_of_the_files_does_not_matter() -> None:
    shuffled = files(100)
    random.Random(1).shuffle(shuffled)
    assert deal(shuffled, name, max_files=20) == deal(files(100), name, max_files=20)


def test_bytes_cut_tasks_and_a_giant_stands_alone() -> None:
    found = deal([*files(6, subjects=6), PlannedFile("giant", "s0", "t0", 1000)], name, max_bytes=25)
    sizes = {"giant": 1000}
    for task in found:
        total = sum(sizes.get(key, 10) for key in task.sources)
        assert total <= 25 or task.sources == ("giant",)


def test_a_subject_stays_in_one_task_where_it_fits() -> None:
    tasks = deal(files(40, subjects=10), name, max_files=6)
    for subject in range(10):
        mine = {f"k{i:04d}" for i in range(40) if i % 10 == subject}
        assert sum(bool(mine & set(task.sources)) for task in tasks) == 1


def test_unfinished_tasks_are_kept_when_files_are_added() -> None:
    first = deal(files(20), name, max_files=10)
    kept = {task.name: task.sources for task in first}
    more = deal([*files(20), PlannedFile("new", "s0", "t0", 10)], name, kept=kept, max_files=10)
    assert {task.name for task in first} < {task.name for task in more}
    assert [task.sources for task in more if task.name not in kept] == [("new",)]


def test_an_unfinished_task_that_lost_a_file_is_dealt_again() -> None:
    first = deal(files(20), name, max_files=20)
    kept = {task.name: task.sources for task in first}
    again = deal(files(19), name, kept=kept, max_files=20)
    assert [task.name for task in again] != [task.name for task in first]
    assert len(again[0].sources) == 19
