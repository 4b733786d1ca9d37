"""The dataset directory: made, opened, refused, locked, queried, read by locator."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pytest

from usds.schemas.dataset import Dataset, DatasetLocked, exclusive, is_dataset
from usds.schemas.errors import ContentError, UsageError


@pytest.fixture
def dataset(make_dataset, rows):
    frames = [rows.frame(frame_id=f"f{i}", study_id="st", subject_id=f"s{i % 2}") for i in range(4)]
    return make_dataset(tasks={"t1": (frames[:2], [rows.caption("f0", "Liver.")]), "t2": (frames[2:], [])})


def test_info_names_no_person_place_or_time(dataset):
    raw = json.loads((dataset.root / "dataset.json").read_text())
    assert set(raw) == {
        "dataset_id", "format_version", "tool", "detector", "key_fingerprint", "settings", "settings_hash",
    }  # fmt: skip
    assert Dataset.open(dataset.root).info == dataset.info
    assert is_dataset(dataset.root)


def test_a_missing_folder_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"no dataset at .*: make one with `usds ingest RAW`"):
        Dataset.open(tmp_path / "none")


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(ContentError, match=r"is not a usds dataset \(it has no dataset.json\)"):
        Dataset.open(tmp_path)


def test_another_format_version_is_refused_with_what_to_do(dataset):
    path = dataset.root / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(ContentError, match=r"has format version 99, this usds reads version 1: install"):
        Dataset.open(dataset.root)


@pytest.mark.parametrize("content", ["{", "[]", '{"format_version": 1}', "\x00"])
def test_a_damaged_info_is_refused(dataset, content):
    (dataset.root / "dataset.json").write_text(content)
    with pytest.raises(ContentError, match=r"dataset.json is damaged"):
        Dataset.open(dataset.root)


def test_create_takes_no_folder_that_holds_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    values = {"key_fingerprint": "f", "tool": "t", "detector": "d", "settings": {}, "settings_hash": "h"}
    with pytest.raises(UsageError, match="exists and is no dataset"):
        Dataset.create(tmp_path, **values)
    Dataset.create(tmp_path / "new", **values)
    with pytest.raises(UsageError, match="is a dataset already"):
        Dataset.create(tmp_path / "new", **values)


def test_views_see_all_tasks(dataset):
    with dataset.connect() as connection:
        assert connection.execute("SELECT count(*) FROM frames").fetchone() == (4,)
        assert connection.execute("SELECT text FROM captions").fetchall() == [("Liver.",)]
        assert connection.execute("SELECT count(*) FROM splits").fetchone() == (0,)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY frames TO 'out.csv'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "ATTACH 'x.db'",
    ],
)
def test_a_connection_reaches_nothing_else(dataset, statement):
    with dataset.connect() as connection, pytest.raises(duckdb.Error):
        connection.execute(statement)


def test_pixels_come_by_locator_and_a_wrong_id_is_named(dataset):
    everything = dict(dataset.iter_images())
    assert dataset.read_pixels(["f3", "f0"]) == {name: everything[name] for name in ("f0", "f3")}
    assert len(set(everything.values())) == 4
    with pytest.raises(ContentError, match="no frame nowhere in"):
        dataset.read_pixels(["f0", "nowhere"])


def test_damage_is_found(dataset):
    assert dataset.damaged() == []
    path = dataset.paths("captions")[0]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    dataset.paths("images")[1].unlink()
    assert dataset.damaged() == ["captions/t1.parquet", "images/t2.parquet"]


def test_sweep_removes_what_no_manifest_names(dataset):
    (dataset.root / "frames" / "stray.parquet").write_bytes(b"x")
    (dataset.root / "images" / ".partial-1-t9.parquet").write_bytes(b"x")
    with dataset.lock("usds ingest"):
        pass
    assert sorted(p.name for p in (dataset.root / "frames").iterdir()) == ["t1.parquet", "t2.parquet"]
    assert dataset.arrow("frames").count_rows() == 4


def test_a_removed_task_is_gone_from_every_table(dataset):
    dataset.remove_task("t1")
    assert dataset.arrow("frames").to_table()["frame_id"].to_pylist() == ["f2", "f3"]
    assert not list(dataset.root.glob("*/t1*"))


def test_splits_are_seen_by_name(dataset):
    dataset.write_split("default", [{"subject_id": "s0", "split": "train"}])
    dataset.write_split("other", [{"subject_id": "s0", "split": "test"}])
    assert dataset.split_names() == ["default", "other"]
    with dataset.connect() as connection:
        rows = connection.execute("SELECT name, subject_id, split FROM splits ORDER BY name").fetchall()
    assert rows == [("default", "s0", "train"), ("other", "s0", "test")]


def test_the_second_of_two_processes_is_told_who_writes(dataset):
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from usds.schemas.dataset import Dataset
        with Dataset.open(Path(sys.argv[1])).lock("usds ingest raw"):
            print("locked", flush=True)
            sys.stdin.readline()
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(dataset.root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    message = rf"is being written by `usds ingest` \(process {process.pid}\): wait .* `usds annotate` again"
    with pytest.raises(DatasetLocked, match=message), dataset.lock("usds annotate"):
        pass
    assert "raw" not in (dataset.root / ".lock").read_text()  # a folder may be named after a patient
    process.communicate("done\n")
    with dataset.lock("usds annotate"):
        pass


def test_a_lock_does_not_outlive_its_process(tmp_path):
    code = "import os, sys; from pathlib import Path; from usds.schemas.dataset import exclusive\n"
    code += "context = exclusive(Path(sys.argv[1]), 'usds ingest'); context.__enter__(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    with exclusive(tmp_path, "usds ingest"):
        pass


def test_a_place_that_cannot_be_written_is_named():
    wanted = pytest.raises(
        UsageError, match=r"/proc/nobody/dataset cannot be written .*: name another --dataset"
    )
    with wanted, exclusive(Path("/proc/nobody/dataset"), "usds ingest raw/"):
        pass
