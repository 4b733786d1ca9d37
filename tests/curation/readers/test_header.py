"""Header facts: lookup tables and range checks let nothing typed in by a site through."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from usds.curation.readers.base import HeaderFacts, ReadLimits, open_media
from usds.curation.readers.lookup import known_code, look_up, probe_shape


def facts(factory: ModuleType, **header: Any) -> HeaderFacts:
    with open_media(factory.make_us_dicom(header=header), kind="dicom", limits=ReadLimits()) as media:
        return media.header


@pytest.mark.parametrize(
    ("value", "vendor"),
    [
        ("G.E. Medical Systems", "GE"),
        ("GE Healthcare Ultrasound", "GE"),
        ("Philips Medical Systems", "Philips"),
        ("SonoSite, Inc.", "Fujifilm"),
        ("ALOKA CO., LTD.", "Hitachi"),
        ("MINDRAY", "Mindray"),
        ("Saint Brannock Infirmary", "other"),
        ("GEORGE", "other"),
    ],
)
def test_vendor(dicom_factory: ModuleType, value: str, vendor: str) -> None:
    assert facts(dicom_factory, Manufacturer=value).vendor == vendor


def test_unknown_words_never_come_through(dicom_factory: ModuleType) -> None:
    got = facts(
        dicom_factory, ManufacturerModelName="Room 12 Quillfeather", TransducerType="DR VANTERPOOL",
        BodyPartExamined="MRS SMITH", PatientSex="QUILL",
    )  # fmt: skip
    assert (got.model_family, got.transducer, got.body_part, got.sex) == ("other", "other", "other", None)


@pytest.mark.parametrize(
    ("name", "family"),
    [("LOGIQ E9", "LOGIQ"), ("EPIQ 7C", "EPIQ"), ("Mindray M5", "Mindray M"), ("CX50", "CX50")],
)
def test_model_family_drops_the_unit(name: str, family: str) -> None:
    assert look_up("model_family", name) == family


def test_absent_values_stay_absent(dicom_factory: ModuleType) -> None:
    got = facts(dicom_factory)
    assert (got.vendor, got.transducer, got.age_years, got.spacing_mm) == (None, None, None, None)


def test_probe_name_gives_shape_and_serial_gives_nothing() -> None:
    assert [probe_shape([name]) for name in ("L12_5", "C5-1", "S5-1", "55360")] == [
        "linear", "curved_linear", "phased", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("header", "age"),
    [
        ({"PatientAge": "035Y"}, 35.0),
        ({"PatientAge": "006M"}, 0.5),
        ({"PatientBirthDate": "20000101", "StudyDate": "20100101"}, 10.0),
        ({"PatientBirthDate": "1990.01.01", "StudyDate": "20100101"}, 20.0),
        ({"PatientBirthDate": "--", "StudyDate": "20100101"}, None),
        ({"PatientBirthDate": "20200101", "StudyDate": "20100101"}, None),
        ({"PatientAge": "350Y"}, None),
    ],
)
def test_age(dicom_factory: ModuleType, header: dict[str, str], age: float | None) -> None:
    got = facts(dicom_factory, **header).age_years
    assert got == age if age is None else got == pytest.approx(age, abs=0.01)


@pytest.mark.parametrize(("value", "sex"), [("M", "M"), ("Male", "M"), ("f", "F"), ("O", "O"), ("", None)])
def test_sex(dicom_factory: ModuleType, value: str, sex: str | None) -> None:
    assert facts(dicom_factory, PatientSex=value).sex == sex


def test_exam_type_of_image_type_stands_in_for_the_body_part(dicom_factory: ModuleType) -> None:
    assert facts(dicom_factory, ImageType=["ORIGINAL", "PRIMARY", "THYROID"]).body_part == "THYROID"
    both = facts(dicom_factory, BodyPartExamined="BREAST", ImageType=["ORIGINAL", "PRIMARY", "THYROID"])
    assert both.body_part == "BREAST"


def code_item(scheme: str, value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator, item.CodeValue, item.CodeMeaning = scheme, value, meaning
    return item


def test_codes_keep_the_published_meaning_only(dicom_factory: ModuleType) -> None:
    sequence = Sequence(
        [code_item("SCT", "10200004", "Liver of Mrs Smith"), code_item("99LOCAL", "1", "Smith")]
    )
    assert facts(dicom_factory, AnatomicRegionSequence=sequence).codes == (("SCT", "10200004", "Liver"),)


def test_retired_snomed_codes_are_translated() -> None:
    assert known_code("SRT", "T-62000") == ("SCT", "10200004", "Liver")
    assert known_code("SCT", "999999999") is None


def test_captions_with_sections_and_scope(dicom_factory: ModuleType) -> None:
    got = facts(
        dicom_factory,
        StudyDescription="US LIVER",
        SeriesDescription="us liver",
        ImageComments="Cyst in segment 4",
    )
    assert [(c.text, c.section, c.scope, c.origin) for c in got.captions] == [
        ("Cyst in segment 4", "comment", "frame", "header"),
        ("us liver", "series_description", "frame", "header"),
    ]


def test_regions_that_lie_are_dropped_and_reported(dicom_factory: ModuleType) -> None:
    data = dicom_factory.make_us_dicom(
        regions=[
            {"box": (10, 10, 100, 90)},
            {"box": (84, 31, 595, 414)},
            {"box": (0, 0, 128, 96), "data_type": 2},
        ]
    )
    with open_media(data, kind="dicom", limits=ReadLimits()) as media:
        boxes = [(r.kind, r.x0, r.y0, r.x1, r.y1) for r in media.header.regions]
        assert boxes == [("2d", 10, 10, 101, 91), ("color", 0, 0, 128, 96)]
        assert media.warnings == ["region_outside_frame"]
        assert media.header.spacing_mm == pytest.approx((0.2, 0.2))


@pytest.mark.parametrize(
    ("spatial", "data_type", "kind"), [(2, 1, "mmode"), (3, 3, "spectral"), (4, 10, "ecg"), (0, 13, "other")]
)
def test_region_kinds(dicom_factory: ModuleType, spatial: int, data_type: int, kind: str) -> None:
    box = {"box": (0, 0, 50, 50), "spatial": spatial, "data_type": data_type, "units": 4}
    with open_media(dicom_factory.make_us_dicom(regions=[box]), kind="dicom", limits=ReadLimits()) as media:
        (region,) = media.header.regions
        assert (region.kind, region.spacing_mm) == (kind, None)
