"""Cut the work into tasks: explicit lists of files that become one shard each.

A task is named by a keyed hash of its files and of the settings, so the same raw files make the same tasks
whatever the number of workers and wherever the folder lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

__all__ = ["MAX_TASK_BYTES", "MAX_TASK_FILES", "PlannedFile", "Task", "deal", "order"]

MAX_TASK_BYTES = 256 << 20
"""Source bytes of one task: measured best for shards (docs/ingest.md)."""
MAX_TASK_FILES = 2048


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file that shall be worked on.

    Attributes
    ----------
    source_key, subject_id, study_id : str
        Keyed ids.
    size : int
        Bytes.
    """

    source_key: str
    subject_id: str
    study_id: str
    size: int


@dataclass(frozen=True, slots=True)
class Task:
    """One shard to be written: its name and the keys of its files, in the order of their rows."""

    name: str
    sources: tuple[str, ...]


def order(file: PlannedFile) -> tuple[str, str, str]:
    """Rows sort by keyed ids, never by path."""
    return file.subject_id, file.study_id, file.source_key


def deal(
    files: Iterable[PlannedFile],
    name: Callable[[Sequence[str]], str],
    *,
    kept: Mapping[str, Sequence[str]] | None = None,
    max_bytes: int = MAX_TASK_BYTES,
    max_files: int = MAX_TASK_FILES,
) -> list[Task]:
    """Deal files to tasks.

    A subject's files stay together unless they alone pass the limits: withdrawing a subject then rewrites one
    shard, and captions of a study find its frames beside them.

    Parameters
    ----------
    files : iterable of PlannedFile
        What is not in the dataset yet.
    name : function
        Keyed name of a list of source keys.
    kept : mapping of task name to source keys, optional
        The unfinished tasks of a former run; those whose files all still wait are kept as they are.
    max_bytes, max_files : int
        Limits of one task.

    Returns
    -------
    list of Task
        Every file exactly once.
    """
    waiting = {file.source_key: file for file in files}
    tasks: list[Task] = []
    for task, sources in sorted((kept or {}).items()):
        if sources and all(source in waiting for source in sources):
            tasks.append(Task(task, tuple(sources)))
            for source in sources:
                del waiting[source]
    for group in _cut(sorted(waiting.values(), key=order), max_bytes, max_files):
        keys = tuple(file.source_key for file in group)
        tasks.append(Task(name(keys), keys))
    return tasks


def _cut(files: Sequence[PlannedFile], max_bytes: int, max_files: int) -> Iterator[list[PlannedFile]]:
    held: list[PlannedFile] = []
    used = 0
    for _, group in groupby(files, key=lambda file: file.subject_id):
        subject = list(group)
        size = sum(file.size for file in subject)
        if held and (len(held) + len(subject) > max_files or used + size > max_bytes):
            yield held
            held, used = [], 0
        for file in subject:
            if held and (len(held) >= max_files or used + file.size > max_bytes):
                yield held
                held, used = [], 0
            held.append(file)
            used += file.size
    if held:
        yield held
