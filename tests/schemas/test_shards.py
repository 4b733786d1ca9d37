"""Shards of a task: streamed, named by a manifest that is written last, rewritten by generation."""

import os
import signal
import subprocess
import sys
import textwrap

import pyarrow.parquet as pq
import pytest

from usds.schemas import shards
from usds.schemas.dataset import Dataset
from usds.schemas.files import file_sha256


def frames(rows, n, subject="s1"):
    return [rows.frame(frame_id=f"{subject}f{i}", study_id="st", subject_id=subject) for i in range(n)]


def test_manifest_names_every_file_with_rows_and_hash(make_dataset, rows):
    made = frames(rows, 3)
    dataset = make_dataset(tasks={"t1": (made, [rows.caption("s1f0", "Liver.")])})
    manifest = dataset.manifests()["t1"]
    assert {name: shard.rows for name, shard in manifest.files.items()} == {
        "images": 3, "frames": 3, "captions": 1, "sources": 3,
    }  # fmt: skip
    for shard in manifest.files.values():
        assert file_sha256(dataset.root / shard.path) == shard.sha256
    assert shards.Manifest.from_json(manifest.to_json()) == manifest


def test_images_are_two_plain_columns_in_groups_that_locators_name(make_dataset, rows):
    dataset = make_dataset(tasks={"t1": (frames(rows, 300), [])})
    with pq.ParquetFile(dataset.paths("images")[0]) as shard:
        assert shard.schema_arrow.names == ["frame_id", "image"]
        assert shard.num_row_groups == 2
        column = shard.metadata.row_group(0).column(1)
        assert column.compression == "UNCOMPRESSED"
    last = dataset.arrow("frames").to_table().to_pylist()[-1]
    assert (last["row_group"], last["row"]) == (1, 300 - shards.MAX_ROWS_PER_GROUP - 1)


def test_leaving_the_writer_without_commit_leaves_nothing(make_dataset, rows):
    dataset = make_dataset()
    images = (b"image", 7, b"image")
    with pytest.raises(TypeError, match="has no len"), dataset.writer("t1", ("k",)) as writer:
        fill(writer, frames(rows, 3), images)
    assert dataset.manifests() == {}
    assert list((dataset.root / "images").iterdir()) == []


def test_commit_outside_the_block_is_an_error(make_dataset):
    with pytest.raises(RuntimeError, match=r"commit\(\) belongs inside the writer's block, once"):
        make_dataset().writer("t1", ()).commit()


def test_rewrite_drops_sources_and_keeps_the_pixels_of_the_others(make_dataset, rows):
    made = frames(rows, 2) + frames(rows, 2, "s2")
    captions = [rows.caption("s1f0", "Liver."), rows.caption("s2f0", "Spleen.")]
    dataset = make_dataset(tasks={"t1": (made, captions)})
    kept = dataset.read_pixels(["s2f0", "s2f1"])
    old = dataset.manifests()["t1"]
    new = shards.rewrite_task(dataset.root, old, {"src-s1f0", "src-s1f1"})
    assert new.generation == 1
    assert dataset.read_pixels(["s2f0", "s2f1"]) == kept
    assert dataset.arrow("frames").to_table()["subject_id"].unique().to_pylist() == ["s2"]
    assert dataset.arrow("captions").to_table()["text"].to_pylist() == ["Spleen."]
    assert not any((dataset.root / shard.path).exists() for shard in old.files.values())
    assert dataset.damaged() == []


def fill(writer, made, images):
    for frame, image in zip(made, images, strict=True):
        writer.add_frame(frame, image)
    writer.commit()


WRITER = """
    import os, sys
    from pathlib import Path
    from usds.schemas import shards
    from usds.schemas.dataset import Dataset
    import pyarrow as pa

    dataset = Dataset.open(Path(sys.argv[1]))
    write_json = shards.write_json

    def stop(path, value):
        print("before the manifest", flush=True)
        import time
        time.sleep(60)

    shards.write_json = stop
    with dataset.lock("usds ingest raw"), dataset.writer("t2", ("k",)) as writer:
        frame = dataset.arrow("frames").to_table().to_pylist()[0]
        for name in ("shard", "row_group", "row"):
            frame.pop(name)
        writer.add_frame({**frame, "frame_id": "half"}, b"image")
        writer.commit()
"""


def test_kill_9_between_write_and_manifest_leaves_no_half_task(make_dataset, rows):
    dataset = make_dataset(tasks={"t1": (frames(rows, 2), [])})
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(dataset.root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "before the manifest\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (dataset.root / "images" / "t2.parquet").exists()
    again = Dataset.open(dataset.root)
    assert list(again.manifests()) == ["t1"]
    assert again.arrow("frames").count_rows() == 2
    assert [name for name, _ in again.iter_images()] == ["s1f0", "s1f1"]
    with again.lock("usds ingest raw"):
        assert not (dataset.root / "images" / "t2.parquet").exists()
    assert again.read_pixels(["s1f0"])["s1f0"][:2] == b"\xff\xd8"
