"""Pairs of a dataset as arrays."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tiny_dataset import annotation_row, labels_of, make_dataset, specs, write_annotations

from usds.model.records import caption_number, dataset_taxonomy, load_records, record_labels, require_side
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.udt import load_taxonomy


def test_records_carry_captions_labels_and_sides(tmp_path: Path) -> None:
    chosen = specs(5, 2)
    dataset = make_dataset(tmp_path / "dataset", chosen)
    taxonomy = dataset_taxonomy(dataset)
    records = load_records(dataset, taxonomy, "default")
    assert (len(records), records.n_subjects, records.counts.sentence()) == (10, 5, "10 of 10 frames")
    assert records.texts[2] == chosen[1].caption
    assert record_labels(records, taxonomy)[2] == {k: tuple(v) for k, v in labels_of(chosen[1]).items()}
    assert records.captions[2] == records.captions[3] != records.captions[0]
    assert [records.side(side).n_subjects for side in ("train", "valid", "test")] == [3, 1, 1]


def test_frames_without_a_caption_are_counted_not_used(tmp_path: Path) -> None:
    taxonomy = load_taxonomy("udt")
    dataset = make_dataset(tmp_path / "dataset", specs(3, 1))
    rows = [
        annotation_row(f"frame00{i}00", f"caption-subject00{i}" if i else None, {}, taxonomy)
        for i in range(2)
    ]
    write_annotations(dataset, taxonomy, rows)  # the third frame has no row at all
    records = load_records(dataset, taxonomy, "default")
    assert records.frame_ids == ("frame00100",)
    assert records.counts.sentence() == "1 of 3 frames (not used: 2 without a caption)"
    assert len(load_records(dataset, taxonomy, "default", captioned=False)) == 3


def test_captions_that_differ_in_case_and_space_are_one() -> None:
    assert (
        caption_number("Simple  cyst.") == caption_number("simple cyst.") != caption_number("simple cysts.")
    )
    assert caption_number("x") >= 0


def test_labels_outside_the_taxonomy_are_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", specs(3, 1), labels=lambda _: {"organ": ["Tail"]})
    with pytest.raises(
        ContentError, match=r"label 'Tail' is not in dimension 'organ'.*label them again with `usds annotate"
    ):
        load_records(dataset, load_taxonomy("udt"), "default")


def test_an_empty_side_says_what_there_is(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", specs(3, 1))
    records = load_records(dataset, load_taxonomy("udt"), "default")
    with pytest.raises(
        ContentError, match=r"side 'test' of split 'default' has no captioned frame \(there is: train 3\)"
    ):
        require_side(records, "test", "default")


def test_a_dataset_without_labels_names_the_command(tmp_path: Path) -> None:
    dataset = Dataset.create(
        tmp_path / "d", key_fingerprint="", tool="", detector="", settings={}, settings_hash=""
    )
    with pytest.raises(UsageError, match="has no labels: run `usds annotate` first"):
        dataset_taxonomy(dataset)


def test_an_unknown_label_set_is_named_with_those_there_are(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", specs(3, 1))
    with pytest.raises(UsageError, match=r"no annotation set 'nope' \(there are: udt-"):
        dataset_taxonomy(dataset, "nope")
