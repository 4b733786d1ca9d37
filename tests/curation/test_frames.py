"""Key frames, quality and mode on made and real frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from usds.curation.frames import (
    KeyFrameSettings,
    QualitySettings,
    clip_samples,
    key_frames,
    mode,
    quality,
    sample_indices,
)
from usds.curation.readers.base import HeaderFacts, Identifier, Media, ReadLimits, Region, open_media

DATA = Path(__file__).parents[1] / "data" / "dicom"


class Clip(Media):
    """Frames in memory that counts what it is asked for."""

    kind = "video"

    def __init__(self, frames: NDArray[np.uint8], frame_time_ms: float | None = None) -> None:
        self._frames, self.asked = frames, 0
        self.n_frames, self.rows, self.cols = frames.shape[:3]
        self.header, self.warnings = HeaderFacts(frame_time_ms=frame_time_ms), []

    def identifiers(self) -> list[Identifier]:
        return []

    def frames(self, indices: Sequence[int] | None = None) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for index in range(self.n_frames) if indices is None else indices:
            self.asked += 1
            yield index, self._frames[index]


def scenes(dicom_factory: ModuleType, plan: Sequence[int]) -> Clip:
    """A clip of `plan[i]` nearly equal frames of scene i, with sensor noise."""
    rng = np.random.default_rng(0)
    frames = [
        np.clip(
            dicom_factory.phantom(1, color=True, seed=100 + scene)[0] + rng.normal(0, 2, (96, 128, 3)), 0, 255
        )
        for scene, count in enumerate(plan)
        for _ in range(count)
    ]
    for frame, scene in zip(frames, np.repeat(np.arange(len(plan)), plan), strict=True):
        cv2.circle(frame, (30 + 18 * int(scene), 60), 14, (0, 0, 0), -1)
    return Clip(np.stack(frames).astype(np.uint8))


def test_one_frame_a_scene_is_kept(dicom_factory: ModuleType) -> None:
    chosen = key_frames(scenes(dicom_factory, [10, 3, 12, 1]), KeyFrameSettings())
    scene_of = np.repeat(np.arange(4), [10, 3, 12, 1])
    assert sorted(int(scene_of[i]) for i in chosen) == [0, 1, 2, 3]


def test_at_most_max_frames_and_always_the_same(dicom_factory: ModuleType) -> None:
    clip = scenes(dicom_factory, [2] * 5)
    settings = KeyFrameSettings(max_frames=3)
    assert len(key_frames(clip, settings)) == 3
    assert key_frames(clip, settings) == key_frames(clip, settings)


def test_still_scene_gives_one_frame_and_blank_start_is_not_chosen(dicom_factory: ModuleType) -> None:
    assert len(key_frames(scenes(dicom_factory, [20]), KeyFrameSettings())) == 1
    frames = np.zeros((5, 96, 128, 3), np.uint8)
    frames[3:] = dicom_factory.phantom(1, color=True)[0]
    assert key_frames(Clip(frames), KeyFrameSettings(max_frames=1)) == [3]


def test_count_and_rate() -> None:
    clip = Clip(np.zeros((101, 8, 8, 3), np.uint8), frame_time_ms=40)
    assert key_frames(clip, KeyFrameSettings(method="count", max_frames=5)) == [0, 25, 50, 75, 100]
    assert key_frames(clip, KeyFrameSettings(method="rate", rate_hz=1.0)) == [0, 25, 50, 75, 100]
    assert clip.asked == 0


def test_long_clips_are_sampled_not_read_whole() -> None:
    clip = Clip(np.zeros((2000, 8, 8, 3), np.uint8))
    key_frames(clip, KeyFrameSettings(max_examined=64))
    assert clip.asked == 64
    assert len(list(clip_samples(clip))) == 32


def test_sample_indices_hold_both_ends() -> None:
    assert sample_indices(5, 32) == [0, 1, 2, 3, 4]
    assert sample_indices(1000, 4) == [0, 333, 666, 999]
    with pytest.raises(ValueError, match="at least one frame"):
        sample_indices(0, 4)


def test_quality_labels(dicom_factory: ModuleType) -> None:
    frame = dicom_factory.phantom(1, 240, 320, color=True)[0]
    assert quality(frame).label == "ok"
    assert quality(np.zeros_like(frame)).label == "blank"
    assert quality(cv2.GaussianBlur(frame, (0, 0), 6)).label == "blurred"
    assert quality(frame[:40]).label == "too_small"
    bright = np.clip(frame.astype(int) * 4 + 140, 0, 255).astype(np.uint8)
    assert quality(bright).label == "saturated"


def test_quality_looks_inside_the_area_only(dicom_factory: ModuleType) -> None:
    frame = np.full((240, 320, 3), 255, np.uint8)
    frame[60:180, 80:240] = dicom_factory.phantom(1, 120, 160, color=True)[0]
    mask = np.zeros((240, 320), bool)
    mask[60:180, 80:240] = True
    assert quality(frame).label == "saturated"
    assert quality(frame, mask).label == "ok"
    assert quality(frame, mask, QualitySettings(min_side=200)).label == "too_small"
    assert quality(frame, np.zeros_like(mask)).label == "too_small"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("color-px.dcm", "color_doppler"),
        ("IM00001.fragmented_no_bot_jpeg_baseline.50.dcm", "color_doppler"),
        ("US1_J2KI.dcm", "power_doppler"),
        ("examples_rgb_color.dcm", "power_doppler"),
        ("examples_ybr_color.dcm", "b_mode"),
        ("examples_palette.dcm", "b_mode"),
        ("OBXXXX1A_rle_2frame.dcm", "b_mode"),
    ],
)
def test_mode_of_real_frames(name: str, expected: str) -> None:
    path = DATA / name if (DATA / name).exists() else Path(str(get_testdata_file(name)))
    with open_media(path, kind="dicom", limits=ReadLimits()) as media:
        for _, rgb in media.frames([0]):
            assert mode(rgb, media.header.regions) == expected


def test_coloured_words_and_menus_are_no_flow(dicom_factory: ModuleType) -> None:
    frame = np.repeat(dicom_factory.phantom(1, 480, 640)[0][..., None], 3, axis=-1)
    cv2.putText(frame, "LIVER", (200, 300), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 0), 2)
    cv2.rectangle(frame, (0, 0), (640, 40), (40, 70, 140), -1)
    cv2.putText(frame, "Hospital", (10, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
    cv2.rectangle(frame, (400, 200), (410, 220), (20, 230, 30), -1)
    assert mode(frame) == "b_mode"


def test_mode_from_regions_and_of_nothing() -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    assert mode(frame) == "unknown"
    regions = [Region("2d", 0, 0, 64, 30), Region("spectral", 0, 30, 64, 64)]
    frame[20:40] = 90
    assert mode(frame, regions, ["2d"]) == "b_mode"
    assert mode(frame, regions, ["2d", "spectral"]) == "spectral"
    assert mode(frame, (), ["2d", "mmode"]) == "m_mode"
