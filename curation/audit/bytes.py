"""Audit of raw bytes: identifiers in a file that no reader of its format would show.

What stands in a table beside its columns is searched as `strings` would: plain, in UTF-16, behind Base64.
"""

from __future__ import annotations

import base64
import binascii
import mmap
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from usds.curation.audit.matchers import Finder, found_in
from usds.curation.audit.patterns import shown
from usds.curation.audit.types import Finding

__all__ = ["check_bytes", "runs"]

_WINDOW: Final = 4 << 20
_OVERLAP: Final = 4096
_SHORTEST: Final = 4
# A string in Parquet stands behind its length, four bytes that may look like a letter and three NUL.
_SPLIT: Final = re.compile("(?:.\\x00{3})|[\\x00-\\x1f\\x7f-\\x9f\ufffd]+", re.DOTALL)
_UTF16: Final = (
    ("utf-16-le", re.compile(rb"(?:[\x20-\x7e\xa0-\xff]\x00){4,}")),
    ("utf-16-be", re.compile(rb"(?:\x00[\x20-\x7e\xa0-\xff]){4,}")),
)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")


def runs(data: bytes) -> Iterator[str]:
    """Everything in ``data`` that can be read: runs of four characters and more."""
    plain = [run for run in _SPLIT.split(data.decode("utf-8", "replace")) if len(run) >= _SHORTEST]
    yield from plain
    for encoding, pattern in _UTF16:
        yield from (match.group().decode(encoding) for match in pattern.finditer(data))
    for run in plain:
        for match in _BASE64.finditer(run):
            if (hidden := _decoded(match.group())) is not None:
                yield hidden


def _decoded(text: str) -> str | None:
    try:
        data = base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_")
        decoded = data.decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    return decoded if decoded.isprintable() else None


def check_bytes(
    path: Path, place: str, people: Finder, ranges: Iterable[tuple[int, int]]
) -> Iterator[Finding]:
    """Identifiers of people in the raw bytes of a file.

    Parameters
    ----------
    path : Path
    place : str
        How findings name it.
    people : Finder
    ranges : iterable of (int, int)
        Half-open places that are searched.
    """
    if path.stat().st_size == 0:
        return
    found: set[Finding] = set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for start, end in ranges:
            for at in range(start, end, _WINDOW):
                for run in runs(data[at : min(end, at + _WINDOW + _OVERLAP)]):
                    found.update(found_in(shown(run), people, place))
    yield from sorted(found, key=lambda one: (one.klass, one.masked))
