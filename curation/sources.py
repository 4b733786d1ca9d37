"""What lies below the raw folders: every file once, none followed, none opened.

The scan names files and their size and time only. What a file *is* is told later, from its bytes, in a worker
that may crash.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from usds.schemas.dataset import is_dataset
from usds.schemas.errors import UsageError
from usds.schemas.tables import Reason

__all__ = [
    "MEMBER_MARK",
    "Scan",
    "SourceFile",
    "decode_path",
    "encode_path",
    "refuse_overlap",
    "scan",
    "split_member",
]

MEMBER_MARK = "!/"
"""Stands between the path of an archive and the name of its member."""

_SYSTEM_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "dicomdir", "icon\r", "ntuser.dat"})
_SYSTEM_FOLDERS = frozenset({"__macosx", "$recycle.bin", "system volume information", "@eadir", "lost+found"})


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file as the file system names it.

    Attributes
    ----------
    path : str
        Absolute; for a member of an archive ``archive!/member``.
    relative : str
        Below its raw argument, with forward slashes: what ids are made of, so that moving the raw folder
        changes nothing.
    size, mtime_ns : int
        As the file system says; a file whose pair is known is not read again.
    reason : Reason or None
        Why it is not even opened ("symlink", "ignored", "permission_denied", "unsupported", "empty").
    """

    path: str
    relative: str
    size: int
    mtime_ns: int
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """Result of :func:`scan`: the files, sorted, and how many dataset folders were passed over."""

    files: tuple[SourceFile, ...]
    datasets_skipped: int


def scan(raws: Sequence[Path]) -> Scan:
    """List every file below the raw arguments.

    Parameters
    ----------
    raws : sequence of Path
        Folders or single files. A file below two of them is listed once.

    Raises
    ------
    UsageError
        If one of them does not exist, or cannot be listed.
    """
    found: dict[str, SourceFile] = {}
    skipped = 0
    for raw in raws:
        root = _existing(raw)
        walker = _Walk(root)
        for file in walker:
            found.setdefault(file.path, file)
        skipped += walker.datasets
    return Scan(tuple(sorted(found.values(), key=lambda file: (file.relative, file.path))), skipped)


def _existing(raw: Path) -> Path:
    if not raw.exists():
        raise UsageError(f"no folder or file {raw}: name the folder that holds the raw export")
    if raw.is_dir() and not os.access(raw, os.R_OK | os.X_OK):
        raise UsageError(f"{raw} may not be read: ask for the right to list it")
    return raw.resolve()


def refuse_overlap(raws: Sequence[Path], dataset: Path, state: Path) -> None:
    """Keep what may be handed on, what may not, and the raw files in three separate places.

    Raises
    ------
    UsageError
        If the dataset or the private state lies in a raw folder or one of them in the other.
    """
    places = {"dataset": dataset.resolve(), "private state": state.resolve()}
    for raw in raws:
        root = raw.resolve()
        for name, place in places.items():
            if place == root or place.is_relative_to(root):
                raise UsageError(f"the {name} lies inside {raw}: choose a place outside the raw folder")
            if root.is_relative_to(place):
                raise UsageError(f"{raw} lies inside the {name}: keep raw files outside it")
    if places["private state"].is_relative_to(places["dataset"]):
        raise UsageError("the private state lies inside the dataset: set USDS_STATE to a folder outside it")


class _Walk:
    """Iterate over the files below one root without recursion, symbolic links unfollowed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.datasets = 0

    def __iter__(self) -> Iterator[SourceFile]:
        if not self._root.is_dir():
            info = self._root.stat()
            yield SourceFile(str(self._root), self._root.name, info.st_size, info.st_mtime_ns)
            return
        pending = [(str(self._root), "", False)]
        while pending:
            folder, relative, hidden = pending.pop()
            try:
                if is_dataset(Path(folder)):
                    self.datasets += 1
                    continue
                entries = list(os.scandir(folder))
            except OSError as error:  # one folder that cannot be looked into is one row, not the end
                yield SourceFile(folder, relative, 0, 0, _why(error))
                continue
            for entry in entries:
                below = f"{relative}/{entry.name}" if relative else entry.name
                if entry.is_dir(follow_symlinks=False):
                    system = entry.name.lower() in _SYSTEM_FOLDERS or entry.name.startswith(".")
                    pending.append((entry.path, below, hidden or system))
                else:
                    yield _entry(entry, below, hidden)


def _entry(entry: os.DirEntry[str], relative: str, hidden: bool) -> SourceFile:
    if entry.is_symlink():
        return SourceFile(entry.path, relative, 0, 0, "symlink")
    try:
        info = entry.stat(follow_symlinks=False)
    except OSError as error:
        return SourceFile(entry.path, relative, 0, 0, _why(error))
    return SourceFile(
        entry.path, relative, info.st_size, info.st_mtime_ns, _refusal(entry.name, info, hidden)
    )


def _why(error: OSError) -> Reason:
    """A path longer than the system takes is unreadable for good; the rest may be mended by a right."""
    return "unreadable" if error.errno == errno.ENAMETOOLONG else "permission_denied"


def _refusal(name: str, info: os.stat_result, hidden: bool) -> Reason | None:
    if hidden or name.startswith((".", "~$")) or name.lower() in _SYSTEM_NAMES:
        return "ignored"
    if not stat.S_ISREG(info.st_mode):
        return "unsupported"  # a pipe or a socket: opening it could wait for ever
    return "empty" if info.st_size == 0 else None


def split_member(path: str) -> tuple[Path, str | None]:
    """File on the disk, and the name inside it where that is an archive; a folder may end in the mark too."""
    at = path.find(MEMBER_MARK)
    while at >= 0:
        if Path(path[:at]).is_file():
            return Path(path[:at]), path[at + len(MEMBER_MARK) :]
        at = path.find(MEMBER_MARK, at + 1)
    return Path(path), None


def encode_path(path: str) -> str:
    """Text of a path that a database takes: names that are no Unicode become ``\\x00`` and hexadecimal."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "\x00" + os.fsencode(path).hex()
    return path


def decode_path(text: str) -> str:
    """Inverse of :func:`encode_path`."""
    return os.fsdecode(bytes.fromhex(text[1:])) if text.startswith("\x00") else text
