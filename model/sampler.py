"""Batches planned from metadata: each subject at most once a batch, and the same plan in every process.

Frames of one subject look alike and share their caption; two of them in a batch would be false negatives of
each other. So subjects are permuted, not frames, and one frame stands for its subject.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from usds.schemas.errors import ContentError

__all__ = ["BatchPlan", "plan_batches", "record_rng", "visits"]

Ints = npt.NDArray[np.int64]


def record_rng(seed: int, epoch: int, frame_id: str, purpose: str) -> np.random.Generator:
    """The random numbers of one frame in one epoch: they depend on nothing else, least of all on the rank."""
    text = f"{seed}/{epoch}/{frame_id}/{purpose}".encode()
    key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """Which frames form which batch.

    Attributes
    ----------
    subjects : int64 (N,)
        Subject number of each record.
    batch_size : int
        Records a batch, over all ranks.
    seed : int
        Seed of the run.
    shrunk_from : int or None
        The batch size asked for, where there were too few subjects for it.
    """

    subjects: Ints
    batch_size: int
    seed: int
    shrunk_from: int | None = None

    @property
    def steps(self) -> int:
        """Batches an epoch: ceil(frames / batch size)."""
        return -(-len(self.subjects) // self.batch_size)

    def epoch(self, epoch: int) -> Ints:
        """Rows of the records of one epoch, int64 (steps, batch_size).

        Subjects come in seeded permutations, each once before any comes again; within an epoch a subject
        shows its frames in a seeded order, and starts over when all were shown.
        """
        rng = np.random.default_rng([self.seed, epoch])
        order = np.lexsort((rng.random(len(self.subjects)), self.subjects))
        numbers, first, count = np.unique(self.subjects[order], return_index=True, return_counts=True)
        drawn = self._subject_batches(len(numbers), rng)
        visit = visits(drawn.ravel())
        rows = order[first[drawn.ravel()] + visit % count[drawn.ravel()]]
        return rows.reshape(drawn.shape).astype(np.int64)

    def _subject_batches(self, n: int, rng: np.random.Generator) -> Ints:
        """Subjects of each batch (steps, batch_size); what is left of a permutation opens the next batch."""
        queue = np.zeros(0, np.int64)
        batches: list[Ints] = []
        while len(batches) < self.steps:
            fresh = rng.permutation(n)
            waiting = np.isin(fresh, queue)
            queue = np.concatenate([queue, fresh[~waiting], fresh[waiting]])
            # A subject that waited opens the queue and comes again at its end, never twice in one batch: the
            # first batch ends before place n, where the second visits begin.
            whole = len(queue) // self.batch_size
            batches += list(queue[: whole * self.batch_size].reshape(whole, self.batch_size))
            queue = queue[whole * self.batch_size :]
        return np.stack(batches[: self.steps])

    def local(self, epoch: int, rank: int, world: int) -> Ints:
        """The part (steps, batch_size / world) of an epoch that one rank works on."""
        share = self.batch_size // world
        return self.epoch(epoch)[:, rank * share : (rank + 1) * share]


def visits(subjects: Ints) -> Ints:
    """How often each subject came before, place by place."""
    order = np.argsort(subjects, kind="stable")
    sorted_ = subjects[order]
    starts = np.flatnonzero(np.r_[True, sorted_[1:] != sorted_[:-1]])
    lengths = np.diff(np.r_[starts, len(sorted_)])
    visit = np.empty(len(subjects), np.int64)
    visit[order] = np.arange(len(subjects)) - np.repeat(starts, lengths)
    return visit


def plan_batches(subjects: Ints, batch_size: int, seed: int, world: int = 1) -> BatchPlan:
    """Plan the batches of a run.

    The batch shrinks to the number of subjects where there are fewer than ``batch_size``, and to a multiple
    of the number of ranks.

    Raises
    ------
    ContentError
        Fewer than two subjects, or fewer than two a rank: there is nothing to contrast.
    """
    n = len(np.unique(subjects))
    if n < 2:
        raise ContentError(
            f"the training side has {n} subject{'' if n == 1 else 's'}: contrastive training needs at least "
            "two. Ingest more subjects, name them with --subjects, or make another split (data.split)"
        )
    if batch_size < 2:
        raise ContentError(
            f"data.batch_size is {batch_size}: a step contrasts at least two records, so set it to 2 or more"
        )
    size = min(batch_size, n) // world * world
    if size < 2 * world:
        raise ContentError(
            f"{n} subjects and batch size {batch_size} are too few for {world} ranks: each needs two "
            "records a step. Start fewer ranks (torchrun --nproc-per-node) or raise data.batch_size"
        )
    return BatchPlan(subjects, size, seed, None if size == batch_size else batch_size)
