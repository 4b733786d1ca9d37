"""Shards of one task: written as a stream, named by a manifest that is written last.

A task owns one file in each of ``images``, ``frames``, ``captions`` and ``sources``. Rewriting a task (a
subject withdraws, a source file changed) makes files of the next generation and then swaps the manifest, so
a reader sees the old rows or the new ones and a kill leaves only files that no manifest names.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from usds.schemas import tables
from usds.schemas.errors import damaged
from usds.schemas.files import atomic_path, file_sha256, partial_path, publish, read_json, write_json

__all__ = [
    "TABLES",
    "Manifest",
    "ShardFile",
    "TaskWriter",
    "describe",
    "manifest_path",
    "parquet_file",
    "rewrite_task",
    "write_parquet",
]

TABLES: Final[dict[str, pa.Schema]] = {
    "images": tables.IMAGES,
    "frames": tables.FRAMES,
    "captions": tables.CAPTIONS,
    "sources": tables.SOURCES,
}

ROW_GROUP_BYTES: Final = 5 << 20
"""Measured best between random access and sequential speed for encoded frames."""
MAX_ROWS_PER_GROUP: Final = 256


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One Parquet file of a manifest: path relative to the dataset, rows and SHA-256."""

    path: str
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished task wrote. ``inputs`` are keyed hashes of the source files it consumed."""

    task: str
    generation: int
    settings_hash: str
    inputs: tuple[str, ...]
    files: Mapping[str, ShardFile] = field(default_factory=dict[str, ShardFile])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "task": self.task,
            "generation": self.generation,
            "settings_hash": self.settings_hash,
            "inputs": list(self.inputs),
            "files": {
                name: {"path": shard.path, "rows": shard.rows, "sha256": shard.sha256}
                for name, shard in sorted(self.files.items())
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """Inverse of :meth:`to_json`."""
        files = {name: ShardFile(**shard) for name, shard in value["files"].items()}
        return cls(value["task"], value["generation"], value["settings_hash"], tuple(value["inputs"]), files)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest file.

        Raises
        ------
        ContentError
            If it is damaged.
        """
        try:
            return cls.from_json(read_json(path))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(path) from error


def manifest_path(root: Path, task: str) -> Path:
    """Where the manifest of ``task`` lies."""
    return root / "manifests" / f"{task}.json"


def parquet_file(root: Path, table: str, task: str, generation: int) -> Path:
    """Path of one shard; later generations carry their number."""
    suffix = "" if generation == 0 else f"-{generation}"
    return root / table / f"{task}{suffix}.parquet"


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a small table (labels, not pixels) atomically with zstd."""
    with atomic_path(path) as partial:
        pq.write_table(table, partial, compression="zstd")


class TaskWriter:
    """Write the shards of one task.

    Frames are streamed: at most one row group of images is held. Use it as a context manager; leaving it
    without :meth:`commit` removes what it wrote.

    Parameters
    ----------
    root : Path
        The dataset directory.
    task : str
        Task name (keyed; never a path).
    settings_hash : str
        Hash of the settings that change the output.
    inputs : tuple of str
        Keyed hashes of the consumed source files.
    generation : int
        0 for a first write; the next number for a rewrite.
    """

    def __init__(
        self, root: Path, task: str, settings_hash: str, inputs: tuple[str, ...], generation: int = 0
    ) -> None:
        self._root = root
        self._manifest = Manifest(task, generation, settings_hash, inputs)
        self._images = parquet_file(root, "images", task, generation)
        self._partial = partial_path(self._images)
        self._writer: pq.ParquetWriter | None = None
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        self._pending_bytes = self._groups = self._image_rows = 0

    def __enter__(self) -> TaskWriter:
        self._writer = pq.ParquetWriter(
            self._partial, tables.IMAGES, compression="none", use_dictionary=False, write_statistics=False
        )
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._writer is not None:  # not committed
            self._writer.close()
            self._writer = None
            self._partial.unlink(missing_ok=True)

    def add_frame(self, row: Mapping[str, Any], image: bytes) -> None:
        """Add a verified frame; the locator columns are filled here."""
        pending = self._rows["images"]
        locator = {
            "shard": self._images.relative_to(self._root).as_posix(),
            "row_group": self._groups,
            "row": len(pending),
        }
        self._rows["frames"].append({**row, **locator})
        pending.append({"frame_id": row["frame_id"], "image": image})
        self._pending_bytes += len(image)
        if self._pending_bytes >= ROW_GROUP_BYTES or len(pending) >= MAX_ROWS_PER_GROUP:
            self._flush_images()

    def add_caption(self, row: Mapping[str, Any]) -> None:
        """Add a caption that passed its scrubbing."""
        self._rows["captions"].append(dict(row))

    def add_source(self, row: Mapping[str, Any]) -> None:
        """Add the one row of a source file."""
        self._rows["sources"].append(dict(row))

    def _flush_images(self) -> None:
        pending = self._rows["images"]
        if not pending or self._writer is None:
            return
        batch = pa.Table.from_pylist(pending, schema=tables.IMAGES)
        self._writer.write_table(batch, row_group_size=len(pending))
        self._groups += 1
        self._image_rows += len(pending)
        self._rows["images"] = []
        self._pending_bytes = 0

    def commit(self) -> Manifest:
        """Make the task's files durable, then name them in its manifest.

        Returns
        -------
        Manifest
            The manifest that now is on disk.
        """
        self._flush_images()
        if self._writer is None:
            raise RuntimeError("commit() belongs inside the writer's block, once")
        self._writer.close()
        publish(self._partial, self._images)
        self._writer = None
        files = {"images": describe(self._root, self._images, self._image_rows)}
        for name in ("frames", "captions", "sources"):
            path = parquet_file(self._root, name, self._manifest.task, self._manifest.generation)
            write_parquet(path, pa.Table.from_pylist(self._rows[name], schema=TABLES[name]))
            files[name] = describe(self._root, path, len(self._rows[name]))
        manifest = replace(self._manifest, files=files)
        write_json(manifest_path(self._root, manifest.task), manifest.to_json())
        return manifest


def describe(root: Path, path: Path, rows: int) -> ShardFile:
    """The manifest entry of a finished file."""
    return ShardFile(path.relative_to(root).as_posix(), rows, file_sha256(path))


def rewrite_task(
    root: Path, manifest: Manifest, drop_sources: Set[str], *, drop_captions_of: Set[str] = frozenset()
) -> Manifest:
    """Write a task again without some of its sources.

    Parameters
    ----------
    root : Path
        The dataset directory.
    manifest : Manifest
        The task as it is.
    drop_sources : set of str
        ``source_key`` of the files whose rows go, in every table.
    drop_captions_of : set of str
        Ids (study, clip, frame) whose captions go as well, whatever file they came from.

    Returns
    -------
    Manifest
        The next generation, on disk; the files of the old one are removed.
    """
    old = {
        name: pq.read_table(root / shard.path) for name, shard in manifest.files.items() if name != "images"
    }
    rows = {name: table.to_pylist() for name, table in old.items()}
    images = pq.ParquetFile(root / manifest.files["images"].path)
    with TaskWriter(
        root, manifest.task, manifest.settings_hash, manifest.inputs, manifest.generation + 1
    ) as writer:
        group, held = -1, pa.table({})
        for frame in rows["frames"]:
            if frame["source_key"] in drop_sources:
                continue
            if frame["row_group"] != group:
                group, held = frame["row_group"], images.read_row_group(frame["row_group"])
            writer.add_frame(frame, held.column("image")[frame["row"]].as_py())
        for caption in rows["captions"]:
            if caption["source_key"] not in drop_sources and caption["target_id"] not in drop_captions_of:
                writer.add_caption(caption)
        for source in rows["sources"]:
            if source["source_key"] not in drop_sources:
                writer.add_source(source)
        result = writer.commit()
    images.close()
    for shard in manifest.files.values():
        (root / shard.path).unlink(missing_ok=True)
    return result
