"""A date in the notations in which people write it, folded to letters and digits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, cast

import yaml

__all__ = ["date_forms", "month_names", "parse_dates"]

_DIGITS = re.compile(r"\d+")
_TIME = re.compile(r"([01]\d|2[0-3]):?([0-5]\d):?([0-5]\d)(?:\.\d{1,6})?")
_OFFSET = re.compile(r"[+-]\d{4}$")
_WORD = re.compile(r"[^\W\d_]+")
_YEARS: Final = range(1880, 2101)


@lru_cache(maxsize=1)
def month_names() -> tuple[tuple[str, ...], ...]:
    """Names and abbreviations of each month, folded, in several languages."""
    text = files("usds.curation.deid").joinpath("months.yaml").read_text("utf-8")
    raw = cast("list[list[Any]]", yaml.safe_load(text))
    return tuple(tuple(str(name) for name in names) for names in raw)


@lru_cache(maxsize=1)
def _month_numbers() -> dict[str, int]:
    return {name: number for number, names in enumerate(month_names(), 1) for name in names}


def parse_dates(value: str) -> set[date]:
    """Every date that a value may mean.

    Parameters
    ----------
    value : str
        DICOM DA or DT (PS3.5 6.2), ISO 8601, or day, month and year in any order and with the month in
        words; "01/02/1960" means two dates.
    """
    numbers = _DIGITS.findall(value)
    named = [
        _month_numbers()[word.lower()] for word in _WORD.findall(value) if word.lower() in _month_numbers()
    ]
    if named and len(numbers) >= 2:
        first, second = numbers[:2]
        return _dates((first, str(named[0]), second), (second, str(named[0]), first))
    if len(numbers) >= 3 and len(numbers[0]) <= 4 and len(numbers[1]) <= 2:
        one, two, three = numbers[:3]
        return _dates((one, two, three)) if len(one) == 4 else _dates((three, two, one), (three, one, two))
    digits = numbers[0] if numbers else ""
    if len(digits) >= 8:
        return _dates((digits[:4], digits[4:6], digits[6:8])) or _dates(
            (digits[4:8], digits[2:4], digits[:2])
        )
    return set()


def _dates(*orders: tuple[str, str, str]) -> set[date]:
    """Valid dates among (year, month, day) orders; a year of two digits means both centuries."""
    found: set[date] = set()
    for year, month, day in orders:
        years = (
            [int(year)] if len(year) == 4 else [1900 + int(year), 2000 + int(year)] if len(year) == 2 else []
        )
        for one in years:
            try:
                found.add(date(one, int(month), int(day)))
            except ValueError:
                continue
    return {one for one in found if one.year in _YEARS}


def date_forms(value: str) -> Iterator[str]:
    """Forms of a date or time without separators.

    Parameters
    ----------
    value : str
        DICOM DA, TM or DT, or as `parse_dates` takes it. Other text gives its digits where they are many.
    """
    dates = parse_dates(value)
    for day in sorted(dates):
        yield from _written(day)
    clock = _TIME.fullmatch(value.strip()) or (
        _TIME.match(value[8:]) if dates and value[:8].isdigit() else None
    )
    if clock is not None:
        if clock.group(1, 2, 3) not in (("00", "00", "00"), ("12", "00", "00")):
            yield "".join(clock.group(1, 2, 3))
    elif not dates and len(digits := "".join(_DIGITS.findall(_OFFSET.sub("", value)))) >= 6:
        yield digits


def _written(day: date) -> Iterator[str]:
    years = (f"{day.year:04d}", f"{day.year % 100:02d}")
    months = {f"{day.month:02d}", str(day.month)}
    days = {f"{day.day:02d}", str(day.day)}
    ending = {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10 if day.day not in (11, 12, 13) else 0, "th")
    for year in years:
        for month in sorted(months):
            for number in sorted(days):
                yield from (year + month + number, number + month + year, month + number + year)
    for name in month_names()[day.month - 1]:
        for number in (*sorted(days), f"{day.day}{ending}"):
            yield from (number + name, name + number, number + "of" + name)
            for year in years:
                yield from (number + name + year, name + number + year, year + name + number)
                yield number + "of" + name + year
