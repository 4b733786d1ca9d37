"""What is in a dataset, counted through DuckDB: frames, subjects, labels, outcomes, de-identification.

The numbers are exact. What leaves the house goes through :func:`publishable`, which hides small counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import duckdb

from usds.curation.deid.decision import PERSON
from usds.curation.outcomes import SETTLED
from usds.schemas.dataset import Dataset

__all__ = [
    "CountTable",
    "Stats",
    "collect_stats",
    "publishable",
    "publishable_total",
    "settled_by_person",
]

SMALLEST_COUNT: Final = 5
HIDDEN: Final = "<5"
COMPLEMENT: Final = "*"
"""Stands for a count that would give away a hidden one by subtraction."""

Count = int | str


@dataclass(frozen=True, slots=True)
class CountTable:
    """Counts by category.

    Attributes
    ----------
    key : str
        Name in the JSON form.
    title : str
    columns : tuple of str
        What is counted, for instance ("frames", "subjects").
    rows : tuple of (name, counts)
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Count, ...]], ...]

    def column(self, index: int = 0) -> dict[str, Count]:
        """One column as a mapping."""
        return {name: counts[index] for name, counts in self.rows}

    def to_json(self) -> list[dict[str, Any]]:
        """Rows as objects."""
        return [{"name": n, **dict(zip(self.columns, c, strict=True))} for n, c in self.rows]


@dataclass(frozen=True, slots=True)
class Stats:
    """Everything ``usds stats`` shows.

    ``labels`` holds one table a dimension, ``coverage`` the frames that have a label of each.
    ``missing`` says which steps have not been done, and how to do them.
    """

    totals: Mapping[str, int]
    tables: tuple[CountTable, ...]
    labels: tuple[CountTable, ...] = ()
    coverage: CountTable | None = None
    deid: Mapping[str, float] = field(default_factory=dict[str, float])
    annotation_set: str | None = None
    missing: tuple[str, ...] = ()

    def table(self, key: str) -> CountTable | None:
        """A table by its key, None when it is not there."""
        return next((table for table in self.tables if table.key == key), None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "totals": dict(self.totals),
            **{table.key: table.to_json() for table in self.tables},
            "annotation_set": self.annotation_set,
            "coverage": self.coverage.to_json() if self.coverage else [],
            "labels": {table.key: table.to_json() for table in self.labels},
            "deidentification": dict(self.deid),
            "missing": list(self.missing),
        }


# (key, title, SQL of the category): tables that count frames and subjects.
_FRAME_TABLES: Final = (
    ("modes", "Imaging modes", "mode"),
    ("vendors", "Vendors", "vendor"),
    ("sex", "Sex", "sex"),
    ("age_bands", "Age bands", "age_band"),
    ("media", "Media", "media"),
    ("quality", "Image quality", "quality"),
    ("subject_rules", "How subjects were identified", "subject_rule"),
    ("verified_by", "Verified by", "verified_by"),
)


def collect_stats(dataset: Dataset, *, set_name: str | None = None, split: str = "default") -> Stats:
    """Count a dataset; works before it is annotated or split, and says what is missing.

    Parameters
    ----------
    dataset : Dataset
    set_name : str, optional
        Annotation set to count; by default the current one.
    split : str
        Split to count.

    Raises
    ------
    UsageError
        If there is no such annotation set.
    """
    chosen = set_name or dataset.annotations.current()
    dimensions = dataset.annotations.read(chosen).dimensions if chosen else ()
    missing: list[str] = []
    if not chosen:
        missing.append("no labels yet: run `usds annotate`")
    if split not in dataset.split_names():
        missing.append(f"no split {split!r} yet: run `usds split{_named(split)}`")
    with dataset.connect(set_name) as connection:
        totals = _totals(connection)
        if not totals["frames"]:
            missing.append("no frames yet: run `usds ingest RAW`")
        tables = [_frame_table(connection, *spec) for spec in _FRAME_TABLES]
        tables += [_outcomes(connection), _captions(connection), _split(connection, split)]
        labels = tuple(_labels(connection, dimension) for dimension in dimensions)
        coverage = _coverage(connection, dimensions) if dimensions else None
        deid = _deid(connection)
    return Stats(totals, tuple(tables), labels, coverage, deid, chosen, tuple(missing))


def _named(split: str) -> str:
    return "" if split == "default" else f" --name {split}"


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    return connection.execute(sql, list(values)).fetchall()


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    return dict(zip(names, cursor.fetchone() or (), strict=True))


def _totals(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    frames = _one(
        connection,
        "SELECT count(*) AS frames, count(DISTINCT subject_id) AS subjects, "
        "count(DISTINCT study_id) AS studies, count(DISTINCT clip_id) AS clips, "
        "count(duplicate_of) AS near_duplicates FROM frames",
    )
    return {
        **frames,
        **_one(connection, "SELECT count(*) AS captions FROM captions"),
        **_one(connection, "SELECT count(*) AS source_files FROM sources"),
    }


def _frame_table(connection: duckdb.DuckDBPyConnection, key: str, title: str, category: str) -> CountTable:
    rows = _rows(
        connection,
        f"SELECT {category}, count(*) AS n, count(DISTINCT subject_id) FROM frames GROUP BY 1 "
        "ORDER BY n DESC, 1",
    )
    return CountTable(key, title, ("frames", "subjects"), tuple((n, (f, s)) for n, f, s in rows))


def _outcomes(connection: duckdb.DuckDBPyConnection) -> CountTable:
    rows = _rows(
        connection,
        "SELECT CASE reason WHEN 'ok' THEN outcome ELSE outcome || ': ' || reason END, count(*) AS n "
        "FROM sources GROUP BY 1 ORDER BY n DESC, 1",
    )
    return CountTable("outcomes", "Source files by outcome", ("files",), tuple((n, (c,)) for n, c in rows))


def _captions(connection: duckdb.DuckDBPyConnection) -> CountTable:
    rows = _rows(
        connection,
        "SELECT scope || ', ' || origin, count(*) AS n FROM captions GROUP BY 1 ORDER BY n DESC, 1",
    )
    columns = ("captions",)
    return CountTable("captions", "Captions by scope and origin", columns, tuple((n, (c,)) for n, c in rows))


def _split(connection: duckdb.DuckDBPyConnection, split: str) -> CountTable:
    rows = _rows(
        connection,
        "SELECT split, count(frame_id) AS n, count(DISTINCT s.subject_id) FROM splits s "
        "LEFT JOIN frames USING (subject_id) WHERE name = ? "
        "GROUP BY 1 ORDER BY list_position(['train', 'valid', 'test', 'excluded'], split)",
        split,
    )
    return CountTable(
        "split", f"Split {split!r}", ("frames", "subjects"), tuple((n, (f, s)) for n, f, s in rows)
    )


def _labels(connection: duckdb.DuckDBPyConnection, dimension: str) -> CountTable:
    rows = _rows(
        connection,
        f'SELECT label, count(*) AS n, count(DISTINCT subject_id) FROM (SELECT unnest("{dimension}") '
        "AS label, subject_id FROM annotations JOIN frames USING (frame_id)) GROUP BY 1 ORDER BY n DESC, 1",
    )
    title = dimension.replace("_", " ").capitalize()
    return CountTable(dimension, title, ("frames", "subjects"), tuple((n, (f, s)) for n, f, s in rows))


def _coverage(connection: duckdb.DuckDBPyConnection, dimensions: Sequence[str]) -> CountTable:
    sums = ", ".join(f'count(*) FILTER (WHERE len("{d}") > 0) AS "{d}"' for d in dimensions)
    extra = 'count(*) FILTER (WHERE conflict) AS "in conflict", count(abstained) AS "abstained"'
    counts = _one(connection, f"SELECT {sums}, {extra} FROM annotations")
    return CountTable(
        "coverage", "Frames with a label", ("frames",), tuple((n, (c,)) for n, c in counts.items())
    )


def _deid(connection: duckdb.DuckDBPyConnection) -> dict[str, float]:
    frames = _one(
        connection,
        "SELECT count(*) FILTER (WHERE len(text_boxes) > 0) AS frames_with_redacted_text, "
        "coalesce(sum(len(text_boxes)), 0)::BIGINT AS text_boxes_redacted, "
        "coalesce(round(avg(redacted_fraction), 5), 0) AS mean_redacted_fraction, "
        "coalesce(round(max(redacted_fraction), 5), 0) AS largest_redacted_fraction, "
        "count(DISTINCT subject_id) FILTER (WHERE subject_conflict) AS subjects_in_conflict FROM frames",
    )
    sources = _one(
        connection,
        "SELECT coalesce(sum(frames_withheld), 0)::BIGINT AS frames_withheld, "
        "coalesce(sum(captions_withheld), 0)::BIGINT AS captions_withheld FROM sources",
    )
    tokens = _one(
        connection, "SELECT coalesce(sum(n_removed), 0)::BIGINT AS caption_tokens_removed FROM captions"
    )
    return {**frames, **sources, **tokens, **_settled(connection)}


def settled_by_person(dataset: Dataset) -> dict[str, int]:
    """What people decided about pictures: files settled, frames with their boxes, frames they opened."""
    with dataset.connect() as connection:
        found = _settled(connection)
    return {name: count for name, count in found.items() if name != "files_waiting_for_review"}


def _settled(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    files = _one(
        connection,
        "SELECT count(*) FILTER (WHERE outcome = 'review') AS files_waiting_for_review, "
        f"count(*) FILTER (WHERE outcome <> 'review' AND list_contains(warnings, '{SETTLED}')) "
        "AS files_settled_by_a_person FROM sources",
    )
    frames = _one(
        connection,
        f"SELECT count(*) FILTER (WHERE list_contains([b.method FOR b IN text_boxes], '{PERSON}')) "
        "AS frames_with_boxes_of_a_person, "
        f"count(*) FILTER (WHERE verified_by LIKE '%+{PERSON}') AS frames_where_a_person_removed_boxes "
        "FROM frames",
    )
    return {**files, **frames}


# -- publishing -----------------------------------------------------------------------------------------


def publishable(table: CountTable) -> CountTable:
    """The table with counts of 1 to 4 hidden, and one more where a hidden one could be computed.

    A column whose total is known gives a single hidden count away by subtraction, so its smallest open
    neighbour is hidden as well.
    """
    columns = [_hide([row[1][i] for row in table.rows]) for i in range(len(table.columns))]
    rows = tuple((row[0], tuple(column[i] for column in columns)) for i, row in enumerate(table.rows))
    return replace(table, rows=rows)


def _hide(counts: Sequence[Count]) -> list[Count]:
    hidden: list[Count] = [publishable_total(count) for count in counts]
    if hidden.count(HIDDEN) == 1:
        open_cells = [(int(count), i) for i, count in enumerate(counts) if hidden[i] != HIDDEN and count]
        if open_cells:
            hidden[min(open_cells)[1]] = COMPLEMENT
    return hidden


def publishable_total(count: Count) -> Count:
    """A single count, "<5" for 1 to 4."""
    return HIDDEN if isinstance(count, int) and 0 < count < SMALLEST_COUNT else count
