"""Perceptual hashes of pictures, and which picture repeats which."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from usds.curation.readers.base import RGB
from usds.schemas.near_hashes import near_pairs

_Hashes = NDArray[np.uint64]

MAX_DISTANCE = 6
"""Bits that may differ. Measured (docs/readers.md): no two of 306 different pictures come closer than 12;
JPEG, resizing, noise and brightness move a picture by at most 4."""


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
    original = _originals(near_pairs(unique[by_order], max_distance), len(unique))
    firsts = first_at[by_order]
    found = firsts[original[rank[inverse]]].tolist()
    return [None if target == i else target for i, target in enumerate(found)]


def _originals(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The original of each of so many hashes, from the pairs (earlier, later) of near ones."""
    pairs = pairs[np.argsort(pairs[:, 1], kind="stable")]
    begin = np.searchsorted(pairs[:, 1], np.arange(count + 1))
    original = np.arange(count)
    for i in np.flatnonzero(np.diff(begin)).tolist():
        earlier = pairs[begin[i] : begin[i + 1], 0]
        leaders = earlier[original[earlier] == earlier]
        if len(leaders):
            original[i] = leaders[0]
    return original
