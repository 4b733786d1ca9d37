"""Kinds are told by content: the same bytes under any name."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from usds.curation.readers.sniff import sniff

JSON = b'{"image": "a.png", "caption": "Normal liver."}'


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", "unknown"),
        (b"Normal liver, no focal lesion.", "text"),
        (b"Findings: a cyst, 2 cm.\nImpression: benign, simple cyst.", "text"),
        (b"image,caption\na.png,Normal liver\n", "csv"),
        (b"image\tcaption\na.png\tNormal, small liver\n", "csv"),
        (b'image,caption\na.png,"Normal, small liver"\n', "csv"),
        (JSON, "json"),
        (b'[{"image": "a"}]', "json"),
        (b'{\n  "image": "a"\n}', "json"),
        (JSON + b"\n" + JSON + b"\n", "jsonl"),
        (b"[REMOVED] liver is normal", "text"),
        ("Leber unauffällig, keine Läsion".encode("cp1252"), "text"),
        ("Normal liver".encode("utf-16"), "text"),
        (bytes(range(256)) * 4, "unknown"),
        (b"%PDF-1.7\n\x00\x01\x02", "unknown"),
        (b"\x7fELF" + b"\0" * 60, "unknown"),
        (b"BM is a unit nobody uses", "text"),
        (b"GIF89a\x01\x00\x01\x00", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image"),
        (b"RIFF\0\0\0\0WAVEfmt ", "unknown"),
    ],
)
def test_kind(head: bytes, kind: str) -> None:
    assert sniff(head) == kind


@pytest.mark.parametrize("name", ["reportsi.dcm", "test-SR.dcm"])
def test_structured_reports(name: str) -> None:
    with open(str(get_testdata_file(name)), "rb") as file:
        assert sniff(file.read(16384)) == "sr"


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big_endian"])
@pytest.mark.parametrize("file_meta", [True, False])
def test_dicom_with_and_without_preamble(dicom_factory: ModuleType, syntax: str, file_meta: bool) -> None:
    assert sniff(dicom_factory.make_us_dicom(syntax=syntax, file_meta=file_meta)[:16384]) == "dicom"


def test_image_that_refers_to_a_report_is_no_report(dicom_factory: ModuleType) -> None:
    data = dicom_factory.make_us_dicom(header={"ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33"})
    assert sniff(data[:16384]) == "dicom"


@given(st.binary(max_size=600))
def test_any_bytes_have_a_kind(head: bytes) -> None:
    assert sniff(head) in {
        "dicom", "sr", "image", "video", "zip", "text", "csv", "json", "jsonl", "unknown",
    }  # fmt: skip
