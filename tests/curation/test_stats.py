"""Counts through DuckDB, and how small ones are hidden."""

import pytest

from usds.curation.annotate import annotate_dataset
from usds.curation.split import split_dataset
from usds.curation.stats import CountTable, collect_stats, publishable, publishable_total
from usds.schemas.errors import UsageError
from usds.taxonomy.udt import load_taxonomy


@pytest.fixture
def dataset(make_dataset, rows):
    box = {"x0": 0, "y0": 0, "x1": 8, "y1": 8, "score": 0.9, "method": "ocr"}
    frames = [
        rows.frame(
            frame_id=f"f{i}", study_id=f"st{i // 2}", subject_id=f"s{i // 2}", vendor="A" if i < 6 else "B",
            text_boxes=[box, box] if i == 0 else [], redacted_fraction=0.02 if i == 0 else 0.0,
        )
        for i in range(8)
    ]  # fmt: skip
    captions = [rows.caption(f"f{i}", "Ultrasound of the liver shows a cyst.", n_removed=1) for i in range(5)]
    sources = [{"source_key": f["source_key"]} for f in frames] + [
        {"source_key": "x", "outcome": "rejected", "reason": "truncated", "captions_withheld": 2},
        {"source_key": "y", "outcome": "review", "reason": "area_uncertain", "frames_withheld": 3},
    ]
    return make_dataset(tasks={"t1": (frames, captions, sources)})


def test_counts_before_annotate_and_split(dataset):
    stats = collect_stats(dataset)
    assert stats.totals == {
        "frames": 8, "subjects": 4, "studies": 4, "clips": 0, "near_duplicates": 0, "captions": 5,
        "source_files": 10,
    }  # fmt: skip
    assert stats.table("vendors").rows == (("A", (6, 3)), ("B", (2, 1)))
    assert dict(stats.table("outcomes").rows) == {
        "ingested": (8,), "rejected: truncated": (1,), "review: area_uncertain": (1,),
    }  # fmt: skip
    assert stats.missing == ("no labels yet: run `usds annotate`", "no split 'default' yet: run `usds split`")
    assert (stats.labels, stats.coverage) == ((), None)


def test_deidentification_is_summed(dataset):
    deid = collect_stats(dataset).deid
    assert deid["frames_with_redacted_text"] == 1
    assert deid["text_boxes_redacted"] == 2
    assert deid["largest_redacted_fraction"] == pytest.approx(0.02)
    assert (deid["frames_withheld"], deid["captions_withheld"], deid["caption_tokens_removed"]) == (3, 2, 5)


def test_labels_and_split_are_counted(dataset):
    annotate_dataset(dataset, load_taxonomy("udt"))
    split_dataset(dataset, b"k" * 32)
    stats = collect_stats(dataset)
    assert stats.missing == ()
    assert stats.coverage.column()["organ"] == 5
    organ = next(table for table in stats.labels if table.key == "organ")
    assert organ.rows == (("Liver", (5, 3)),)
    assert sum(count for count in stats.table("split").column().values()) == 8
    assert stats.to_json()["labels"]["organ"] == [{"name": "Liver", "frames": 5, "subjects": 3}]


def test_an_empty_dataset_says_what_is_missing(make_dataset):
    stats = collect_stats(make_dataset())
    assert stats.totals["frames"] == 0
    assert "no frames yet: run `usds ingest RAW`" in stats.missing


def test_an_unknown_set_is_refused(dataset):
    with pytest.raises(UsageError, match="no annotation set 'x'"):
        collect_stats(dataset, set_name="x")


def table(*counts):
    return CountTable("k", "t", ("frames",), tuple((f"c{i}", (n,)) for i, n in enumerate(counts)))


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ((50, 20, 6), [50, 20, 6]),
        ((50, 20, 3), [50, "*", "<5"]),  # the total would give a single hidden count away
        ((50, 4, 1), [50, "<5", "<5"]),
        ((3,), ["<5"]),
        ((50, 0, 2), ["*", 0, "<5"]),
        ((), []),
    ],
)
def test_small_counts_are_hidden_with_a_complement(counts, shown):
    assert list(publishable(table(*counts)).column().values()) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, 0), (1, "<5"), (4, "<5"), (5, 5), ("<5", "<5")])
def test_a_total_of_one_to_four_is_hidden(count, shown):
    assert publishable_total(count) == shown
