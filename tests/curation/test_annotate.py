"""Annotating a dataset: with the real extractor, on real shards."""

import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

from usds.curation import annotate
from usds.curation.annotate import AnnotateSettings, annotate_dataset
from usds.curation.annotate_task import is_pediatric
from usds.curation.corrections import Correction, append_corrections, read_corrections
from usds.schemas.errors import ContentError
from usds.schemas.files import file_sha256
from usds.taxonomy.udt import load_taxonomy

UDT = load_taxonomy("udt")
CYST = "Ultrasound of the liver shows a simple anechoic cyst. No solid mass."
NODULE = "Thyroid ultrasound shows a hypoechoic nodule."


def frame(rows, name, **values):
    return rows.frame(**{"frame_id": name, "study_id": f"study-{name}", "subject_id": f"s-{name}", **values})


def labels(dataset, columns="organ", **where):
    with dataset.connect(where.pop("set_name", None)) as connection:
        cursor = connection.execute(f"SELECT frame_id, {columns} FROM annotations ORDER BY frame_id")
        return {row[0]: row[1] if len(row) == 2 else row[1:] for row in cursor.fetchall()}


@pytest.fixture
def dataset(make_dataset, rows):
    return make_dataset(
        tasks={
            "t1": (
                [frame(rows, "f1"), frame(rows, "f2")],
                [rows.caption("f1", CYST), rows.caption("f2", NODULE)],
            ),
            "t2": ([frame(rows, "f3")], [rows.caption("f3", "lorem ipsum dolor sit amet consectetur")]),
        }
    )


def test_labels_evidence_and_counts(dataset):
    report = annotate_dataset(dataset, UDT)
    assert report.set_name == UDT.set_name == dataset.annotations.current()
    assert (report.tasks_done, report.tasks_kept) == (2, 0)
    assert report.counts["frames"] == report.counts["captions"] == 3
    assert (report.counts["labelled"], report.counts["abstained"]) == (2, 1)
    found = labels(dataset, "organ, diagnosis, negated, abstained")
    assert found["f1"][:2] == (["Liver"], ["cyst"])
    assert {"dimension": "diagnosis", "label": "mass"} in found["f1"][2]
    assert found["f2"][:2] == (["Thyroid gland"], ["nodule"])
    assert found["f3"][3] is not None
    with dataset.connect() as connection:
        rows = connection.execute(
            'SELECT surface, text[start + 1:"end"], assertion, cue FROM evidence '
            "JOIN captions USING (caption_id) WHERE label = 'mass'"
        ).fetchall()
    assert rows == [("mass", "mass", "negated", "No")]


def test_only_what_changed_is_annotated_again(dataset, rows):
    annotate_dataset(dataset, UDT)
    before = {path: path.stat().st_mtime_ns for path in dataset.root.glob("annotations/*/*.parquet")}
    assert annotate_dataset(dataset, UDT).tasks_done == 0
    rows.task(dataset, "t3", [frame(rows, "f4")], [rows.caption("f4", CYST)])
    report = annotate_dataset(dataset, UDT)
    assert (report.tasks_done, report.tasks_kept) == (1, 2)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    dataset.remove_task("t2")
    assert annotate_dataset(dataset, UDT).counts["frames"] == 3
    assert set(labels(dataset)) == {"f1", "f2", "f4"}
    assert dataset.damaged() == []


def test_redo_gives_the_same_labels_in_new_files(dataset):
    annotate_dataset(dataset, UDT)
    before, files = labels(dataset, "*"), {file.path for file in dataset.annotations.files()}
    assert annotate_dataset(dataset, UDT, redo=True).tasks_done == 2
    assert labels(dataset, "*") == before
    assert files.isdisjoint(file.path for file in dataset.annotations.files())
    assert annotate_dataset(dataset, UDT).tasks_done == 0


def test_pixels_frames_and_captions_are_not_touched(dataset):
    folders = ("images", "frames", "captions", "sources", "manifests")
    files = [path for folder in folders for path in (dataset.root / folder).iterdir()]
    before = {path: (file_sha256(path), path.stat().st_mtime_ns) for path in files}
    annotate_dataset(dataset, UDT)
    assert {path: (file_sha256(path), path.stat().st_mtime_ns) for path in files} == before


def test_dry_run_writes_nothing(dataset):
    assert annotate_dataset(dataset, UDT, dry_run=True).tasks_done == 2
    assert not (dataset.root / "annotations").exists()


def test_an_empty_dataset_is_refused(make_dataset):
    with pytest.raises(ContentError, match="holds no frames yet: run `usds ingest RAW` first"):
        annotate_dataset(make_dataset(), UDT)


def test_study_captions_in_another_task_reach_the_frames(make_dataset, rows):
    shared = {"study_id": "st", "subject_id": "s"}
    dataset = make_dataset(
        tasks={
            "t1": ([frame(rows, "f1", **shared), frame(rows, "f2")], []),
            "t2": ([frame(rows, "f3")], [rows.caption("st", CYST, scope="study")]),
        }
    )
    annotate_dataset(dataset, UDT)
    assert labels(dataset, "organ, diagnosis") == {"f1": (["Liver"], []), "f2": ([], []), "f3": ([], [])}
    dataset.remove_task("t2")
    rows.task(dataset, "t2", [frame(rows, "f3")], [rows.caption("st", NODULE, scope="study")])
    assert annotate_dataset(dataset, UDT).tasks_done == 2
    assert labels(dataset)["f1"] == ["Thyroid gland"]
    with dataset.connect() as connection:
        assert connection.execute("SELECT count(*) FROM evidence WHERE label = 'nodule'").fetchone() == (1,)


def test_header_codes_fill_an_empty_organ_and_a_childs_is_pediatric(make_dataset, rows):
    kidney = {"header_codes": [{"scheme": "SCT", "value": "64033007", "meaning": "Kidney"}]}
    dataset = make_dataset(
        tasks={
            "t1": (
                [
                    frame(rows, "f1", **kidney), frame(rows, "f2", **kidney),
                    frame(rows, "f3", **kidney, age_band="5-9"),
                ],
                [rows.caption("f2", CYST)],
            )
        }
    )  # fmt: skip
    annotate_dataset(dataset, UDT)
    found = labels(dataset, "organ, body_system")
    assert found["f1"] == (["Kidney and ureter"], ["Urinary Tract and male reproductive system"])
    assert found["f2"][0] == ["Liver"]
    assert found["f3"] == (["Pediatric urinary tract"], ["Pediatrics"])
    with dataset.connect() as connection:
        rows = connection.execute(
            "SELECT target_id, code, caption_id FROM evidence "
            "WHERE method = 'header' AND dimension = 'organ' ORDER BY 1"
        ).fetchall()
    assert rows == [(name, "SCT:64033007", None) for name in ("f1", "f2", "f3")]


def test_a_childs_caption_gets_the_pediatric_organ(make_dataset, rows):
    text = "Ultrasound of the kidney shows hydronephrosis."
    frames = [frame(rows, "adult", age_band="30-34"), frame(rows, "child", age_band="10-14")]
    captions = [rows.caption(name, text) for name in ("adult", "child")]
    dataset = make_dataset(tasks={"t1": (frames, captions)})
    annotate_dataset(dataset, UDT)
    assert labels(dataset) == {"adult": ["Kidney and ureter"], "child": ["Pediatric urinary tract"]}


@pytest.mark.parametrize(
    ("band", "expected"),
    [("0", True), ("1-4", True), ("10-14", True), ("15-19", False), ("17", True), ("18", False),
     ("90+", False), ("unknown", False), ("", False)],
)  # fmt: skip
def test_only_a_band_below_18_as_a_whole_is_pediatric(band, expected):
    assert is_pediatric(band) is expected


def test_corrections_win_and_survive_a_redo(dataset, rows):
    annotate_dataset(dataset, UDT)
    caption = rows.caption("f1", CYST)["caption_id"]
    append_corrections(dataset, [Correction("f1", caption, "diagnosis", "cyst", "remove", "present")])
    append_corrections(dataset, [Correction("f2", None, "diagnosis", "mass", "add", "present")])
    assert len(read_corrections(dataset)) == 2
    assert annotate_dataset(dataset, UDT).tasks_done == 1
    for redo in (False, True):
        annotate_dataset(dataset, UDT, redo=redo)
        found = labels(dataset, "diagnosis")
        assert found == {"f1": [], "f2": ["nodule", "mass"], "f3": []}


def test_sets_of_two_taxonomies_live_beside_each_other(dataset, tmp_path):
    annotate_dataset(dataset, UDT)
    own = tmp_path / "own.yaml"
    own.write_text(
        "id: own\nversion: '1'\ndimensions:\n- name: colour\n  title: Colour\n  labels:\n"
        "  - {name: dark, synonyms: [hypoechoic]}\n  - {name: black, synonyms: [anechoic]}\n"
    )
    report = annotate_dataset(dataset, load_taxonomy(own))
    assert dataset.annotations.names() == sorted([UDT.set_name, report.set_name])
    assert labels(dataset, "colour") == {"f1": ["black"], "f2": ["dark"], "f3": []}
    assert labels(dataset, set_name=UDT.set_name)["f1"] == ["Liver"]
    annotate_dataset(dataset, load_taxonomy(own), set_name=UDT.set_name)
    assert labels(dataset, "colour", set_name=UDT.set_name)["f2"] == ["dark"]


@pytest.mark.slow
def test_workers_and_waves_change_nothing(make_dataset, rows, monkeypatch):
    def tasks():
        return {
            f"t{n}": ([frame(rows, f"f{n}")], [rows.caption(f"f{n}", CYST if n % 2 else NODULE)])
            for n in range(6)
        }

    one, two = make_dataset("one", tasks()), make_dataset("two", tasks())
    annotate_dataset(one, UDT, AnnotateSettings(workers=1))
    monkeypatch.setattr(annotate, "WAVE", 4)
    calls = []
    annotate_dataset(two, UDT, AnnotateSettings(workers=2), progress=lambda *call: calls.append(call))
    assert calls == [(4, 6), (6, 6)]
    first, second = ({f.path: f.sha256 for f in d.annotations.files()} for d in (one, two))
    assert first == second


def test_a_wave_also_ends_after_so_many_captions(make_dataset, rows, monkeypatch):
    dataset = make_dataset(
        tasks={f"t{n}": ([frame(rows, f"f{n}")], [rows.caption(f"f{n}", CYST)]) for n in range(5)}
    )
    monkeypatch.setattr(annotate, "WAVE_CAPTIONS", 2)
    calls = []
    annotate_dataset(dataset, UDT, AnnotateSettings(workers=1), progress=lambda *call: calls.append(call))
    assert calls == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.slow
def test_kill_9_keeps_finished_waves_and_the_old_view(make_dataset, rows):
    dataset = make_dataset(
        tasks={f"t{n}": ([frame(rows, f"f{n}")], [rows.caption(f"f{n}", CYST)]) for n in range(4)}
    )
    code = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from usds.curation import annotate
        from usds.schemas.dataset import Dataset
        from usds.taxonomy.udt import load_taxonomy

        annotate.WAVE = 2

        def tell(done, total):
            print("wave", flush=True)
            time.sleep(60)

        dataset = Dataset.open(Path(sys.argv[1]))
        with dataset.lock("usds annotate"):
            annotate.annotate_dataset(dataset, load_taxonomy("udt"), progress=tell)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(dataset.root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "wave\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert dataset.annotations.current() is None
    with dataset.lock("usds annotate"):
        report = annotate_dataset(dataset, UDT)
    assert (report.tasks_done, report.tasks_kept) == (2, 2)
    assert labels(dataset) == {f"f{n}": ["Liver"] for n in range(4)}


@pytest.mark.slow
def test_memory_depends_on_a_task_not_on_the_dataset(make_dataset, rows):
    def build(name, n_tasks):
        dataset = make_dataset(name)
        for t in range(n_tasks):
            captions = [
                rows.caption(f"{t}-{i}", f"{CYST} It measures {t * 1000 + i} mm.") for i in range(1000)
            ]
            rows.task(dataset, f"t{t:03}", [frame(rows, f"{t}-0")], captions)
        return dataset

    small, large = build("small", 2), build("large", 12)
    annotate_dataset(small, UDT, AnnotateSettings(workers=1))
    before = psutil.Process().memory_info().rss
    annotate_dataset(large, UDT, AnnotateSettings(workers=1))
    grown = psutil.Process().memory_info().rss - before
    assert grown < 60 << 20, f"grew by {grown >> 20} MiB over 12 tasks"
