"""Clips: containers and codecs, rotation, damage, metadata."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from usds.curation.readers.base import MediaError, ReadLimits, open_media
from usds.curation.readers.sniff import sniff

CLIPS = [
    ("libx264", "mp4", "yuv420p"),
    ("libx264", "mov", "yuv420p"),
    ("mpeg4", "avi", "yuv420p"),
    ("mpeg1video", "mpeg", "yuv420p"),
    ("mpeg2video", "mpeg", "yuv420p"),
    ("mjpeg", "avi", "yuvj420p"),
    ("libx264", "mpegts", "yuv420p"),
    ("libx265", "mp4", "yuv420p"),
]


@pytest.mark.parametrize(("codec", "container", "pixel_format"), CLIPS)
def test_clip_gives_all_frames_near_the_originals(
    dicom_factory: ModuleType, codec: str, container: str, pixel_format: str
) -> None:
    frames = dicom_factory.phantom(12, color=True)
    data = dicom_factory.make_video(frames, codec, container, pixel_format=pixel_format)
    assert sniff(data[:16384]) == "video"
    with open_media(data, kind="video", limits=ReadLimits()) as media:
        got = [rgb for _, rgb in media.frames()]
        assert len(got) == media.n_frames == 12
        assert media.header.frame_time_ms == pytest.approx(40, abs=0.1)
    assert np.abs(np.stack(got).astype(int) - frames).mean() < 5


def test_gif_agrees_with_pillow(dicom_factory: ModuleType) -> None:
    pages = [Image.fromarray(frame).quantize(32) for frame in dicom_factory.phantom(5, color=True)]
    out = io.BytesIO()
    pages[0].save(out, "GIF", save_all=True, append_images=pages[1:], duration=40)
    reference = Image.open(io.BytesIO(out.getvalue()))
    assert sniff(out.getvalue()) == "video"
    with open_media(out.getvalue(), kind="video", limits=ReadLimits()) as media:
        got = list(media.frames())
    assert len(got) == reference.n_frames
    for index, rgb in got:
        reference.seek(index)
        np.testing.assert_array_equal(rgb, np.asarray(reference.convert("RGB")))


def test_colours_agree_with_opencv(dicom_factory: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(dicom_factory.make_video(dicom_factory.phantom(6, 240, 320, color=True)))
    capture = cv2.VideoCapture(str(path))
    with open_media(path, kind="video", limits=ReadLimits()) as media:
        for _, rgb in media.frames():
            ok, reference = capture.read()
            assert ok
            assert np.abs(rgb.astype(int) - reference[..., ::-1]).mean() < 2


def test_frames_by_index(dicom_factory: ModuleType) -> None:
    data = dicom_factory.make_video(dicom_factory.phantom(20))
    with open_media(data, kind="video", limits=ReadLimits()) as media:
        every = dict(media.frames())
        some = dict(media.frames([3, 11, 19]))
    assert list(some) == [3, 11, 19]
    for index, rgb in some.items():
        np.testing.assert_array_equal(rgb, every[index])


def test_clip_that_is_cut_gives_what_decodes(dicom_factory: ModuleType) -> None:
    data = dicom_factory.make_video(dicom_factory.phantom(60, 240, 320), "mpeg2video", "mpeg")
    with open_media(data[: len(data) // 2], kind="video", limits=ReadLimits()) as media:
        got = list(media.frames())
    assert 5 < len(got) < 60


def test_damage_in_the_middle_keeps_the_other_frames(dicom_factory: ModuleType) -> None:
    data = bytearray(
        dicom_factory.make_video(dicom_factory.phantom(30), "mjpeg", "avi", pixel_format="yuvj420p")
    )
    middle = len(data) // 2
    data[middle : middle + 400] = b"SMITH" * 80
    with open_media(bytes(data), kind="video", limits=ReadLimits()) as media:
        assert len(list(media.frames())) >= 20


def test_damage_in_the_first_packet_keeps_the_clip(dicom_factory: ModuleType) -> None:
    frames = dicom_factory.phantom(30)
    data = bytearray(dicom_factory.make_video(frames, "mjpeg", "avi", pixel_format="yuvj420p"))
    start = data.index(b"\xff\xd8\xff")
    data[start : start + 600] = b"\xff\xd8" + b"SMITH" * 119 + b"SMI"
    with open_media(bytes(data), kind="video", limits=ReadLimits()) as media:
        assert len(list(media.frames())) >= 25


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:40], "unreadable"),
        (lambda data: b"\0\0\0\x18ftypmp42" + b"SMITH" * 100, "unreadable"),
    ],
)
def test_clip_without_a_frame_is_refused(dicom_factory: ModuleType, change: Any, reason: str) -> None:
    data = change(dicom_factory.make_video(dicom_factory.phantom(3)))
    with pytest.raises(MediaError) as error:
        open_media(data, kind="video", limits=ReadLimits())
    assert error.value.reason == reason
    assert "SMITH" not in str(error.value)


def test_limits(dicom_factory: ModuleType) -> None:
    data = dicom_factory.make_video(dicom_factory.phantom(10))
    for limits in (ReadLimits(max_frames=5), ReadLimits(max_frame_pixels=100)):
        with pytest.raises(MediaError, match="decompression_bomb"):
            open_media(data, kind="video", limits=limits)
    late = open_media(data, kind="video", limits=ReadLimits(max_seconds=1e-6))
    with late as media, pytest.raises(MediaError, match="timeout: reading took longer"):
        list(media.frames())


def test_metadata_is_found_and_technical_keys_are_not(dicom_factory: ModuleType) -> None:
    metadata = {"title": "Orsola Quillfeather", "artist": "Temi Oyelaran", "comment": "MRN-7741902"}
    data = dicom_factory.make_video(dicom_factory.phantom(3), metadata=metadata)
    with open_media(data, kind="video", limits=ReadLimits()) as media:
        found = {item.value: item.klass for item in media.identifiers()}
    assert found == {"Orsola Quillfeather": "other", "Temi Oyelaran": "staff", "MRN-7741902": "other"}
