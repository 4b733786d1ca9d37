"""What an audit finding is made of."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding", "mask"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be in the dataset.

    Attributes
    ----------
    klass : str
        ``name``, ``id``, ``date`` ... for a harvested identifier; ``pattern:date``, ``pattern:mail`` ... for
        what is shaped like one; ``text_in_image``, ``image_metadata``, ``file_metadata``, ``unknown_file``,
        ``damaged_file``, ``not_a_keyed_id``, ``open_vocabulary``.
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
