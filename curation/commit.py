"""From staged files to tasks of the dataset, and small changes of finished tasks that touch no pixel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usds.curation.near_duplicates import duplicate_of
from usds.curation.plan import Task
from usds.curation.settings import IngestSettings
from usds.curation.staging import Staging, Withheld
from usds.schemas import shards
from usds.schemas.dataset import Dataset
from usds.schemas.files import write_json
from usds.schemas.shards import Manifest

__all__ = [
    "Committed",
    "add_captions",
    "amend_sources",
    "amend_task",
    "commit_task",
    "drop_sources",
    "leave_only_rows",
    "mark_near_duplicates",
]

_compute: Any = pc  # its functions are made at run time, no checker sees them


@dataclass(slots=True)
class Committed:
    """What one task brought into the dataset.

    Attributes
    ----------
    reasons : dict
        Reason code by source key.
    captions, captions_withheld : Counter
        By the source key the text came from.
    withheld : list of Withheld
        For the private state.
    """

    reasons: dict[str, str] = field(default_factory=dict[str, str])
    captions: Counter[str] = field(default_factory=Counter[str])
    captions_withheld: Counter[str] = field(default_factory=Counter[str])
    withheld: list[Withheld] = field(default_factory=list[Withheld])
    frames: int = 0


def commit_task(dataset: Dataset, task: Task, staging: Staging, known_captions: set[str]) -> Committed:
    """Write one task from its staged files, in the order of the task.

    Parameters
    ----------
    dataset : Dataset
        Its lock is held.
    task : Task
        Every file of it is staged.
    staging : Staging
    known_captions : set of str
        Caption ids that the dataset has; those written are added. A study's captions come with each of its
        files and are written once.

    Raises
    ------
    RuntimeError
        If a file of the task is not staged.
    """
    done = Committed()
    fresh: set[str] = set()
    inputs, generation = tuple(sorted(task.sources)), _next_generation(dataset, task.name)
    with dataset.writer(task.name, inputs, generation) as writer:
        for source_key in task.sources:
            staged = staging.read(source_key)
            if staged is None:
                raise RuntimeError(f"{source_key} is not staged")
            for row, image in zip(staged.frames, staged.images, strict=True):
                writer.add_frame(row, image)
            for caption in staged.captions:
                if caption["caption_id"] not in known_captions and caption["caption_id"] not in fresh:
                    fresh.add(caption["caption_id"])
                    done.captions[caption["source_key"]] += 1
                    writer.add_caption(caption)
            writer.add_source(staged.source)
            done.reasons[source_key] = staged.source["reason"]
            done.frames += len(staged.frames)
            _note_withheld(done, staged.withheld)
        writer.commit()
    known_captions |= fresh
    return done


def _note_withheld(done: Committed, withheld: Iterable[Withheld]) -> None:
    seen = {w.caption_id for w in done.withheld}
    for one in withheld:
        if one.caption_id not in seen:
            done.captions_withheld[one.source_key] += 1
            done.withheld.append(one)


def _next_generation(dataset: Dataset, task: str) -> int:
    """A task that is written again must not overwrite files that its manifest still names."""
    path = shards.manifest_path(dataset.root, task)
    return Manifest.read(path).generation + 1 if path.is_file() else 0


def amend_task(dataset: Dataset, manifest: Manifest, tables: Mapping[str, pa.Table]) -> Manifest:
    """Replace small tables (not images) of a finished task: its next generation shares the other files.

    The manifest is swapped after the new files are whole, the old ones go last; a kill in between leaves the
    old task, or the new one and files that no manifest names.
    """
    generation = manifest.generation + 1
    files = dict(manifest.files)
    replaced: list[Path] = []
    for name, table in tables.items():
        path = shards.parquet_file(dataset.root, name, manifest.task, generation)
        shards.write_parquet(path, table)
        replaced.append(dataset.root / files[name].path)
        files[name] = shards.describe(dataset.root, path, len(table))
    amended = replace(manifest, generation=generation, files=files)
    write_json(shards.manifest_path(dataset.root, manifest.task), amended.to_json())
    for path in replaced:
        path.unlink(missing_ok=True)
    return amended


def add_captions(dataset: Dataset, manifest: Manifest, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add captions to a finished task."""
    path = dataset.root / manifest.files["captions"].path
    table = pq.read_table(path, schema=shards.TABLES["captions"])
    more = pa.Table.from_pylist([dict(row) for row in rows], schema=shards.TABLES["captions"])
    amend_task(dataset, manifest, {"captions": pa.concat_tables([table, more])})


def amend_sources(dataset: Dataset, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace rows of the table ``sources`` where they differ; nothing else changes."""
    wanted = {row["source_key"]: dict(row) for row in rows}
    if not wanted:
        return
    for manifest in dataset.manifests().values():
        table = pq.read_table(dataset.root / manifest.files["sources"].path, schema=shards.TABLES["sources"])
        before = table.to_pylist()
        after = [wanted.get(row["source_key"], row) for row in before]
        if after != before:
            replaced = pa.Table.from_pylist(after, schema=shards.TABLES["sources"])
            amend_task(dataset, manifest, {"sources": replaced})


def drop_sources(dataset: Dataset, source_keys: Set[str]) -> None:
    """Remove all rows of some files, and of captions about what they showed.

    Tasks that are left without rows are removed.
    """
    if not source_keys:
        return
    keys = pa.array(sorted(source_keys), pa.string())
    for manifest in dataset.manifests().values():
        sources = _column(dataset, manifest, "sources", "source_key")
        captions = _column(dataset, manifest, "captions", "source_key")
        here = (
            _compute.any(_compute.is_in(sources, keys)).as_py()
            or _compute.any(_compute.is_in(captions, keys)).as_py()
        )
        if not here:
            continue
        rewritten = _without(dataset, manifest, source_keys)
        if all(rewritten.files[name].rows == 0 for name in ("frames", "captions", "sources")):
            dataset.remove_task(manifest.task)


def leave_only_rows(dataset: Dataset, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Remove all that some files gave to the dataset; each keeps one row of ``sources`` that says why.

    Parameters
    ----------
    dataset : Dataset
        Its lock is held.
    rows : mapping
        The row that stays, by source key.
    """
    for manifest in dataset.manifests().values():
        here = rows.keys() & set(_column(dataset, manifest, "sources", "source_key").to_pylist())
        if not here:
            continue
        rewritten = _without(dataset, manifest, here)
        add_source_rows(dataset, rewritten, [rows[key] for key in sorted(here)])


def add_source_rows(dataset: Dataset, manifest: Manifest, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to ``sources`` of a task: what stays of files that it held."""
    kept = pq.read_table(dataset.root / manifest.files["sources"].path, schema=shards.TABLES["sources"])
    more = pa.Table.from_pylist([dict(row) for row in rows], schema=kept.schema)
    amend_task(dataset, manifest, {"sources": pa.concat_tables([kept, more])})


def _without(dataset: Dataset, manifest: Manifest, source_keys: Set[str]) -> Manifest:
    """A task written again without some files, and without captions about what they alone showed."""
    path = dataset.root / manifest.files["frames"].path
    frames = pq.read_table(path, columns=["frame_id", "clip_id", "study_id", "source_key"]).to_pylist()
    orphaned = _orphaned(frames, source_keys)
    return shards.rewrite_task(dataset.root, manifest, source_keys, drop_captions_of=orphaned)


def _orphaned(frames: Sequence[Mapping[str, Any]], source_keys: Set[str]) -> set[str]:
    """Ids of frames, clips and studies that lose their last frame."""
    gone: set[str] = set()
    left: set[str] = set()
    for frame in frames:
        ids = {frame["frame_id"], frame["clip_id"], frame["study_id"]} - {None}
        (gone if frame["source_key"] in source_keys else left).update(ids)
    return gone - left


def _column(dataset: Dataset, manifest: Manifest, table: str, column: str) -> pa.ChunkedArray:
    return pq.read_table(dataset.root / manifest.files[table].path, columns=[column]).column(column)


def mark_near_duplicates_again(dataset: Dataset) -> int:
    """:func:`mark_near_duplicates` with the distance that the dataset was made with."""
    bits = dataset.info.settings.get("near_duplicate_bits", IngestSettings().near_duplicate_bits)
    return mark_near_duplicates(dataset, bits)


def mark_near_duplicates(dataset: Dataset, max_bits: int) -> int:
    """Fill ``duplicate_of`` of every frame from the perceptual hashes; pixels are not touched.

    The original of a group is its smallest frame id, so the result depends on what is in the dataset, not on
    the order it came in.

    Returns
    -------
    int
        Frames that repeat another.
    """
    frames = dataset.arrow("frames").to_table(columns=["frame_id", "phash", "duplicate_of"])
    frames = frames.sort_by("frame_id")
    ids: list[str] = frames.column("frame_id").to_pylist()
    hashes = np.array([int(value, 16) for value in frames.column("phash").to_pylist()], dtype=np.uint64)
    targets = duplicate_of(hashes, max_bits) if ids else []
    found = {ids[i]: ids[j] for i, j in enumerate(targets) if j is not None}
    before: list[str | None] = frames.column("duplicate_of").to_pylist()
    changed = {name for name, old in zip(ids, before, strict=True) if found.get(name) != old}
    if changed:
        for manifest in dataset.manifests().values():
            _amend_duplicates(dataset, manifest, found, changed)
    return len(found)


def _amend_duplicates(
    dataset: Dataset, manifest: Manifest, found: Mapping[str, str], changed: Set[str]
) -> None:
    path = dataset.root / manifest.files["frames"].path
    own: list[str] = pq.read_table(path, columns=["frame_id"]).column("frame_id").to_pylist()
    if changed.isdisjoint(own):
        return
    table = pq.read_table(path, schema=shards.TABLES["frames"])
    column = pa.array([found.get(name) for name in own], pa.string())
    at = table.schema.get_field_index("duplicate_of")
    amend_task(dataset, manifest, {"frames": table.set_column(at, table.schema.field(at), column)})
