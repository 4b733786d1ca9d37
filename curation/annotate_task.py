"""Annotate one task: its captions through the extractor, its frames through the scope rules.

Runs in a worker process, which loads the taxonomy once. What it needs comes from the dataset directory; what
it makes are the two files of the task in the annotation set.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usds.curation.corrections import Correction, CorrectionIndex
from usds.curation.labels import (
    CaptionLabels,
    FrameLabels,
    LabelKey,
    apply_corrections,
    frame_labels,
)
from usds.schemas import tables
from usds.schemas.annotations import AnnotationSets
from usds.taxonomy.codes import header_labels
from usds.taxonomy.extract import Extraction, Extractor
from usds.taxonomy.udt import Code, Taxonomy

__all__ = ["Annotator", "TaskJob", "is_pediatric"]

ADULT_YEARS: Final = 18
LITERAL: Final = 100.0
"""Score of a match that is no guess."""
UNMEASURED: Final = 0.5
HeaderLabel = tuple[str, str, str | None]
"""Dimension, label, code."""
_FRAME_COLUMNS: Final = ["frame_id", "clip_id", "study_id", "age_band", "body_part", "header_codes"]
_CAPTION_COLUMNS: Final = ["caption_id", "scope", "target_id", "text", "origin"]
_CHUNK: Final = 4096
"""Captions handed to the extractor at once: enough to keep it busy, few enough to keep memory flat."""


@dataclass(frozen=True, slots=True)
class TaskJob:
    """One task to annotate.

    Attributes
    ----------
    root : Path
        The dataset directory.
    set_name, task, fingerprint : str
    frames, captions : Path
        The task's own files.
    study_captions : tuple of Path
        Caption files of other tasks that hold captions of this task's studies.
    corrections : tuple of Correction
        Those about this task's frames, clips and studies.
    """

    root: Path
    set_name: str
    task: str
    fingerprint: str
    frames: Path
    captions: Path
    study_captions: tuple[Path, ...] = ()
    corrections: tuple[Correction, ...] = ()


def is_pediatric(age_band: str) -> bool:
    """Whether an age band ("0", "5-9", "90+", "unknown") lies below 18 years as a whole."""
    upper = age_band.rsplit("-", 1)[-1]
    return upper.isdecimal() and int(upper) < ADULT_YEARS


@dataclass(slots=True)
class _Evidence:
    """Rows of the evidence table, column by column."""

    columns: dict[str, list[Any]] = field(
        default_factory=lambda: {name: [] for name in tables.EVIDENCE.names}
    )

    def add(self, **values: Any) -> None:
        for name, column in self.columns.items():
            column.append(values.get(name))

    def table(self) -> pa.Table:
        return pa.table(self.columns, schema=tables.EVIDENCE)


@dataclass(slots=True)
class _Work:
    """What one task gathers: the ids it holds, and the labels of the captions that reach them."""

    targets: frozenset[str]
    children: frozenset[str]
    index: CorrectionIndex
    by_target: defaultdict[str, list[CaptionLabels]] = field(default_factory=lambda: defaultdict(list))
    evidence: _Evidence = field(default_factory=_Evidence)
    counts: Counter[str] = field(default_factory=Counter[str])


class Annotator:
    """The taxonomy and its extractor, loaded once in a process."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self._extractor = Extractor(taxonomy)
        self._header_confidence = self._extractor.confidence.get("header", UNMEASURED)
        self._headers: dict[Any, tuple[HeaderLabel, ...]] = {}

    def run(self, job: TaskJob) -> dict[str, Any]:
        """Annotate one task and write its two files.

        Returns
        -------
        dict
            The manifest entry, with ``counts``.
        """
        frames = pq.read_table(job.frames, columns=_FRAME_COLUMNS).to_pylist()
        work = _Work(_target_ids(frames), _pediatric_ids(frames), CorrectionIndex.build(job.corrections))
        self._captions(job, work)
        labels = [self._frame(frame, work) for frame in frames]
        counts = work.counts
        counts["frames"] = len(frames)
        counts["labelled"] = sum(bool(one.present) for one in labels)
        counts["conflicts"] = sum(one.conflict for one in labels)
        entry = AnnotationSets(job.root).write_task(
            job.set_name, job.task, job.fingerprint, self._table(frames, labels), work.evidence.table()
        )
        return {**entry, "counts": dict(counts)}

    # -- captions -----------------------------------------------------------------------------------

    def _captions(self, job: TaskJob, work: _Work) -> None:
        """Label the captions that reach the task's frames; evidence is written for the task's own alone."""
        with pq.ParquetFile(job.captions) as own:
            for batch in own.iter_batches(_CHUNK, columns=_CAPTION_COLUMNS):
                self._extract(batch.to_pylist(), work, own=True)
        studies = pa.array(sorted(work.targets), pa.string())
        for path in job.study_captions:
            wanted = (pc.field("scope") == "study") & pc.field("target_id").isin(studies)
            table = pq.read_table(path, columns=_CAPTION_COLUMNS, filters=wanted)
            self._extract(table.to_pylist(), work, own=False)

    def _extract(self, rows: Sequence[Mapping[str, Any]], work: _Work, *, own: bool) -> None:
        for row, extraction in zip(rows, self._extractions(rows, work.children), strict=True):
            corrections = work.index.by_caption.get(row["caption_id"], [])
            caption = apply_corrections(self.taxonomy, _caption_labels(row, extraction), corrections)
            if row["target_id"] in work.targets:
                work.by_target[row["target_id"]].append(caption)
            if own:
                work.counts["captions"] += 1
                work.counts["abstained"] += caption.abstained is not None
                _add_evidence(work.evidence, row, extraction, corrections)

    def _extractions(
        self, rows: Sequence[Mapping[str, Any]], children: frozenset[str]
    ) -> Iterable[Extraction]:
        """One extraction a row, in order; children's captions get the pediatric override."""
        young = [row["target_id"] in children for row in rows]
        adults = self._extractor.extract_many([r["text"] for r, y in zip(rows, young, strict=True) if not y])
        for row, is_child in zip(rows, young, strict=True):
            yield self._extractor.extract(row["text"], pediatric=True) if is_child else next(adults)

    # -- frames -------------------------------------------------------------------------------------

    def _frame(self, frame: Mapping[str, Any], work: _Work) -> FrameLabels:
        ids = [frame[name] for name in ("study_id", "clip_id", "frame_id") if frame[name] is not None]
        captions = [caption for one in ids for caption in work.by_target.get(one, ())]
        corrections = [correction for one in ids for correction in work.index.by_target.get(one, ())]
        header: dict[LabelKey, float] = {}
        for dimension, label, code in self._header(frame):
            header[dimension, label] = self._header_confidence
            work.evidence.add(
                target_id=frame["frame_id"], dimension=dimension, label=label, code=code, assertion="present",
                rule_id="header", method="header", score=LITERAL, confidence=self._header_confidence,
            )  # fmt: skip
        return frame_labels(self.taxonomy, captions, header, corrections)

    def _header(self, frame: Mapping[str, Any]) -> tuple[HeaderLabel, ...]:
        """Labels of the header's codes and the parents they imply; a child's organ is its counterpart."""
        codes = tuple((c["scheme"], c["value"], c["meaning"]) for c in frame["header_codes"])
        key = (codes, frame["body_part"], is_pediatric(frame["age_band"]))
        if key not in self._headers:
            found = header_labels(self.taxonomy, [Code(*code) for code in codes], frame["body_part"])
            self._headers[key] = tuple(self._with_parents(found, is_child=key[2]))
        return self._headers[key]

    def _with_parents(
        self, labels: Iterable[tuple[str, str, Code | None]], *, is_child: bool
    ) -> Iterable[HeaderLabel]:
        replaced: set[LabelKey | None] = set()
        result: dict[LabelKey, str | None] = {}
        for dimension, label, code in labels:
            counterpart = self.taxonomy.label(dimension, label).pediatric if is_child else None
            if counterpart is not None:
                replaced.add(self.taxonomy.parent_of(dimension, label))
            key = (dimension, counterpart or label)
            written = f"{code.scheme}:{code.value}" if code else None
            result.setdefault(key, written)
            parent = self.taxonomy.parent_of(*key)
            if parent is not None:
                result.setdefault(parent, written)
        return [(*key, code) for key, code in result.items() if key not in replaced]

    def _table(self, frames: Sequence[Mapping[str, Any]], labels: Sequence[FrameLabels]) -> pa.Table:
        schema = tables.annotation_schema(self.taxonomy.dimension_names)
        order = self.taxonomy.label_index
        columns: dict[str, list[Any]] = {
            "frame_id": [frame["frame_id"] for frame in frames],
            "negated": [_structs(one.negated, order) for one in labels],
            "uncertain": [_structs(one.uncertain, order) for one in labels],
            "confidence": [one.confidence for one in labels],
        }
        for name in ("source_caption_ids", "caption_id", "abstained", "conflict"):
            columns[name] = [getattr(one, name) for one in labels]
        for dimension in self.taxonomy.dimension_names:
            columns[dimension] = [_labels_of(one.present, dimension, order) for one in labels]
        return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _labels_of(labels: Mapping[LabelKey, float], dimension: str, order: Mapping[LabelKey, int]) -> list[str]:
    return [label for d, label in sorted(labels, key=order.__getitem__) if d == dimension]


def _structs(labels: Iterable[LabelKey], order: Mapping[LabelKey, int]) -> list[dict[str, str]]:
    return [{"dimension": d, "label": label} for d, label in sorted(labels, key=order.__getitem__)]


def _target_ids(frames: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    names = ("frame_id", "clip_id", "study_id")
    return frozenset(frame[name] for frame in frames for name in names if frame[name] is not None)


def _pediatric_ids(frames: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    return _target_ids([frame for frame in frames if is_pediatric(frame["age_band"])])


def _caption_labels(row: Mapping[str, Any], extraction: Extraction) -> CaptionLabels:
    best: dict[tuple[str, str, str], float] = {}
    for item in extraction.evidence:
        key = (item.assertion, item.dimension, item.label)
        best[key] = max(item.confidence, best.get(key, 0.0))

    def group(assertion: str, labels: Mapping[str, Sequence[str]]) -> dict[LabelKey, float]:
        # A label that follows from another (a parent) may have no evidence of its own: take the weakest.
        weakest = min((c for (a, _, _), c in best.items() if a == assertion), default=0.0)
        return {
            (dimension, label): best.get((assertion, dimension, label), weakest)
            for dimension, names in labels.items()
            for label in names
        }

    return CaptionLabels(
        row["caption_id"], row["scope"], row["text"], row["origin"],
        group("present", extraction.present), group("negated", extraction.negated),
        group("uncertain", extraction.uncertain), extraction.abstained, extraction.conflict,
    )  # fmt: skip


def _add_evidence(
    evidence: _Evidence,
    row: Mapping[str, Any],
    extraction: Extraction,
    corrections: Sequence[Correction],
) -> None:
    """Rows of one caption: what the extractor found and nobody removed, then what a person added."""
    target = {"caption_id": row["caption_id"], "target_id": row["target_id"]}
    removed = {(c.dimension, c.label, c.assertion) for c in corrections if c.action == "remove"}
    for item in extraction.evidence:
        if (item.dimension, item.label, item.assertion) not in removed:
            cue = None if item.cue is None else row["text"][slice(*item.cue)]
            evidence.add(
                **target, dimension=item.dimension, label=item.label, code=item.code,
                assertion=item.assertion, start=item.start, end=item.end, surface=item.surface, cue=cue,
                rule_id=item.rule_id, method=item.method, score=item.score, confidence=item.confidence,
            )  # fmt: skip
    for correction in corrections:
        if correction.action == "add":
            evidence.add(
                **target, dimension=correction.dimension, label=correction.label,
                assertion=correction.assertion, rule_id="correction", method="correction", score=LITERAL,
                confidence=1.0,
            )  # fmt: skip
