"""A date in the notations in which people write it, folded to letters and digits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, cast

import yaml

__all__ = ["date_forms", "month_names", "parse_date"]

_DIGITS: Final = re.compile(r"\d+")


@lru_cache(maxsize=1)
def month_names() -> tuple[tuple[str, ...], ...]:
    """Names and abbreviations of each month, folded, in several languages."""
    text = files("usds.curation.deid").joinpath("months.yaml").read_text("utf-8")
    raw = cast("list[list[Any]]", yaml.safe_load(text))
    return tuple(tuple(str(name) for name in names) for names in raw)


def parse_date(value: str) -> date | None:
    """A date at the start of a DICOM DA or DT value (PS3.5 6.2), or of a file name's digits."""
    digits = "".join(_DIGITS.findall(value))[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None


def date_forms(value: str) -> Iterator[str]:
    """Forms of a date without separators; a value that is no date is its own digits when they are many.

    Parameters
    ----------
    value : str
        DICOM DA (YYYYMMDD), DT, or a TM; other text gives its digits.
    """
    day = parse_date(value)
    if day is None or not 1880 <= day.year <= 2100:
        digits = "".join(_DIGITS.findall(value))
        if len(digits) >= 6:
            yield digits
        return
    years = (f"{day.year:04d}", f"{day.year % 100:02d}")
    months = {f"{day.month:02d}", str(day.month)}
    days = {f"{day.day:02d}", str(day.day)}
    for year in years:
        for month in sorted(months):
            for number in sorted(days):
                yield from (year + month + number, number + month + year, month + number + year)
        for name in month_names()[day.month - 1]:
            for number in sorted(days):
                yield from (number + name + year, name + number + year, year + name + number)
                yield number + "th" + name + year
