"""The gate before every evaluation: nothing that was trained on, nor its near copy, may be tested on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from usds.model.records import Records
from usds.schemas.errors import ContentError

__all__ = ["check_leakage", "near_copies"]

_MAX_BITS = 4  # of 64: JPEG, resizing, noise and brightness move a picture by no more (docs/readers.md)
_CELLS = 1 << 24  # hash pairs compared at a time


def _hashes(phash: Sequence[str]) -> npt.NDArray[np.uint64]:
    return np.array([int(value, 16) if value else 0 for value in phash], np.uint64)


def near_copies(
    left: Sequence[str], right: Sequence[str], max_bits: int = _MAX_BITS
) -> list[tuple[int, int]]:
    """Pairs (i, j) whose perceptual hashes differ in at most ``max_bits`` of 64 bits.

    The hashes are hexadecimal; an empty one, or one of nothing but zeros or ones (a blank frame), matches
    nothing.
    """
    a, b = _hashes(left), _hashes(right)
    plain = np.array([0, 2**64 - 1], np.uint64)
    found: list[tuple[int, int]] = []
    valid = ~np.isin(b, plain)
    step = max(1, _CELLS // max(1, len(b)))
    for start in range(0, len(a), step):
        block = a[start : start + step]
        bits = np.bitwise_count(block[:, None] ^ b[None, :])
        close = (bits <= max_bits) & valid[None, :] & ~np.isin(block, plain)[:, None]
        found += [(int(i) + start, int(j)) for i, j in np.argwhere(close)]
    return found


def check_leakage(train: Records, test: Records, split: str) -> dict[str, int]:
    """Refuse a split in which subjects or near-duplicate images stand on both sides.

    Parameters
    ----------
    train, test : Records
        What was trained on (or chosen with), and what is tested on.
    split : str
        Its name, for the message.

    Returns
    -------
    dict
        What was compared: subjects and frames of both sides.

    Raises
    ------
    ContentError
        A subject, a frame that duplicates another, or a perceptual near copy is on both sides.
    """
    advice = (
        "make a split by subject with `usds split --name NEW` and train on it; "
        f"split '{split}' is not evaluated"
    )
    shared = sorted(set(train.subject_ids) & set(test.subject_ids))
    if shared:
        raise ContentError(
            f"the split leaks: {len(shared)} subject(s) on both sides ({shared[0]}, ...): {advice}"
        )
    linked = _linked(train, test) + _linked(test, train)
    if linked:
        pair = " and ".join(linked[0])
        raise ContentError(
            f"the split leaks: {len(linked)} duplicate image(s) across its sides (frames {pair}): {advice}"
        )
    copies = near_copies(test.phash, train.phash)
    if copies:
        i, j = copies[0]
        raise ContentError(
            f"the split leaks: {len(copies)} near-duplicate image pair(s) across its sides (frames "
            f"{test.frame_ids[i]} and {train.frame_ids[j]}): {advice}"
        )
    return {
        "train subjects": train.n_subjects,
        "test subjects": test.n_subjects,
        "train frames": len(train),
        "test frames": len(test),
    }


def _linked(one: Records, other: Records) -> list[tuple[str, str]]:
    there = set(other.frame_ids)
    return [
        (frame, first)
        for frame, first in zip(one.frame_ids, one.duplicate_of, strict=True)
        if first is not None and first in there
    ]
