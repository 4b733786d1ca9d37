"""Annotation sets: several beside each other, swapped by manifest, never touching pixels."""

import pyarrow as pa
import pytest

from usds.schemas import tables
from usds.schemas.annotations import AnnotationSet
from usds.schemas.errors import UsageError

DIMENSIONS = ("organ", "shape")


@pytest.fixture
def dataset(make_dataset, rows):
    return make_dataset(tasks={"t1": ([rows.frame(frame_id="f1", study_id="st", subject_id="s1")], [])})


def write_set(dataset, name, organ, *, dimensions=DIMENSIONS, fingerprint="a" * 64):
    row = {d: [] for d in dimensions} | {
        "frame_id": "f1", "negated": [], "uncertain": [], "source_caption_ids": [], "caption_id": None,
        "abstained": None, "conflict": False, "confidence": 1.0, "organ": [organ],
    }  # fmt: skip
    labels = pa.Table.from_pylist([row], schema=tables.annotation_schema(dimensions))
    entry = dataset.annotations.write_task(name, "t1", fingerprint, labels, tables.EVIDENCE.empty_table())
    dataset.annotations.write_taxonomy(name, f"id: {name}\n")
    dataset.annotations.commit(AnnotationSet(name, "tax", "hash", dimensions, {"t1": entry}))


def organs(dataset, **options):
    with dataset.connect(**options) as connection:
        return connection.execute("SELECT organ FROM annotations").fetchall()


def test_sets_live_beside_each_other_and_one_is_current(dataset):
    write_set(dataset, "one", "Liver")
    write_set(dataset, "two", "Spleen", dimensions=("organ", "colour"))
    dataset.annotations.set_current("one")
    assert dataset.annotations.names() == ["one", "two"]
    assert organs(dataset) == [(["Liver"],)]
    assert organs(dataset, set_name="two") == [(["Spleen"],)]
    with dataset.connect() as connection:
        rows = connection.execute(
            "SELECT set_name, organ, shape, colour FROM annotations_all ORDER BY 1"
        ).fetchall()
    assert rows == [("one", ["Liver"], [], None), ("two", ["Spleen"], None, [])]


def test_a_new_fingerprint_keeps_the_old_file_until_the_commit(dataset):
    write_set(dataset, "one", "Liver")
    dataset.annotations.set_current("one")
    old = {file.path for file in dataset.annotations.files()}
    labels = pa.Table.from_pylist([], schema=tables.annotation_schema(DIMENSIONS))
    dataset.annotations.write_task("one", "t1", "b" * 64, labels, tables.EVIDENCE.empty_table())
    assert organs(dataset) == [(["Liver"],)]
    write_set(dataset, "one", "Spleen", fingerprint="c" * 64)
    assert organs(dataset) == [(["Spleen"],)]
    assert not any((dataset.root / path).exists() for path in old)
    assert len(list((dataset.root / "annotations" / "set=one").glob("*.parquet"))) == 1


def test_an_unknown_set_lists_those_there_are(dataset):
    with pytest.raises(
        UsageError, match=r"no annotation set 'x' \(there are: none yet: run `usds annotate`\)"
    ):
        dataset.annotations.read("x")
    write_set(dataset, "one", "Liver")
    with pytest.raises(UsageError, match=r"no annotation set 'x' \(there are: one\)"):
        dataset.connect("x")


@pytest.mark.parametrize("name", ["", "../up", "a/b", "-x", "a" * 65])
def test_a_set_name_cannot_leave_its_folder(dataset, name):
    with pytest.raises(UsageError, match="use letters, digits"):
        dataset.annotations.write_taxonomy(name, "")


def test_pixels_and_tables_stay_as_they_are(dataset):
    before = {p: p.read_bytes() for p in dataset.root.glob("images/*")}
    write_set(dataset, "one", "Liver")
    assert {p: p.read_bytes() for p in dataset.root.glob("images/*")} == before
    assert dataset.damaged() == []


def test_damage_of_a_set_is_found(dataset):
    write_set(dataset, "one", "Liver")
    path = next((dataset.root / "annotations" / "set=one").glob("*.parquet"))
    path.write_bytes(b"PAR1")
    assert dataset.damaged() == [path.relative_to(dataset.root).as_posix()]
