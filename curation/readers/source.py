"""Bytes of a file, read where they are needed."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usds.curation.readers.base import MediaError
from usds.curation.readers.guard import guarded
from usds.curation.readers.limits import ReadLimits


class ByteSource:
    """Random access to a file on disk or to bytes in memory.

    Frames are read with ``pread`` instead of a memory map: mapped pages of a long cine would count
    as the worker's memory.

    Parameters
    ----------
    data : bytes or Path
    limits : ReadLimits

    Raises
    ------
    MediaError
        "empty", "too_large", "permission_denied", "disk_error" or "unreadable".
    """

    def __init__(self, data: bytes | Path, limits: ReadLimits) -> None:
        self._bytes = data if isinstance(data, bytes) else None
        self._fd = -1
        if isinstance(data, Path):
            with guarded("unreadable"):
                self._fd = os.open(data, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self.size = len(self._bytes) if self._bytes is not None else os.fstat(self._fd).st_size
        if self.size == 0 or self.size > limits.max_file_bytes:
            self.close()
            raise MediaError("too_large" if self.size else "empty")

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end of the file."""
        if offset < 0 or length <= 0:
            return b""
        if self._bytes is not None:
            return self._bytes[offset : offset + length]
        length = min(length, self.size - offset)
        parts: list[bytes] = []
        with guarded("disk_error"):
            while length > 0 and (part := os.pread(self._fd, length, offset)):
                parts.append(part)
                offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_array(self, offset: int, length: int) -> NDArray[np.uint8]:
        """Return exactly `length` bytes as a fresh array; "truncated" where the file is shorter."""
        if self._bytes is not None:
            found = np.frombuffer(self._bytes, np.uint8, length, offset).copy()
            return found
        found = np.empty(length, np.uint8)
        with guarded("disk_error"):
            n_read = os.preadv(self._fd, [found.data], offset)
        if n_read < length:  # a signal or a network disk may cut one read short
            rest = np.frombuffer(self.read(offset + n_read, length - n_read), np.uint8)
            if len(rest) < length - n_read:
                raise MediaError("truncated")
            found[n_read:] = rest
        return found

    def read_all(self, limit: int) -> bytes:
        """Return the whole file; "too_large" above `limit` bytes."""
        if self.size > limit:
            raise MediaError("too_large")
        return self._bytes if self._bytes is not None else self.read(0, self.size)

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


class SpanReader(io.RawIOBase):
    """A seekable stream over byte ranges of a source, as if they were joined.

    Gives PyAV the video inside DICOM fragments, and pydicom a header, without copying the file.

    Parameters
    ----------
    source : ByteSource
    spans : sequence of (offset, length)
    max_read : int
        One read of more bytes than this is refused: a damaged length field must not fill the memory.
    """

    def __init__(self, source: ByteSource, spans: Sequence[tuple[int, int]], max_read: int) -> None:
        super().__init__()
        self._source, self._spans, self._max_read = source, list(spans), max_read
        self._size = sum(length for _, length in spans)
        self._at = 0

    def readable(self) -> bool:
        """Tell that reading works."""
        return True

    def seekable(self) -> bool:
        """Tell that seeking works."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move as files do; before the start is an error."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("seek before the start")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return the position in the joined stream."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return up to `size` bytes of the joined ranges."""
        left = max(0, self._size - self._at)
        size = left if size is None or size < 0 else min(size, left)
        if size > self._max_read:
            raise MediaError("too_large")
        parts: list[bytes] = []
        start = 0
        for offset, length in self._spans:
            skip = self._at - start
            if 0 <= skip < length and size > 0:
                part = self._source.read(offset + skip, min(size, length - skip))
                parts.append(part)
                self._at, size = self._at + len(part), size - len(part)
                if not part:
                    break
            start += length
        return parts[0] if len(parts) == 1 else b"".join(parts)
