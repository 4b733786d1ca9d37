"""Perceptual hashes of the frames table within some bits of each other, found among millions of them.

Multi-index hashing (Norouzi et al. 2012, arXiv:1307.2982): of four bands of 16 bits at least one differs by
no more than a quarter of the distance, so only hashes that agree there are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["near_matches", "near_pairs"]

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

_BANDS = 4
_BAND_BITS = 16
_CHUNK = 4_000_000


def near_pairs(hashes: Sequence[int] | Hashes, max_distance: int) -> Indices:
    """Return all pairs of hashes within a distance, without comparing all with all.

    Parameters
    ----------
    hashes : sequence of int or ndarray of uint64, shape (n,)
        Distinct or not.
    max_distance : int
        Bits that may differ, 0 to 7.

    Returns
    -------
    ndarray of int64, shape (m, 2)
        Index pairs, first < second, sorted.

    Raises
    ------
    ValueError
        If `max_distance` is outside 0 to 7, where four bands no longer suffice.
    """
    values = np.asarray(hashes, dtype=np.uint64)
    return _search(values, values, max_distance, once=True)


def near_matches(left: Sequence[int] | Hashes, right: Sequence[int] | Hashes, max_distance: int) -> Indices:
    """Return all pairs of a hash on the left and one on the right within a distance.

    Parameters
    ----------
    left, right : sequence of int or ndarray of uint64
        Distinct or not.
    max_distance : int
        Bits that may differ, 0 to 7.

    Returns
    -------
    ndarray of int64, shape (m, 2)
        Index on the left, index on the right; sorted.

    Raises
    ------
    ValueError
        As :func:`near_pairs`.
    """
    return _search(np.asarray(left, np.uint64), np.asarray(right, np.uint64), max_distance, once=False)


def _search(left: Hashes, right: Hashes, max_distance: int, *, once: bool) -> Indices:
    if not 0 <= max_distance <= 7:
        raise ValueError(f"max_distance is {max_distance}, must be 0 to 7: above, four bands miss pairs")
    found = [np.empty((0, 2), np.int64)]
    for band in range(_BANDS):
        keys = _band(right, band)
        order = np.argsort(keys, kind="stable").astype(np.int64)
        for mask in _masks(max_distance):
            spans = _spans(keys[order], _band(left, band) ^ np.uint16(mask))
            for first, place in _candidates(*spans):
                second = order[place]
                keep = _near(left[first] ^ right[second], band, max_distance)
                if once:
                    keep &= first < second
                found.append(np.stack([first[keep], second[keep]], axis=1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _masks(max_distance: int) -> list[int]:
    """Differences that the band of a pair may have."""
    return [0] + ([1 << bit for bit in range(_BAND_BITS)] if max_distance >= _BANDS else [])


def _near(differ: Hashes, band: int, max_distance: int) -> NDArray[np.bool_]:
    """Whether so few bits differ, and no band before this one has brought the pair already."""
    near = np.bitwise_count(differ) <= max_distance
    for earlier in range(band):
        near[near] = np.bitwise_count(_band(differ[near], earlier)) > max_distance // _BANDS
    return near


def _band(values: Hashes, band: int) -> NDArray[np.uint16]:
    return (values >> np.uint64(band * _BAND_BITS)).astype(np.uint16)


def _spans(ordered: NDArray[np.uint16], probes: NDArray[np.uint16]) -> tuple[Indices, Indices]:
    """Where each probe begins among the ordered keys, and how often it is there."""
    begin = np.searchsorted(ordered, probes, "left").astype(np.int64)
    return begin, np.searchsorted(ordered, probes, "right").astype(np.int64) - begin


def _candidates(begin: Indices, count: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Each row with every place of its span, a bounded number at a time."""
    ends = np.cumsum(count)
    start = 0
    while start < len(count):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CHUNK, "right")))
        sizes = count[start:stop]
        rows = np.repeat(np.arange(start, stop, dtype=np.int64), sizes)
        within = np.arange(len(rows), dtype=np.int64) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        yield rows, np.repeat(begin[start:stop], sizes) + within
        start = stop
