"""A subject that withdraws leaves no byte behind, and nothing of anybody else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from usds.curation.corrections import Correction, append_corrections, read_corrections
from usds.curation.forget import forget, holdings, runs_with, subject_of_file
from usds.schemas import tables
from usds.schemas.annotations import AnnotationSet
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.state import State


@pytest.fixture
def places(make_dataset: Any, rows: Any) -> tuple[Dataset, State]:
    """Two tasks: subjects anna and bert share the first, anna alone has the second."""

    def frame(name: str, subject: str) -> dict[str, Any]:
        return rows.frame(
            frame_id=f"frame-{name}",
            subject_id=subject,
            study_id=f"study-{subject}",
            source_key=f"src-{name}",
        )

    dataset: Dataset = make_dataset(
        tasks={
            "one": (
                [frame("a1", "anna"), frame("b1", "bert")],
                [
                    rows.caption("frame-a1", "Liver of anna", source_key="src-table"),
                    rows.caption("frame-b1", "Liver of bert", source_key="src-table"),
                ],
            ),
            "two": ([frame("a2", "anna")], [rows.caption("study-anna", "Study of anna", scope="study")]),
            "three": ([frame("b2", "bert")],),
        }
    )
    state = State.open(dataset.info.dataset_id, dataset.info.key_fingerprint)
    state.record_sources(
        {
            "source_key": f"src-{name}", "path": f"/raw/{subject}/{name}.dcm", "kind": "dicom", "size": 1,
            "mtime_ns": 1, "content": name * 8, "subject_id": subject, "reason": "ok",
        }
        for name, subject in (("a1", "anna"), ("b1", "bert"), ("a2", "anna"), ("b2", "bert"), ("a3", "anna"))
    )  # fmt: skip
    state.record_subjects([("anna", "name", "KARENINA^ANNA"), ("bert", "name", "BRECHT^BERT")])
    return dataset, state


def annotate(dataset: Dataset) -> None:
    schema = tables.annotation_schema(["organ"])
    entries: dict[str, Any] = {}
    for task in dataset.manifests():
        path = dataset.root / dataset.manifests()[task].files["frames"].path
        labels = [
            {
                "frame_id": name, "organ": ["Liver"], "negated": [], "uncertain": [],
                "source_caption_ids": [], "caption_id": None, "abstained": None, "conflict": False, "confidence": 1.0,
            }
            for name in _ids(path)
        ]  # fmt: skip
        evidence = [
            {
                "caption_id": None, "target_id": name, "dimension": "organ", "label": "Liver", "code": None,
                "assertion": "present", "start": None, "end": None, "surface": None, "cue": None,
                "rule_id": "r", "method": "exact", "score": 1.0, "confidence": 1.0,
            }
            for name in _ids(path)
        ]  # fmt: skip
        entries[task] = dataset.annotations.write_task(
            "set", task, "f" * 64, pa.Table.from_pylist(labels, schema=schema),
            pa.Table.from_pylist(evidence, schema=tables.EVIDENCE),
        )  # fmt: skip
    dataset.annotations.commit(AnnotationSet("set", "t", "h", ("organ",), entries))
    dataset.annotations.set_current("set")


def _ids(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["frame_id"]).column(0).to_pylist()


def ids(dataset: Dataset, table: str, column: str) -> set[str]:
    return set(dataset.connect().execute(f"SELECT {column} FROM {table}").fetchnumpy()[column].tolist())


def test_frames_captions_labels_splits_and_corrections_go(places: tuple[Dataset, State]) -> None:
    dataset, state = places
    annotate(dataset)
    dataset.write_split(
        "default", [{"subject_id": "anna", "split": "train"}, {"subject_id": "bert", "split": "test"}]
    )
    append_corrections(
        dataset,
        [Correction(f"frame-{n}", None, "organ", "Liver", "remove", "present") for n in ("a1", "b1")],
    )
    before = dict(dataset.iter_images())

    report = forget(dataset, state, "anna")

    assert (report.frames, report.captions) == (2, 2)
    assert dict(dataset.iter_images()) == {k: before[k] for k in ("frame-b1", "frame-b2")}
    assert ids(dataset, "frames", "subject_id") == {"bert"}
    assert ids(dataset, "captions", "text") == {"Liver of bert"}
    assert ids(dataset, "annotations", "frame_id") == {"frame-b1", "frame-b2"}
    assert ids(dataset, "evidence", "target_id") == {"frame-b1", "frame-b2"}
    assert ids(dataset, "splits", "subject_id") == {"bert"}
    assert [c.target_id for c in read_corrections(dataset)] == ["frame-b1"]
    assert dataset.damaged() == []


def test_no_byte_of_the_subject_is_left_in_any_file(places: tuple[Dataset, State]) -> None:
    dataset, state = places
    annotate(dataset)
    images = dict(dataset.iter_images())
    forget(dataset, state, "anna")
    everything = b"".join(path.read_bytes() for path in dataset.root.rglob("*") if path.is_file())
    assert images["frame-b1"] in everything
    assert images["frame-a1"] not in everything
    assert images["frame-a2"] not in everything


def test_its_files_keep_a_row_that_says_withdrawn(places: tuple[Dataset, State]) -> None:
    dataset, state = places
    forget(dataset, state, "anna")
    found = dataset.connect().execute("SELECT source_key, outcome, reason FROM sources ORDER BY 1").fetchall()
    assert found == [
        ("src-a1", "rejected", "withdrawn"), ("src-a2", "rejected", "withdrawn"),
        ("src-b1", "ingested", "ok"), ("src-b2", "ingested", "ok"),
    ]  # fmt: skip


def test_the_private_state_forgets_and_remembers_only_the_tombstone(places: tuple[Dataset, State]) -> None:
    dataset, state = places
    (state.folder / "review" / "src-a3").mkdir(parents=True)
    (state.folder / "review" / "src-a3" / "000000.img").write_bytes(b"pixels of anna")
    (state.folder / "audit").mkdir()
    for name in ("a1", "b1"):
        (state.folder / "audit" / f"frame-{name}.jpg").write_bytes(b"pixels in doubt")
    state.log("workers", "Invalid value for VR DA: 'KARENINA1877'")
    forget(dataset, state, "anna")
    assert state.withdrawn() == {"anna"}
    assert state.locate("anna") == []
    assert len(state.locate("bert")) == 2
    assert not (state.folder / "review" / "src-a3").exists()
    assert [path.name for path in (state.folder / "audit").iterdir()] == ["frame-b1.jpg"]
    for path in state.folder.rglob("*"):
        assert not path.is_file() or b"KARENINA" not in path.read_bytes(), path


def test_forgetting_twice_is_harmless_and_a_stranger_is_refused(places: tuple[Dataset, State]) -> None:
    dataset, state = places
    forget(dataset, state, "anna")
    assert forget(dataset, state, "anna").frames == 0
    with pytest.raises(UsageError, match=r"no subject 'carl': give the subject's id"):
        holdings(dataset, state, "carl")


def test_runs_that_contain_the_subject_are_listed(places: tuple[Dataset, State], tmp_path: Path) -> None:
    for name, train in (("with", ["anna", "bert"]), ("without", ["bert"])):
        (tmp_path / "runs" / name).mkdir(parents=True)
        data = {"subjects": {"train": train, "valid": []}}
        (tmp_path / "runs" / name / "data.json").write_text(json.dumps(data))
    assert runs_with("anna", tmp_path / "runs") == ("with",)
    assert forget(*places, "anna", runs=tmp_path / "runs").runs == ("with",)


def test_a_subject_is_found_by_a_raw_file(places: tuple[Dataset, State], tmp_path: Path) -> None:
    _, state = places
    known, strange = tmp_path / "known.dcm", tmp_path / "strange.dcm"
    known.write_bytes(b"known")
    strange.write_bytes(b"strange")
    state.record_sources([{"source_key": "k", "path": str(known), "kind": "dicom", "subject_id": "anna"}])
    assert subject_of_file(state, known) == "anna"
    with pytest.raises(UsageError, match="was not ingested into this dataset"):
        subject_of_file(state, strange)


def test_damaged_decisions_are_found_before_anything_is_removed(places: tuple[Dataset, State]) -> None:
    dataset, state = places
    damaged = dataset.root / "corrections" / "pictures-000001.parquet"
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(b"no table")
    before = dict(dataset.iter_images())
    with pytest.raises(ContentError, match=r"pictures-000001\.parquet is damaged: restore it from a copy"):
        forget(dataset, state, "anna")
    assert dict(dataset.iter_images()) == before
    assert state.withdrawn() == frozenset()
    damaged.unlink()
    assert forget(dataset, state, "anna").frames == 2
