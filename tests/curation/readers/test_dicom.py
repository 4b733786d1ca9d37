"""DICOM pixels: syntaxes, colour spaces, depths, damage. References come from other decoders."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import gdcm
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file

from usds.curation.readers.base import MediaError, ReadLimits, open_media

DATA = Path(__file__).parents[2] / "data" / "dicom"
LIMITS = ReadLimits()
LOSSLESS = [
    "implicit", "explicit", "deflated", "big_endian", "rle", "jpeg_lossless", "jpeg_ls", "jpeg2000_lossless",
]  # fmt: skip
LOSSY = {"jpeg": 1.5, "jpeg_extended": 1.5, "jpeg2000": 2.0, "mpeg2": 4.0, "mpeg4": 4.0, "hevc": 4.0}


def decode(data: bytes | Path, **limits: Any) -> tuple[NDArray[np.uint8], list[str]]:
    with open_media(data, kind="dicom", limits=ReadLimits(**limits)) as media:
        frames = [rgb for _, rgb in media.frames()]
        assert len(frames) == media.n_frames
        assert all(rgb.shape == (media.rows, media.cols, 3) for rgb in frames)
        return np.stack(frames), media.warnings


def as_rgb(frames: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(frames[..., None], 3, axis=-1) if frames.ndim == 3 else frames


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_syntax_gives_the_stored_pixels(dicom_factory: ModuleType, syntax: str, color: bool) -> None:
    frames = dicom_factory.phantom(3, color=color)
    got, warnings = decode(dicom_factory.make_us_dicom(frames, syntax=syntax))
    np.testing.assert_array_equal(got, as_rgb(frames))
    assert warnings == []


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("syntax", list(LOSSY))
def test_lossy_syntax_stays_near_the_pixels(dicom_factory: ModuleType, syntax: str, color: bool) -> None:
    frames = dicom_factory.phantom(4, color=color)
    photometric = "YBR_FULL_422" if syntax.startswith("jpeg") and color and syntax != "jpeg2000" else None
    got, warnings = decode(dicom_factory.make_us_dicom(frames, syntax=syntax, photometric=photometric))
    assert np.abs(got.astype(int) - as_rgb(frames)).mean() < LOSSY[syntax]
    assert warnings == []


@pytest.mark.parametrize("color", [False, True])
def test_high_throughput_jpeg2000(dicom_factory: ModuleType, color: bool) -> None:
    name = f"htj2k_{'rgb' if color else 'grey'}_48x64"
    reference = np.asarray(Image.open(DATA / f"{name}.png"))[None]
    data = dicom_factory.make_us_dicom(
        reference, syntax="htj2k", codestreams=[(DATA / f"{name}.j2c").read_bytes()],
        photometric="YBR_RCT" if color else None,
    )  # fmt: skip
    np.testing.assert_array_equal(decode(data)[0], as_rgb(reference))


@pytest.mark.parametrize(("syntax", "planar"), [("explicit", 0), ("explicit", 1), ("big_endian", 1)])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_native_colour_in_both_planar_configurations(
    dicom_factory: ModuleType, syntax: str, planar: int, photometric: str
) -> None:
    frames = dicom_factory.phantom(2, color=True)
    data = dicom_factory.make_us_dicom(frames, syntax=syntax, planar=planar, photometric=photometric)
    difference = np.abs(decode(data)[0].astype(int) - frames)
    assert difference.max() <= (0 if photometric == "RGB" else 2)


def test_native_422_shares_chroma_between_two_pixels(dicom_factory: ModuleType) -> None:
    frames = np.repeat(dicom_factory.phantom(2, cols=64, color=True), 2, axis=2)
    data = dicom_factory.make_us_dicom(frames, photometric="YBR_FULL_422")
    assert np.abs(decode(data)[0].astype(int) - frames).max() <= 2


def test_files_that_state_422_but_store_three_samples(dicom_factory: ModuleType) -> None:
    frames = dicom_factory.phantom(1, color=True)
    data = dicom_factory.make_us_dicom(frames, photometric="YBR_FULL")
    data = data.replace(b"CS\x08\x00YBR_FULL\x28", b"CS\x0c\x00YBR_FULL_422\x28")
    assert np.abs(decode(data)[0].astype(int) - frames).max() <= 2


def test_jpeg_tagged_rgb_obeys_the_jfif_marker(dicom_factory: ModuleType) -> None:
    frames = dicom_factory.phantom(2, color=True)
    got, warnings = decode(dicom_factory.make_us_dicom(frames, syntax="jpeg", photometric="RGB"))
    assert np.abs(got.astype(int) - frames).mean() < 1.5
    assert warnings == ["photometric_mismatch"]


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL_422"])
def test_jpeg_without_markers_obeys_the_header(dicom_factory: ModuleType, photometric: str) -> None:
    frames = dicom_factory.phantom(1, color=True)
    data = dicom_factory.make_us_dicom(frames, syntax="jpeg", photometric=photometric, jpeg_markers=False)
    assert b"JFIF" not in data
    assert np.abs(decode(data)[0].astype(int) - frames).mean() < 1.5


def test_monochrome1_is_shown_inverted(dicom_factory: ModuleType) -> None:
    frames = dicom_factory.phantom()
    got, _ = decode(dicom_factory.make_us_dicom(frames, photometric="MONOCHROME1"))
    np.testing.assert_array_equal(got, 255 - as_rgb(frames))


@pytest.mark.parametrize("signed", [False, True])
def test_more_than_8_bits_map_by_bits_stored_never_by_the_frame(
    dicom_factory: ModuleType, signed: bool
) -> None:
    ramp = np.linspace(0, 2047, 96 * 128).reshape(1, 96, 128).astype(np.int64)
    stored = ramp - 2048 if signed else ramp
    data = dicom_factory.make_us_dicom(stored, bits_stored=12, signed=signed)
    got, _ = decode(data)
    np.testing.assert_array_equal(got[0, ..., 0], ramp[0] * 256 // 4095)


def test_window_and_rescale_of_16_bits(dicom_factory: ModuleType) -> None:
    stored = np.arange(4096, dtype=np.int64).reshape(1, 64, 64)
    header = {"WindowCenter": "1000", "WindowWidth": "400", "RescaleSlope": "2", "RescaleIntercept": "-100"}
    got, _ = decode(dicom_factory.make_us_dicom(stored, bits_stored=12, header=header))
    # PS3.3 C.11.2.1.2.1 with the values of this header, written out.
    x = stored[0] * 2.0 - 100
    y = np.where(x <= 999.5 - 199.5, 0, np.where(x > 999.5 + 199.5, 1, (x - 999.5) / 399 + 0.5))
    assert np.abs(got[0, ..., 0] - y * 255).max() <= 1


def test_voi_lut_beats_the_window(dicom_factory: ModuleType) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    item = Dataset()
    item.add_new("LUTDescriptor", "US", [1024, 0, 16])
    item.add_new("LUTData", "OW", (65535 - np.arange(1024) * 64).astype("<u2").tobytes())
    header = {"VOILUTSequence": Sequence([item]), "WindowCenter": "10", "WindowWidth": "4"}
    stored = np.arange(1024, dtype=np.int64).reshape(1, 32, 32)
    got, _ = decode(dicom_factory.make_us_dicom(stored, bits_stored=10, header=header))
    np.testing.assert_allclose(got[0, ..., 0], (65535 - stored[0] * 64) >> 8, atol=1)


def palette_header(bits: int, entries: int) -> dict[str, Any]:
    ramp = np.arange(entries) * ((1 << bits) - 1) // (entries - 1)
    header: dict[str, Any] = {}
    for name, table in (("Red", ramp), ("Green", ramp[::-1]), ("Blue", ramp // 2)):
        header[f"{name}PaletteColorLookupTableDescriptor"] = [entries % 65536, 0, bits]
        header[f"{name}PaletteColorLookupTableData"] = table.astype("<u2").tobytes()
    return header


@pytest.mark.parametrize(("stored_bits", "entries"), [(8, 256), (16, 65536)])
def test_palette_keeps_the_high_byte_of_16_bit_entries(
    dicom_factory: ModuleType, stored_bits: int, entries: int
) -> None:
    index = np.linspace(0, entries - 1, 64 * 64).astype(np.int64).reshape(1, 64, 64)
    data = dicom_factory.make_us_dicom(
        index, bits_stored=stored_bits, photometric="PALETTE COLOR", header=palette_header(16, entries)
    )
    got, _ = decode(data)
    ramp = np.arange(entries) * 65535 // (entries - 1)
    expected = np.stack([ramp[index] >> 8, ramp[::-1][index] >> 8, (ramp // 2)[index] >> 8], axis=-1)
    np.testing.assert_array_equal(got, expected)


def gdcm_pixels(path: str) -> bytes:
    reader = gdcm.ImageReader()
    reader.SetFileName(path)
    assert reader.Read()
    return reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "name", ["examples_rgb_color.dcm", "ExplVR_BigEnd.dcm", "color-pl.dcm", "color-px.dcm"]
)
def test_real_colour_files_agree_with_gdcm(name: str) -> None:
    path = DATA / name if (DATA / name).exists() else Path(str(get_testdata_file(name)))
    got, _ = decode(path)
    ds = dcmread(path)
    raw = np.frombuffer(gdcm_pixels(str(path)), np.uint8)
    planar = ds.PlanarConfiguration == 1
    shape = (3, ds.Rows, ds.Columns) if planar else (ds.Rows, ds.Columns, 3)
    reference = raw[: ds.Rows * ds.Columns * 3].reshape(shape)
    np.testing.assert_array_equal(got[0], reference.transpose(1, 2, 0) if planar else reference)


def test_real_jpeg2000_agrees_with_pillow() -> None:
    path = DATA / "US1_J2KI.dcm"
    raw = path.read_bytes()
    reference = np.asarray(Image.open(io.BytesIO(raw[raw.index(b"\xff\x4f\xff\x51") :])).convert("RGB"))
    assert np.abs(decode(path)[0][0].astype(int) - reference).max() <= 2


def test_real_fragments_without_offset_table_are_joined_to_frames() -> None:
    path = DATA / "IM00001.fragmented_no_bot_jpeg_baseline.50.dcm"
    got, warnings = decode(path)
    assert got.shape == (8, 240, 320, 3)
    assert warnings == []
    # Pillow reads the first codestream by itself; the joined fragments must be that picture.
    raw = path.read_bytes()
    at = raw.index(b"\xfe\xff\x00\xe0", raw.index(b"\xe0\x7f\x10\x00")) + 8
    first = bytearray()
    while raw[at : at + 4] == b"\xfe\xff\x00\xe0":
        size = struct.unpack("<L", raw[at + 4 : at + 8])[0]
        if first and raw[at + 8 : at + 11] == b"\xff\xd8\xff":
            break
        first += raw[at + 8 : at + 8 + size]
        at += 8 + size
    reference = np.asarray(Image.open(io.BytesIO(bytes(first))).convert("RGB"))
    np.testing.assert_array_equal(got[0], reference)


def test_real_palette_over_run_length_agrees_with_pydicom() -> None:
    from pydicom.pixels.processing import apply_color_lut

    path = DATA / "OBXXXX1A_rle_2frame.dcm"
    ds = dcmread(path)
    reference = (apply_color_lut(ds.pixel_array, ds) >> 8).astype(np.uint8)
    np.testing.assert_array_equal(decode(path)[0], reference)


@pytest.mark.parametrize("table", ["none", "basic", "extended"])
@pytest.mark.parametrize("fragments", [1, 3])
def test_frames_are_found_with_and_without_offset_tables(
    dicom_factory: ModuleType, table: str, fragments: int
) -> None:
    frames = dicom_factory.phantom(5)
    data = dicom_factory.make_us_dicom(frames, syntax="jpeg_ls", fragments=fragments, offset_table=table)
    np.testing.assert_array_equal(decode(data)[0], as_rgb(frames))


def test_frames_by_index_come_alone_and_in_order(dicom_factory: ModuleType) -> None:
    frames = dicom_factory.phantom(9)
    data = dicom_factory.make_us_dicom(frames, syntax="rle")
    with open_media(data, kind="dicom", limits=LIMITS) as media:
        got = list(media.frames([2, 5, 8, 40]))
    assert [index for index, _ in got] == [2, 5, 8]
    np.testing.assert_array_equal(got[1][1], as_rgb(frames)[5])


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big_endian"])
def test_data_set_without_preamble_and_meta(dicom_factory: ModuleType, syntax: str) -> None:
    frames = dicom_factory.phantom(2)
    data = dicom_factory.make_us_dicom(frames, syntax=syntax, file_meta=False)
    assert b"DICM" not in data[:200]
    np.testing.assert_array_equal(decode(data)[0], as_rgb(frames))


def test_number_of_frames_rules_not_the_class(dicom_factory: ModuleType) -> None:
    frames = dicom_factory.phantom(4)
    got, _ = decode(dicom_factory.make_us_dicom(frames, sop_class=dicom_factory.ULTRASOUND))
    assert len(got) == 4


@pytest.mark.parametrize(
    ("sop_class", "modality"),
    [
        ("1.2.840.10008.5.1.4.1.1.6", "US"),  # retired ultrasound image storage
        ("1.2.840.10008.5.1.4.1.1.3", None),  # retired multi-frame
        ("1.2.840.10008.5.1.4.1.1.7", "US"),  # secondary capture
    ],
)
def test_accepted_classes(dicom_factory: ModuleType, sop_class: str, modality: str | None) -> None:
    assert len(decode(dicom_factory.make_us_dicom(sop_class=sop_class, modality=modality))[0]) == 1


@pytest.mark.parametrize(
    ("sop_class", "modality"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", "CT"),
        ("1.2.840.10008.5.1.4.1.1.7", "OT"),
        ("1.2.840.10008.5.1.4.1.1.7", None),
        ("1.2.840.10008.5.1.4.1.1.6.1", "MR"),
    ],
)
def test_other_modalities_are_refused(
    dicom_factory: ModuleType, sop_class: str, modality: str | None
) -> None:
    data = dicom_factory.make_us_dicom(sop_class=sop_class, modality=modality)
    with pytest.raises(MediaError, match="wrong_modality: the file is not ultrasound"):
        open_media(data, kind="dicom", limits=LIMITS)


def reason_of(data: bytes | Path, **limits: Any) -> str:
    with pytest.raises(MediaError) as error:
        decode(data, **limits)
    return error.value.reason


def test_native_clip_that_is_cut_gives_its_whole_frames(dicom_factory: ModuleType) -> None:
    frames = dicom_factory.phantom(6)
    data = dicom_factory.make_us_dicom(frames)
    got, warnings = decode(data[: -int(2.5 * frames[0].nbytes)])
    np.testing.assert_array_equal(got, as_rgb(frames[:3]))
    assert warnings == ["truncated"]


def test_coded_clip_that_is_cut_gives_what_decodes(dicom_factory: ModuleType) -> None:
    frames = dicom_factory.phantom(6)
    data = dicom_factory.make_us_dicom(frames, syntax="jpeg_ls")
    with open_media(data[: int(len(data) * 0.6)], kind="dicom", limits=LIMITS) as media:
        got = [index for index, _ in media.frames()]
        assert 2 <= len(got) < 6
        assert "truncated" in media.warnings


def test_still_that_is_cut_is_refused(dicom_factory: ModuleType) -> None:
    assert reason_of(dicom_factory.make_us_dicom()[:-2000]) == "truncated"


def test_empty_file_and_noise_are_refused() -> None:
    assert reason_of(b"") == "empty"
    assert reason_of(b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\xff\xff" + b"a" * 40) in (
        "truncated",
        "unreadable",
    )


def test_document_without_pixels_is_refused(dicom_factory: ModuleType) -> None:
    data = dicom_factory.make_us_dicom()
    end = data.index(b"\xe0\x7f\x10\x00OB")
    assert reason_of(data[:end]) == "no_pixels"


def with_us(data: bytes, element: int, old: int, new: int) -> bytes:
    """Change an unsigned short of group 0028 in place."""
    head = struct.pack("<HH2sH", 0x28, element, b"US", 2)
    assert head + struct.pack("<H", old) in data
    return data.replace(head + struct.pack("<H", old), head + struct.pack("<H", new))


def test_bombs_are_refused_before_pixels_are_decoded(dicom_factory: ModuleType) -> None:
    data = dicom_factory.make_us_dicom()
    assert reason_of(with_us(with_us(data, 0x10, 96, 65000), 0x11, 128, 65000)) == "decompression_bomb"
    assert reason_of(dicom_factory.deflate_bomb(64), max_inflated_bytes=1 << 20) == "decompression_bomb"
    assert reason_of(dicom_factory.make_us_dicom(n_frames=2_000_000)) == "decompression_bomb"


def test_codestream_larger_than_the_header_says_is_refused(dicom_factory: ModuleType) -> None:
    data = dicom_factory.make_us_dicom(syntax="jpeg")
    at = data.index(b"\xff\xc0\x00")
    bomb = data[: at + 5] + struct.pack(">HH", 60000, 60000) + data[at + 9 :]
    assert reason_of(bomb) == "decompression_bomb"


def test_codestream_size_beats_rows_and_columns(dicom_factory: ModuleType) -> None:
    frames = dicom_factory.phantom(1)
    data = with_us(dicom_factory.make_us_dicom(frames, syntax="jpeg_ls"), 0x10, 96, 90)
    got, warnings = decode(data)
    assert got.shape == (1, 96, 128, 3)
    assert warnings == ["size_mismatch"]


def test_time_limit_ends_a_long_clip(dicom_factory: ModuleType) -> None:
    data = dicom_factory.make_us_dicom(dicom_factory.phantom(20), syntax="jpeg2000_lossless")
    assert reason_of(data, max_seconds=1e-6) == "timeout"


def test_exception_of_a_codec_is_replaced_without_its_message() -> None:
    from usds.curation.readers.guard import guarded

    with pytest.raises(MediaError, match=r"^unreadable: the file is damaged") as error, guarded("unreadable"):
        raise ValueError("Invalid value for VR DA: 'SMITH1960'")
    assert error.value.__suppress_context__
    assert error.value.__cause__ is None


def test_message_and_cause_carry_no_value_of_the_file(
    dicom_factory: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    data = dicom_factory.make_us_dicom(
        syntax="jpeg", header={"StudyDate": "SMITH1960", "PatientAge": "SMITH"}
    )
    broken = bytearray(data)
    broken[data.index(b"\xff\xda") :] = b"SMITH" * 40
    with pytest.raises(MediaError) as error:
        decode(bytes(broken))
    assert "SMITH" not in repr(error.value) + str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_frames_are_read_from_disk_when_asked_for(dicom_factory: ModuleType, tmp_path: Path) -> None:
    frames = dicom_factory.phantom(3)
    path = tmp_path / "clip"
    path.write_bytes(dicom_factory.make_us_dicom(frames))
    with open_media(path, kind="dicom", limits=LIMITS) as media:
        path.write_bytes(path.read_bytes()[:-2] + b"\xff\xff")
        last = next(media.frames([2]))[1]
    assert (last[-1, -2:] == 255).all()


def test_unreadable_file_by_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied", "/secret/SMITH.dcm")

    monkeypatch.setattr(os, "open", refuse)
    assert reason_of(tmp_path / "SMITH.dcm") == "permission_denied"
