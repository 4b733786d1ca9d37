"""What an audit finding is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

__all__ = ["UNREADABLE", "Finding", "mask"]

UNREADABLE: Final = (OSError, ValueError, KeyError, TypeError, pa.ArrowException)
"""What readers raise at a damaged file."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be in the dataset.

    Attributes
    ----------
    klass : str
        ``name``, ``id``, ``date`` ... for a harvested identifier; ``pattern:date``, ``pattern:mail`` ... for
        what is shaped like one; others are the keys of ``usds.curation.audit.report.MEANINGS``.
    place : str
        Table, column and keyed id, or the file below the dataset.
    masked : str
        The value with all but its first character hidden.
    """

    klass: str
    place: str
    masked: str


def mask(value: str) -> str:
    """``J*******n`` is enough to find a value again and too little to learn it."""
    text = " ".join(value.split())
    return text[:1] + "*" * min(12, max(0, len(text) - 1))
