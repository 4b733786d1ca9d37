"""Audit of every string of every table: identifiers, patterns, ids that are not keyed, open vocabularies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usds.curation.audit.files import TableFile, table_files
from usds.curation.audit.matchers import Finder, Matchers, found_in
from usds.curation.audit.parquet import string_arrays
from usds.curation.audit.patterns import patterns_in, without_marks
from usds.curation.audit.types import UNREADABLE, Finding, mask
from usds.curation.audit.values import code_is_known, is_expected, looks_coded
from usds.schemas.dataset import Dataset
from usds.schemas.errors import UsdsError
from usds.taxonomy.udt import load_taxonomy

__all__ = ["TextAuditor"]

_KEYED: Final = re.compile(r"[a-z2-7]{26}")
_CODES: Final = "header_codes"
_BATCH: Final = 20_000
_MOST_SEEN: Final = 50_000
"""Values of one column that are remembered as judged."""
_LABELLED: Final = frozenset({"dimension", "label", "negated", "uncertain"})
_ABOUT: Final = ("frame_id", "clip_id", "study_id")


class TextAuditor:
    """Reads every string of the tables of a dataset.

    Parameters
    ----------
    dataset : Dataset
    matchers : Matchers
    withdrawn : set of str
        Subjects that must not be there any more.

    Attributes
    ----------
    strings : int
        How many were read.
    """

    def __init__(self, dataset: Dataset, matchers: Matchers, withdrawn: frozenset[str] = frozenset()) -> None:
        self._dataset = dataset
        self._matchers = matchers
        self._withdrawn = withdrawn
        self._subjects: dict[str, str] = {}
        self._labels = {name: _vocabulary(dataset, name) for name in dataset.annotations.names()}
        self.strings = 0

    def check(self) -> Iterator[Finding]:
        """Findings in all tables but the images, file by file; of a damaged file those before the damage."""
        seen: dict[tuple[str, str], set[str]] = {}
        for file in table_files(self._dataset):
            if file.table == "images":
                continue
            try:
                for batch in _batches(self._dataset, file):
                    yield from self._columns(file.table, batch, seen)
            except UNREADABLE:
                yield Finding("damaged_file", file.path, "")

    def _columns(
        self, table: str, batch: pa.RecordBatch, seen: dict[tuple[str, str], set[str]]
    ) -> Iterator[Finding]:
        """Distinct values of each column: a value that was judged once needs no second look."""
        yield from self._codes(batch)
        prose = table == "captions"
        if prose:
            yield from self._captions(batch)
        for column in batch.schema.names:
            if prose and column in ("text", "section"):
                continue
            judged = seen.setdefault((table, column), set())
            for value in _strings(batch.column(column)):
                self.strings += 1
                if value not in judged:
                    if len(judged) > _MOST_SEEN:
                        judged.clear()
                    judged.add(value)
                    yield from self._value(table, column, value)

    def _value(self, table: str, column: str, value: str) -> Iterator[Finding]:
        place = f"{table}.{column}"
        if _is_key_column(column):
            if not _KEYED.fullmatch(value):
                yield Finding("not_a_keyed_id", place, mask(value))
            elif value in self._withdrawn:
                yield Finding("withdrawn_subject", place, mask(value))
            return
        if table.startswith("evidence") and column in ("surface", "cue"):
            yield from self._judge(place, value, self._matchers.everybody)
            return
        if (is_label := self._is_label(table, column, value)) is not None:
            if not is_label:
                yield Finding("open_vocabulary", place, mask(value))
                yield from self._strangers(place, value)
            return
        expected = is_expected(table.split("/", maxsplit=1)[0], column, value)
        if expected or column == _CODES:
            return
        if expected is False or (table in ("frames", "sources") and not looks_coded(value)):
            yield Finding("open_vocabulary", place, mask(value))
        yield from self._strangers(place, value)
        yield from (Finding(klass, place, mask(found)) for klass, found in _patterns(column, value))

    def _is_label(self, table: str, column: str, value: str) -> bool | None:
        """Whether a label is one of the taxonomy that lies beside it; None in columns of anything else."""
        kind, _, name = table.partition("/set=")
        labels = self._labels.get(name)
        if labels is None or not (column in _LABELLED or (kind == "annotations" and column in labels)):
            return None
        return value in labels

    def _codes(self, batch: pa.RecordBatch) -> Iterator[Finding]:
        """Codes of headers: the words beside them must be the standard's."""
        column = batch.column(_CODES).flatten() if _CODES in batch.schema.names else pa.array([])
        for code in column.to_pylist():
            if not code_is_known(code):
                yield Finding("open_vocabulary", f"frames.{_CODES}", mask(str(code["meaning"])))

    def _captions(self, batch: pa.RecordBatch) -> Iterator[Finding]:
        rows = batch.to_pylist()
        subjects = self._subjects_of({row["target_id"] for row in rows})
        for row in rows:
            matcher = self._matchers.of(subjects.get(row["target_id"]))
            for column in ("text", "section"):
                if row[column]:
                    self.strings += 1
                    place = f"captions.{column} {_key(row['caption_id'])}"
                    own = list(self._judge(place, row[column], matcher))
                    yield from own or self._strangers(place, row[column])

    def _subjects_of(self, targets: set[str]) -> Mapping[str, str]:
        """Subject of each frame, clip or study: of the last batch, or looked up among all frames."""
        wanted = targets - self._subjects.keys()
        if wanted:
            self._subjects = {key: self._subjects[key] for key in targets & self._subjects.keys()}
            values = pa.array(sorted(wanted), pa.string())
            for file in table_files(self._dataset, only="frames"):
                for batch in _readable(self._dataset, file):
                    for column in _ABOUT:
                        mine = batch.filter(_compute.is_in(batch.column(column), value_set=values))
                        self._subjects.update(
                            zip(
                                mine.column(column).to_pylist(),
                                mine.column("subject_id").to_pylist(),
                                strict=True,
                            )
                        )
        return self._subjects

    def _strangers(self, place: str, value: str) -> Iterator[Finding]:
        """Other patients than the one the text is about."""
        return found_in(value, self._matchers.people, place)

    def _judge(self, place: str, value: str, matcher: Finder | None) -> Iterator[Finding]:
        yield from found_in(without_marks(value), matcher, place)
        yield from (Finding(klass, place, mask(found)) for klass, found in patterns_in(value))


def _vocabulary(dataset: Dataset, name: str) -> frozenset[str] | None:
    """Labels and dimensions of an annotation set; None where its taxonomy cannot be read."""
    try:
        taxonomy = load_taxonomy(dataset.annotations.taxonomy_path(name))
    except (UsdsError, OSError):
        return None
    labels = (label for dimension in taxonomy.dimension_names for label in taxonomy.vocabulary(dimension))
    return frozenset([*taxonomy.dimension_names, *labels])


_compute: Any = pc  # its functions are made at run time, no checker sees them


def _batches(dataset: Dataset, file: TableFile) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(dataset.root / file.path) as shard:
        yield from shard.iter_batches(batch_size=_BATCH)


def _readable(dataset: Dataset, file: TableFile) -> Iterator[pa.RecordBatch]:
    """What can be read of a file whose damage is reported elsewhere."""
    try:
        yield from _batches(dataset, file)
    except UNREADABLE:
        return


def _key(value: str) -> str:
    """A keyed id as part of a place; anything else may be a name."""
    return value if _KEYED.fullmatch(value) else mask(value)


def _patterns(column: str, value: str) -> Iterator[tuple[str, str]]:
    """Patterns in a coded column; hashes and code values are long numbers by nature."""
    if column in ("code", "phash", "shard"):
        return
    yield from patterns_in(value)


def _is_key_column(column: str) -> bool:
    return (column.endswith(("_id", "_ids", "_key")) and column != "rule_id") or column == "duplicate_of"


def _strings(array: pa.Array) -> Iterable[str]:
    """Distinct strings of a column of one batch."""
    for strings in string_arrays(array):
        if not pa.types.is_dictionary(strings.type):
            yield from (value for value in strings.unique().to_pylist() if value is not None)
