"""Who is who: keyed ids, the subject of a file, age bands.

Ids are ``base32(HMAC-SHA256(key, domain + length-prefixed fields))[:26]``: 130 bits, equal for equal input
under one key, unlinkable under another. Every domain is its own namespace, and the length prefixes keep
("ab", "c") apart from ("a", "bc").
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from base64 import b32encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final, Literal, cast

import yaml

__all__ = [
    "AGE_BANDS",
    "Ids",
    "SubjectRule",
    "SubjectSources",
    "age_band",
    "conflicting",
    "is_placeholder",
    "normal_patient_id",
    "resolve_study",
    "resolve_subject",
]

ID_LENGTH: Final = 26
SubjectRule = Literal["subjects_csv", "sidecar", "patient_id", "folder", "file"]

_OLDEST_BAND: Final = 90
"""Ages over 89 are one band (HIPAA Safe Harbor, 45 CFR 164.514(b)(2)(i)(C))."""


_NOT_DIGIT = re.compile(r"[\s:._-]+")
_TIME_STAMP = re.compile(
    r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d\d{0,6})?"
)


def _placeholders() -> frozenset[str]:
    text = files("usds.curation.deid").joinpath("placeholders.yaml").read_text("utf-8")
    return frozenset(str(value).upper() for value in cast("list[Any]", yaml.safe_load(text)))


_PLACEHOLDERS: Final = _placeholders()


class Ids:
    """Keyed ids of one dataset.

    Parameters
    ----------
    key : bytes
        The dataset's key, 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def keyed_hash(self, domain: str, *fields: str | int) -> str:
        """Id of ``fields`` in ``domain``: 26 characters of a-z and 2-7."""
        message = bytearray()
        for part in (domain, *(str(field) for field in fields)):
            encoded = part.encode("utf-8", "surrogatepass")
            message += len(encoded).to_bytes(8, "big") + encoded
        digest = hmac.new(self._key, bytes(message), sha256).digest()
        return b32encode(digest).decode("ascii")[:ID_LENGTH].lower()

    def subject(self, *fields: str) -> str:
        """Id of a subject, from the fields of :func:`resolve_subject`."""
        return self.keyed_hash("subject", *fields)

    def study(self, *fields: str) -> str:
        """Id of a study, from the fields of :func:`resolve_study`."""
        return self.keyed_hash("study", *fields)

    def series(self, *fields: str) -> str:
        """Id of a series."""
        return self.keyed_hash("series", *fields)

    def clip(self, content: str) -> str:
        """Id of a multi-frame file, from the SHA-256 of its bytes."""
        return self.keyed_hash("clip", content)

    def frame(self, content: str, index: int) -> str:
        """Id of one frame: the SHA-256 of its file and the frame number, from 0."""
        return self.keyed_hash("frame", content, index)

    def source(self, *fields: str) -> str:
        """Key of a source file."""
        return self.keyed_hash("source", *fields)


@dataclass(frozen=True, slots=True)
class SubjectSources:
    """What may say whose file it is, each None when nothing does.

    Attributes
    ----------
    listed : str or None
        From ``--subjects``.
    mapped : str or None
        From the sidecar's column that ``--map`` names.
    sidecar : str or None
        From a sidecar's column that is called like one of subjects.
    patient_id : str or None
        DICOM PatientID (0010,0020), as written.
    folder : str or None
        First folder below the RAW argument.
    content : str
        SHA-256 of the file.
    """

    content: str
    listed: str | None = None
    mapped: str | None = None
    sidecar: str | None = None
    patient_id: str | None = None
    folder: str | None = None


def normal_patient_id(value: str | None, *, explicit: bool = False) -> str | None:
    """NFKC, stripped, upper case; None for what names nobody.

    Parameters
    ----------
    value : str or None
    explicit : bool
        A person said that these are the subjects: "X" and "test" are two of them then.
    """
    text = " ".join(unicodedata.normalize("NFKC", value or "").replace("\0", " ").split()).upper()
    return None if not text or (is_placeholder(text) and not explicit) else text


def is_placeholder(value: str) -> bool:
    """Whether a patient id is one of those that sites type when they have none.

    An examination's time stamp is one too: it is unique to the visit, and would put two visits of one patient
    on two sides of a split. "7" and "11" are patients of a numbered series.
    """
    text = unicodedata.normalize("NFKC", value).strip(" \0").upper()
    letters = text.strip("-_.*?# ^0")
    if not letters or text in _PLACEHOLDERS or _TIME_STAMP.fullmatch(_NOT_DIGIT.sub("", text)):
        return True
    return len(set(letters)) == 1 and (letters[0] in "XN" or len(letters) >= 5)


def resolve_subject(sources: SubjectSources) -> tuple[tuple[str, ...], SubjectRule]:
    """Whose file it is: the first source that says something.

    Returns
    -------
    fields : tuple of str
        For :meth:`Ids.subject`. An identifier means the same person whether a list, a sidecar or the header
        says it.
    rule : SubjectRule
        Column ``subject_rule``.
    """
    candidates: tuple[tuple[str | None, SubjectRule, bool], ...] = (
        (sources.listed, "subjects_csv", True),
        (sources.mapped, "sidecar", True),
        (sources.sidecar, "sidecar", False),
        (sources.patient_id, "patient_id", False),
    )
    for value, rule, explicit in candidates:
        normal = normal_patient_id(value, explicit=explicit)
        if normal is not None:
            return ("id", normal), rule
    if sources.folder:
        return ("folder", unicodedata.normalize("NFC", sources.folder)), "folder"
    return ("file", sources.content), "file"


def resolve_study(subject_id: str, study_uid: str | None, parent: str) -> tuple[str, ...]:
    """Fields of :meth:`Ids.study`: the study's UID, else the subject's files of one folder.

    Parameters
    ----------
    parent : str
        Folder of the file, relative to its RAW argument.
    """
    if study_uid and not is_placeholder(study_uid):
        return ("uid", subject_id, study_uid.strip())
    return ("folder", subject_id, parent)


def conflicting(people: Iterable[Mapping[str, str | None]]) -> bool:
    """Whether the headers under one id describe two people: another birth date or another sex.

    Parameters
    ----------
    people : iterable of mapping
        ``birth_date`` (DICOM DA) and ``sex`` (M, F, O) of each file; empty values say nothing.
    """
    births: set[str] = set()
    sexes: set[str] = set()
    for person in people:
        births.update(_said(person.get("birth_date")))
        sexes.update(_said(person.get("sex")) - {"O"})
    return len(births) > 1 or len(sexes) > 1


def _said(value: str | None) -> set[str]:
    text = (value or "").strip().upper()
    return {text} if text else set()


def _bands() -> tuple[str, ...]:
    fives = [f"{low}-{low + 4}" for low in range(5, _OLDEST_BAND, 5)]
    return ("0", "1-4", *fives, f"{_OLDEST_BAND}+")


AGE_BANDS: Final = _bands()
"""0, 1-4, 5-9 ... 85-89, 90+."""


def age_band(age_years: float | None, *, exact: bool = False) -> str:
    """Age as it is written: a band, or whole years below 90 where the settings ask for them.

    Returns
    -------
    str
        ``unknown`` when the age is missing or no human age.
    """
    if age_years is None or not 0 <= age_years <= 130:
        return "unknown"
    years = int(age_years)
    if years >= _OLDEST_BAND:
        return AGE_BANDS[-1]
    if exact:
        return str(years)
    if years == 0:
        return "0"
    return "1-4" if years < 5 else f"{years // 5 * 5}-{years // 5 * 5 + 4}"
