"""The dataset directory: what may be handed on.

A shard exists only if a manifest names it: readers list manifests, never files. Tables are seen through
DuckDB, pixels are fetched by locator. One writer at a time holds the lock.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from base64 import b32encode
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from usds.schemas import shards, tables
from usds.schemas.annotations import AnnotationSets
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.files import read_json, remove_leftovers, write_json

__all__ = ["Dataset", "DatasetInfo", "DatasetLocked", "exclusive", "is_dataset"]

INFO: Final = "dataset.json"
CROISSANT: Final = "croissant.json"
LOCK: Final = ".lock"
_COMMAND: Final = re.compile(r"usds(?: [a-z]+)?(?= |$)")


class DatasetLocked(ContentError):
    """Another process writes to the dataset."""


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """``dataset.json``: what made the dataset. Carries no name, path, date or host."""

    dataset_id: str
    format_version: int
    tool: str
    detector: str
    key_fingerprint: str
    settings: Mapping[str, Any]
    settings_hash: str


def is_dataset(path: Path) -> bool:
    """Whether ``path`` is a dataset directory (of any version)."""
    return (path / INFO).is_file()


@contextmanager
def exclusive(root: Path, command: str) -> Generator[None]:
    """Hold the writer's lock of the dataset directory ``root``, which need not be a dataset yet.

    Raises
    ------
    DatasetLocked
        If another process holds it; the message says which command that is.
    UsageError
        If nothing can be written there.
    """
    path = root / LOCK
    try:
        root.mkdir(parents=True, exist_ok=True)
        holder = FileLock(path, timeout=0, mode=0o644)
        holder.acquire()
    except Timeout as error:
        raise DatasetLocked(
            f"{root} is being written by {_holder(path)}: wait until it has ended, then run `{command}` again"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise UsageError(f"{root} cannot be written ({error.strerror}): name another --dataset") from error
    try:
        # What was typed behind the command can name a folder after a patient; a killed process leaves it.
        named = _COMMAND.match(command)
        shown = named.group() if named else "usds"
        path.write_text(json.dumps({"command": shown, "pid": os.getpid()}), "utf-8")
        yield
    finally:
        holder.release()


class Dataset:
    """A dataset directory.

    Make one with :meth:`create` or :meth:`open`.
    """

    def __init__(self, root: Path, info: DatasetInfo) -> None:
        self.root = root
        self.info = info
        self.annotations = AnnotationSets(root)

    # -- life cycle ---------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        key_fingerprint: str,
        tool: str,
        detector: str,
        settings: Mapping[str, Any],
        settings_hash: str,
        dataset_id: str | None = None,
    ) -> Dataset:
        """Make an empty dataset.

        Raises
        ------
        UsageError
            If ``root`` is a file, a dataset, or a folder that holds other files.
        """
        if is_dataset(root):
            raise UsageError(f"{root} is a dataset already")
        if root.exists() and (not root.is_dir() or any(p.name != LOCK for p in root.iterdir())):
            raise UsageError(f"{root} exists and is no dataset: name an empty or a new folder with --dataset")
        identifier = dataset_id or b32encode(secrets.token_bytes(10)).decode().lower()
        info = DatasetInfo(
            identifier, tables.FORMAT_VERSION, tool, detector, key_fingerprint, dict(settings), settings_hash
        )
        dataset = cls(root, info)
        dataset.save_info()
        return dataset

    @classmethod
    def open(cls, root: Path) -> Dataset:
        """Open a dataset.

        Raises
        ------
        UsageError
            If ``root`` does not exist.
        ContentError
            If it is no dataset, or one of another format version.
        """
        if not root.exists():
            raise UsageError(
                f"no dataset at {root}: make one with `usds ingest RAW`, or name one with --dataset"
            )
        if not is_dataset(root):
            raise ContentError(f"{root} is not a usds dataset (it has no {INFO}): name one with --dataset")
        try:
            raw = read_json(root / INFO)
            version = raw["format_version"]
            if version != tables.FORMAT_VERSION:
                raise ContentError(
                    f"{root} has format version {version}, this usds reads version {tables.FORMAT_VERSION}: "
                    "install the usds that made it, or ingest the raw folder again into a new dataset"
                )
            return cls(root, DatasetInfo(**raw))
        except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise ContentError(
                f"{root / INFO} is damaged: restore it, or ingest into a new dataset"
            ) from error

    def save_info(self, **changes: Any) -> None:
        """Write ``dataset.json``, with some of its fields changed."""
        self.info = replace(self.info, **changes)
        write_json(self.root / INFO, asdict(self.info))

    @contextmanager
    def lock(self, command: str) -> Generator[None]:
        """Be the one writer; leftovers of a killed writer are swept on entry.

        Raises
        ------
        DatasetLocked
            If another process writes.
        ContentError
            If the folder is not where it was.
        """
        if not is_dataset(self.root):
            raise ContentError(f"{self.root} was moved or removed: put it back, nothing was written")
        with exclusive(self.root, command):
            self.sweep()
            yield

    def sweep(self) -> int:
        """Remove partial files and shards that no manifest names; return how many. Needs the lock."""
        named = {f.path for manifest in self.manifests().values() for f in manifest.files.values()}
        removed = remove_leftovers(self.root)
        for table in shards.TABLES:
            for path in (self.root / table).glob("*.parquet"):
                if path.relative_to(self.root).as_posix() not in named:
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed + self.annotations.sweep()

    # -- shards -------------------------------------------------------------------------------------

    def manifests(self) -> dict[str, shards.Manifest]:
        """Manifests of all finished tasks, by task name, sorted."""
        folder = self.root / "manifests"
        paths = (
            sorted(p for p in folder.glob("*.json") if not p.name.startswith(".")) if folder.is_dir() else []
        )
        return {path.stem: shards.Manifest.read(path) for path in paths}

    def writer(self, task: str, inputs: tuple[str, ...], generation: int = 0) -> shards.TaskWriter:
        """A writer of the shards of one task."""
        return shards.TaskWriter(self.root, task, self.info.settings_hash, inputs, generation)

    def remove_task(self, task: str) -> None:
        """Remove a task: its manifest first, so that no reader meets half of it."""
        path = shards.manifest_path(self.root, task)
        manifest = shards.Manifest.read(path)
        path.unlink()
        for shard in manifest.files.values():
            (self.root / shard.path).unlink(missing_ok=True)

    def damaged(self) -> list[str]:
        """Paths of named files that are missing or whose SHA-256 differs from their manifest."""
        named = [f for manifest in self.manifests().values() for f in manifest.files.values()]
        return [
            f.path for f in [*named, *self.annotations.files()] if not _intact(self.root / f.path, f.sha256)
        ]

    def paths(self, table: str) -> list[Path]:
        """Files of ``table`` (images, frames, captions, sources) that manifests name."""
        return [self.root / manifest.files[table].path for manifest in self.manifests().values()]

    # -- tables -------------------------------------------------------------------------------------

    def arrow(self, table: str) -> pads.Dataset:
        """One of the four ingest tables as an Arrow dataset (rows are not read yet)."""
        return _arrow(self.paths(table), shards.TABLES[table])

    def connect(self, set_name: str | None = None) -> duckdb.DuckDBPyConnection:
        """An in-memory DuckDB connection that sees the tables as views and nothing else on disk.

        Parameters
        ----------
        set_name : str, optional
            Annotation set behind the view ``annotations``; by default the current one.

        Returns
        -------
        duckdb.DuckDBPyConnection
            Views ``frames``, ``captions``, ``sources``, ``splits`` (name, subject_id, split), and, when the
            dataset is annotated, ``annotations``, ``evidence``, ``annotations_all``, ``evidence_all`` (with
            ``set_name``). External access is off and the configuration locked.
        """
        connection = duckdb.connect()
        connection.execute("SET enable_external_access = false")
        for table in ("frames", "captions", "sources"):
            connection.register(table, self.arrow(table))
        connection.register("splits", self.splits())
        for name, value in self.annotations.views(set_name).items():
            connection.register(name, value)
        for name, statement in self.annotations.unions().items():
            connection.execute(f"CREATE VIEW {name} AS {statement}")
        connection.execute("SET lock_configuration = true")
        return connection

    def subjects(self) -> dict[str, str]:
        """Subject of everything a caption can be about: every frame, clip and study."""
        columns = ["frame_id", "clip_id", "study_id", "subject_id"]
        found: dict[str, str] = {}
        for row in self.arrow("frames").to_table(columns=columns).to_pylist():
            found.update({row[name]: row["subject_id"] for name in columns[:3] if row[name] is not None})
        return found

    # -- pixels -------------------------------------------------------------------------------------

    def read_pixels(self, frame_ids: Sequence[str]) -> dict[str, bytes]:
        """Encoded images of some frames, by locator.

        Raises
        ------
        ContentError
            If a frame is not in the dataset.
        """
        wanted = self.arrow("frames").to_table(
            columns=["frame_id", "shard", "row_group", "row"],
            filter=pc.field("frame_id").isin(pa.array(frame_ids, pa.string())),
        )
        if len(wanted) < len(set(frame_ids)):
            missing = sorted(set(frame_ids) - set(wanted.column("frame_id").to_pylist()))
            raise ContentError(f"no frame {missing[0]} in {self.root}")
        result: dict[str, bytes] = {}
        rows = wanted.sort_by([("shard", "ascending"), ("row_group", "ascending")]).to_pylist()
        place: tuple[str, int] | None = None
        group = pa.table({})
        for row in rows:
            if place != (row["shard"], row["row_group"]):
                place = (row["shard"], row["row_group"])
                with pq.ParquetFile(self.root / row["shard"]) as shard:
                    group = shard.read_row_group(row["row_group"], columns=["image"])
            result[row["frame_id"]] = group.column("image")[row["row"]].as_py()
        return result

    def iter_images(self) -> Iterator[tuple[str, bytes]]:
        """All (frame_id, encoded image), shard by shard in row order."""
        for path in self.paths("images"):
            with pq.ParquetFile(path) as shard:
                for index in range(shard.num_row_groups):
                    group = shard.read_row_group(index)
                    yield from zip(
                        group.column("frame_id").to_pylist(), group.column("image").to_pylist(), strict=True
                    )

    # -- splits -------------------------------------------------------------------------------------

    def write_split(self, name: str, rows: Iterable[Mapping[str, str]]) -> None:
        """Write split ``name``: one row (subject_id, split) a subject."""
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=tables.SPLITS)
        shards.write_parquet(self.root / "splits" / f"{name}.parquet", table)

    def split_names(self) -> list[str]:
        """Names of the splits that exist."""
        folder = self.root / "splits"
        return sorted(p.stem for p in folder.glob("*.parquet") if not p.name.startswith("."))

    def splits(self) -> pa.Table:
        """All splits as one table: name, subject_id, split."""
        parts: list[pa.Table] = []
        for name in self.split_names():
            part = pq.read_table(self.root / "splits" / f"{name}.parquet", schema=tables.SPLITS)
            parts.append(part.add_column(0, "name", pa.array([name] * len(part), pa.string())))
        empty = tables.SPLITS.insert(0, pa.field("name", pa.string()))
        return pa.concat_tables(parts) if parts else empty.empty_table()


def _holder(path: Path) -> str:
    try:
        held = json.loads(path.read_text("utf-8"))
        return f"`{held['command']}` (process {held['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another usds command"


def _intact(path: Path, sha256: str) -> bool:
    return path.is_file() and shards.file_sha256(path) == sha256


def _arrow(paths: Sequence[Path], schema: pa.Schema) -> pads.Dataset:
    if not paths:
        return pads.dataset(schema.empty_table())
    return pads.dataset([str(path) for path in paths], schema=schema, format="parquet")
