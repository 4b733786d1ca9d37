"""Everything that identifies is found, wherever it hides."""

from __future__ import annotations

from types import ModuleType

import pytest

from usds.curation.readers.base import Identifier, ReadLimits, open_media


def identifiers(data: bytes) -> list[Identifier]:
    with open_media(data, kind="dicom", limits=ReadLimits()) as media:
        return media.identifiers()


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big_endian", "deflated", "jpeg", "rle", "mpeg4"])
def test_every_planted_value_is_found(dicom_factory: ModuleType, syntax: str) -> None:
    planted = dicom_factory.Planted()
    found = {item.value for item in identifiers(dicom_factory.make_us_dicom(syntax=syntax, phi=planted))}
    assert [value for value in planted.values() if value not in found] == []


def test_classes_and_cues(dicom_factory: ModuleType) -> None:
    planted = dicom_factory.Planted()
    found = {item.value: item for item in identifiers(dicom_factory.make_us_dicom(phi=planted))}
    expected = {
        planted.name: ("name", "PatientName"),
        planted.patient_id: ("id", "PatientID"),
        planted.birth_date: ("date", "PatientBirthDate"),
        planted.phone: ("phone", "PatientTelephoneNumbers"),
        planted.address: ("address", "PatientAddress"),
        planted.institution: ("institution", "InstitutionName"),
        planted.physician: ("staff", "ReferringPhysicianName"),
        planted.nested_name: ("staff", "RequestingPhysician"),
        planted.serial: ("id", "DeviceSerialNumber"),
        planted.private_text: ("other", "Private"),
        planted.overlay: ("other", "Overlay"),
        planted.preamble: ("other", "Preamble"),
    }
    # The serial number also stands in Transducer Data; the first place that is read names the cue.
    expected[planted.serial] = ("id", found[planted.serial].cue or "")
    assert {value: (found[value].klass, found[value].cue) for value in expected} == expected


def test_instance_uids_are_ids_and_class_uids_are_not(dicom_factory: ModuleType) -> None:
    values = {item.value for item in identifiers(dicom_factory.make_us_dicom())}
    assert "1.2.826.0.1.3680043.8.498.12" in values
    assert not any(value.startswith("1.2.840.10008.") for value in values)


def test_dates_that_do_not_parse_and_names_in_three_writings_are_kept(dicom_factory: ModuleType) -> None:
    header = {"StudyDate": "SMITH1960", "OtherPatientNames": "Yamada^Tarou=山田^太郎=やまだ^たろう"}
    header["SpecificCharacterSet"] = "ISO_IR 192"
    values = {item.value for item in identifiers(dicom_factory.make_us_dicom(header=header))}
    assert {"SMITH1960", "Yamada^Tarou", "山田^太郎", "やまだ^たろう"} <= values


def test_text_inside_private_bytes_is_found(dicom_factory: ModuleType) -> None:
    from pydicom.dataset import Dataset

    ds = Dataset()
    ds.private_block(0x0011, "MAKER", create=True).add_new(
        0x01, "UN", b"\x01\x00\x02WINTERBOURNE\x00\xff\x00\x01"
    )
    planted = dicom_factory.make_us_dicom(header={})
    from io import BytesIO

    from pydicom import dcmread

    full = dcmread(BytesIO(planted))
    full.update(ds)
    out = BytesIO()
    full.save_as(out)
    assert any("WINTERBOURNE" in item.value for item in identifiers(out.getvalue()))
