"""Withdrawal: a subject leaves the dataset, its labels, its splits and the private state.

The tombstone comes first, so that a kill in the middle leaves a subject that is never ingested again, and the
same command ends what it began.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usds.curation.commit import add_source_rows, mark_near_duplicates_again
from usds.curation.corrections import numbered_files
from usds.curation.ingest import INGESTS
from usds.curation.outcomes import source_row
from usds.curation.picture_corrections import APPLIED, DECIDED_FOR, forget_decisions, read_decisions
from usds.curation.review_folder import ReviewFolder
from usds.curation.sources import decode_path
from usds.curation.waiting import known_files
from usds.schemas import shards
from usds.schemas.annotations import AnnotationSet
from usds.schemas.dataset import Dataset
from usds.schemas.errors import UsageError
from usds.schemas.files import file_sha256, read_json
from usds.schemas.shards import write_parquet
from usds.schemas.state import State

__all__ = ["ForgetReport", "Holdings", "forget", "holdings", "runs_with", "subject_of_file"]

_compute: Any = pc  # its functions are made at run time, no checker sees them


@dataclass(slots=True)
class Holdings:
    """What a dataset holds of a subject."""

    subject_id: str
    frames: set[str] = field(default_factory=set[str])
    targets: set[str] = field(default_factory=set[str])
    captions: set[str] = field(default_factory=set[str])
    sources: dict[str, str] = field(default_factory=dict[str, str])
    paths: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What left, which trained runs still contain the subject, which frames of others repeat its pictures."""

    subject_id: str
    frames: int
    captions: int
    sources: int
    runs: tuple[str, ...]
    copies: tuple[str, ...] = ()


def subject_of_file(state: State, path: Path) -> str:
    """Subject a raw file was filed under: by its path, else by its content.

    Raises
    ------
    UsageError
        If the file does not exist, or was never ingested into this dataset.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}: name a raw file of the subject, or the subject's id")
    with state.ledger() as ledger:
        query = "SELECT DISTINCT subject_id FROM sources WHERE subject_id IS NOT NULL AND "
        rows = ledger.execute(query + "path = ?", (str(path.resolve()),)).fetchall()
        rows = rows or ledger.execute(query + "content = ?", (file_sha256(path),)).fetchall()
    if len(rows) != 1:
        raise UsageError(
            f"{path} was not ingested into this dataset: name another file of the subject, or its id "
            '(`usds sql "SELECT DISTINCT subject_id FROM frames"`)'
        )
    return rows[0][0]


def holdings(dataset: Dataset, state: State, subject_id: str) -> Holdings:
    """Find everything of a subject.

    Raises
    ------
    UsageError
        If the dataset, its state and its tombstones do not know the subject.
    """
    found = Holdings(subject_id)
    columns = ["frame_id", "clip_id", "study_id", "source_key", "media"]
    mine = pc.field("subject_id") == subject_id
    for row in dataset.arrow("frames").to_table(columns=columns, filter=mine).to_pylist():
        found.frames.add(row["frame_id"])
        found.targets |= {row["frame_id"], row["study_id"], row["clip_id"]} - {None}
        found.sources[row["source_key"]] = row["media"]
    for row in state.locate(subject_id):
        found.sources.setdefault(row["source_key"], row["kind"])
        found.paths.append(row["path"])
    wanted = pc.field("target_id").isin(pa.array(sorted(found.targets), pa.string()))
    captions = dataset.arrow("captions").to_table(columns=["caption_id"], filter=wanted)
    found.captions = set(captions.column("caption_id").to_pylist())
    if not found.sources and subject_id not in state.withdrawn():
        raise UsageError(
            f"no subject {subject_id!r}: give the subject's id as it stands in the dataset, or a raw file of "
            "it with --from-raw"
        )
    return found


def forget(dataset: Dataset, state: State, subject_id: str, *, runs: Path = Path("runs")) -> ForgetReport:
    """Remove a subject; the dataset's lock is held.

    Parameters
    ----------
    dataset : Dataset
    state : State
    subject_id : str
    runs : Path
        Folder of trained runs, which are listed, not changed.

    Raises
    ------
    UsageError
        As :func:`holdings`.
    ContentError
        If decisions about pictures are damaged; nothing was removed.
    """
    found = holdings(dataset, state, subject_id)
    read_decisions(dataset)  # a damaged one would stop the work half-way
    copies = _copies(dataset, found)
    state.withdraw([subject_id])
    _rewrite_labels(dataset, found)
    for manifest in dataset.manifests().values():
        _rewrite_task(dataset, manifest, found)
    if copies:  # the original that they name may be gone
        mark_near_duplicates_again(dataset)
    _rewrite_splits(dataset, subject_id)
    _forget_decisions(dataset, state, found)
    _forget_privately(state, found)
    return ForgetReport(
        subject_id, len(found.frames), len(found.captions), len(found.sources), runs_with(subject_id, runs),
        copies,
    )  # fmt: skip


def _copies(dataset: Dataset, found: Holdings) -> tuple[str, ...]:
    """Frames of other subjects that show the same picture: perhaps the same person under another id."""
    gone = _strings(found.frames)
    either = pc.field("frame_id").isin(gone) | pc.field("duplicate_of").isin(gone)
    pairs = dataset.arrow("frames").to_table(columns=["frame_id", "duplicate_of"], filter=either).to_pylist()
    named = {name for pair in pairs for name in pair.values() if name is not None}
    return tuple(sorted(named - found.frames))


def runs_with(subject_id: str, runs: Path) -> tuple[str, ...]:
    """Names of the runs below ``runs`` that were trained or measured on the subject."""
    return tuple(
        path.parent.name
        for path in sorted(runs.glob("*/data.json"))
        if any(subject_id in side for side in read_json(path).get("subjects", {}).values())
    )


def _rewrite_task(dataset: Dataset, manifest: shards.Manifest, found: Holdings) -> None:
    """Write a task again without the subject; its files keep a row that says why they are gone."""
    root = dataset.root
    keys = set(pq.read_table(root / manifest.files["sources"].path).column("source_key").to_pylist())
    captions = pq.read_table(root / manifest.files["captions"].path, columns=["caption_id"])
    here = keys & set(found.sources)
    if not here and found.captions.isdisjoint(captions.column("caption_id").to_pylist()):
        return
    rewritten = shards.rewrite_task(root, manifest, set(found.sources), drop_captions_of=found.targets)
    gone = [source_row(key, found.sources[key], "withdrawn") for key in sorted(here)]
    add_source_rows(dataset, rewritten, gone)


def _rewrite_labels(dataset: Dataset, found: Holdings) -> None:
    """Annotations, evidence and corrections; labels go before the rows they refer to."""
    for name in dataset.annotations.names():
        manifest = dataset.annotations.read(name)
        tasks = {task: _rewrite_entry(dataset, manifest, task, found) for task in manifest.tasks}
        if any(tasks[task] is not manifest.tasks[task] for task in tasks):
            dataset.annotations.commit(replace(manifest, tasks=tasks))
    for path in numbered_files(dataset.root, "labels").values():
        table = pq.read_table(path)
        kept = table.filter(_compute.invert(_compute.is_in(table["target_id"], _strings(found.targets))))
        if len(kept) < len(table):
            write_parquet(path, kept)


def _rewrite_entry(
    dataset: Dataset, manifest: AnnotationSet, task: str, found: Holdings
) -> Mapping[str, Any]:
    entry = manifest.tasks[task]
    labels = pq.read_table(dataset.root / entry["annotations"]["path"])
    evidence = pq.read_table(dataset.root / entry["evidence"]["path"])
    kept = labels.filter(_compute.invert(_compute.is_in(labels["frame_id"], _strings(found.frames))))
    about = _compute.is_in(evidence["target_id"], _strings(found.targets))
    said = _compute.fill_null(
        _compute.is_in(evidence["caption_id"], _strings(found.captions)), fill_value=False
    )
    left = evidence.filter(_compute.invert(_compute.or_(about, said)))
    if len(kept) == len(labels) and len(left) == len(evidence):
        return entry
    fingerprint = sha256(f"{entry['fingerprint']} without {found.subject_id}".encode()).hexdigest()
    files = dataset.annotations.write_task(manifest.name, task, fingerprint, kept, left)
    return {**entry, **files}


def _rewrite_splits(dataset: Dataset, subject_id: str) -> None:
    for name in dataset.split_names():
        path = dataset.root / "splits" / f"{name}.parquet"
        rows = pq.read_table(path).to_pylist()
        kept = [row for row in rows if row["subject_id"] != subject_id]
        if len(kept) < len(rows):
            dataset.write_split(name, kept)


def _forget_decisions(dataset: Dataset, state: State, found: Holdings) -> None:
    """Remove what was decided about the subject's pictures, unless others have the very same file."""
    known = known_files(state)
    others = {file.file_id for key, files in known.items() if key not in found.sources for file in files}
    mine = {file.file_id for key in found.sources for file in known.get(key, ())}
    decided: dict[str, str] = state.read(DECIDED_FOR) or {}
    mine |= {file_id for file_id, subject in decided.items() if subject == found.subject_id}
    mine -= others
    forget_decisions(dataset, mine)
    for document in (APPLIED, DECIDED_FOR):
        before: dict[str, str] = state.read(document) or {}
        state.write(document, {key: value for key, value in before.items() if key not in mine})


def _forget_privately(state: State, found: Holdings) -> None:
    """Remove what the private state knows: paths, identifiers, withheld text, pixels in doubt, logs."""
    keys = [(key,) for key in found.sources]
    with state.ledger() as ledger:
        ledger.execute("DELETE FROM sources WHERE subject_id = ?", (found.subject_id,))
        ledger.executemany("DELETE FROM sources WHERE source_key = ?", keys)
        ledger.executemany("DELETE FROM withheld WHERE source_key = ?", keys)
    doubted, viewed = ReviewFolder.doubted(state), ReviewFolder.viewed(state)
    for key in found.sources:
        doubted.clear(key)
        viewed.clear(key)
    doubted.sweep(state.source_keys())  # of files that were replaced
    for frame in found.frames:
        for picture in (state.folder / "audit").glob(f"{frame}.*"):
            picture.unlink(missing_ok=True)
    shutil.rmtree(state.folder / "staging", ignore_errors=True)
    for log in (state.folder / "logs").glob("*.log"):  # free text: nobody can tell whose values it holds
        log.unlink(missing_ok=True)
    _forget_catalogue(state, found.sources)
    _forget_places(state)


def _forget_places(state: State) -> None:
    """Of the raw arguments of earlier runs keep those that hold files of somebody else."""
    with state.ledger() as ledger:
        left = {decode_path(row[0]) for row in ledger.execute("SELECT path FROM sources")}
    folders = {str(parent) for path in left for parent in (Path(path), *Path(path).parents)}
    runs: list[Any] = state.read(INGESTS) or []
    state.write(INGESTS, [run for run in runs if all(decode_path(raw) in folders for raw in run["raws"])])


def _forget_catalogue(state: State, sources: Iterable[str]) -> None:
    from usds.curation.catalogue import Catalogue
    from usds.curation.harvesting import rebuild_index

    catalogue = Catalogue(state.folder, "")
    try:
        catalogue.forget_paths(sources)
    finally:
        catalogue.close()
    rebuild_index(state)
    state.wipe_databases()


def _strings(values: Set[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())
