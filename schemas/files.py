"""Files that are either whole or not there: write beside, fsync, rename."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from usds.schemas.errors import UsageError

__all__ = [
    "atomic_path",
    "canonical_json",
    "file_sha256",
    "make_folder",
    "partial_path",
    "publish",
    "read_json",
    "remove_leftovers",
    "write_json",
]

_PARTIAL = ".partial-"


def partial_path(path: Path) -> Path:
    """Name beside ``path`` under which this process writes it; :func:`publish` gives it its own name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{_PARTIAL}{os.getpid()}-{path.name}")


def publish(partial: Path, path: Path, *, mode: int = 0o644) -> None:
    """Sync ``partial``, rename it to ``path``, sync the folder.

    A kill or a power cut leaves the old file or the new one, never a mixture.
    """
    os.chmod(partial, mode)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(partial, path)
    _sync_folder(path.parent)


@contextmanager
def atomic_path(path: Path, *, mode: int = 0o644) -> Generator[Path]:
    """Yield a path beside ``path`` that replaces it when the block ends well; on an error nothing stays."""
    partial = partial_path(path)
    try:
        yield partial
        publish(partial, path, mode=mode)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def make_folder(folder: Path) -> Path:
    """Make a folder to write to, before the work whose result goes there is done.

    Raises
    ------
    UsageError
        Its path is a file, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise UsageError(f"{folder} cannot be written ({reason}): name another place with --out") from error
    return folder


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> int:
    """Remove partial files that a killed process left below ``folder``; return how many.

    Call it only while holding the writer's lock: another writer's partial files look the same.
    """
    leftovers = list(folder.rglob(f"{_PARTIAL}*")) if folder.is_dir() else []
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Write ``value`` as sorted, indented JSON, atomically."""
    with atomic_path(path, mode=mode) as partial:
        partial.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text("utf-8"))


def canonical_json(value: Any) -> bytes:
    """Bytes that are the same for equal values: sorted keys, no white space, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
