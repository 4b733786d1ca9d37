"""What is known of every raw file: kept in the private state, so that a known file is not read again.

One row a path, filled by the first pass: what the file is, its content hash, what its header says and
identifies. Workers write rows; keys of rows, never their content, cross the process line.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from usds.curation.sources import MEMBER_MARK, SourceFile, decode_path, encode_path

__all__ = ["Catalogue", "Entry", "Probe"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS files (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, relative TEXT NOT NULL,
    archive INTEGER, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, seen INTEGER NOT NULL,
    stamp TEXT, kind TEXT, reason TEXT, content TEXT, facts TEXT, identifiers TEXT, source_key TEXT,
    subject_id TEXT);
CREATE INDEX IF NOT EXISTS files_by_archive ON files (archive);
CREATE INDEX IF NOT EXISTS files_by_key ON files (source_key);
CREATE TABLE IF NOT EXISTS gone (source_key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS work (source_key TEXT PRIMARY KEY, item TEXT NOT NULL) WITHOUT ROWID;
"""
_COLUMNS: Final = "id, path, relative, archive, size, mtime_ns, kind, reason, content, facts, source_key"


@dataclass(slots=True)
class Probe:
    """What the first pass finds out about one file.

    Attributes
    ----------
    kind : str
        By content: "dicom", "image", "video", "sr", "text", "json", "jsonl", "csv", "zip", "unknown".
    reason : str
        "ok", or why the file is refused.
    content : str
        SHA-256 of the bytes; empty where they could not be read.
    facts : dict
        JSON values: identity and geometry of a medium, rows of a sidecar, members of an archive.
    identifiers : list of (value, class, cue)
    """

    kind: str
    reason: str = "ok"
    content: str = ""
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    identifiers: list[tuple[str, str, str | None]] = field(default_factory=list[tuple[str, str, str | None]])


@dataclass(slots=True)
class Entry:
    """One row of the catalogue: a file of this run; ``old_key`` is its source key of the last run."""

    id: int
    path: str
    relative: str
    archive: int | None
    size: int
    mtime_ns: int
    kind: str
    reason: str
    content: str
    facts: dict[str, Any]
    old_key: str | None

    @property
    def member(self) -> str | None:
        """Name inside the archive, for a member of one."""
        return self.path.split(MEMBER_MARK, 1)[1] if self.archive is not None else None

    @property
    def disk_path(self) -> Path:
        """The file to open: of a member, its archive."""
        return Path(self.path.split(MEMBER_MARK, 1)[0] if self.archive is not None else self.path)


class Catalogue:
    """The catalogue as a database that several workers may write.

    Parameters
    ----------
    folder : Path
        The private state.
    stamp : str
        What a probe depends on besides the file (reader version, limits); rows of another stamp are stale.
    """

    def __init__(self, folder: Path, stamp: str) -> None:
        path = folder / "catalogue.sqlite"
        path.touch(mode=0o600, exist_ok=True)
        self._stamp = stamp
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
        # Everything here can be found out again from the raw files: no need to wait for the disk.
        # What is forgotten leaves no bytes.
        for pragma in ("journal_mode = WAL", "synchronous = OFF", "secure_delete = ON"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)
        row = self._db.execute("SELECT max(seen) FROM files").fetchone()
        self._run: int = row[0] or 0

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    # -- scan ---------------------------------------------------------------------------------------

    def note_scan(self, files: Sequence[SourceFile]) -> None:
        """Begin a run: remember its files; those whose size and time are known keep what is known of them."""
        self._run += 1
        rows = [
            {
                "path": encode_path(file.path), "relative": encode_path(file.relative), "size": file.size,
                "mtime": file.mtime_ns, "run": self._run, "reason": file.reason,
                "stamp": f"scan:{file.reason}" if file.reason else self._stamp,
            }
            for file in files
        ]  # fmt: skip
        with self._transaction():
            self._db.executemany(_NOTE, rows)
            # A member lives as long as its archive is there and unchanged.
            self._db.execute(
                "UPDATE files SET seen = ?1 WHERE archive IN (SELECT id FROM files WHERE seen = ?1 "
                "AND stamp = ?2)",
                (self._run, self._stamp),
            )

    def add_members(self, archive: int, members: Iterable[tuple[str, int, str | None]]) -> None:
        """Add the files of an archive: (name, unpacked size, reason of refusal or None)."""
        path, relative, mtime = self._db.execute(
            "SELECT path, relative, mtime_ns FROM files WHERE id = ?", (archive,)
        ).fetchone()
        rows = [
            (
                f"{path}{MEMBER_MARK}{name}", f"{relative}{MEMBER_MARK}{name}", archive, size, mtime,
                self._run, self._stamp if reason else None, "unknown" if reason else None, reason,
            )
            for name, size, reason in members
        ]  # fmt: skip
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO gone SELECT source_key FROM files WHERE archive = ? "
                "AND source_key IS NOT NULL",
                (archive,),
            )
            self._db.execute("DELETE FROM files WHERE archive = ?", (archive,))
            self._db.executemany(
                "INSERT OR IGNORE INTO files (path, relative, archive, size, mtime_ns, seen, stamp, kind, "
                "reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

    def to_probe(self) -> list[int]:
        """Rows of this run that the first pass has not filled."""
        rows = self._db.execute(
            "SELECT id FROM files WHERE seen = ? AND stamp IS NULL ORDER BY relative, path", (self._run,)
        )
        return [row[0] for row in rows]

    def forget_probe(self, ids: Iterable[int]) -> None:
        """Have files read again (a retry)."""
        with self._transaction():
            self._db.executemany("UPDATE files SET stamp = NULL WHERE id = ?", [(i,) for i in ids])

    def forget_paths(self, source_keys: Iterable[str]) -> None:
        """Forget all that is known of some files (their subject withdrew)."""
        with self._transaction():
            self._db.executemany("DELETE FROM files WHERE source_key = ?", [(key,) for key in source_keys])
            self._db.execute("DELETE FROM work")

    # -- probes -------------------------------------------------------------------------------------

    def entry(self, row_id: int) -> Entry:
        """One row."""
        return _entry(self._db.execute(f"SELECT {_COLUMNS} FROM files WHERE id = ?", (row_id,)).fetchone())

    def entries(self) -> Iterator[Entry]:
        """All files of this run, in the order of their names."""
        with closing(self._db.cursor()) as cursor:
            query = f"SELECT {_COLUMNS} FROM files WHERE seen = ? ORDER BY relative, path"
            for row in cursor.execute(query, (self._run,)):
                yield _entry(row)

    def save_probe(self, row_id: int, probe: Probe, *, size: int, mtime_ns: int) -> None:
        """Fill a row; ``size`` and ``mtime_ns`` are those at the time of reading."""
        self._db.execute(
            "UPDATE files SET stamp = ?, kind = ?, reason = ?, content = ?, facts = ?, identifiers = ?, "
            "size = ?, mtime_ns = ? WHERE id = ?",
            (
                self._stamp, probe.kind, probe.reason, probe.content, json.dumps(probe.facts),
                json.dumps(probe.identifiers), size, mtime_ns, row_id,
            ),
        )  # fmt: skip

    def is_unfilled(self, row_id: int) -> bool:
        """Whether no worker filled a row."""
        return self._db.execute("SELECT stamp IS NULL FROM files WHERE id = ?", (row_id,)).fetchone()[0] == 1

    def save_failure(self, row_id: int, reason: str) -> None:
        """Fill a row whose first pass ended in a reason (a crash, a time-out, an error)."""
        self._db.execute(
            "UPDATE files SET stamp = ?, kind = coalesce(kind, 'unknown'), reason = ?, facts = NULL, "
            "identifiers = NULL WHERE id = ?",
            (self._stamp, reason, row_id),
        )

    def identifiers(self) -> Iterator[tuple[Entry, str | None, list[tuple[str, str, str | None]]]]:
        """Every file ever seen, whose it is, and what its header identifies."""
        query = f"SELECT {_COLUMNS}, subject_id, identifiers FROM files ORDER BY id"
        for row in self._db.execute(query):
            found = json.loads(row[-1]) if row[-1] else []
            yield _entry(row[:-2]), row[-2], [(value, klass, cue) for value, klass, cue in found]

    def gone(self) -> set[str]:
        """Keys of members that a changed archive no longer has in this form."""
        return {row[0] for row in self._db.execute("SELECT source_key FROM gone")}

    def save_keys(self, keys: Mapping[int, tuple[str, str | None]]) -> None:
        """Remember the source key and the subject of rows; what stood there before has been superseded."""
        with self._transaction():
            self._db.execute("DELETE FROM gone")
            self._db.executemany(
                "UPDATE files SET source_key = ?, subject_id = ? WHERE id = ?",
                [(*value, row) for row, value in keys.items()],
            )

    def save_subjects(self, subjects: Mapping[int, str | None]) -> bool:
        """Remember whose file each row is, for the harvest; whether anything changed."""
        before = self._db.total_changes
        with self._transaction():
            self._db.executemany(
                "UPDATE files SET subject_id = ?1 WHERE id = ?2 AND subject_id IS NOT ?1",
                [(who, row) for row, who in subjects.items()],
            )
        return self._db.total_changes > before

    # -- work items of the second pass --------------------------------------------------------------

    def put_work(self, items: Mapping[str, Mapping[str, Any]]) -> None:
        """Say what the workers shall do, by source key."""
        with self._transaction():
            self._db.execute("DELETE FROM work")
            self._db.executemany(
                "INSERT INTO work VALUES (?, ?)", [(key, json.dumps(item)) for key, item in items.items()]
            )

    def work(self, source_key: str) -> dict[str, Any]:
        """One work item."""
        row = self._db.execute("SELECT item FROM work WHERE source_key = ?", (source_key,)).fetchone()
        return json.loads(row[0])

    def _transaction(self) -> sqlite3.Connection:
        self._db.execute("BEGIN IMMEDIATE")
        return self._db


_NOTE: Final = """
INSERT INTO files (path, relative, size, mtime_ns, seen, stamp, kind, reason)
VALUES (:path, :relative, :size, :mtime, :run, CASE WHEN :reason IS NULL THEN NULL ELSE :stamp END,
    'unknown', :reason)
ON CONFLICT (path) DO UPDATE SET seen = excluded.seen, relative = excluded.relative,
    reason = CASE WHEN size = excluded.size AND mtime_ns = excluded.mtime_ns AND stamp = :stamp
        THEN reason ELSE :reason END,
    stamp = CASE WHEN size = excluded.size AND mtime_ns = excluded.mtime_ns AND stamp = :stamp
        THEN stamp WHEN :reason IS NULL THEN NULL ELSE :stamp END,
    size = excluded.size, mtime_ns = excluded.mtime_ns
"""


def _entry(row: Sequence[Any]) -> Entry:
    row_id, path, relative, archive, size, mtime, kind, reason, content, facts, key = row
    return Entry(
        row_id, decode_path(path), decode_path(relative), archive, size, mtime, kind or "unknown",
        reason or "ok", content or "", json.loads(facts) if facts else {}, key,
    )  # fmt: skip
