"""Splits: subjects stay whole and stay placed, near-duplicates move as one, leaks are found."""

import pytest

from usds.curation.split import SplitSettings, find_leaks, split_dataset
from usds.schemas.errors import ContentError

KEY = b"k" * 32


def subject_frames(rows, number, *, frames=2, duplicate_of=None):
    return [
        rows.frame(
            frame_id=f"f{number:03}-{i}", study_id=f"st{number:03}", subject_id=f"s{number:03}",
            duplicate_of=duplicate_of if i == 0 else None,
        )
        for i in range(frames)
    ]  # fmt: skip


def placements(dataset, name="default"):
    return {r["subject_id"]: r["split"] for r in dataset.splits().to_pylist() if r["name"] == name}


def test_shares_are_60_20_20_by_subject(make_dataset, rows):
    frames = [frame for n in range(50) for frame in subject_frames(rows, n)]
    dataset = make_dataset(tasks={"t1": (frames, [])})
    report = split_dataset(dataset, KEY)
    assert report.subjects == {"train": 30, "valid": 10, "test": 10}
    assert report.frames == {"train": 60, "valid": 20, "test": 20}
    assert find_leaks(dataset) == []


def test_three_subjects_fill_three_sides(make_dataset, rows):
    big = subject_frames(rows, 0, frames=30)
    dataset = make_dataset(tasks={"t1": ([*big, *subject_frames(rows, 1), *subject_frames(rows, 2)], [])})
    assert split_dataset(dataset, KEY).subjects == {"train": 1, "valid": 1, "test": 1}


def test_placed_subjects_stay_and_new_ones_join(make_dataset, rows):
    first = [frame for n in range(10) for frame in subject_frames(rows, n)]
    dataset = make_dataset(tasks={"t1": (first, [])})
    split_dataset(dataset, KEY)
    before = placements(dataset)
    rows.task(dataset, "t2", [frame for n in range(10, 30) for frame in subject_frames(rows, n)])
    report = split_dataset(dataset, KEY)
    after = placements(dataset)
    assert {subject: after[subject] for subject in before} == before
    assert (report.kept, report.placed_now) == (10, 20)


def test_subjects_that_share_a_picture_move_as_one(make_dataset, rows):
    frames = [frame for n in range(20) for frame in subject_frames(rows, n)]
    frames += [f for n in range(20, 26) for f in subject_frames(rows, n, duplicate_of=f"f{n - 20:03}-0")]
    dataset = make_dataset(tasks={"t1": (frames, [])})
    report = split_dataset(dataset, KEY)
    placed = placements(dataset)
    assert report.clusters == 6
    assert all(placed[f"s{n:03}"] == placed[f"s{n - 20:03}"] for n in range(20, 26))
    assert find_leaks(dataset) == []


def test_a_cluster_that_straddles_sides_is_excluded(make_dataset, rows):
    first = [frame for n in range(3) for frame in subject_frames(rows, n)]
    dataset = make_dataset(tasks={"t1": (first, [])})
    split_dataset(dataset, KEY)
    rows.task(dataset, "t2", [
        rows.frame(frame_id="x0", study_id="x", subject_id="s900", duplicate_of="f000-0"),
        rows.frame(frame_id="x1", study_id="x", subject_id="s900", duplicate_of="f001-0"),
    ])  # fmt: skip
    split_dataset(dataset, KEY)
    placed = placements(dataset)
    assert {placed["s000"], placed["s001"], placed["s900"]} == {"excluded"}
    assert placed["s002"] in ("train", "valid", "test")


def test_a_leak_is_found(make_dataset, rows):
    frames = [*subject_frames(rows, 0), *subject_frames(rows, 1, duplicate_of="f000-1")]
    dataset = make_dataset(tasks={"t1": (frames, [])})
    dataset.write_split("default", [
        {"subject_id": "s000", "split": "train"}, {"subject_id": "s001", "split": "test"},
        {"subject_id": "s000", "split": "valid"},
    ])  # fmt: skip
    kinds = [leak.kind for leak in find_leaks(dataset)]
    assert kinds == ["subject", "near_duplicate", "near_duplicate"]


def test_same_key_same_split_and_another_key_another(make_dataset, rows):
    frames = [frame for n in range(30) for frame in subject_frames(rows, n)]
    dataset = make_dataset(tasks={"t1": (frames, [])})
    split_dataset(dataset, KEY, name="default")
    split_dataset(dataset, KEY, name="again")
    one = placements(dataset)
    (dataset.root / "splits" / "default.parquet").unlink()
    split_dataset(dataset, KEY)
    assert placements(dataset) == one
    (dataset.root / "splits" / "default.parquet").unlink()
    split_dataset(dataset, b"j" * 32)
    assert placements(dataset) != one


def test_dry_run_writes_nothing(make_dataset, rows):
    dataset = make_dataset(tasks={"t1": (subject_frames(rows, 0), [])})
    split_dataset(dataset, KEY, dry_run=True)
    assert dataset.split_names() == []


def test_an_empty_dataset_and_an_absent_split_are_refused(make_dataset):
    dataset = make_dataset()
    with pytest.raises(ContentError, match="holds no frames yet: run `usds ingest RAW`"):
        split_dataset(dataset, KEY)
    with pytest.raises(ContentError, match="no split 'other': run `usds split --name other`"):
        find_leaks(dataset, "other")


def test_shares_must_add_up():
    with pytest.raises(ValueError, match="must add up to 1"):
        SplitSettings(train=0.5)
