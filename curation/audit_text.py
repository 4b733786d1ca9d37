"""Audit of every string: harvested identifiers, patterns, keyed ids that are none, open vocabularies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from usds.curation.audit_types import Finding, mask
from usds.curation.audit_values import code_is_known, is_expected, looks_coded
from usds.curation.croissant import croissant
from usds.curation.deid.harvest import IdentifierIndex, Matcher
from usds.curation.settings import IngestSettings
from usds.schemas.dataset import Dataset
from usds.schemas.files import read_json

__all__ = ["TextAuditor", "patterns_in"]

_KEYED: Final = re.compile(r"[a-z2-7]{26}")
_CODES: Final = "header_codes"
_WORD: Final = re.compile(r"[_=.]+")
_MARK: Final = re.compile(r"\[(REMOVED|DATE|AGE|[A-Z]+)\]")
_HASH: Final = re.compile(r"[0-9a-f]{12,64}|[a-z2-7]{16,26}")
_GENERATED: Final = re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-f]{12}|[0-9a-f]{64}|[a-z2-7]{26})(?![0-9A-Za-z])")
"""Fingerprints, hashes and keyed ids inside file names: their digits are no numbers of people."""
_BATCH: Final = 20_000

# Written apart from the scrubber's patterns on purpose: two hands err differently.
_PATTERNS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("mail", re.compile(r"[^\s@]+@[^\s@]+\.[a-z]{2,}", re.IGNORECASE)),
    ("url", re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)),
    ("date", re.compile(r"\b(?:19|20)\d{2}[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])\b")),
    ("date", re.compile(r"\b(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|1[0-2])[-/.](?:19|20)\d{2}\b")),
    ("date", re.compile(r"\b(?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:19|20)\d{2}\b")),
    (
        "date",
        re.compile(
            r"\b\d{1,2}(?:st|nd|rd|th)?[ -](?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?,?"
            r"[ -](?:19|20)\d{2}\b",
            re.IGNORECASE,
        ),
    ),
    ("number", re.compile(r"(?<![\d.])\d{7,}(?![\d.]\d)")),
    ("phone", re.compile(r"(?<!\w)\+\d[\d ()-]{7,}\d")),
    ("titled_name", re.compile(r"\b(?:Dr|Prof|Mrs|Mr|Ms)\.? [A-Z][a-z]{2,}")),
    ("labelled", re.compile(r"\b(?:MRN|DOB|accession|patient (?:name|id))\s*[:#=]\s*\w", re.IGNORECASE)),
)


def patterns_in(text: str) -> Iterator[tuple[str, str]]:
    """(class, value) of everything in ``text`` that is shaped like an identifier."""
    shown = _MARK.sub(" ", text)
    for name, pattern in _PATTERNS:
        for match in pattern.finditer(shown):
            yield f"pattern:{name}", match.group()


class TextAuditor:
    """Reads every string of a dataset.

    Parameters
    ----------
    dataset : Dataset
    index : IdentifierIndex or None
        None: patterns only.

    Attributes
    ----------
    strings, identifiers : int
        How many were read, and compared with.
    subjects : dict
        Subject of every frame, clip and study.
    """

    def __init__(self, dataset: Dataset, index: IdentifierIndex | None) -> None:
        self._dataset = dataset
        self._index = index
        self._matchers: dict[str | None, Matcher] = {}
        self._all = index.matcher_of_all() if index else None
        self._people = index.matcher_of_people() if index else None
        self.identifiers = sum(1 for _ in index.identifiers()) if index else 0
        self.strings = 0
        self.subjects = dataset.subjects()

    def check(self) -> list[Finding]:
        """Findings in all tables and text files."""
        return [*self._names(), *self._tables(), *self._captions(), *self._documents()]

    def _names(self) -> Iterator[Finding]:
        """Names of files and folders: splits, annotation sets and the rest of the dataset directory."""
        root = self._dataset.root
        for path in sorted(root.rglob("*")):
            self.strings += 1
            words = " ".join(word for word in _WORD.split(_shown(path.stem)) if not _HASH.fullmatch(word))
            folder = path.parent.relative_to(root).as_posix()
            yield from self._strangers(f"name of a file or folder in {folder}/", words)
            yield from (
                Finding(klass, f"name of a file or folder in {folder}/", mask(found))
                for klass, found in patterns_in(words)
            )

    def _tables(self) -> Iterator[Finding]:
        sets = self._dataset.annotations
        tables: dict[str, Iterable[pa.RecordBatch]] = {
            name: _batches(self._dataset.arrow(name)) for name in ("frames", "sources")
        }
        for name in sets.names():
            for table in ("annotations", "evidence"):
                tables[f"{table}/set={name}"] = _batches(sets.arrow(table, name))
        tables["splits"] = self._dataset.splits().to_batches()
        for path in sorted((self._dataset.root / "corrections").glob("*.parquet")):
            tables["corrections"] = pq.read_table(path).to_batches()
        for table, batches in tables.items():
            seen: set[tuple[str, str]] = set()
            for batch in batches:
                yield from self._columns(table, batch, seen)

    def _columns(self, table: str, batch: pa.RecordBatch, seen: set[tuple[str, str]]) -> Iterator[Finding]:
        """Distinct values of each column: a value that was judged once needs no second look."""
        yield from self._codes(batch)
        for column in batch.schema.names:
            for value in _strings(batch.column(column)):
                self.strings += 1
                if (column, value) not in seen:
                    if not _is_key_column(column):
                        seen.add((column, value))
                    yield from self._value(table, column, value)

    def _value(self, table: str, column: str, value: str) -> Iterator[Finding]:
        place = f"{table}.{column}"
        if _is_key_column(column):
            if not _KEYED.fullmatch(value):
                yield Finding("not_a_keyed_id", place, mask(value))
            return
        if table.startswith("evidence") and column in ("surface", "cue"):
            yield from self._judge(place, value, self._all)
            return
        expected = is_expected(table.split("/", maxsplit=1)[0], column, value)
        if expected or column == _CODES:
            return
        if expected is False or (table in ("frames", "sources") and not looks_coded(value)):
            yield Finding("open_vocabulary", place, mask(value))
        yield from self._strangers(place, value)
        yield from (Finding(klass, place, mask(found)) for klass, found in _patterns(column, value))

    def _codes(self, batch: pa.RecordBatch) -> Iterator[Finding]:
        """Codes of headers: the words beside them must be the standard's."""
        column = batch.column(_CODES).flatten() if _CODES in batch.schema.names else pa.array([])
        for code in column.to_pylist():
            if not code_is_known(code):
                yield Finding("open_vocabulary", f"frames.{_CODES}", mask(str(code["meaning"])))

    def _captions(self) -> Iterator[Finding]:
        for batch in _batches(self._dataset.arrow("captions")):
            for row in batch.to_pylist():
                for column in ("caption_id", "target_id", "source_key"):
                    self.strings += 1
                    if not _KEYED.fullmatch(row[column]):
                        yield Finding("not_a_keyed_id", f"captions.{column}", mask(row[column]))
                matcher = self._matcher(self.subjects.get(row["target_id"]))
                for column in ("text", "section"):
                    if row[column]:
                        self.strings += 1
                        place = f"captions.{column} {row['caption_id']}"
                        own = list(self._judge(place, row[column], matcher))
                        yield from own or self._strangers(place, row[column])

    def _strangers(self, place: str, value: str) -> Iterator[Finding]:
        """Other patients than the one the text is about."""
        for match in self._people.find(value) if self._people else ():
            yield Finding(match.klass, place, mask(value[match.start : match.end]))

    def _documents(self) -> Iterator[Finding]:
        root = self._dataset.root
        paths = [*root.glob("*.json"), *root.glob("manifests/*.json"), *root.glob("annotations/**/*.json")]
        own = self._own_words()
        for path in sorted(path for path in paths if path.is_file()):
            for value in _leaves(read_json(path)):
                self.strings += 1
                if value not in own and not _HASH.fullmatch(value):
                    yield from self._judge(path.relative_to(root).as_posix(), _shown(value), self._all)

    def _own_words(self) -> set[str]:
        """Whole values that usds itself writes: a folder "jpeg" makes the setting of that name no leak."""
        settings = IngestSettings()
        written = (settings.model_json_schema(), settings.model_dump(), croissant(self._dataset))
        return {value for document in written for value in _leaves(document)}

    def _judge(self, place: str, value: str, matcher: Matcher | None) -> Iterator[Finding]:
        shown = _MARK.sub(lambda mark: " " * len(mark.group()), value)
        for match in matcher.find(shown) if matcher else ():
            yield Finding(match.klass, place, mask(shown[match.start : match.end]))
        yield from (Finding(klass, place, mask(found)) for klass, found in patterns_in(value))

    def _matcher(self, subject: str | None) -> Matcher | None:
        if self._index is None:
            return None
        if subject not in self._matchers:
            if len(self._matchers) > 256:
                self._matchers.clear()
            self._matchers[subject] = self._index.matcher(subject)
        return self._matchers[subject]


def _shown(name: str) -> str:
    """A path or file name with what usds generates blanked out, at the same length."""
    return _GENERATED.sub(lambda found: " " * len(found.group()), name)


def _patterns(column: str, value: str) -> Iterator[tuple[str, str]]:
    """Patterns in a coded column; hashes and code values are long numbers by nature."""
    if column in ("code", "phash", "shard"):
        return
    yield from patterns_in(value)


def _is_key_column(column: str) -> bool:
    return (column.endswith(("_id", "_ids", "_key")) and column != "rule_id") or column == "duplicate_of"


def _batches(dataset: pads.Dataset) -> Iterable[pa.RecordBatch]:
    return dataset.to_batches(batch_size=_BATCH)


def _strings(array: pa.Array) -> Iterator[str]:
    """Every string of a column, however deep in lists and structs."""
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield from (value for value in array.to_pylist() if value is not None)
    elif pa.types.is_list(kind):
        yield from _strings(array.flatten())
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            yield from _strings(child)


def _leaves(value: Any) -> Iterator[str]:
    """Every string value in a JSON document; its keys are code, its numbers settings and counts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in cast("dict[str, Any]", value).values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _leaves(inner)
