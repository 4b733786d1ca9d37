"""Stills: formats, depths, transparency, orientation, pages, bombs, and the text they carry."""

from __future__ import annotations

import io
import struct
import zlib
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from usds.curation.readers.base import MediaError, ReadLimits, open_media
from usds.curation.readers.sniff import sniff


def picture(color: bool = True) -> NDArray[np.uint8]:
    rng = np.random.default_rng(3)
    base = cv2.GaussianBlur(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8), (5, 5), 0)
    return base if color else base[..., 0]


def encode(array: NDArray[Any], kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind, **options)
    return out.getvalue()


def decode(data: bytes, **limits: Any) -> list[NDArray[np.uint8]]:
    assert sniff(data[:16384]) == "image"
    with open_media(data, kind="image", limits=ReadLimits(**limits)) as media:
        frames = [rgb for _, rgb in media.frames()]
        assert all(rgb.shape == (media.rows, media.cols, 3) for rgb in frames)
        return frames


def reason_of(data: bytes, **limits: Any) -> str:
    with pytest.raises(MediaError) as error:
        decode(data, **limits)
    return error.value.reason


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("color", [True, False])
def test_lossless_formats_agree_with_opencv(kind: str, color: bool) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(picture(color), kind, **options)
    reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(decode(data)[0], reference)


def test_jpeg_agrees_with_opencv() -> None:
    data = encode(picture(), "JPEG", quality=90)
    reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decode(data)[0].astype(int) - reference).max() <= 3


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_grey_of_16_bits_keeps_its_high_byte(kind: str) -> None:
    stored = np.linspace(0, 20000, 40 * 60).reshape(40, 60).astype(np.uint16)
    data = cv2.imencode(f".{kind}", stored)[1].tobytes()
    np.testing.assert_array_equal(decode(data)[0][..., 0], stored >> 8)


def test_colour_of_16_bits(tmp_path: Any) -> None:
    stored = (picture().astype(np.uint16) << 8) + 17
    data = cv2.imencode(".png", stored[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode(data)[0], picture())


def test_palette_and_transparency_are_laid_over_black() -> None:
    alpha = np.full((40, 60, 1), 255, np.uint8)
    alpha[:, :30] = 0
    got = decode(encode(np.concatenate([picture(), alpha], axis=2), "PNG"))[0]
    assert got[:, :30].max() == 0
    np.testing.assert_array_equal(got[:, 30:], picture()[:, 30:])
    out = io.BytesIO()
    Image.fromarray(picture()).quantize(64).save(out, "PNG")
    reference = Image.open(io.BytesIO(out.getvalue())).convert("RGB")
    np.testing.assert_array_equal(decode(out.getvalue())[0], np.asarray(reference))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_agrees_with_opencv(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture(), "JPEG", exif=exif, quality=95)
    reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    got = decode(data)[0]
    assert got.shape == reference.shape
    assert np.abs(got.astype(int) - reference).max() <= 3


def test_pages_of_a_tiff_are_frames() -> None:
    pages = [Image.fromarray(np.roll(picture(), i, axis=0)) for i in range(3)]
    out = io.BytesIO()
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    got = decode(out.getvalue())
    assert len(got) == 3
    np.testing.assert_array_equal(got[2], np.roll(picture(), 2, axis=0))


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))

    head = struct.pack(">2L5B", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [7_000, 40_000])
def test_bomb_is_refused_by_its_header(side: int) -> None:
    assert reason_of(png_header(side, side)) == "decompression_bomb"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_still_that_is_cut_is_refused(kind: str) -> None:
    data = encode(picture(), kind)
    assert reason_of(data[: len(data) // 2]) in ("truncated", "unreadable")


def test_floating_point_is_unsupported() -> None:
    assert reason_of(encode(picture(False).astype(np.float32), "TIFF")) == "unsupported"


def texts(data: bytes) -> dict[str, str]:
    with open_media(data, kind="image", limits=ReadLimits()) as media:
        return {item.value: item.klass for item in media.identifiers()}


def test_text_of_a_png_before_and_after_its_pixels() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", "Orsola Quillfeather")
    info.add_itxt("Comment", "scanned by Temi Oyelaran")
    found = texts(encode(picture(), "PNG", pnginfo=info))
    assert found == {"Orsola Quillfeather": "name", "scanned by Temi Oyelaran": "other"}
    plain = encode(picture(), "PNG")
    body = b"tEXtAuthor\0Desmond Vanterpool"
    late = struct.pack(">L", len(body) - 4) + body + struct.pack(">L", zlib.crc32(body))
    assert texts(plain[:-12] + late + plain[-12:]) == {"Desmond Vanterpool": "staff"}


def test_exif_gps_comment_and_xmp() -> None:
    exif = Image.Exif()
    exif[0x013B], exif[0x010E] = "Temi Oyelaran", "MRN-7741902"
    exif[0x0132] = "2021:09:03 10:11:12"
    exif.get_ifd(0x8825)[0x001D] = "2021:09:03"
    xmp = b'<x:xmpmeta><rdf:li>Aveline Moonchild</rdf:li><a photoshop:City="Larkspur"/></x:xmpmeta>'
    found = texts(encode(picture(), "JPEG", exif=exif, comment=b"Saint Brannock", xmp=xmp))
    expected = {"Temi Oyelaran", "MRN-7741902", "2021:09:03 10:11:12", "2021:09:03", "Saint Brannock"}
    assert expected | {"Aveline Moonchild", "Larkspur"} <= set(found)
    assert found["Temi Oyelaran"] == "staff"
    assert found["2021:09:03"] == "date"


def test_libraries_say_nothing_on_stderr(
    capfd: pytest.CaptureFixture[str], dicom_factory: ModuleType
) -> None:
    data = bytearray(encode(picture(), "TIFF", compression="tiff_lzw"))
    data[60:120] = b"SMITH" * 12
    for damaged in (bytes(data), encode(picture(), "PNG")[:200], encode(picture(), "JPEG")[:400]):
        with pytest.raises(MediaError):
            decode(damaged)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
