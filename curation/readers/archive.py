"""Zip archives, member by member in memory: nothing is ever unpacked to disk."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, cast

from usds.curation.readers.base import MediaError, MediaReason
from usds.curation.readers.guard import guarded
from usds.curation.readers.limits import ReadLimits
from usds.curation.readers.source import ByteSource, SpanReader

_CHUNK = 1 << 20
_ENCRYPTED = 0x1
_SMALL = 1 << 20
# Other containers inside a zip are archives too, and are not opened either.
_NESTED_MAGIC = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!",
    b"\x1f\x8b\x08",
    b"\xfd7zXZ\0",
    b"BZh",
)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive.

    Attributes
    ----------
    name : str
        Path inside the archive, with "/"; may hold identifiers, like any path below a raw folder.
    size : int
        Unpacked size as the archive states it.
    reason : MediaReason or None
        Why it cannot be read; None where it can.
    """

    name: str
    size: int
    reason: MediaReason | None


class Archive:
    """A zip archive that was found sound as a whole.

    Parameters
    ----------
    data : bytes or Path
    limits : ReadLimits

    Raises
    ------
    MediaError
        "unreadable"; "decompression_bomb" where members number or measure more than the limits.
    """

    def __init__(self, data: bytes | Path, limits: ReadLimits) -> None:
        self._limits = limits
        self._source = ByteSource(data, limits)
        stream = SpanReader(self._source, [(0, self._source.size)], limits.max_memory_file_bytes)
        try:
            with guarded("unreadable"):
                self._zip = zipfile.ZipFile(cast(Any, stream))
                self._infos = [info for info in self._zip.infolist() if not info.is_dir()]
            self._check_whole()
        except MediaError:
            self._source.close()
            raise

    def _check_whole(self) -> None:
        too_many = len(self._infos) > self._limits.max_archive_members
        if too_many or sum(info.file_size for info in self._infos) > self._limits.max_archive_bytes:
            raise MediaError("decompression_bomb")
        # Members that share packed bytes are how a small archive claims a large content.
        spans = sorted((info.header_offset, info.compress_size) for info in self._infos)
        if any(first[0] + first[1] > later[0] for first, later in pairwise(spans)):
            raise MediaError("decompression_bomb")

    def members(self) -> Iterator[Member]:
        """Yield every file in the archive's order, with the reason of those that are refused."""
        for info in self._infos:
            yield Member(info.filename, info.file_size, self._refusal(info))

    def _refusal(self, info: zipfile.ZipInfo) -> MediaReason | None:
        ratio = info.file_size / max(info.compress_size, 1)
        checks: tuple[tuple[bool, MediaReason], ...] = (
            (_is_unsafe(info), "unsafe_archive"),
            (bool(info.flag_bits & _ENCRYPTED), "encrypted"),
            (info.file_size > self._limits.max_memory_file_bytes, "too_large"),
            (info.file_size > _SMALL and ratio > self._limits.max_archive_ratio, "decompression_bomb"),
            (info.file_size == 0, "empty"),
        )
        return next((reason for failed, reason in checks if failed), None)

    def read(self, name: str) -> bytes:
        """Return the bytes of a member.

        Parameters
        ----------
        name : str
            `Member.name`.

        Raises
        ------
        MediaError
            The member's own reason, "nested_archive", or "unreadable" where its checksum is wrong.
        """
        with guarded("unreadable"):
            info = self._zip.getinfo(name)
            if reason := self._refusal(info):
                raise MediaError(reason)
            data = self._unpack(info)
        if data.startswith(_NESTED_MAGIC):
            raise MediaError("nested_archive")
        return data

    def _unpack(self, info: zipfile.ZipInfo) -> bytes:
        """Read in steps: the stated size may be a lie, the limit holds for what really comes out."""
        parts: list[bytes] = []
        total = 0
        limit = min(info.file_size, self._limits.max_memory_file_bytes)
        with self._zip.open(info) as member:
            while part := member.read(_CHUNK):
                total += len(part)
                if total > limit:
                    raise MediaError("decompression_bomb")
                parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the archive."""
        self._zip.close()
        self._source.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _is_unsafe(info: zipfile.ZipInfo) -> bool:
    """Absolute paths, drives, parents and links point outside; nothing is unpacked, but names are used."""
    name = info.orig_filename.replace("\\", "/")
    path = PurePosixPath(name)
    is_link = stat.S_ISLNK(info.external_attr >> 16)
    return is_link or path.is_absolute() or ".." in path.parts or ":" in name[:2] or "\0" in name
