"""Perceptual hashes: same picture near, other picture far, and no pair missed."""

from __future__ import annotations

from types import ModuleType

import cv2
import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from usds.curation.near_duplicates import distance, duplicate_of, phash
from usds.schemas.near_hashes import near_matches, near_pairs


def test_changed_copies_stay_near_and_other_pictures_far(dicom_factory: ModuleType) -> None:
    rng = np.random.default_rng(1)
    frame = dicom_factory.phantom(1, 240, 320, color=True)[0]
    copies = [
        cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1),
        cv2.resize(frame, (160, 120), interpolation=cv2.INTER_AREA),
        np.clip(frame + rng.normal(0, 6, frame.shape), 0, 255).astype(np.uint8),
        np.clip(frame * 1.2 + 8, 0, 255).astype(np.uint8),
    ]
    assert [distance(phash(frame), phash(copy)) <= 6 for copy in copies] == [True] * 4
    assert distance(phash(frame), phash(np.ascontiguousarray(frame[::-1]))) > 6


def test_hash_separates_as_well_as_imagehash(dicom_factory: ModuleType) -> None:
    rng = np.random.default_rng(2)
    frames = [cv2.resize(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8), (200, 160)) for _ in range(30)]

    def nearest(hashes: list[int]) -> int:
        return min(distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i])

    ours = [phash(frame) for frame in frames]
    theirs = [int(str(imagehash.phash(Image.fromarray(frame))), 16) for frame in frames]
    assert nearest(ours) >= nearest(theirs) - 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.lists(st.integers(0, 63), max_size=9)), max_size=12),
    st.integers(0, 7),
)
def test_no_pair_is_missed(base: list[int], flips: list[tuple[int, list[int]]], limit: int) -> None:
    hashes = list(base)
    for which, bits in flips:
        value = base[which % len(base)]
        for bit in bits:
            value ^= 1 << bit
        hashes.append(value)
    expected = [
        [i, j]
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if distance(hashes[i], hashes[j]) <= limit
    ]
    assert near_pairs(hashes, limit).tolist() == expected
    across = [[i, j] for i, a in enumerate(base) for j, b in enumerate(hashes) if distance(a, b) <= limit]
    assert near_matches(base, hashes, limit).tolist() == across


def test_too_large_a_distance_is_refused() -> None:
    with pytest.raises(ValueError, match="max_distance is 8, must be 0 to 7"):
        near_pairs([1, 2], 8)


def test_groups_name_the_earliest_and_do_not_chain() -> None:
    a, b, c = 0, 0b111111, 0b111111111111  # b is near a and near c; c is not near a
    assert duplicate_of([a, b, c, b, a]) == [None, 0, None, 0, 0]
    assert duplicate_of([]) == []


def test_many_equal_frames_cost_no_square() -> None:
    assert duplicate_of([0] * 200_000)[-1] == 0
