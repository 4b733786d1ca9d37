"""Audit of coded columns: each holds values of a shipped list or of one shape; others may be leaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, get_args

from usds.curation.deid.area import ComponentKind
from usds.curation.deid.decision import ACCEPTABLE
from usds.curation.deid.identity import SubjectRule
from usds.curation.frames import Mode
from usds.curation.readers.lookup import TableName, known_code, table_entries
from usds.schemas import tables

__all__ = ["code_is_known", "is_expected", "looks_coded"]

_LOOKED_UP: Final[tuple[TableName, ...]] = ("vendor", "model_family", "transducer", "body_part")
_CODE_WORD: Final = re.compile(r"[A-Za-z0-9_+/.-]{1,40}")
_SHAPES: Final[Mapping[tuple[str, str], re.Pattern[str]]] = {
    ("frames", "age_band"): re.compile(r"unknown|\d{1,2}(-\d{1,2})?|90\+"),
    ("frames", "phash"): re.compile(r"[0-9a-f]{16}"),
    ("frames", "shard"): re.compile(r"images/[a-z0-9._-]+\.parquet"),
    ("captions", "language"): re.compile(r"[a-z]{2,3}"),
}
_LISTS: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("frames", "subject_rule"): frozenset(get_args(SubjectRule)),
    ("frames", "sex"): frozenset({"F", "M", "O", "unknown"}),
    ("frames", "mode"): frozenset(get_args(Mode)),
    ("sources", "outcome"): frozenset(tables.OUTCOMES),
    ("sources", "reason"): frozenset(tables.REASONS),
    ("splits", "split"): frozenset(tables.SPLIT_NAMES),
    ("evidence", "assertion"): frozenset(tables.ASSERTIONS),
    ("corrections", "assertion"): frozenset(tables.ASSERTIONS),
    ("picture_corrections", "decision"): frozenset({"accept", "keep_out"}),
    ("picture_corrections", "accepted"): ACCEPTABLE,
    ("picture_corrections", "area"): frozenset(get_args(ComponentKind)),
    ("picture_corrections", "boxes"): frozenset({"added", "opened"}),
    ("captions", "scope"): frozenset(tables.SCOPES),
}


def is_expected(table: str, column: str, value: str) -> bool | None:
    """Whether a value belongs to its coded column; None where no list or shape is known.

    Parameters
    ----------
    table : str
        "frames", "captions", "sources", "splits", "evidence", "corrections",
        "picture_corrections".
    column, value : str
    """
    if table == "frames" and column in _LOOKED_UP:
        return value == "unknown" or value in table_entries(column)
    if (table, column) in _LISTS:
        return value in _LISTS[table, column]
    if (table, column) in _SHAPES:
        return _SHAPES[table, column].fullmatch(value) is not None
    return None


def looks_coded(value: str) -> bool:
    """Whether a value is a short word of code, as in columns of methods, kinds and warnings."""
    return _CODE_WORD.fullmatch(value) is not None


def code_is_known(code: Mapping[str, Any]) -> bool:
    """Whether a header code carries pydicom's own meaning, not one that a file stated."""
    scheme, value, meaning = (str(code[name]) for name in ("scheme", "value", "meaning"))
    return known_code(scheme, value) == (scheme, value, meaning)
