"""The gate before every evaluation: nothing that was trained on, nor its near copy, may be tested on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from usds.model.records import Records
from usds.schemas.errors import ContentError
from usds.schemas.near_hashes import near_matches

__all__ = ["check_leakage", "near_copies"]

_MAX_BITS = 4  # of 64: JPEG, resizing, noise and brightness move a picture by no more (docs/readers.md)
_BLANK = np.array([0, 2**64 - 1], np.uint64)


def near_copies(
    left: Sequence[str], right: Sequence[str], max_bits: int = _MAX_BITS
) -> npt.NDArray[np.int64]:
    """Frames on the left whose hash is within ``max_bits`` of 64 bits of one on the right.

    Parameters
    ----------
    left, right : sequence of str
        Hexadecimal hashes; an empty one, or one of nothing but zeros or ones (a blank frame), matches
        nothing.

    Returns
    -------
    int64 (m, 2)
        Row on the left, one of its copies on the right; ascending.
    """
    (a, rows), (b, columns) = _hashes(left), _hashes(right)
    # Thousands of equal frames on both sides must not become millions of pairs.
    values, of = np.unique(a, return_inverse=True)
    others, first = np.unique(b, return_index=True)
    pairs = near_matches(values, others, max_bits)
    copy = np.full(len(values), -1, np.int64)
    copy[pairs[:, 0]] = columns[first[pairs[:, 1]]]
    found = copy[of] >= 0
    return np.stack([rows[found], copy[of][found]], axis=1)


def _hashes(phash: Sequence[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The hashes of frames that are not blank, and their rows."""
    values = np.array([int(value, 16) if value else 0 for value in phash], np.uint64)
    rows = np.flatnonzero(~np.isin(values, _BLANK)).astype(np.int64)
    return values[rows], rows


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
    if len(copies):
        i, j = copies[0].tolist()
        raise ContentError(
            f"the split leaks: {len(copies)} image(s) with a near duplicate on the other side (frames "
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
