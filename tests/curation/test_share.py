"""Exports of a dataset are read back with the programs that they are made for."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image
from support.tiny_dataset import make_dataset, specs

from usds.curation.croissant import write_croissant
from usds.curation.dataset_card import dataset_card
from usds.curation.samples import Samples
from usds.curation.share import export_huggingface, export_webdataset
from usds.schemas.errors import UsageError


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path / "dataset", specs(30, frames=2))


@pytest.fixture
def samples(dataset):
    return Samples.of(dataset)


@pytest.fixture
def load_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    datasets = pytest.importorskip("datasets")
    return lambda folder: datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "hub-cache"))


def test_hugging_face_loads_images_captions_and_labels(samples, tmp_path, load_folder):
    folder = export_huggingface(samples, tmp_path / "hf", licence="cc-by-4.0")
    loaded = load_folder(folder)
    assert {side: len(rows) for side, rows in loaded.items()} == {"train": 36, "validation": 12, "test": 12}
    row = loaded["test"][0]
    stored = samples.dataset.read_pixels([row["frame_id"]])[row["frame_id"]]
    assert np.array_equal(np.asarray(row["image"]), np.asarray(Image.open(io.BytesIO(stored))))
    assert row["caption"].startswith(row["organ"][0])
    assert row["diagnosis"] == ["nodule"]
    assert row["vascularity"] == []


def test_several_shards_hold_every_frame_once(tmp_path, load_folder):
    # 300 frames lie in two row groups, and a shard ends with the row group that passes its size.
    samples = Samples.of(make_dataset(tmp_path / "dataset", specs(150, frames=2)))
    folder = export_huggingface(samples, tmp_path / "hf", shard_bytes=1)
    names = sorted(path.name for path in (folder / "data").glob("train*"))
    assert names == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    ids = [i for rows in load_folder(folder).values() for i in rows["frame_id"]]
    assert len(ids) == len(set(ids)) == 300


def test_webdataset_reads_samples_and_open_clips_filter_finds_the_captions(samples, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    folder = export_webdataset(samples, tmp_path / "wds", shard_bytes=20_000)
    shards = json.loads((folder / "shards.json").read_text())
    assert len(shards["train"]) > 1
    found = [
        sample
        for name in shards["train"]
        for sample in webdataset.WebDataset(str(folder / name), shardshuffle=False)
    ]
    assert len(found) == 36
    assert all({"jpg", "txt", "json"} <= set(sample) for sample in found)
    facts = json.loads(found[0]["json"])
    assert facts["frame_id"] == found[0]["__key__"]
    assert facts["caption"] == found[0]["txt"].decode()


def test_tars_carry_no_time_and_no_user_and_repeat_to_the_byte(samples, tmp_path):
    one = export_webdataset(samples, tmp_path / "one")
    two = export_webdataset(samples, tmp_path / "two")
    for path in sorted(one.iterdir()):
        assert path.read_bytes() == (two / path.name).read_bytes()
    with tarfile.open(one / "train-000000.tar") as archive:
        members = archive.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}


def test_croissant_reads_every_table(dataset):
    croissant = pytest.importorskip("mlcroissant")
    path = write_croissant(dataset, licence="https://creativecommons.org/licenses/by/4.0/")
    loaded = croissant.Dataset(str(path))
    assert loaded.metadata.ctx.issues.errors == set()
    frames = {record["frames/frame_id"] for record in loaded.records("frames")}
    assert len(frames) == 60
    labels = next(iter(loaded.records("annotations")))
    assert labels["annotations/frame_id"] in frames
    assert [bytes(label) for label in labels["annotations/diagnosis"]] == [b"nodule"]
    assert next(iter(loaded.records("images")))["images/image"].size == (128, 128)


def test_the_card_hides_small_counts_and_says_that_nothing_was_audited(samples):
    card = dataset_card(samples, title="Livers", licence=None)
    assert "| train | 36 | 18 | 18 |" in card
    assert "**Not audited**" in card
    assert "licence: none stated" in card
    few = make_dataset(samples.dataset.root.parent / "few", specs(5, frames=1))
    assert "| train | <5 | <5 | <5 |" in dataset_card(Samples.of(few), title="Few")


def test_an_export_never_lands_inside_a_dataset(samples):
    with pytest.raises(UsageError, match="lies inside a dataset directory"):
        export_webdataset(samples, samples.dataset.root / "images" / "shards")


def test_the_card_claims_no_cleaning_of_what_was_imported_as_released(samples):
    assert "text inside it blacked" in dataset_card(samples, title="Own")
    samples.dataset.save_info(detector="none: published pictures are stored as released")
    card = dataset_card(samples, title="Published")
    assert "usds de-identified nothing in them" in card
    assert "blacked" not in card


def test_what_is_missing_is_named(tmp_path, dataset):
    unsplit = make_dataset(tmp_path / "unsplit", specs(3), split=False)
    with pytest.raises(UsageError, match="no split 'default' yet: run `usds split`"):
        Samples.of(unsplit)
    with pytest.raises(UsageError, match="no split 'other' yet: run `usds split --name other`"):
        Samples.of(dataset, split="other")
    dataset.write_split("part", [{"subject_id": "subject000", "split": "train"}])
    with pytest.raises(UsageError, match="does not place 29 of the subjects"):
        Samples.of(dataset, split="part")


def test_nothing_is_overwritten_and_a_failed_export_leaves_nothing(samples, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="there exists; nothing is overwritten"):
        export_huggingface(samples, tmp_path / "there")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        export_webdataset(samples, tmp_path / "broken", advance=full)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "there"]


def test_a_second_run_leaves_the_first_one_alone(samples, tmp_path):
    refused = []

    def second(_: int) -> None:
        with pytest.raises(UsageError, match="webdataset is being written by another process") as told:
            export_webdataset(samples, tmp_path / "webdataset")
        refused.append(told)

    export_webdataset(samples, tmp_path / "webdataset", advance=second)
    assert refused
    assert (tmp_path / "webdataset" / "shards.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "webdataset"]


def test_a_place_that_cannot_be_written_is_named(samples, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/hf cannot be written \(.+\): give another name with --out"):
        export_huggingface(samples, tmp_path / "file" / "hf")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="link exists; nothing is overwritten"):
        export_huggingface(samples, tmp_path / "link")


def test_a_killed_export_shows_no_folder_and_the_next_one_succeeds(samples, tmp_path):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from usds.curation.samples import Samples\n"
        "from usds.curation.share import export_huggingface\n"
        "from usds.schemas.dataset import Dataset\n"
        "def slow(n): print('writing', flush=True); time.sleep(60)\n"
        "export_huggingface(Samples.of(Dataset.open(Path(sys.argv[1]))), Path(sys.argv[2]), advance=slow)\n"
    )
    out = tmp_path / "hf"
    command = [sys.executable, "-c", script, str(samples.dataset.root), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    export_huggingface(samples, out)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".partial")]
