"""The second pass: files to staged results, staged results to tasks, and one row for every file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from usds.curation.commit import add_captions, amend_sources, commit_task, drop_sources
from usds.curation.linking import Linked, Source
from usds.curation.outcomes import source_row
from usds.curation.picture_corrections import APPLIED, read_decisions
from usds.curation.pipeline import WorkItem
from usds.curation.plan import PlannedFile, Task, deal
from usds.curation.review_folder import ReviewFolder
from usds.curation.run import Run
from usds.curation.sources import encode_path
from usds.curation.stages import failed, write_run
from usds.curation.staging import Staging
from usds.schemas import shards

__all__ = ["PassResult", "second_pass"]

PLAN = "plan"
_CAPTION_BATCH = 32


@dataclass(slots=True)
class PassResult:
    """What the second pass did: files worked on, reasons of all files of the scan, captions withheld."""

    done: int = 0
    withheld: int = 0
    reasons: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class _Book:
    """What the commits of one pass keep: files by key, caption ids of the dataset, the result."""

    sources: Mapping[str, Source]
    captions: set[str]
    result: PassResult


@dataclass(frozen=True, slots=True)
class _Row:
    """What the dataset says of a source file."""

    task: str
    reason: str
    frames: int
    stale: bool


def second_pass(run: Run, linked: Linked, *, redo: bool) -> PassResult:
    """Bring the dataset to what the first pass found.

    Parameters
    ----------
    run : Run
    linked : Linked
        Files of the scan with their keys, subjects and captions.
    redo : bool
        Do files again that are in the dataset.
    """
    rows = _rows(run)
    gone = {key for key in linked.superseded if key in rows}
    gone |= {s.key for s in linked.sources if s.key in rows and _is_promoted(s, rows[s.key])}
    drop_sources(run.dataset, gone)
    decided, applied = _decide(run, linked)
    again = {key for key, row in rows.items() if row.stale or redo or key in decided} - gone
    waiting = {s.key for s in linked.sources if s.key not in rows or s.key in gone or s.key in again}
    result = PassResult()
    media = [s for s in linked.sources if s.key in waiting and s.item is not None]
    stamp = _stamp(run, linked.index_stamp)
    staging = Staging(run.state.folder / "staging", stamp)
    staging.clear(keep_stamp=True)
    staging.drop(decided)
    write_run(run.state, run.settings, stamp)
    _work(run, staging, media, again, result)
    if decided:
        run.state.write(APPLIED, applied)
    _late_captions(run, staging, linked, waiting, result)
    result.done += _write_rest(run, linked)
    _record_paths(run, linked)
    run.catalogue.save_keys({s.entry.id: (s.key, s.subject_id) for s in linked.sources})
    staging.clear()
    run.state.write(PLAN, {})
    scanned = linked.keys
    if left := sum(row.stale and row.frames > 0 and key not in scanned for key, row in rows.items()):
        linked.warnings.append(
            f"{left} files of the dataset are not in this raw folder and keep older settings"
        )
    result.reasons = dict(Counter(row.reason for key, row in _rows(run).items() if key in scanned))
    return result


def _decide(run: Run, linked: Linked) -> tuple[set[str], dict[str, str]]:
    """Give the media what a person decided about them.

    Returns
    -------
    (set of str, dict)
        Keys of the files that were not done with the present decision; digests by file, to be kept.
    """
    decisions = read_decisions(run.dataset)
    applied: dict[str, str] = run.state.read(APPLIED) or {}
    changed: set[str] = set()
    if not decisions and not applied:
        return changed, applied
    for source in linked.sources:
        if source.item is None:
            continue
        file_id = run.ids.clip(source.item.content)
        decided = decisions.get(file_id)
        digest = decided.decision.digest if decided else ""
        source.item = replace(source.item, decision=decided.decision if decided else None)
        if applied.get(file_id, "") != digest:
            changed.add(source.key)
            applied[file_id] = digest
    return changed, applied


def _is_promoted(source: Source, row: _Row) -> bool:
    """A duplicate whose original left the dataset takes its place."""
    return source.item is not None and source.duplicate_of is None and row.reason == "duplicate"


def _rows(run: Run) -> dict[str, _Row]:
    current = run.settings.output_hash()
    rows: dict[str, _Row] = {}
    for manifest in run.dataset.manifests().values():
        table = pq.read_table(
            run.dataset.root / manifest.files["sources"].path,
            columns=["source_key", "reason", "frames_written"],
        )
        stale = manifest.settings_hash != current
        for row in table.to_pylist():
            rows[row["source_key"]] = _Row(manifest.task, row["reason"], row["frames_written"], stale)
    return rows


def _stamp(run: Run, index_stamp: str) -> str:
    content = f"{run.settings.output_hash()} {index_stamp}"
    return hashlib.sha256(content.encode()).hexdigest()[:16]


# -- media ------------------------------------------------------------------------------------------


def _work(run: Run, staging: Staging, media: Sequence[Source], again: set[str], result: PassResult) -> None:
    """Frames and captions of the media that wait, task by task."""
    items = {s.key: s.item for s in media if s.item is not None}
    tasks = _plan(run, media)
    run.catalogue.put_work({key: item.to_json() for key, item in items.items()})
    task_of = {key: task for task in tasks for key in task.sources}
    left = {task.name: set(task.sources) for task in tasks}
    book = _Book({s.key: s for s in media}, _known_captions(run), result)
    result.done += len(items)
    ready = [key for key in task_of if staging.has(key)]
    todo = [key for key in task_of if not staging.has(key)]

    def finish(key: str) -> None:
        task = task_of[key]
        left[task.name].discard(key)
        if not left[task.name]:
            if old := again & set(task.sources):
                drop_sources(run.dataset, old)
                book.captions = _known_captions(run)
            _commit(run, staging, task, book)

    for key in ready:
        finish(key)
    for done in run.work("curator", "frames and captions", todo):
        if not staging.has(done.item):
            staging.write(done.item, failed(items[done.item], done.reason))
        finish(done.item)


def _plan(run: Run, media: Sequence[Source]) -> list[Task]:
    """Deal the files to tasks and save the deal before work starts."""
    kept: Mapping[str, Sequence[str]] = (run.state.read(PLAN) or {}).get("tasks", {})
    settings_hash = run.settings.output_hash()
    files = [
        PlannedFile(s.key, s.item.subject_id, s.item.study_id, s.entry.size)
        for s in media
        if s.item is not None
    ]
    tasks = deal(files, lambda keys: run.ids.keyed_hash("task", settings_hash, *keys), kept=kept)
    run.state.write(PLAN, {"tasks": {task.name: list(task.sources) for task in tasks}})
    return tasks


def _known_captions(run: Run) -> set[str]:
    table = run.dataset.arrow("captions").to_table(columns=["caption_id"])
    return set(table.column("caption_id").to_pylist())


def _commit(run: Run, staging: Staging, task: Task, book: _Book) -> None:
    """Private notes first, the task next: a kill in between loses nothing that cannot be made again."""
    for key in task.sources:
        staged = staging.read(key)
        if staged is None:  # damaged by a power cut: the next run makes it again
            staging.drop([key])
            staging.write(key, failed(_item(book.sources[key]), "disk_error"))
            continue
        run.state.withhold((w.caption_id, w.source_key, w.text, w.reason) for w in staged.withheld)
        book.result.withheld += len(staged.withheld)
    _record(run, [(book.sources[key], "ok") for key in task.sources])
    committed = commit_task(run.dataset, task, staging, book.captions)
    _record(run, [(book.sources[key], reason) for key, reason in committed.reasons.items()])
    staging.drop(task.sources)


def _item(source: Source) -> WorkItem:
    if source.item is None:
        raise RuntimeError("only media are staged")
    return source.item


# -- captions that come after their frames ----------------------------------------------------------


def _late_captions(run: Run, staging: Staging, linked: Linked, waiting: set[str], result: PassResult) -> None:
    """Text beside media that are in the dataset already: their task gets rows, no pixel is touched."""
    known = _known_captions(run) | _withheld_captions(run)
    rows = _rows(run)
    items: dict[str, WorkItem] = {}
    for source in linked.sources:
        item = source.item
        if item is None or source.key in waiting or not item.captions:
            continue
        row = rows.get(source.key)
        if row is not None and row.frames and not run_caption_ids(run, item) <= known:
            items[source.key] = captions_only(item)
    if not items:
        return
    run.catalogue.put_work({key: item.to_json() for key, item in items.items()})
    by_task: dict[str, dict[str, dict[str, Any]]] = {}
    for done in run.work("curator", "captions", sorted(items), per_job=_CAPTION_BATCH):
        staged = staging.read(done.item)
        if staged is None:
            continue
        run.state.withhold((w.caption_id, w.source_key, w.text, w.reason) for w in staged.withheld)
        result.withheld += len(staged.withheld)
        fresh = {c["caption_id"]: c for c in staged.captions if c["caption_id"] not in known}
        by_task.setdefault(rows[done.item].task, {}).update(fresh)
        known |= set(fresh)
    manifests = run.dataset.manifests()
    for task, captions in sorted(by_task.items()):
        if captions:
            add_captions(run.dataset, manifests[task], list(captions.values()))
    result.done += len(items)


def captions_only(item: WorkItem) -> WorkItem:
    """The same medium, of which only the captions are wanted."""
    return WorkItem.from_json({**item.to_json(), "captions_only": True})


def run_caption_ids(run: Run, item: WorkItem) -> set[str]:
    """Ids that the captions of a medium have or will have."""
    from usds.curation.captions import Targets, caption_id

    clip = run.ids.clip(item.content) if item.is_clip else None
    targets = Targets(run.ids.frame(item.content, 0), clip, item.study_id)
    return {caption_id(run.ids, linked.caption, targets) for linked in item.captions}


def _withheld_captions(run: Run) -> set[str]:
    with run.state.ledger() as ledger:
        return {row[0] for row in ledger.execute("SELECT caption_id FROM withheld")}


# -- files without frames ---------------------------------------------------------------------------


def _write_rest(run: Run, linked: Linked) -> int:
    """One row for each file that gives no frames itself: sidecars, archives, duplicates, refused files.

    Returns
    -------
    int
        New rows.
    """
    rows = _rows(run)
    written = _caption_counts(run)
    fresh: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for source in linked.sources:
        if source.item is not None:
            continue
        row = _rest_row(source, rows, *written)
        (fresh if source.key not in rows else changed).append(row)
    amend_sources(run.dataset, changed)
    if not fresh:
        return 0
    fresh.sort(key=lambda row: row["source_key"])
    keys = [row["source_key"] for row in fresh]
    name = run.ids.keyed_hash("task", run.settings.output_hash(), *keys)
    generation = shards.manifest_path(run.dataset.root, name).is_file()
    with run.dataset.writer(name, tuple(keys), int(generation)) as writer:
        for row in fresh:
            writer.add_source(row)
        writer.commit()
    reasons = {row["source_key"]: row["reason"] for row in fresh}
    _record(run, [(s, reasons[s.key]) for s in linked.sources if s.key in reasons])
    return len(fresh)


def _rest_row(
    source: Source, rows: Mapping[str, _Row], written: Mapping[str, int], withheld: Mapping[str, int]
) -> dict[str, Any]:
    reason = source.reason
    shown = [target for target in source.targets if target in rows and rows[target].frames > 0]
    if reason == "ok" and source.is_sidecar and not shown and not written.get(source.key, 0):
        reason = "media_unused"  # its pictures are there and were refused: their rows say why
    return source_row(
        source.key, source.entry.kind, reason, captions=written.get(source.key, 0),
        captions_withheld=withheld.get(source.key, 0), duplicate_of=source.duplicate_of,
    )  # fmt: skip


def _caption_counts(run: Run) -> tuple[dict[str, int], dict[str, int]]:
    column = run.dataset.arrow("captions").to_table(columns=["source_key"]).column("source_key")
    counts = pa.chunked_array(column).value_counts() if len(column) else []
    written = {entry["values"].as_py(): entry["counts"].as_py() for entry in counts}
    with run.state.ledger() as ledger:
        query = "SELECT source_key, count(*) FROM withheld GROUP BY source_key"
        return written, dict(ledger.execute(query).fetchall())


# -- ledger -----------------------------------------------------------------------------------------


def _record(run: Run, sources: Iterable[tuple[Source, str]]) -> None:
    run.state.record_sources(
        {
            "source_key": source.key,
            "path": encode_path(source.entry.path),
            "kind": source.entry.kind,
            "size": source.entry.size,
            "mtime_ns": source.entry.mtime_ns,
            "content": source.entry.content or None,
            "subject_id": source.subject_id,
            "reason": reason,
        }
        for source, reason in sources
    )


def _record_paths(run: Run, linked: Linked) -> None:
    """Make the ledger know every path of this scan, also of files that moved or were done by a killed run."""
    with run.state.ledger() as ledger:
        known = set(ledger.execute("SELECT source_key, path FROM sources"))
        ledger.executemany("DELETE FROM sources WHERE source_key = ?", [(k,) for k in linked.superseded])
    rows = _rows(run)
    missing = [s for s in linked.sources if (s.key, encode_path(s.entry.path)) not in known]
    _record(run, [(s, rows[s.key].reason) for s in missing if s.key in rows])
    ReviewFolder.doubted(run.state).sweep(run.state.source_keys())
