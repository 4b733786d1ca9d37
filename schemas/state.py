"""The private state: what may never be handed on.

It lies outside the dataset and the raw folders, mode 0700, and holds the key, the plan, the ledger from keyed
ids back to paths and identifiers, the harvest index, withheld captions, review pixels and logs. Deleting it
makes the dataset anonymous to everybody.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sqlite3
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import platformdirs

from usds.schemas.errors import ContentError, UsageError
from usds.schemas.files import atomic_path, read_json, write_json

__all__ = ["DEMO_FINGERPRINT", "State", "fingerprint", "new_key", "read_key_file", "state_folder"]

ENVIRONMENT: Final = "USDS_STATE"
KEY_BYTES: Final = 32
TIMEOUT_S = 60.0  # how long a database waits for another process

_LEDGER = """
CREATE TABLE IF NOT EXISTS sources (source_key TEXT, path TEXT, kind TEXT, size INTEGER, mtime_ns INTEGER,
    content TEXT, subject_id TEXT, reason TEXT, PRIMARY KEY (source_key, path)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sources_by_path ON sources (path);
CREATE INDEX IF NOT EXISTS sources_by_subject ON sources (subject_id);
CREATE TABLE IF NOT EXISTS subjects (subject_id TEXT, klass TEXT, value TEXT,
    PRIMARY KEY (subject_id, klass, value)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS withheld (caption_id TEXT PRIMARY KEY, source_key TEXT, text TEXT, reason TEXT)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS withdrawn (subject_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""


def new_key() -> bytes:
    """A fresh key: 256 random bits."""
    return secrets.token_bytes(KEY_BYTES)


def fingerprint(key: bytes) -> str:
    """What may be published about a key: 16 hexadecimal digits of an HMAC under it."""
    return hmac.new(key, b"usds key fingerprint", sha256).hexdigest()[:16]


def read_key_file(path: Path) -> bytes:
    """Read a key file: 64 hexadecimal digits.

    Raises
    ------
    UsageError
        If the file is missing or holds anything else.
    """
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no readable key file (64 hexadecimal digits)") from error
    if len(key) != KEY_BYTES:
        raise UsageError(f"{path} holds {len(key) * 8} bits, a key has {KEY_BYTES * 8}")
    return key


DEMO_FINGERPRINT: Final = fingerprint(sha256(b"usds demo key: public, for examples and benchmarks").digest())
"""Fingerprint of ``examples/demo.key``, which is public: ids made with it protect nobody."""


def state_folder(dataset_id: str) -> Path:
    """Folder of the private state of a dataset: ``$USDS_STATE`` or the platform's user state folder."""
    base = os.environ.get(ENVIRONMENT)
    return (Path(base) if base else platformdirs.user_state_path("usds", appauthor=False)) / dataset_id


class State:
    """The private state of one dataset; make it with :meth:`create` or :meth:`open`."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self.folder = folder
        self.key = key

    @classmethod
    def create(cls, dataset_id: str, key: bytes | None = None) -> State:
        """Make the state of a new dataset, with a new key unless one is given.

        Raises
        ------
        ContentError
            If the dataset already has a state.
        UsageError
            If the folder cannot be written.
        """
        folder = state_folder(dataset_id)
        if (folder / "key").exists():
            raise ContentError(f"the private state {folder} exists already")
        try:
            for path in (folder, folder / "logs", folder / "review"):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.chmod(0o700)
            state = cls(folder, key or new_key())
            with atomic_path(folder / "key", mode=0o600) as partial:
                partial.touch(mode=0o600)
                partial.write_text(state.key.hex() + "\n", "ascii")
        except OSError as error:
            raise UsageError(
                f"the private state {folder} cannot be written ({error.strerror}): set {ENVIRONMENT} to a "
                "folder of yours"
            ) from error
        return state

    @classmethod
    def open(cls, dataset_id: str, key_fingerprint: str) -> State:
        """Open the state that belongs to a dataset.

        Raises
        ------
        ContentError
            If the key is missing or is not the one that made the dataset.
        """
        folder = state_folder(dataset_id)
        if not (folder / "key").is_file():
            raise ContentError(
                f"the key of this dataset is missing: {folder / 'key'} does not exist. Restore the private "
                f"state, or point {ENVIRONMENT} at the folder that holds it; without it nothing can be "
                "added, located or withdrawn"
            )
        key = read_key_file(folder / "key")
        if fingerprint(key) != key_fingerprint:
            raise ContentError(
                f"the key in {folder} has fingerprint {fingerprint(key)}, the dataset was made with "
                f"{key_fingerprint}: restore that key; ids of another key would not match"
            )
        return cls(folder, key)

    # -- plan and notes -----------------------------------------------------------------------------

    def write(self, name: str, value: Any) -> None:
        """Write a JSON document of the state (0600), atomically."""
        write_json(self.folder / f"{name}.json", value, mode=0o600)

    def read(self, name: str) -> Any | None:
        """Read a JSON document of the state; None when there is none."""
        path = self.folder / f"{name}.json"
        return read_json(path) if path.is_file() else None

    def log(self, name: str, text: str) -> None:
        """Append to a log of the state; one write, so lines of several workers do not mix."""
        path = self.folder / "logs" / f"{name}.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, (text.rstrip("\n") + "\n").encode("utf-8", "backslashreplace"))
        finally:
            os.close(descriptor)

    # -- ledger -------------------------------------------------------------------------------------

    @contextmanager
    def ledger(self) -> Generator[sqlite3.Connection]:
        """The ledger as a SQLite connection; the block is one transaction."""
        path = self.folder / "ledger.sqlite"
        fresh = not path.exists()
        connection = sqlite3.connect(path, timeout=TIMEOUT_S)
        try:
            if fresh:
                path.chmod(0o600)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA secure_delete = ON")  # what is forgotten leaves no bytes
            connection.executescript(_LEDGER)
            with connection:
                yield connection
        finally:
            connection.close()

    def wipe_databases(self) -> None:
        """Have what was deleted from the databases leave the disk, whoever else still has them open.

        Deleted rows are overwritten, but in the write-ahead log of a database the old page stays readable
        until the log is folded in and emptied; SQLite does so by itself only when the last connection closes.

        Raises
        ------
        ContentError
            If another process reads one of them for longer than the time-out.
        """
        for path in sorted(self.folder.glob("*.sqlite")):
            with closing(sqlite3.connect(path, timeout=TIMEOUT_S)) as connection:
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if busy:
                raise ContentError(
                    f"another program reads {path}, so bytes of what was forgotten are still on the "
                    "disk: end it and run the same command again"
                )

    def record_sources(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Record source files: source_key, path, kind, size, mtime_ns, content, subject_id, reason."""
        columns = ("source_key", "path", "kind", "size", "mtime_ns", "content", "subject_id", "reason")
        with self.ledger() as ledger:
            ledger.executemany(
                "INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [tuple(row.get(column) for column in columns) for row in rows],
            )

    def record_subjects(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Record (subject_id, class, value) of what identifies a subject."""
        with self.ledger() as ledger:
            ledger.executemany("INSERT OR IGNORE INTO subjects VALUES (?, ?, ?)", rows)

    def withhold(self, rows: Iterable[tuple[str, str, str, str]]) -> None:
        """Keep withheld captions: (caption_id, source_key, text, reason)."""
        with self.ledger() as ledger:
            ledger.executemany("INSERT OR REPLACE INTO withheld VALUES (?, ?, ?, ?)", rows)

    def known_files(self) -> set[tuple[str, int, int]]:
        """Raw files as the ledger knows them: path, size in bytes, time of change in nanoseconds."""
        with self.ledger() as ledger:
            return set(ledger.execute("SELECT path, size, mtime_ns FROM sources"))

    def source_keys(self) -> set[str]:
        """Keys of all files that the ledger knows."""
        with self.ledger() as ledger:
            return {row[0] for row in ledger.execute("SELECT DISTINCT source_key FROM sources")}

    def locate(self, key: str) -> list[dict[str, Any]]:
        """Rows of the ledger behind a source key or a subject id."""
        with self.ledger() as ledger:
            ledger.row_factory = sqlite3.Row
            rows = ledger.execute(
                "SELECT * FROM sources WHERE source_key = ?1 OR subject_id = ?1 ORDER BY path", (key,)
            ).fetchall()
        return [dict(row) for row in rows]

    def withdrawn(self) -> frozenset[str]:
        """Ids of subjects that withdrew; they are never ingested again."""
        with self.ledger() as ledger:
            return frozenset(row[0] for row in ledger.execute("SELECT subject_id FROM withdrawn"))

    def withdraw(self, subject_ids: Iterable[str]) -> None:
        """Tombstone subjects and forget what identifies them."""
        with self.ledger() as ledger:
            for subject_id in subject_ids:
                ledger.execute("INSERT OR IGNORE INTO withdrawn VALUES (?)", (subject_id,))
                ledger.execute("DELETE FROM subjects WHERE subject_id = ?", (subject_id,))
