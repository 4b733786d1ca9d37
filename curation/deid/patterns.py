"""What identifies by its shape: dates, times, ids, phones, mails, addresses, great ages.

Every pattern is bounded, so that the work is linear in the text whatever the text is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from usds.curation.deid.dates import month_names
from usds.curation.deid.words import fold, lookup

__all__ = ["Span", "find_patterns"]

_OLDEST: Final = 89


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a text: half-open code points, its class, and what shall stand there instead."""

    start: int
    end: int
    klass: str
    replacement: str = "[REMOVED]"


def find_patterns(text: str) -> list[Span]:
    """Places that look like dates, times, ids, phones, mails, addresses or ages over 89.

    Parameters
    ----------
    text : str
        Any letter case.

    Returns
    -------
    list of Span
        In no order; they may overlap.
    """
    # Folding may change lengths (ligatures, ß): patterns then run on the lower-cased text alone.
    plain = fold(text)
    if len(plain) != len(text):
        plain = "".join(folded if len(folded := fold(char)) == 1 else char for char in text)
    finders = (_dates, _times, _mails, _phones, _ids, _addresses, _ages)
    return [span for finder in finders for span in finder(plain)]


# -- dates ---------------------------------------------------------------------------------------------

_NUMERIC = re.compile(r"(?<![\d.,/-])(\d{1,4})[ ]?([./-])[ ]?(\d{1,2})[ ]?\2[ ]?(\d{1,4})(?![\d/-]|[.,]\d)")
_SPACED = re.compile(
    r"(?<![\d.,])(\d{4}) (\d{2}) (\d{2})(?![\d.,])|(?<![\d.,])(\d{2}) (\d{2}) ((?:19|20)\d{2})(?!\d)"
)
_COMPACT = re.compile(
    r"(?<!\d)((?:19|20)\d{2})(\d{2})(\d{2})(?:[t_ -]?([01]\d|2[0-3])[0-5]\d([0-5]\d)?(?:\.\d{1,6})?z?)?(?!\d)"
)
_COMPACT_DMY = re.compile(r"(?<!\d)(\d{2})(\d{2})((?:19|20)\d{2})(?!\d)")
_DAY_MONTH = re.compile(
    r"\b(?:on|dated?|since|until|till|am|vom|le|el)[:\s]{1,2}(\d{1,2})[./-](\d{1,2})(?![\d/-]|[.,]\d)"
)
_MONTH_YEAR = re.compile(r"(?<![\d./-])(0?[1-9]|1[0-2])[/.-]((?:19|20)\d{2})(?![\d/-])")
_UNIT_AFTER = re.compile(r"[ ]?(?:mm|cm|ml|cc|mhz|khz|%)")


@cache
def _month_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Dates with the month in words: unambiguous names, and those that are words of the language too."""
    ambiguous = set(lookup("patterns")["ambiguous_months"])
    names = {name for month in month_names() for name in month}
    sure = "|".join(sorted(names - ambiguous, key=len, reverse=True))
    every = "|".join(sorted(names | ambiguous, key=len, reverse=True))
    gap = r"[ .,/_-]{0,3}(?:(?:of|de|di|den) )?"
    day, year = r"\d{1,2}(?:st|nd|rd|th|er)?", r"(?:(?:19|20)\d{2}|'?\d{2})(?!\d)"
    named = (
        rf"(?<![a-z\d])(?:{day}{gap}(?:{sure})(?![a-z]){gap}(?:{year})?|(?:{sure})(?![a-z]){gap}{day}(?![\d])"
        rf"(?:{gap}{year})?|(?:{sure})(?![a-z]){gap}(?:{year})?|(?:19|20)\d{{2}}{gap}(?:{sure})(?![a-z]){gap}{day})"
    )
    nth = r"\d{1,2}(?:st|nd|rd|th)"
    loose = (
        rf"(?<![a-z\d])(?:{day}{gap}(?:{every})(?![a-z]){gap}{year}|(?:{every})(?![a-z]){gap}{day}{gap}{year}"
        rf"|(?:{every})(?![a-z])\.?[ ]?(?:19|20)\d{{2}}(?!\d)"
        rf"|(?:19|20)\d{{2}}{gap}(?:{every})(?![a-z]){gap}{day}"
        rf"|(?:on|dated|since|until|at)[ ](?:the[ ])?"
        rf"((?:{every})[ .]{{1,2}}{day}(?:{gap}{year})?|"
        rf"{day}[ ](?:of[ ])?(?:{every})(?:{gap}{year})?)(?![a-z\d])"
        rf"|{nth}[ ](?:of[ ])?(?:{every})(?![a-z])|(?:{every})[ ]{nth}(?![a-z]))"
    )
    return re.compile(named), re.compile(loose)


def _dates(text: str) -> Iterator[Span]:
    yield from _numeric_dates(text)
    for match in _MONTH_YEAR.finditer(text):
        yield Span(match.start(), match.end(), "date", "[DATE]")
    for pattern in _month_patterns():
        for match in pattern.finditer(text):
            start = match.start() if match.lastindex is None else match.start(match.lastindex)
            end = match.start() + len(match.group().rstrip(" .,/_-"))
            yield Span(start, end, "date", "[DATE]")


def _numeric_dates(text: str) -> Iterator[Span]:
    for pattern in (_NUMERIC, _SPACED, _COMPACT, _COMPACT_DMY, _DAY_MONTH):
        for match in pattern.finditer(text):
            numbers = [group for group in match.groups() if group and group.isdigit()]
            if len(numbers) == 2:
                numbers.append("2000")
            if _is_date(*numbers[:3]) and not _UNIT_AFTER.match(text, match.end()):
                yield Span(match.start(1 if match[1] else 4), match.end(), "date", "[DATE]")


def _is_date(first: str, second: str, third: str) -> bool:
    """Whether three numbers are a date in some order of day, month and year."""
    if len(first) == 4:
        return 1800 <= int(first) <= 2200 and 1 <= int(second) <= 31 and 1 <= int(third) <= 31
    if len(third) == 3 or len(first) == 3 or len(third) == 1:
        return False
    if len(third) == 4 and not 1800 <= int(third) <= 2200:
        return False
    one, two = int(first), int(second)
    return (
        (1 <= one <= 31 and 1 <= two <= 12)
        or (1 <= one <= 12 and 1 <= two <= 31)
        or _year_first(first, two, third)
    )


def _year_first(year: str, month: int, day: str) -> bool:
    return len(year) == 2 and 1 <= month <= 12 and 1 <= int(day) <= 31


# -- times ---------------------------------------------------------------------------------------------

_TIME = re.compile(
    r"(?<![\d:.])([01]?\d|2[0-4])(?:[:]([0-5]\d)([:.][0-5]\d(?:\.\d{1,6})?)?|(?=[ ]?[ap]\.?m\b))(?![\d:])"
    r"([ ]?(?:[ap]\.?m\.?\b|uhr\b|hrs?\b|hours\b|h\b|z\b))?"
)
_CLOCK_FACE = re.compile(
    r"[ -]?(?:o.?[ ]?clock|position|radial|axis|,?[ ]?\d{1,2}(?:\.\d)?[ ]?(?:cm|fn|n\b)|zone|b\b|n\d)"
)
_TIME_CUE = re.compile(r"\b(?:at|time|um|@|from|until|hours?)[:\s]{1,2}$")


def _times(text: str) -> Iterator[Span]:
    for match in _TIME.finditer(text):
        surely = match[3] or match[4] or (match[2] and (int(match[1]) > 12 or match[1].startswith("0")))
        cued = match[2] and _TIME_CUE.search(text, max(0, match.start() - 10), match.start())
        if (surely or cued) and not _CLOCK_FACE.match(text, match.end()):
            yield Span(match.start(), match.end(), "time", "[DATE]")


# -- mails, phones -------------------------------------------------------------------------------------

_MAIL = re.compile(r"(?<![\w.+-])[\w.+'-]{1,64}[ ]?@[ ]?[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}")
_URL = re.compile(
    r"(?:https?://|ftp://|www\.)[^\s<>\"]{1,2000}|(?<![\w.@-])[\w-]{2,63}\.(?:com|org|net|edu|gov|int|info|de|uk|fr|it|es|nl|ch|at|pl|cn|jp|in|br)\b(?:/[^\s<>\"]{0,500})?"
)
_PHONE = re.compile(
    r"(?<![\w.,/-])[(+]{0,2}\d{1,4}(?:[ ]?[)/]?[ ./()-]{0,2}\d{1,5}){1,7}"
    r"(?:[ ]?(?:x|ext\.?)[ ]?\d{1,6})?(?![\w])"
)
_GROUP = re.compile(r"\d+")


def _mails(text: str) -> Iterator[Span]:
    if "@" in text:
        for match in _MAIL.finditer(text):
            yield Span(match.start(), match.end(), "mail")
    for match in _URL.finditer(text):
        yield Span(match.start(), match.end(), "url")


def _phones(text: str) -> Iterator[Span]:
    for match in _PHONE.finditer(text):
        if _is_phone(match.group(), _has_phone_cue(text, match.start())):
            yield Span(match.start(), match.end(), "phone")


@cache
def _phone_cues() -> re.Pattern[str]:
    cues = "|".join(lookup("patterns")["phone_cues"])
    return re.compile(rf"\b(?:{cues})\b[ .:#,]{{0,3}}(?:no|number|nr|is)?[ .:#,]{{0,3}}$")


def _has_phone_cue(text: str, at: int) -> bool:
    return _phone_cues().search(text, max(0, at - 24), at) is not None


def _is_phone(written: str, cued: bool) -> bool:
    """Grouped digits as people write phones; rows of measurements have decimals and short groups."""
    groups = _GROUP.findall(written)
    digits = sum(map(len, groups))
    if cued:
        return 4 <= digits <= 16
    if not 7 <= digits <= 16 or len(groups) < 2:
        return written.startswith("+") and digits >= 7
    separators = set(_GROUP.sub("", written)) - set("()+")
    if written.startswith(("+", "(", "00")) or "(" in written:
        return True
    if separators <= {"-"} or separators == {"-", " "}:
        return len(groups[-1]) >= 3 and digits >= 7
    if separators == {"."}:
        return len(groups) >= 3 and all(len(group) >= 2 for group in groups)
    return groups[0].startswith("0") and len(groups[0]) >= 2 and "." not in separators


# -- ids -----------------------------------------------------------------------------------------------

_LONG_DIGITS = re.compile(r"(?<![\d.,])\d{5,}(?![.,]?\d)")
_UID = re.compile(r"(?<![\w.])\d{1,10}(?:\.\d{1,20}){3,20}(?![\w])")
_GROUPED = re.compile(r"(?<![\w.,])\d{2,6}(?:[-/]\d{2,8}){1,4}(?![\w]|[.,]\d)")
_MIXED = re.compile(
    r"(?<![\w-])(?=[a-z\d]{0,24}[-_/]?[a-z\d]{0,24}\d)[a-z\d]{1,24}(?:[-_/][a-z\d]{1,24}){0,4}(?![\w])"
)
_HEX = re.compile(r"(?<![\w-])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![\w])")
_QUANTITY = re.compile(r"\d{1,4}(?:x\d{1,4}){0,3}([a-z%]{0,6}\d?)(?:[-/]\d{0,4}[a-z]{0,6}){0,2}")
_HARMLESS = re.compile(
    r"(?:[a-z]{1,2}\d{1,2}|\d{1,2}[a-z]{1,2}|[a-z]{3}\d|[a-z]\d[a-z]\d?(?:[a-z]\d{0,2}){0,3}|\d[a-z]\d?|(?:[gpatlm]\d{1,2}){2,6}|"
    r"\d{1,2}w\d?d?|\d{1,2}w\d{1,2}d|[a-z]{1,6}\d|\d{1,3}(?:st|nd|rd|th|s)|\d{1,3}(?:f|m|yo)|[a-z]{1,2}\d{1,2}[a-z]?)"
)
_PART = re.compile(r"[a-z]+|\d+")


@cache
def _id_cues() -> re.Pattern[str]:
    cues = "|".join(re.escape(cue) for cue in sorted(lookup("patterns")["id_cues"], key=len, reverse=True))
    return re.compile(
        rf"(?<![a-z\d])(?:{cues})(?![a-z\d])\.?[ ]?(?:no|number|nr|num)?[ .:#=-]{{0,4}}(?:is|was)?[ ]?"
        r"([a-z]{0,6}[ -]?\d[\w./-]{0,30}|[a-z\d][\w/-]{0,15}\d[\w/-]{0,15})"
    )


@cache
def _known_codes() -> tuple[frozenset[str], frozenset[str]]:
    table = lookup("patterns")
    return frozenset(table["codes"]), frozenset(table["units"])


def _ids(text: str) -> Iterator[Span]:
    for match in _id_cues().finditer(text):
        start, end = match.span(1)
        yield Span(start, start + len(text[start:end].rstrip("./-")), "id")
    for pattern in (_UID, _HEX):
        for match in pattern.finditer(text):
            yield Span(match.start(), match.end(), "id")
    for match in _LONG_DIGITS.finditer(text):
        if match.end() - match.start() > 5 or not _unit_follows(text, match.end()):
            yield Span(match.start(), match.end(), "id")
    for match in _GROUPED.finditer(text):
        # A range of three digits each ("120-150") has its unit behind it.
        if sum(char.isdigit() for char in match.group()) >= 6 and not _unit_follows(text, match.end()):
            yield Span(match.start(), match.end(), "id")
    for match in _MIXED.finditer(text):
        if _is_mixed_id(match.group()):
            yield Span(match.start(), match.end(), "id")


def _unit_follows(text: str, at: int) -> bool:
    word = re.match(r"[ -]?([a-z%]{1,6})", text[at : at + 8])
    return word is not None and word[1] in _known_codes()[1]


def _is_mixed_id(token: str) -> bool:
    """Whether letters and digits in one token are an id, and no quantity, level, stage or marker."""
    if token.isdigit() or not any(char.isalpha() for char in token):
        return False
    codes, units = _known_codes()
    bare = re.sub(r"[-_/]", "", token)
    if bare in codes:
        return False
    quantity = _QUANTITY.fullmatch(token)
    if quantity is not None and (
        not quantity[1] or quantity[1].rstrip("0123456789") in units or quantity[1] in units
    ):
        return False
    parts = re.split(r"[-_/]", token)
    return any(_is_id_part(part, parts, codes, units) for part in parts)


def _is_id_part(part: str, parts: list[str], codes: frozenset[str], units: frozenset[str]) -> bool:
    digits = sum(char.isdigit() for char in part)
    if digits == 0 or part in codes or _HARMLESS.fullmatch(part):
        return False
    if digits == len(part):
        # "BC-004", "LOGIQ-700" and "K-1234" are ids; "C5-6", "covid-19" and "4-chamber" are not.
        alone = len(parts) > 1 and parts[0].isalpha() and parts[0] not in units
        return digits >= 5 or (digits >= 3 and alone)
    pieces = _PART.findall(part)
    if len(pieces) == 2 and pieces[0].isdigit() and pieces[1] in units and len(pieces[0]) <= 4:
        return False
    return digits >= 3 or len(pieces) >= 3 or (len(parts) > 1 and digits >= 2)


# -- addresses, ages -----------------------------------------------------------------------------------


@cache
def _address_patterns() -> tuple[re.Pattern[str], ...]:
    table = lookup("patterns")
    full, short = "|".join(table["streets"]), "|".join(table["short_streets"])
    words = r"(?:[a-z][a-z'.-]{1,20}[ ]){1,3}"
    return (
        re.compile(
            rf"(?<![\d.,])\d{{1,5}}[a-z]?[ ,]{{1,2}}{words}(?:{full})\b(?:[ ,]{{1,2}}(?:apt|suite|unit"
            rf"|flat)\.?[ ]\w{{1,6}})?"
        ),
        re.compile(
            rf"(?<![\d.,])\d{{2,5}}[ ]{words}(?:{short})\b\.?[ ,]{{1,3}}(?:(?:apt|suite|unit|flat"
            rf")\.?[ ]\w{{1,6}}|[a-z' .-]{{2,30}},?[ ][a-z]{{2}}[ ]\d{{5}})"
        ),
        re.compile(
            r"\b[a-z]{4,24}(?:strasse|straße|str\.|gasse|weg|allee|platz|straat|laan|gatan|vej|katu"
            r")[ ]\d{1,4}[a-z]?\b"
        ),
        re.compile(
            r"\b(?:rue|calle|via|avenida|piazza|plaza|rua|ulica|ul\.)[ ](?:[a-z'.-]{1,20}[ ,]"
            r"){1,4}\d{1,4}\b|(?<!\d)\d{1,4},?[ ](?:rue|boulevard|avenue|chemin|place"
            r")[ ](?:[a-z'-]{1,20}[ ]?){1,4}"
        ),
        re.compile(
            r"(?:\b(?:address|adresse|anschrift|domicile)[ ]{0,2}:|"
            r"\b(?:lives|living|resides|residing|resident)[ ]"
            r"(?:at|in|of)\b)([^\n;:]{3,120}?)(?=(?<![ ][a-z]{2})(?<![ ][a-z])\.[ ](?!\d)|[.]?$|\n|;)",
            re.MULTILINE,
        ),
        re.compile(r"\bp\.?[ ]?o\.?[ ]box[ ]\d{1,6}\b"),
        re.compile(r"\b(?:apt|suite|unit|flat)\.?[ ]#?\d{1,5}[a-z]?\b"),
        re.compile(r"(?<![a-z\d])[a-z]{2}[ ]\d{5}(?:-\d{4})?(?!\d)"),
        re.compile(r"(?<![a-z\d])[a-z]{1,2}\d[a-z\d]?[ ]\d[a-z]{2}(?![a-z\d])"),
    )  # fmt: skip


def _addresses(text: str) -> Iterator[Span]:
    for pattern in _address_patterns():
        for match in pattern.finditer(text):
            start = match.start(match.lastindex or 0)
            yield Span(start, match.start() + len(match.group().rstrip(" ,.")), "address")


_AGE = re.compile(
    r"(?<![\d./-])(9\d|1[0-2]\d)(?=[ -]{0,2}(?:years?|yrs?|y\.?[ ]?/?o\b|y\b|ans|anos|jahre|jahrige))"
    r"|(?<=\bage )(9\d|1[0-2]\d)\b(?!\+)|(?<=\baged )(9\d|1[0-2]\d)\b(?!\+)"
    r"|(?<=\bage: )(9\d|1[0-2]\d)\b(?!\+)"
    r"|(?<=\bage of )(9\d|1[0-2]\d)\b(?!\+)|(?<![\d.])0?(9\d|1[0-2]\d)y(?![a-z\d])"
)
_AGE_WORDS = re.compile(
    r"\b(?:ninety(?:[ -](?:one|two|three|four|five|six|seven|eight|nine))?|"
    r"one hundred(?:[ -]and[ -]\w{3,6})?|(?:a )?hundred)(?=[ -]years?[ -]old\b)"
)


def _ages(text: str) -> Iterator[Span]:
    for match in _AGE.finditer(text):
        group = next(number for number in match.groups() if number)
        if int(group) > _OLDEST:
            start = match.end() - len(match.group())
            yield Span(start, start + len(match.group().rstrip("y")), "age", "90+")
    for match in _AGE_WORDS.finditer(text):
        yield Span(match.start(), match.end(), "age", "90+")
