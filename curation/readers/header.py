"""What a DICOM header says about a picture, through lookup tables and range checks only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import date
from typing import Any, Literal

from pydicom.dataset import Dataset

from usds.curation.readers.base import CaptionScope, HeaderFacts, RawCaption
from usds.curation.readers.lookup import known_code, look_up, look_up_first, probe_shape
from usds.curation.readers.regions import parse_regions

# Free text about the picture or the examination. Processing descriptions name presets of the machine,
# not findings, and DerivationDescription names compressions: both are left out.
_CAPTIONS: tuple[tuple[str, str, CaptionScope], ...] = (
    ("ImageComments", "comment", "clip"),
    ("ViewName", "view", "clip"),
    ("SeriesDescription", "series_description", "clip"),
    ("StudyDescription", "study_description", "study"),
    ("RequestedProcedureDescription", "procedure", "study"),
    ("PerformedProcedureStepDescription", "procedure", "study"),
    ("ReasonForStudy", "indication", "study"),
    ("ReasonForTheRequestedProcedure", "indication", "study"),
    ("AdmittingDiagnosesDescription", "indication", "study"),
    ("AdditionalPatientHistory", "history", "study"),
)
_CODE_SEQUENCES = (
    "AnatomicRegionSequence",
    "PrimaryAnatomicStructureSequence",
    "ViewCodeSequence",
    "AcquisitionViewSequence",
)
_CODE_CHILDREN = ("AnatomicRegionModifierSequence", "PrimaryAnatomicStructureModifierSequence")
_SEX: dict[str, Literal["M", "F", "O"]] = {
    "M": "M", "MALE": "M", "F": "F", "FEMALE": "F", "O": "O", "OTHER": "O",
}  # fmt: skip
_AGE = re.compile(r"^(\d{1,3})([DWMY]?)$")
_AGE_UNITS = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0, "": 1.0}
_MAX_AGE = 120.0
_DATE = re.compile(r"^(\d{4})[.\-/]?(\d{2})[.\-/]?(\d{2})")
_LANGUAGE = re.compile(r"^[a-z]{2,3}$")


def values(ds: Dataset, keyword: str) -> list[Any]:
    """Return the values of an element as a list; empty where it is absent, empty or does not parse."""
    try:
        value: Any = ds.get(keyword)
    except Exception:  # noqa: BLE001 - pydicom raises what the value breaks; such a value states nothing
        return []
    if value is None or isinstance(value, (bytes, Dataset)):
        return []
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return [value]
    return [item for item in value if item is not None]


def text(ds: Dataset, keyword: str) -> str | None:
    """Return the first value as stripped text, None where there is none."""
    found = values(ds, keyword)
    return (str(found[0]).strip(" \0\t\r\n") or None) if found else None


def number(ds: Dataset, keyword: str, low: float, high: float) -> float | None:
    """Return the first value as a finite number within [low, high], else None."""
    try:
        found = float(values(ds, keyword)[0])
    except (IndexError, TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and low <= found <= high else None


def header_facts(ds: Dataset, rows: int, cols: int, n_frames: int, warnings: list[str]) -> HeaderFacts:
    """Translate a header.

    Parameters
    ----------
    ds : Dataset
        Without pixel data.
    rows, cols : int
        Size of a decoded frame; regions are checked against it.
    n_frames : int
        A still's captions belong to the frame, a clip's to the clip.
    warnings : list of str
        Codes of doubts are appended.

    Returns
    -------
    HeaderFacts
    """
    regions = parse_regions(ds, rows, cols, warnings)
    spacing = next((region.spacing_mm for region in regions if region.spacing_mm), None)
    return HeaderFacts(
        patient_id=text(ds, "PatientID"),
        patient_birth_date=text(ds, "PatientBirthDate"),
        patient_sex=text(ds, "PatientSex"),
        study_uid=text(ds, "StudyInstanceUID"),
        series_uid=text(ds, "SeriesInstanceUID"),
        sop_uid=text(ds, "SOPInstanceUID"),
        vendor=look_up("vendor", text(ds, "Manufacturer")),
        model_family=look_up("model_family", text(ds, "ManufacturerModelName")),
        transducer=_transducer(ds),
        body_part=_body_part(ds),
        sex=_SEX.get((text(ds, "PatientSex") or "").upper()),
        age_years=age_years(ds),
        codes=tuple(dict.fromkeys(_codes(ds))),
        regions=regions,
        frame_time_ms=_frame_time(ds),
        spacing_mm=spacing or _pixel_spacing(ds),
        captions=tuple(_captions(ds, n_frames)),
    )


def age_years(ds: Dataset) -> float | None:
    """Age in years from PatientAge (AS), else from birth date and study date; None outside 0 to 120."""
    if match := _AGE.match((text(ds, "PatientAge") or "").upper()):
        age = int(match[1]) / _AGE_UNITS[match[2]]
        return age if age <= _MAX_AGE else None
    born, seen = _date(text(ds, "PatientBirthDate")), _date(text(ds, "StudyDate"))
    if born is None or seen is None:
        return None
    age = (seen - born).days / 365.25
    return age if 0 <= age <= _MAX_AGE else None


def _date(value: str | None) -> date | None:
    match = _DATE.match(value or "")
    try:
        return date(int(match[1]), int(match[2]), int(match[3])) if match else None
    except ValueError:
        return None


def _transducer(ds: Dataset) -> str | None:
    found = look_up("transducer", text(ds, "TransducerType"))
    if found not in (None, "other"):
        return found
    return probe_shape([str(name) for name in values(ds, "TransducerData")]) or found


def _body_part(ds: Dataset) -> str | None:
    """BodyPartExamined, else the exam type in the third value of ImageType (PS3.3 C.8.5.6.1.1)."""
    stated = look_up("body_part", text(ds, "BodyPartExamined"))
    if stated not in (None, "other"):
        return stated
    exam = [str(value) for value in values(ds, "ImageType")[2:3]]
    known = look_up_first("body_part", exam)
    return known if known not in (None, "other") else stated


def _codes(ds: Dataset) -> Iterator[tuple[str, str, str]]:
    for keyword in _CODE_SEQUENCES:
        for item in values(ds, keyword):
            if not isinstance(item, Dataset):
                continue
            code = known_code(text(item, "CodingSchemeDesignator") or "", text(item, "CodeValue") or "")
            if code is not None:
                yield code
            for child in _CODE_CHILDREN:
                for nested in values(item, child):
                    if isinstance(nested, Dataset) and (
                        code := known_code(
                            text(nested, "CodingSchemeDesignator") or "", text(nested, "CodeValue") or ""
                        )
                    ):
                        yield code


def _frame_time(ds: Dataset) -> float | None:
    time = number(ds, "FrameTime", 0.1, 60_000)
    if time is not None:
        return time
    for keyword in ("CineRate", "RecommendedDisplayFrameRate"):
        if (rate := number(ds, keyword, 0.1, 10_000)) is not None:
            return 1000.0 / rate
    return None


def _pixel_spacing(ds: Dataset) -> tuple[float, float] | None:
    found = values(ds, "PixelSpacing")
    try:
        row, col = float(found[0]), float(found[1])
    except (IndexError, TypeError, ValueError):
        return None
    return (row, col) if 1e-3 <= row <= 10 and 1e-3 <= col <= 10 else None


def _captions(ds: Dataset, n_frames: int) -> Iterator[RawCaption]:
    language = _language(ds)
    seen: set[str] = set()
    for keyword, section, scope in _CAPTIONS:
        caption = text(ds, keyword)
        if caption is None or caption.casefold() in seen or not any(c.isalpha() for c in caption):
            continue
        seen.add(caption.casefold())
        caption = caption.replace("\r\n", "\n").replace("\r", "\n")
        where: CaptionScope = "frame" if scope == "clip" and n_frames == 1 else scope
        yield RawCaption(caption, section, where, "header", language)


def _language(ds: Dataset) -> str | None:
    """(0008,0006) Language Code Sequence states the language of the text, where present."""
    for item in values(ds, "LanguageCodeSequence"):
        primary = (text(item, "CodeValue") or "").lower().split("-")[0] if isinstance(item, Dataset) else ""
        if _LANGUAGE.match(primary):
            return primary
    return None
