"""Image-text pairs of a dataset as arrays: what is trained on, and what evaluation looks at.

One query joins frames, annotations, captions and the split. Pixels stay in the shards.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as _compute

from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.graph import LabelBatch, pack_columns
from usds.taxonomy.udt import Taxonomy

# pyarrow makes these functions at import time, which no type checker sees.
pc: Any = _compute

__all__ = ["Counts", "Records", "caption_number", "dataset_taxonomy", "load_records", "record_labels"]

Ints = npt.NDArray[np.int64]

_QUERY: Final = """
SELECT f.frame_id, f.subject_id, f.study_id, f.phash, f.duplicate_of, f.mode, c.text,
       coalesce(s.split, 'unsplit') AS split, a.* EXCLUDE (frame_id, negated, uncertain, source_caption_ids)
FROM frames f
LEFT JOIN annotations a USING (frame_id)
LEFT JOIN captions c ON c.caption_id = a.caption_id
LEFT JOIN (SELECT subject_id, split FROM splits WHERE name = $name) s USING (subject_id)
ORDER BY f.frame_id
"""


@dataclass(frozen=True)
class Counts:
    """How many frames a selection kept and why the others are not in it."""

    frames: int
    kept: int
    without_caption: int
    other_mode: int
    other_side: int
    left_out: int = 0

    def sentence(self) -> str:
        """The counts in words."""
        parts = [
            (self.without_caption, "without a caption"),
            (self.other_mode, "of other image modes"),
            (self.left_out, "with unreadable pixels"),
        ]
        missing = ", ".join(f"{number} {why}" for number, why in parts if number)
        return f"{self.kept} of {self.frames} frames" + (f" (not used: {missing})" if missing else "")


@dataclass(frozen=True, eq=False)
class Records:
    """N image-text pairs, sorted by frame id.

    Attributes
    ----------
    frame_ids : tuple of str
        The frames.
    subjects, studies, captions : int64 (N,)
        Numbers that are equal where subject, study or normalised caption are equal. ``captions`` is a hash
        of the text and hence the same in every process; the other two number the values in this table.
    texts : tuple of str
        The caption of each frame.
    sides : tuple of str
        Side of the split: train, valid, test, excluded or unsplit.
    subject_ids, phash, duplicate_of : tuple
        As in the frames table, for the leakage gate.
    labels : LabelBatch
        Present labels, packed.
    counts : Counts
        What was left out.
    """

    frame_ids: tuple[str, ...]
    subjects: Ints
    studies: Ints
    captions: Ints
    texts: tuple[str, ...]
    sides: tuple[str, ...]
    subject_ids: tuple[str, ...]
    phash: tuple[str, ...]
    duplicate_of: tuple[str | None, ...]
    labels: LabelBatch
    counts: Counts = field(repr=False)

    def __len__(self) -> int:
        return len(self.frame_ids)

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(np.unique(self.subjects))

    def take(self, rows: npt.NDArray[np.intp] | Ints) -> Records:
        """The records at some rows, in that order."""
        picked = [int(row) for row in rows]
        return Records(
            tuple(self.frame_ids[i] for i in picked),
            self.subjects[rows],
            self.studies[rows],
            self.captions[rows],
            tuple(self.texts[i] for i in picked),
            tuple(self.sides[i] for i in picked),
            tuple(self.subject_ids[i] for i in picked),
            tuple(self.phash[i] for i in picked),
            tuple(self.duplicate_of[i] for i in picked),
            take_labels(self.labels, rows),
            self.counts,
        )

    def side(self, name: str) -> Records:
        """The records on one side of the split."""
        rows = np.flatnonzero(np.array([side == name for side in self.sides], dtype=bool))
        chosen = self.take(rows)
        counts = replace(
            self.counts, kept=len(rows), other_side=self.counts.other_side + len(self) - len(rows)
        )
        return replace(chosen, counts=counts)

    def without(self, frame_ids: frozenset[str]) -> Records:
        """The records less some frames (those whose pixels cannot be decoded)."""
        rows = np.flatnonzero([frame not in frame_ids for frame in self.frame_ids])
        if len(rows) == len(self):
            return self
        kept = self.take(rows)
        counts = replace(self.counts, kept=len(rows), left_out=self.counts.left_out + len(self) - len(rows))
        return replace(kept, counts=counts)


def take_labels(labels: LabelBatch, rows: npt.NDArray[Any]) -> LabelBatch:
    """The label records at some rows, in that order."""
    lengths = labels.offsets[rows + 1] - labels.offsets[rows] if len(rows) else np.zeros(0, np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    nodes = [labels.record(int(row)) for row in rows]
    flat = np.concatenate(nodes) if nodes else np.zeros(0, np.int64)
    return LabelBatch(flat, offsets, labels.x[rows], labels.filled[rows])


def caption_number(text: str) -> int:
    """A number that is the same for captions that differ in case, white space or Unicode form only.

    Returns
    -------
    int
        In [0, 2**63): negative numbers are free for captions that match nothing.
    """
    normal = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return int.from_bytes(hashlib.blake2b(normal.encode(), digest_size=8).digest(), "big") >> 1


def dataset_taxonomy(dataset: Dataset, set_name: str | None = None) -> Taxonomy:
    """The taxonomy of a dataset's annotation set, from the copy beside the labels.

    Raises
    ------
    UsageError
        If the dataset is not annotated, or has no such set.
    """
    from usds.taxonomy.udt import load_taxonomy

    name = set_name or dataset.annotations.current()
    if name is None:
        raise UsageError(f"{dataset.root} has no labels: run `usds annotate` first")
    dataset.annotations.read(name)
    return load_taxonomy(dataset.annotations.taxonomy_path(name))


def load_records(
    dataset: Dataset,
    taxonomy: Taxonomy,
    split: str,
    *,
    modes: Sequence[str] = (),
    captioned: bool = True,
    set_name: str | None = None,
) -> Records:
    """Read the pairs of a dataset.

    Parameters
    ----------
    dataset : Dataset
        An annotated dataset.
    taxonomy : Taxonomy
        Gives the vocabulary of the labels.
    split : str
        Name of the split; a dataset without it gives side ``unsplit`` everywhere.
    modes : sequence of str
        Image modes to keep; empty: all.
    captioned : bool
        Keep only frames that have a caption (training); otherwise all frames.
    set_name : str, optional
        Annotation set to read; default: the current one.

    Raises
    ------
    UsageError
        The dataset is not annotated.
    ContentError
        Labels are not those of the taxonomy.
    """
    if dataset.annotations.current() is None:
        raise UsageError(f"{dataset.root} has no labels: run `usds annotate` first")
    with dataset.connect(set_name) as connection:
        table = connection.sql(_QUERY, params={"name": split}).to_arrow_table()
    kept = pa.array(np.ones(len(table), bool))
    other_mode = 0
    if modes:
        wanted = pc.is_in(table.column("mode"), value_set=pa.array(list(modes), pa.string()))
        other_mode = len(table) - int(pc.sum(wanted).as_py() or 0)
        kept = wanted
    # A caption of nothing but white space says nothing; null where there is no caption.
    spoken = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(table.column("text")), ""), False)
    silent = int(pc.sum(pc.and_(kept, pc.invert(spoken))).as_py() or 0) if captioned else 0
    if captioned:
        kept = pc.and_(kept, spoken)
    chosen = table.filter(kept)
    counts = Counts(len(table), len(chosen), silent, other_mode, 0)
    return _records(chosen, taxonomy, counts)


def _records(table: pa.Table, taxonomy: Taxonomy, counts: Counts) -> Records:
    texts = tuple(text or "" for text in _strings(table, "text"))
    numbers = {text: caption_number(text) for text in set(texts)}
    return Records(
        _strings(table, "frame_id"),
        _codes(table, "subject_id"),
        _codes(table, "study_id"),
        np.array([numbers[text] for text in texts], np.int64),
        texts,
        _strings(table, "split"),
        _strings(table, "subject_id"),
        _strings(table, "phash"),
        _strings(table, "duplicate_of"),
        pack_columns(taxonomy, _with_empty_lists(table, taxonomy)),
        counts,
    )


def _with_empty_lists(table: pa.Table, taxonomy: Taxonomy) -> pa.Table:
    """Frames that no annotation names have null lists: they carry no label."""
    for name in taxonomy.dimension_names:
        if name in table.column_names:
            column = table.column(name).combine_chunks()
            filled = pc.fill_null(column, pa.scalar([], column.type))
            table = table.set_column(table.column_names.index(name), name, filled)
    return table


def _strings(table: pa.Table, name: str) -> tuple[Any, ...]:
    return tuple(table.column(name).to_pylist())


def _codes(table: pa.Table, name: str) -> Ints:
    if not len(table):
        return np.zeros(0, np.int64)
    encoded = table.column(name).combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def record_labels(records: Records, taxonomy: Taxonomy) -> list[dict[str, tuple[str, ...]]]:
    """Label records as mappings dimension -> labels, for the similarity prior and for people."""
    keys = list(taxonomy.label_index)
    result: list[dict[str, tuple[str, ...]]] = []
    for row in range(len(records)):
        found: dict[str, tuple[str, ...]] = {}
        for node in records.labels.record(row):
            dimension, label = keys[int(node)]
            found[dimension] = (*found.get(dimension, ()), label)
        result.append(found)
    return result


def require_side(records: Records, side: str, split: str) -> Records:
    """One side of the split, or a message that says what is there.

    Raises
    ------
    ContentError
        The side has no captioned frame.
    """
    chosen = records.side(side)
    if len(chosen):
        return chosen
    there = sorted(set(records.sides))
    found = ", ".join(f"{name} {records.sides.count(name)}" for name in there) or records.counts.sentence()
    if not there and records.counts.other_mode:
        raise ContentError(
            f"no frame is of the image modes that data.modes names ({found}): leave the setting out, or see "
            "the modes that there are with `usds stats`"
        )
    raise ContentError(
        f"side '{side}' of split '{split}' has no captioned frame (there is: {found}). "
        "Make another split with `usds split` and name it with data.split, or ingest captions beside the "
        "images"
    )
