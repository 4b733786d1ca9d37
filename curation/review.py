"""The review table: the captions a person should look at, out as CSV and back as corrections.

A row is one caption with its labels. Whoever corrects it edits the label cells; ``check`` tells touched rows
from untouched ones, so that a table can come back after the dataset was annotated anew.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import duckdb
from rapidfuzz import fuzz, process

from usds.curation.corrections import Correction, append_corrections
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.files import atomic_path, canonical_json
from usds.taxonomy.udt import Taxonomy, load_taxonomy

__all__ = [
    "Doubt",
    "ReviewReport",
    "current_taxonomy",
    "differences",
    "doubts",
    "known_labels",
    "read_review",
    "with_parents",
    "write_review",
]

SEPARATOR: Final = "; "
ASSERTIONS: Final = ("negated", "uncertain")
_FIXED: Final = ("caption_id", "scope", "why", "text")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_CHUNK: Final = 2048

Labels = dict[str, frozenset[str]]
"""Column of the table -> labels; in the two assertion columns as ``dimension: label``."""


@dataclass(frozen=True, slots=True)
class ReviewReport:
    """Rows written, by why a caption is in the table (a caption can have several reasons)."""

    rows: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A caption that a person should look at: why, and what was read in it."""

    caption_id: str
    target_id: str
    scope: str
    why: tuple[str, ...]
    text: str
    labels: Labels


def current_taxonomy(dataset: Dataset, set_name: str | None = None) -> tuple[str, Taxonomy]:
    """Name of an annotation set (by default the current one) and the taxonomy that made it.

    Raises
    ------
    ContentError
        If the dataset is not annotated.
    """
    name = set_name or dataset.annotations.current()
    if name is None:
        raise ContentError(f"{dataset.root} has no labels yet: run `usds annotate` first")
    dataset.annotations.read(name)
    return name, load_taxonomy(dataset.annotations.taxonomy_path(name))


# -- out ------------------------------------------------------------------------------------------------


def write_review(dataset: Dataset, path: Path, *, set_name: str | None = None) -> ReviewReport:
    """Write the captions to look at: conflicts, abstentions, fuzzy hits, homeless findings, 1 % at random.

    Parameters
    ----------
    dataset : Dataset
    path : Path
        CSV file (UTF-8 with a byte order mark, so that spreadsheets read it right).
    set_name : str, optional
        Annotation set; by default the current one.
    """
    name, taxonomy = current_taxonomy(dataset, set_name)
    columns = [*_FIXED, *taxonomy.dimension_names, *ASSERTIONS, "check"]
    reasons: dict[str, int] = {}
    count = 0
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        with dataset.connect(name) as connection:
            for doubt in doubts(connection, taxonomy):
                writer.writerow(_row(doubt))
                count += 1
                for reason in doubt.why:
                    reasons[reason] = reasons.get(reason, 0) + 1
    return ReviewReport(count, reasons)


_CHOSEN: Final = """
WITH flagged AS (
    SELECT frame_id, clip_id, study_id, a.caption_id, conflict, abstained,
        {finding} AND NOT {site} AS homeless
    FROM annotations a JOIN frames USING (frame_id)
    WHERE conflict OR abstained IS NOT NULL OR ({finding} AND NOT {site})
), reach AS (
    SELECT unnest([frame_id, clip_id, study_id]) AS target_id, conflict, abstained FROM flagged
), why AS (
    SELECT caption_id, 'conflict' AS why FROM captions SEMI JOIN (SELECT * FROM reach WHERE conflict)
        USING (target_id)
    UNION SELECT caption_id, 'abstained' FROM captions
        SEMI JOIN (SELECT * FROM reach WHERE abstained IS NOT NULL) USING (target_id)
    UNION SELECT caption_id, 'fuzzy' FROM evidence WHERE method = 'fuzzy'
    UNION SELECT caption_id, 'finding without organ' FROM flagged WHERE homeless AND caption_id IS NOT NULL
    UNION SELECT caption_id, 'random' FROM captions WHERE md5_number_lower(caption_id) % 100 = 0
    UNION SELECT caption_id, 'asked for' FROM captions WHERE {every}
), labels AS (
    SELECT caption_id, list(DISTINCT [assertion, dimension, label]) AS labels FROM evidence
    WHERE caption_id IS NOT NULL AND assertion IN ('present', 'negated', 'uncertain') GROUP BY 1
)
SELECT caption_id, target_id, scope, list(why ORDER BY why), any_value(text), any_value(labels)
FROM why JOIN captions USING (caption_id) LEFT JOIN labels USING (caption_id)
GROUP BY ALL ORDER BY min(why), caption_id
"""


def _filled(taxonomy: Taxonomy, role: str) -> str | None:
    """SQL that tells whether a frame has a label of this role; None where the taxonomy has no such role."""
    tests = [f'len("{d.name}") > 0' for d in taxonomy.dimensions if d.role == role]
    return f"({' OR '.join(tests)})" if tests else None


def doubts(
    connection: duckdb.DuckDBPyConnection, taxonomy: Taxonomy, *, every: bool = False
) -> Iterator[Doubt]:
    """The captions to look at (or ``every`` one), by reason, in an order that depends on keyed ids alone."""
    finding, site = _filled(taxonomy, "finding"), _filled(taxonomy, "site")
    if site is None:  # a taxonomy without places has no finding that lacks one
        finding = None
    sql = _CHOSEN.format(finding=finding or "false", site=site or "false", every="true" if every else "false")
    cursor = connection.execute(sql)
    while chunk := cursor.fetchmany(_CHUNK):
        for caption_id, target_id, scope, why, text, labels in chunk:
            yield Doubt(caption_id, target_id, scope, tuple(why), text, _cells(taxonomy, labels or []))


def _row(doubt: Doubt) -> dict[str, str]:
    text = doubt.text
    return {
        "caption_id": doubt.caption_id,
        "scope": doubt.scope,
        "why": SEPARATOR.join(doubt.why),
        # A spreadsheet would run a caption that begins like a formula; this cell is never read back.
        "text": f"'{text}" if text.startswith(_FORMULA) else text,
        **{name: SEPARATOR.join(sorted(values)) for name, values in doubt.labels.items()},
        "check": _check(doubt.labels),
    }


def _cells(taxonomy: Taxonomy, labels: Sequence[Sequence[str]]) -> Labels:
    cells: dict[str, set[str]] = {name: set() for name in (*taxonomy.dimension_names, *ASSERTIONS)}
    for assertion, dimension, label in labels:
        if assertion == "present":
            cells[dimension].add(label)
        else:
            cells[assertion].add(f"{dimension}: {label}")
    return {name: frozenset(values) for name, values in cells.items()}


def _check(cells: Labels) -> str:
    return sha256(canonical_json({k: sorted(v) for k, v in cells.items() if v})).hexdigest()[:12]


# -- back -----------------------------------------------------------------------------------------------


def read_review(
    dataset: Dataset, path: Path, *, set_name: str | None = None, dry_run: bool = False
) -> list[Correction]:
    """Read a corrected table and append what changed to the corrections. Needs the lock unless ``dry_run``.

    Returns
    -------
    list of Correction
        What was appended; annotate the dataset to see it.

    Raises
    ------
    UsageError
        If the file is no review table, or a cell holds a label that the taxonomy lacks; nothing is written.
    ContentError
        If a caption is not in the dataset.
    """
    name, taxonomy = current_taxonomy(dataset, set_name)
    touched = dict(_touched(path, taxonomy))
    with dataset.connect(name) as connection:
        present = _current_labels(connection, taxonomy, list(touched))
    unknown = sorted(touched.keys() - present.keys())
    if unknown:
        raise ContentError(f"{path}: caption {unknown[0]} is not in {dataset.root}")
    corrections = [
        correction
        for caption_id, cells in touched.items()
        for correction in differences(taxonomy, caption_id, *present[caption_id], cells)
    ]
    if not dry_run:
        append_corrections(dataset, corrections)
    return corrections


def _touched(path: Path, taxonomy: Taxonomy) -> Iterator[tuple[str, Labels]]:
    """(caption id, cells) of the rows whose cells differ from what was written."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            # Spreadsheets write what their country uses: commas, semicolons, or tabs.
            delimiter = max(",;\t", key=stream.readline().count)
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=delimiter)
            missing = [
                column
                for column in ("caption_id", *taxonomy.dimension_names, *ASSERTIONS, "check")
                if column not in (reader.fieldnames or ())
            ]
            if missing:
                raise UsageError(
                    f"{path}: column {missing[0]!r} is missing: write a table with `usds annotate --review`"
                )
            for row in reader:
                cells = _read_cells(row, taxonomy, f"{path}, line {reader.line_num}")
                if _check(cells) != row["check"]:
                    yield row["caption_id"], cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no CSV file in UTF-8"
        raise UsageError(f"{path}: {reason}") from error


def _read_cells(row: Mapping[str, str | None], taxonomy: Taxonomy, where: str) -> Labels:
    columns = (*taxonomy.dimension_names, *ASSERTIONS)
    return known_labels({column: _items(row[column]) for column in columns}, taxonomy, where)


def known_labels(items: Mapping[str, Sequence[str]], taxonomy: Taxonomy, where: str) -> Labels:
    """Labels as the taxonomy spells them.

    Parameters
    ----------
    items : mapping
        Dimension -> labels; in ``negated`` and ``uncertain`` as ``dimension: label``. Missing ones are empty.
    taxonomy : Taxonomy
    where : str
        Place that an error names.

    Raises
    ------
    UsageError
        For a label that the taxonomy lacks, with the nearest one that it has.
    """
    cells: Labels = {}
    for dimension in taxonomy.dimension_names:
        cells[dimension] = frozenset(_label(taxonomy, dimension, i, where) for i in items.get(dimension, ()))
    for assertion in ASSERTIONS:
        cells[assertion] = frozenset(_asserted(taxonomy, item, where) for item in items.get(assertion, ()))
    return cells


def _items(cell: str | None) -> list[str]:
    return [item.strip() for item in (cell or "").split(SEPARATOR.strip()) if item.strip()]


def _label(taxonomy: Taxonomy, dimension: str, item: str, where: str) -> str:
    vocabulary = taxonomy.vocabulary(dimension)
    folded = {label.casefold(): label for label in vocabulary}
    if item.casefold() in folded:
        return folded[item.casefold()]
    near = process.extractOne(item, vocabulary, scorer=fuzz.ratio, score_cutoff=60)
    hint = f"did you mean {near[0]!r}?" if near else f"the labels are {', '.join(vocabulary)}"
    raise UsageError(f"{where}, column {dimension}: no label {item!r}; {hint}")


def _asserted(taxonomy: Taxonomy, item: str, where: str) -> str:
    dimension, colon, label = item.partition(":")
    if not colon or dimension.strip() not in taxonomy.dimension_names:
        raise UsageError(f"{where}: {item!r} must be `dimension: label`, as in `diagnosis: cyst`")
    return f"{dimension.strip()}: {_label(taxonomy, dimension.strip(), label.strip(), where)}"


def _current_labels(
    connection: duckdb.DuckDBPyConnection, taxonomy: Taxonomy, caption_ids: list[str]
) -> dict[str, tuple[str, Labels]]:
    """Caption id -> (target id, its labels now); captions that are not in the dataset are left out."""
    rows: list[tuple[Any, ...]] = connection.execute(
        "SELECT caption_id, any_value(c.target_id), list(DISTINCT [assertion, dimension, label]) "
        "FILTER (WHERE assertion IN ('present', 'negated', 'uncertain')) FROM captions c "
        "LEFT JOIN evidence e USING (caption_id) WHERE list_contains(?, caption_id) GROUP BY 1",
        [caption_ids],
    ).fetchall()
    return {caption: (target, _cells(taxonomy, labels or [])) for caption, target, labels in rows}


def differences(
    taxonomy: Taxonomy, caption_id: str, target_id: str, now: Labels, wanted: Labels
) -> Iterator[Correction]:
    """Corrections that lead from ``now`` to ``wanted``: removals first; an added label brings its parent."""
    before, after = _triples(now), _triples(with_parents(taxonomy, now, wanted))
    for assertion, dimension, label in sorted(before - after):
        yield Correction(target_id, caption_id, dimension, label, "remove", assertion)
    for assertion, dimension, label in sorted(after - before):
        yield Correction(target_id, caption_id, dimension, label, "add", assertion)


def with_parents(taxonomy: Taxonomy, now: Labels, wanted: Labels) -> Labels:
    """``wanted``, and the parent of each present label that ``now`` lacks."""
    full = {name: set(values) for name, values in wanted.items()}
    for dimension in taxonomy.dimension_names:
        for label in wanted[dimension] - now[dimension]:
            if (parent := taxonomy.parent_of(dimension, label)) is not None:
                full[parent[0]].add(parent[1])
    return {name: frozenset(values) for name, values in full.items()}


def _triples(cells: Labels) -> set[tuple[str, str, str]]:
    """(assertion, dimension, label) of every label of a row."""
    triples: set[tuple[str, str, str]] = set()
    for column, labels in cells.items():
        for item in labels:
            if column in ASSERTIONS:
                dimension, _, label = item.partition(": ")
                triples.add((column, dimension, label))
            else:
                triples.add(("present", column, item))
    return triples
