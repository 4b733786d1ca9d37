"""Codestream headers: what decides about colour, size and whether a codec may see the frame."""

from __future__ import annotations

import io
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from usds.curation.readers.codestream import has_tables, parse_codestream, with_adobe_marker


def jpeg(**options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.zeros((16, 24, 3), np.uint8)).save(out, "JPEG", **options)
    return out.getvalue()


def test_jfif_says_ycc_and_adobe_says_rgb() -> None:
    stream = parse_codestream(jpeg())
    assert stream is not None
    assert (stream.family, stream.rows, stream.cols, stream.components, stream.bits) == ("dct", 16, 24, 3, 8)
    assert (stream.ycc, stream.has_marker) == (True, True)
    kept = parse_codestream(jpeg(keep_rgb=True))
    assert kept is not None
    assert kept.ycc is False


@pytest.mark.parametrize("ycc", [True, False])
def test_adobe_marker_is_inserted(ycc: bool) -> None:
    plain = jpeg(keep_rgb=True)
    without = plain[:2] + plain[plain.index(b"\xff\xdb") :]
    stream = parse_codestream(with_adobe_marker(without, ycc=ycc))
    assert stream is not None
    assert stream.ycc is ycc


@pytest.mark.parametrize(
    ("syntax", "family"), [("jpeg_ls", "jpegls"), ("jpeg2000", "jpeg2000"), ("jpeg_lossless", "lossless")]
)
def test_families(dicom_factory: ModuleType, syntax: str, family: str) -> None:
    data = dicom_factory.make_us_dicom(dicom_factory.phantom(1, 40, 56), syntax=syntax)
    start = min(at for at in (data.find(b"\xff\xd8\xff"), data.find(b"\xff\x4f\xff\x51")) if at > 0)
    stream = parse_codestream(data[start:])
    assert stream is not None
    assert (stream.family, stream.rows, stream.cols, stream.components) == (family, 40, 56, 1)


def test_lossless_scan_without_tables_is_kept_from_the_codec(dicom_factory: ModuleType) -> None:
    data = dicom_factory.make_us_dicom(dicom_factory.phantom(1, 40, 56), syntax="jpeg_lossless")
    stream = data[data.index(b"\xff\xd8\xff") :]
    assert has_tables(stream)
    for damaged in (b"\xff\x7f", b"\x7f\xc4"):
        assert not has_tables(stream.replace(b"\xff\xc4", damaged))


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_give_none(data: bytes) -> None:
    for head in (b"", b"\xff\xd8\xff", b"\xff\x4f\xff\x51"):
        parse_codestream(head + data)
        has_tables(head + data)
