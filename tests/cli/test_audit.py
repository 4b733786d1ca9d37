"""`usds audit` as typed: damaged datasets, other writers, no private state, no right to write."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.audited import SUBJECT, index, make
from support.tiny_dataset import annotation_row, write_annotations

from usds.schemas.state import State, fingerprint
from usds.taxonomy.udt import load_taxonomy


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A dataset with every kind of table and no finding."""
    dataset = make(tmp_path_factory.mktemp("audit") / "dataset")
    dataset.write_split("default", [{"subject_id": SUBJECT, "split": "train"}])
    taxonomy = load_taxonomy("udt")
    frame = dataset.arrow("frames").to_table()["frame_id"].to_pylist()[0]
    write_annotations(dataset, taxonomy, [annotation_row(frame, None, {"organ": ["Liver"]}, taxonomy)])
    return dataset.root


@pytest.fixture
def root(sound, tmp_path, monkeypatch):
    """A copy of it; its one picture of speckle is not read again by Tesseract each time."""
    monkeypatch.setattr(
        "usds.curation.audit.images.tesseract_pages", lambda pictures, _: [[] for _ in pictures]
    )
    monkeypatch.setattr("usds.curation.audit.images.shutil.which", lambda _: "tesseract")
    monkeypatch.setattr("usds.curation.audit.images._version", lambda _: "5")
    return shutil.copytree(sound, tmp_path / "dataset")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 3, len(data) // 3 + 40):
        data[at] ^= 0x5A
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE: list[Callable[[Path], None]] = [cut, flip, empty, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGE, ids=["cut", "flipped", "empty", "missing"])
@pytest.mark.parametrize(
    "table", ["images", "frames", "captions", "sources", "annotations", "evidence", "splits"]
)
def test_a_damaged_table_is_named_and_the_rest_is_read(usds, root, table, damage):
    path = next((root / table).glob("**/*.parquet"))
    damage(path)
    result = usds("audit", root, "--json")
    report = json.loads(result.stdout)
    if table == "splits" and damage is Path.unlink:  # no document names splits: this one is simply not there
        assert result.exit_code == 0
        return
    assert result.exit_code == 1
    assert path.relative_to(root).as_posix() in {one["place"] for one in report["findings"]}
    assert report["found"]["damaged_file"] >= 1
    if table != "images":
        assert report["read"]["images"] == 1


@pytest.mark.parametrize("text", ["{", "{}", "[]", ""])
@pytest.mark.parametrize(
    "name", ["manifests/*.json", "annotations/*/manifest.json", "annotations/CURRENT.json"]
)
def test_a_damaged_document_is_named_with_what_to_do(usds, root, name, text):
    path = next(root.glob(name))
    path.write_text(text)
    result = usds("audit", root)
    assert result.exit_code == 1
    assert (
        f"{path} is damaged: restore it from a copy, or ingest into a new dataset"
        in result.stderr.replace("\n", "")
    )


def test_the_last_audit_may_be_damaged(usds, root):
    (root / "audit.json").write_text("{")
    assert usds("audit", root).exit_code == 0


def test_without_private_state_it_says_what_the_verdict_rests_on(usds, root):
    result = usds("audit", root)
    assert result.exit_code == 0
    assert (
        "no private state of this dataset here and no --raw: only patterns are searched"
        in result.stderr.replace("\n", " ")
    )
    assert "PASSED, but by patterns alone" in result.stdout


def test_pictures_in_doubt_are_kept_in_the_private_state_alone(usds, tmp_path, monkeypatch):
    import cv2
    import numpy as np

    from usds.curation.audit.images import Word

    image = np.full((64, 64, 3), 9, np.uint8)
    dataset = make(tmp_path / "dataset", image=cv2.imencode(".png", image)[1].tobytes())
    dataset.save_info(key_fingerprint=fingerprint(b"k" * 32))
    state = State.create(dataset.info.dataset_id, b"k" * 32)
    index().save(state)
    read = [Word("WINTERBOTTOM", 95.0, (0, 0, 9, 9), 1)]
    monkeypatch.setattr(
        "usds.curation.audit.images.tesseract_pages", lambda pictures, _: [read for _ in pictures]
    )
    monkeypatch.setattr("usds.curation.audit.images.shutil.which", lambda _: "tesseract")
    monkeypatch.setattr("usds.curation.audit.images._version", lambda _: "5")
    before = {path: path.stat().st_mtime_ns for path in dataset.root.rglob("*.parquet")}
    assert usds("audit", dataset.root).exit_code == 1
    assert not (state.folder / "audit").exists()
    result = usds("audit", dataset.root, "--show")
    assert result.exit_code == 1
    assert "winterbottom" not in (result.stdout + result.stderr).lower()
    kept = list((state.folder / "audit").iterdir())
    assert [path.suffix for path in kept] == [".png"]
    assert kept[0].stat().st_mode & 0o077 == 0
    assert {path: path.stat().st_mtime_ns for path in dataset.root.rglob("*.parquet")} == before


def test_a_dataset_that_cannot_be_written_is_read_all_the_same(usds, root, monkeypatch):
    real = os.access
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK and real(path, mode))
    result = usds("audit", root)
    assert result.exit_code == 0, result.stderr
    assert "cannot be written here: its audit.json stays as it is" in result.stderr.replace("\n", " ")
    assert not (root / "audit.json").exists()
    assert not (root / ".lock").exists()


def test_a_picture_that_the_reader_fails_at_does_not_pass(usds, root, monkeypatch):
    import subprocess

    def fail(*_):
        raise subprocess.CalledProcessError(1, "tesseract")

    monkeypatch.setattr("usds.curation.audit.images.tesseract_pages", fail)
    result = usds("audit", root, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["found"] == {"unread_image": 1}
