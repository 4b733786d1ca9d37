"""What a column, key or "Key:" line holds, by its name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final, cast

import yaml

__all__ = ["IDENTIFYING", "MAP_ROLES", "ColumnRoles", "role_of"]

IDENTIFYING: Final = frozenset({"name", "staff", "date", "id", "phone", "address", "institution"})
"""Roles that are classes of identifiers."""
MAP_ROLES: Final = ("image", "caption", "subject")
"""Roles that ``--map`` can name."""

_OTHER = re.compile(r"[\W_]+")


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).casefold()
    return _OTHER.sub("_", "".join(c for c in plain if not unicodedata.combining(c))).strip("_")


@cache
def _roles() -> dict[str, str]:
    raw = files("usds.curation.readers").joinpath("columns.yaml").read_text(encoding="utf-8")
    table = cast("dict[str, list[str]]", yaml.safe_load(raw))
    return {name: role for role, names in table.items() for name in names}


def role_of(key: str) -> str | None:
    """Role of a name; of a dotted key (``patient.name``) the whole, its last two parts, then the last."""
    parts = key.split(".")
    for count in sorted({len(parts), min(2, len(parts)), 1}, reverse=True):
        if (role := _roles().get(_folded(" ".join(parts[-count:])))) is not None:
            return role
    return None


class ColumnRoles:
    """Roles of one table: those that ``--map`` names, else those of the shipped list.

    Parameters
    ----------
    mapping : mapping
        Column by role; several caption columns are joined by "+".
    """

    def __init__(self, mapping: Mapping[str, str]) -> None:
        self._mapped = {
            _folded(column): role for role, columns in mapping.items() for column in columns.split("+")
        }
        self._replaced = frozenset(mapping)

    def of(self, key: str) -> str | None:
        """Role of a column or key; a role that was mapped belongs to its mapped columns alone."""
        mapped = self._mapped.get(_folded(key))
        if mapped is not None:
            return mapped
        role = role_of(key)
        return None if role in self._replaced else role
