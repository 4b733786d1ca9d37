"""The published US-365K as it lies on disk: splits, label records, cases.

``train.jsonl``, ``valid.jsonl`` (some copies say ``val.jsonl``) and ``test.jsonl`` hold {image, caption};
``full_data.json`` holds one record an image with its labels; pictures are called
``{image}_{caption_id}_{uuid}.jpg``. Records name their case in some copies; where they do not, pictures that
share a uuid or a caption id are one case, which can only join cases, never cut one in two.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.udt import Taxonomy

__all__ = [
    "FIELDS",
    "RECORDS",
    "Labels",
    "Pair",
    "Splits",
    "assign_cases",
    "by_case",
    "iter_records",
    "read_labels",
    "read_splits",
]

FIELDS: Final[Mapping[str, str]] = {
    "Body_system_level": "body_system",
    "Organ_level": "organ",
    "Diagnosis": "diagnosis",
    "Shape": "shape",
    "Margins": "margins",
    "Echogenicity": "echogenicity",
    "InternalCharacteristics": "internal_characteristics",
    "PosteriorAcoustics": "posterior_acoustics",
    "Vascularity": "vascularity",
}
"""Key of a published record -> dimension of the bundled taxonomy."""
SIDES: Final = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}
RECORDS: Final = "full_data.json"
_CASE_KEYS: Final = ("case_id", "caseid", "case")
_NAME: Final = re.compile(r"[^_]+_([^_]+)_(.+?)(?:\.\w+)?")
_CHUNK: Final = 1 << 20
_LONGEST_RECORD: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Pair:
    """One line of a split file; :func:`assign_cases` fills ``case`` and ``rule`` (how it was found)."""

    image: str
    caption: str
    side: str
    case: str = ""
    rule: str = ""


@dataclass(slots=True)
class Splits:
    """All pairs of a release, and what could not be used.

    Attributes
    ----------
    pairs : list of Pair
        Sorted by picture.
    files : dict
        Side -> its file.
    bad_lines : dict
        File name -> numbers of the lines that hold no pair.
    repeated : int
        Lines that name a picture a second time.
    """

    pairs: list[Pair] = field(default_factory=list[Pair])
    files: dict[str, Path] = field(default_factory=dict[str, Path])
    bad_lines: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    repeated: int = 0


def read_splits(folder: Path) -> Splits:
    """Read the split files of a release.

    Raises
    ------
    UsageError
        The folder is missing, or holds no training side.
    ContentError
        No line holds a pair.
    """
    if not folder.is_dir():
        raise UsageError(
            f"no folder {folder}: name the one that holds train.jsonl, full_data.json and images/"
        )
    found = Splits()
    for side, names in SIDES.items():
        path = next((p for p in (folder / f"{name}.jsonl" for name in names) if p.is_file()), None)
        if path is not None:
            found.files[side] = path
    if "train" not in found.files:
        raise UsageError(
            f"{folder} has no train.jsonl: name the folder of the release, with train.jsonl, valid.jsonl, "
            "test.jsonl, full_data.json and images/ or images.zip"
        )
    pairs: dict[str, Pair] = {}
    texts: dict[str, str] = {}  # a caption is shared by many frames: one string of it
    for side, path in found.files.items():
        for number, line in _lines(path):
            pair = _pair(line, side, texts)
            if pair is None:
                found.bad_lines.setdefault(path.name, []).append(number)
            elif pair.image in pairs:
                found.repeated += 1
            else:
                pairs[pair.image] = pair
    if not pairs:
        raise ContentError(
            f"no line of {folder}'s split files holds a pair {{image, caption}}: is it US-365K?"
        )
    found.pairs = sorted(pairs.values(), key=lambda pair: pair.image)
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, line


def _pair(line: str, side: str, texts: dict[str, str]) -> Pair | None:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    image: Any = row.get("image") or row.get("media_name")
    caption: Any = row.get("caption")
    if not isinstance(image, str) or not isinstance(caption, str):
        return None
    name = image.replace("\\", "/").rsplit("/", 1)[-1]
    text = " ".join(caption.encode("utf-8", "replace").decode().replace("\0", " ").split())
    return Pair(name, texts.setdefault(text, text), side) if name else None


# -- labels ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Labels:
    """Published labels by picture.

    Attributes
    ----------
    of : dict
        Picture -> label ids (columns of the taxonomy), ascending.
    case : dict
        Picture -> case as the record names it.
    unknown : Counter
        (key of the record, label) that the taxonomy lacks -> how often.
    """

    of: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    case: dict[str, str] = field(default_factory=dict[str, str])
    unknown: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])


def read_labels(path: Path, taxonomy: Taxonomy, wanted: Iterable[str]) -> Labels:
    """Read the label records of some pictures; a record is held no longer than it takes to look it up.

    Raises
    ------
    UsageError
        There is no such file.
    ContentError
        It is no JSON of records.
    """
    if not path.is_file():
        raise UsageError(
            f"{path.parent} has no {path.name}, which holds the published labels: download it too"
        )
    index = {(d, _plain(label)): i for (d, label), i in taxonomy.label_index.items()}
    names = set(wanted)
    # Records without suffix occur: `123_4_abc` for `123_4_abc.jpg`.
    stems = {name.rsplit(".", 1)[0]: name for name in names}
    found = Labels()
    for key, record in iter_records(path):
        media = str(record.get("media_name") or record.get("image") or key).rsplit("/", 1)[-1]
        name = media if media in names else stems.get(media)
        if name is None:
            continue
        found.of[name] = tuple(sorted(_label_ids(record, index, found.unknown)))
        case = _case(record)
        if case:
            found.case[name] = case
    return found


def _label_ids(
    record: Mapping[str, Any], index: Mapping[tuple[str, str], int], unknown: Counter[tuple[str, str]]
) -> set[int]:
    ids: set[int] = set()
    for key, dimension in FIELDS.items():
        for value in _values(record.get(key)):
            column = index.get((dimension, _plain(value)))
            if column is None:
                unknown[key, value] += 1
            else:
                ids.add(column)
    return ids


def _values(value: Any) -> Iterator[str]:
    parts: Sequence[Any] = (
        value.split(";") if isinstance(value, str) else value if isinstance(value, list) else ()
    )
    for part in parts:
        text = " ".join(str(part).split())
        if text:
            yield text


def _plain(label: str) -> str:
    return " ".join(label.split()).casefold()


def _case(record: Mapping[str, Any]) -> str | None:
    for key, value in record.items():
        if key.lower() in _CASE_KEYS and isinstance(value, str | int) and str(value).strip():
            return str(value).strip()
    return None


def iter_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Stream the records of a JSON list, or of an object keyed by picture: (key or "", record).

    The file has hundreds of megabytes; a megabyte and one record are held at a time.

    Raises
    ------
    ContentError
        The file is no such JSON; the message says where.
    """
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        text = _Window(stream)
        opening = text.take()
        if opening not in ("[", "{"):
            raise ContentError(f"{path} is no list of records: download it again")
        keyed = opening == "{"
        while (sign := text.peek()) not in ("]", "}"):
            if sign == ",":
                text.take()
                continue
            key = str(_value(text, decoder, path)) if keyed else ""
            if keyed and text.take() != ":":
                raise ContentError(f"{path}: ':' expected after character {text.place}: download it again")
            if keyed and text.peek() == "[":  # {"data": [...]}
                text.take()
                keyed = False
                continue
            record = _value(text, decoder, path)
            if isinstance(record, dict):
                yield key, record


class _Window:
    """A moving window over a text file."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.text = ""
        self.at = 0
        self._passed = 0

    @property
    def place(self) -> int:
        """Characters read so far."""
        return self._passed + self.at

    def more(self) -> bool:
        """Read on; whether there was more."""
        chunk = self._stream.read(_CHUNK)
        self._passed += self.at
        self.text, self.at = self.text[self.at :] + chunk, 0
        return bool(chunk)

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at].isspace():
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self) -> str:
        """Like :meth:`peek`, and step over it."""
        sign = self.peek()
        self.at += len(sign)
        return sign


def _value(text: _Window, decoder: json.JSONDecoder, path: Path) -> Any:
    """The JSON value that begins here, read on until it is whole."""
    text.peek()
    while True:
        try:
            value, end = decoder.raw_decode(text.text, text.at)
        except (ValueError, RecursionError):
            end = -1
            value = None
        # A value that reaches the end of the window may go on behind it.
        if end >= 0 and end < len(text.text):
            text.at = end
            return value
        if len(text.text) - text.at > _LONGEST_RECORD or not text.more():
            raise ContentError(
                f"{path} breaks off or is damaged after character {text.place}: download it again"
            )


# -- cases ----------------------------------------------------------------------------------------------


def assign_cases(pairs: Sequence[Pair], named: Mapping[str, str]) -> list[Pair]:
    """Give every pair its case: the record's, else what the file names join."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    parts = {pair.image: _NAME.fullmatch(pair.image) for pair in pairs if pair.image not in named}
    for match in parts.values():
        if match is not None:
            parent[root(f"caption {match[1]}")] = root(f"uuid {match[2]}")
    return [
        Pair(pair.image, pair.caption, pair.side, *_case_of(pair.image, named, parts.get(pair.image), root))
        for pair in pairs
    ]


def _case_of(image: str, named: Mapping[str, str], match: re.Match[str] | None, root: Any) -> tuple[str, str]:
    if image in named:
        return f"record {named[image]}", "sidecar"
    if match is not None:
        return str(root(f"uuid {match[2]}")), "file_name"
    return f"file {image}", "file"


def by_case(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """The pairs of each case, cases in order of their name."""
    ordered = sorted(pairs, key=lambda pair: (pair.case, pair.image))
    for _, group in groupby(ordered, key=lambda pair: pair.case):
        yield list(group)
