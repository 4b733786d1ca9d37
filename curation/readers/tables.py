"""Bytes to text to cells: encodings, and delimited tables whose rows may be ragged, huge or broken."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["MAX_CELL", "ProblemReason", "SidecarProblem", "decode", "records", "table"]

MAX_CELL: Final = 131_072
"""Longest text of one cell or row: the longest of a million public reports has a fifth of it."""
_MAX_LINES: Final = 400
_MAX_UNCLOSED: Final = 20
_MIN_UTF16_ZEROS: Final = 0.3
_UNDEFINED: Final = frozenset(b"\x81\x8d\x8f\x90\x9d")
_DELIMITERS: Final = (",", "\t", ";", "|")
_MEDIA_NAME = re.compile(
    r"[^,;\t|]+\.(?:png|jpe?g|tiff?|bmp|webp|gif|dcm|dicom|ima|mp4|mov|avi|mpe?g|mkv)", re.IGNORECASE
)

ProblemReason = Literal[
    "unclosed_quote", "too_long", "too_many_cells", "not_json", "not_a_record", "too_deep"
]


@dataclass(frozen=True, slots=True)
class SidecarProblem:
    """A row that could not be used: its number (from 1, the header counts), and why. Never its values."""

    row: int
    reason: ProblemReason


def decode(data: bytes) -> str:
    """Decode text of unknown encoding; never fails.

    Byte order marks decide; then UTF-16 where every second byte is zero, UTF-8 where it is valid, else
    Windows-1252, whose undefined bytes are taken as Latin-1.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    elif data.startswith(b"\xef\xbb\xbf"):
        text = data[3:].decode("utf-8", "replace")
    else:
        text = _without_mark(data)
    return text.replace("\0", "")


def _without_mark(data: bytes) -> str:
    head = data[:4096]
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(head) >= 4 and head[start::2].count(0) >= _MIN_UTF16_ZEROS * len(head):
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1" if not _UNDEFINED.isdisjoint(data) else "cp1252")


def records(text: str) -> Iterator[tuple[int, str]]:
    """Non-empty lines with their numbers."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line


def table(text: str) -> tuple[list[str] | None, list[tuple[int, list[str]]], list[SidecarProblem]]:
    """Cut a delimited table into cells.

    Parameters
    ----------
    text : str
        Comma, tab, semicolon or bar between cells; quotes as RFC 4180 has them.

    Returns
    -------
    header : list of str or None
        None for an empty table. A table without header line, told by a picture's name in its first line,
        gets one: the column with the picture is "image", the one with the longest texts "caption".
    rows : list of (line number, cells)
        Ragged rows are kept: missing cells are missing, cells beyond the header are joined to the last.
    problems : list of SidecarProblem
    """
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        return None, [], []
    delimiter = max(_DELIMITERS, key=first.count)
    rows, problems = _cut(lines, delimiter)
    if not rows:
        return None, [], problems
    header = [cell.strip() for cell in rows[0][1]]
    if any(_MEDIA_NAME.fullmatch(cell) for cell in header):
        header = _guess_header([cells for _, cells in rows])
    else:
        rows = rows[1:]
    return header, [(number, _fit(cells, len(header), delimiter)) for number, cells in rows], problems


def _fit(cells: list[str], width: int, delimiter: str) -> list[str]:
    """An unquoted delimiter inside the last column makes too many cells: it belongs to the text."""
    if len(cells) <= width:
        return cells
    return [*cells[: width - 1], delimiter.join(cells[width - 1 :])]


def _guess_header(rows: Sequence[list[str]]) -> list[str]:
    width = max(len(cells) for cells in rows[:50])
    lengths = [sum(len(cells[i]) for cells in rows[:50] if i < len(cells)) for i in range(width)]
    image = next(i for i, cell in enumerate(rows[0]) if _MEDIA_NAME.fullmatch(cell.strip()))
    others = [i for i in range(width) if i != image]
    caption = max(others, key=lengths.__getitem__) if others else None
    return ["image" if i == image else "caption" if i == caption else f"column {i + 1}" for i in range(width)]


def _cut(lines: Sequence[str], delimiter: str) -> tuple[list[tuple[int, list[str]]], list[SidecarProblem]]:
    """Rows, each from one line or, inside quotes, from several; a quote that never closes costs one line."""
    rows: list[tuple[int, list[str]]] = []
    problems: list[SidecarProblem] = []
    index, unclosed = 0, 0
    while index < len(lines):
        if not lines[index].strip():
            index += 1
            continue
        most = _MAX_LINES if unclosed < _MAX_UNCLOSED else 1
        cells, used, reason = _one_row(lines, index, delimiter, most)
        if reason is None:
            rows.append((index + 1, cells))
        else:
            problems.append(SidecarProblem(index + 1, reason))
            unclosed += reason == "unclosed_quote"
        index += used
    return rows, problems


def _one_row(
    lines: Sequence[str], index: int, delimiter: str, most: int
) -> tuple[list[str], int, ProblemReason | None]:
    chunk = ""
    for used in range(1, min(most, len(lines) - index) + 1):
        chunk = f"{chunk}\n{lines[index + used - 1]}" if used > 1 else lines[index]
        if len(chunk) > MAX_CELL:
            return [], used if used == 1 else 1, "too_long" if used == 1 else "unclosed_quote"
        try:
            return next(csv.reader([chunk], delimiter=delimiter, strict=True)), used, None
        except csv.Error as error:
            if "unexpected end of data" not in str(error):
                # A quote in the middle of a cell: read it as the character it is.
                return _lenient(chunk, delimiter), used, None
    return [], 1, "unclosed_quote"


def _lenient(chunk: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"').replace('""', '"') for cell in chunk.split(delimiter)]
