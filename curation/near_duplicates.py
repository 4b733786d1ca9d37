"""Perceptual hashes, and finding near-duplicates among millions of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from usds.curation.readers.base import RGB

_Hashes = NDArray[np.uint64]
_Indices = NDArray[np.int64]

MAX_DISTANCE = 6
"""Bits that may differ. Measured (docs/readers.md): no two of 306 different pictures come closer than 12;
JPEG, resizing, noise and brightness move a picture by at most 4."""

_BANDS = 4
_BAND_BITS = 16
_CHUNK = 4_000_000


def phash(rgb: RGB) -> int:
    """Return the 64-bit perceptual hash of a frame.

    The 8 x 8 lowest frequencies of a cosine transform of the 32 x 32 grey picture, against their median:
    the DCT hash of Zauner (2010, "Implementation and benchmarking of perceptual image hash functions").

    Parameters
    ----------
    rgb : ndarray, uint8, (rows, cols, 3)

    Returns
    -------
    int
        0 to 2**64 - 1.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)
    low = cv2.dct(np.asarray(small, dtype=np.float32))[:8, :8]
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distance(first: int, second: int) -> int:
    """Return the number of differing bits of two hashes."""
    return (first ^ second).bit_count()


def near_pairs(hashes: Sequence[int] | _Hashes, max_distance: int = MAX_DISTANCE) -> _Indices:
    """Return all pairs of hashes within a distance, without comparing all with all.

    Multi-index hashing (Norouzi et al. 2012, arXiv:1307.2982): of four bands of 16 bits at least one
    differs by no more than ``max_distance // 4`` bits, so only hashes that agree there are compared.

    Parameters
    ----------
    hashes : sequence of int or ndarray of uint64, shape (n,)
        Distinct or not.
    max_distance : int
        0 to 7.

    Returns
    -------
    ndarray of int64, shape (m, 2)
        Index pairs, first < second, sorted.

    Raises
    ------
    ValueError
        If `max_distance` is outside 0 to 7, where four bands no longer suffice.
    """
    if not 0 <= max_distance <= 7:
        raise ValueError(f"max_distance is {max_distance}, must be 0 to 7: above, four bands miss pairs")
    values = np.asarray(hashes, dtype=np.uint64)
    found = [_pairs_of_band(values, band, max_distance) for band in range(_BANDS)]
    pairs = np.concatenate(found) if found else np.empty((0, 2), np.int64)
    return np.unique(pairs, axis=0) if len(pairs) else pairs


def _pairs_of_band(values: _Hashes, band: int, max_distance: int) -> _Indices:
    keys = (values >> np.uint64(band * _BAND_BITS)).astype(np.uint16)
    order = np.argsort(keys, kind="stable").astype(np.int64)
    ordered = keys[order]
    masks = [0] + ([1 << bit for bit in range(_BAND_BITS)] if max_distance >= _BANDS else [])
    parts = [
        part for mask in masks for part in _join(values, order, ordered, keys ^ np.uint16(mask), max_distance)
    ]
    return np.concatenate(parts) if parts else np.empty((0, 2), np.int64)


def _join(
    values: _Hashes,
    order: _Indices,
    ordered: NDArray[np.uint16],
    probes: NDArray[np.uint16],
    max_distance: int,
) -> Iterator[_Indices]:
    """Compare each hash with the hashes whose band equals its probe, a bounded number at a time."""
    left = np.searchsorted(ordered, probes, "left").astype(np.int64)
    count = np.searchsorted(ordered, probes, "right").astype(np.int64) - left
    ends = np.cumsum(count)
    start = 0
    while start < len(values):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CHUNK, "right")))
        sizes = count[start:stop]
        first = np.repeat(np.arange(start, stop, dtype=np.int64), sizes)
        offsets = np.arange(len(first), dtype=np.int64) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        second = order[np.repeat(left[start:stop], sizes) + offsets]
        close = (first < second) & (np.bitwise_count(values[first] ^ values[second]) <= max_distance)
        if close.any():
            yield np.stack([first[close], second[close]], axis=1)
        start = stop


def duplicate_of(hashes: Sequence[int] | _Hashes, max_distance: int = MAX_DISTANCE) -> list[int | None]:
    """Name, for every hash in order, the earlier one that it repeats.

    A hash that repeats an earlier one never becomes the original of a third, so groups do not chain
    through slow changes of a cine.

    Parameters
    ----------
    hashes : sequence of int or ndarray of uint64, shape (n,)
        In the order that decides who is the original.
    max_distance : int

    Returns
    -------
    list of (int or None)
        Index of the earliest original within the distance; None for originals.
    """
    values = np.asarray(hashes, dtype=np.uint64)
    # Exact repeats are settled first: a thousand black frames must not become half a million pairs.
    unique, first_at, inverse = np.unique(values, return_index=True, return_inverse=True)
    by_order = np.argsort(first_at)
    rank = np.empty_like(by_order)
    rank[by_order] = np.arange(len(by_order))
    neighbours: dict[int, list[int]] = {}
    for earlier, later in near_pairs(unique[by_order], max_distance).tolist():
        neighbours.setdefault(later, []).append(earlier)
    original: list[int] = []
    for i in range(len(unique)):
        leaders = [j for j in neighbours.get(i, []) if original[j] == j]
        original.append(min(leaders) if leaders else i)
    firsts = first_at[by_order]
    found = [int(firsts[original[int(rank[group])]]) for group in inverse]
    return [None if target == i else target for i, target in enumerate(found)]
