"""Find the frames inside encapsulated pixel data (PS3.5 A.4), with or without an offset table."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from usds.curation.readers.base import MediaError
from usds.curation.readers.source import ByteSource

_ITEM = b"\xfe\xff\x00\xe0"
_DELIMITER = b"\xfe\xff\xdd\xe0"
_MAX_FRAGMENTS = 2_000_000
# First bytes of a codestream: JPEG and JPEG-LS, JPEG 2000 codestream, JP2 file.
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP")

Span = tuple[int, int]
"""(offset, length) in the source."""


@dataclass(frozen=True, slots=True)
class Encapsulated:
    """The frames of encapsulated pixel data as spans, and where the element ends."""

    frames: tuple[tuple[Span, ...], ...]
    end: int
    truncated: bool


def find_frames(
    source: ByteSource,
    start: int,
    n_frames: int,
    *,
    extended: Sequence[int] = (),
    one_stream: bool = False,
) -> Encapsulated:
    """Group fragments into frames.

    Parameters
    ----------
    source : ByteSource
    start : int
        Offset of the first item, which is the basic offset table.
    n_frames : int
        NumberOfFrames as stated.
    extended : sequence of int, optional
        Values of the Extended Offset Table (7FE0,0001).
    one_stream : bool, optional
        All fragments are one stream (the video syntaxes, PS3.5 8.2.5 and on).

    Returns
    -------
    Encapsulated

    Raises
    ------
    MediaError
        "truncated" where there is no fragment.
    """
    table, fragments, end, truncated = _walk(source, start)
    if not fragments:
        raise MediaError("truncated")
    if one_stream or n_frames == 1:
        return Encapsulated((tuple(fragments),), end, truncated)
    base = fragments[0][0] - 8
    groups = (
        _by_offsets(fragments, extended, base)
        or _by_offsets(fragments, table, base)
        or _one_each(fragments, n_frames)
        or _by_starts(source, fragments)
    )
    return Encapsulated(tuple(groups[:n_frames]), end, truncated or len(groups) < n_frames)


def _walk(source: ByteSource, at: int) -> tuple[list[int], list[Span], int, bool]:
    """Read the item headers; returns (offset table, fragments, end of the element, truncated)."""
    table: list[int] | None = None
    fragments: list[Span] = []
    while len(fragments) <= _MAX_FRAGMENTS:
        head = source.read(at, 8)
        if len(head) < 8 or head[:4] != _ITEM:
            return table or [], fragments, at + 8, head[:4] != _DELIMITER
        length = struct.unpack("<L", head[4:])[0]
        cut = at + 8 + length > source.size
        length = min(length, source.size - at - 8)
        if table is None:
            raw = source.read(at + 8, min(length, 4 * _MAX_FRAGMENTS))
            table = list(struct.unpack(f"<{len(raw) // 4}L", raw[: len(raw) // 4 * 4]))
        elif length > 0:
            fragments.append((at + 8, length))
        if cut:
            return table, fragments, source.size, True
        at += 8 + length
    raise MediaError("decompression_bomb")


def _by_offsets(fragments: list[Span], table: Sequence[int], base: int) -> list[tuple[Span, ...]] | None:
    """Split at the table's offsets, counted from the first fragment's item; None if they do not fit."""
    starts = [offset - 8 - base for offset, _ in fragments]
    known = set(starts)
    if len(table) < 2 or table[0] != 0 or any(entry not in known for entry in table):
        return None
    if any(later <= earlier for earlier, later in pairwise(table)):
        return None
    cuts = [bisect.bisect_left(starts, entry) for entry in table] + [len(fragments)]
    return [tuple(fragments[a:b]) for a, b in pairwise(cuts)]


def _one_each(fragments: list[Span], n_frames: int) -> list[tuple[Span, ...]] | None:
    return [(span,) for span in fragments] if len(fragments) == n_frames else None


def _by_starts(source: ByteSource, fragments: list[Span]) -> list[tuple[Span, ...]]:
    """Begin a frame wherever a fragment begins with a codestream's first bytes."""
    groups: list[list[Span]] = []
    for span in fragments:
        if not groups or source.read(span[0], 6).startswith(_STARTS):
            groups.append([])
        groups[-1].append(span)
    # Run-length data has no signature; PS3.5 A.4.2 gives each of its frames one fragment.
    if len(groups) == 1:
        return [(span,) for span in fragments]
    return [tuple(group) for group in groups]
