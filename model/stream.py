"""The stream of training batches, and the plain pass over records that evaluation uses.

A batch is a function of (seed, epoch, step): nothing depends on the number of workers or ranks, which is what
makes exact resume and two ranks = one process possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from usds.model.augment import augment, centre
from usds.model.cache import FrameCache
from usds.model.labels import LabelTensors
from usds.model.network import Batch
from usds.model.records import Records, take_labels
from usds.model.sampler import BatchPlan, record_rng
from usds.model.settings import AugmentSettings
from usds.model.towers import ImageSpec, Towers
from usds.schemas.errors import ContentError

__all__ = ["HostBatch", "TextTable", "TrainStream", "eval_batches", "tokenise", "train_loader"]


@dataclass(frozen=True, eq=False)
class TextTable:
    """Tokens of every distinct caption, made once.

    Attributes
    ----------
    tokens : int64 (U, L)
        Padded to the longest caption.
    lengths : int64 (U,)
        Tokens of each caption; L where the tower needs full-length texts.
    place : dict
        Caption number -> row.
    """

    tokens: Tensor
    lengths: Tensor
    place: dict[int, int]

    def batch(self, captions: npt.NDArray[np.int64]) -> Tensor:
        """Tokens (B, L') of some captions, L' the longest of them rounded up to a multiple of 8."""
        rows = torch.tensor([self.place[int(caption)] for caption in captions])
        longest = int(self.lengths[rows].max())
        return self.tokens[rows, : min(-(-longest // 8) * 8, self.tokens.shape[1])]


def tokenise(towers: Towers, records: Records) -> TextTable:
    """Tokenise each distinct caption of the records once."""
    texts = dict(zip((int(c) for c in records.captions), records.texts, strict=True))
    tokens = towers.tokenize(list(texts.values()))
    pad = towers.pad_id
    if pad is None:
        lengths = torch.full((len(tokens),), tokens.shape[1])
    else:
        places = torch.arange(1, tokens.shape[1] + 1)
        lengths = (places * (tokens != pad)).amax(1).clamp_min(1)
    return TextTable(tokens, lengths, {caption: row for row, caption in enumerate(texts)})


@dataclass(frozen=True, eq=False)
class HostBatch:
    """A batch as the loader makes it: pixels are still bytes.

    Attributes
    ----------
    pixels : uint8 (B, 3, S, S)
        RGB, not normalised: a quarter of the bytes to move.
    tokens, labels, captions
        As in :class:`usds.model.network.Batch`.
    rows : int64 (B,)
        Which records these are.
    """

    pixels: Tensor
    tokens: Tensor
    labels: LabelTensors
    captions: Tensor
    rows: Tensor

    def pin_memory(self) -> HostBatch:
        """The batch in pinned memory (torch's loader calls this)."""
        return HostBatch(
            self.pixels.pin_memory(),
            self.tokens.pin_memory(),
            self.labels.pin_memory(),
            self.captions.pin_memory(),
            self.rows,
        )

    def to_batch(self, device: torch.device, spec: ImageSpec) -> Batch:
        """The batch on its device, pixels normalised there."""
        pixels = spec.normalise(self.pixels.to(device, non_blocking=True))
        return Batch(
            pixels,
            self.tokens.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.captions.to(device, non_blocking=True),
        )


@dataclass(frozen=True, eq=False)
class TrainStream(Dataset[HostBatch]):
    """The batches of one rank, by number of the step since the start of the run.

    Parameters
    ----------
    records : Records
        The training side.
    cache : FrameCache
        Their pixels.
    texts : TextTable
        Their tokens.
    plan : BatchPlan
        Which records form a batch.
    size : int
        Input side of the image tower.
    settings : AugmentSettings
        Augmentation.
    tag_dropout : float
        Share of records whose labels the text side does not see.
    rank, world : int
        Which part of each batch this process works on.
    """

    records: Records
    cache: FrameCache
    texts: TextTable
    plan: BatchPlan
    size: int
    settings: AugmentSettings
    tag_dropout: float = 0.0
    rank: int = 0
    world: int = 1

    def __getitem__(self, step: int) -> HostBatch:
        """The batch of one step."""
        epoch = step // self.plan.steps
        rows = self._epoch(epoch)[step % self.plan.steps]
        pixels = np.stack([self._pixels(int(row), epoch) for row in rows])
        seen = [self._sees_labels(int(row), epoch) for row in rows]
        return HostBatch(
            torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
            self.texts.batch(self.records.captions[rows]),
            LabelTensors.from_batch(take_labels(self.records.labels, rows), torch.tensor(seen)),
            torch.from_numpy(self.records.captions[rows]),
            torch.from_numpy(rows),
        )

    def _epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        """This rank's rows of an epoch; the last plan is kept, for steps come in order."""
        held: tuple[int, npt.NDArray[np.int64]] | None = self.__dict__.get("_held")
        if held is None or held[0] != epoch:
            held = (epoch, self.plan.local(epoch, self.rank, self.world))
            self.__dict__["_held"] = held
        return held[1]

    def _pixels(self, row: int, epoch: int) -> npt.NDArray[np.uint8]:
        frame = self.records.frame_ids[row]
        rng = record_rng(self.plan.seed, epoch, frame, "image")
        return augment(self.cache.image(frame), self.size, self.settings, rng)

    def _sees_labels(self, row: int, epoch: int) -> bool:
        if self.tag_dropout == 0:
            return True
        rng = record_rng(self.plan.seed, epoch, self.records.frame_ids[row], "tags")
        return bool(rng.random() >= self.tag_dropout)


def train_loader(stream: TrainStream, first: int, last: int, workers: int, pin: bool) -> Iterator[HostBatch]:
    """Batches of the steps ``first`` to ``last`` (half-open), in order.

    One loader serves the whole run: workers start once, not every epoch.
    """
    if workers == 0:
        return (stream[step] for step in range(first, last))
    loader: DataLoader[HostBatch] = DataLoader(
        stream,
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=4,
        multiprocessing_context="forkserver",  # Arrow and OpenCV hold threads that a fork would lose
        worker_init_fn=_single_thread,
    )
    return iter(loader)


def _single_thread(_: int) -> None:
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def frame_pixels(records: Records, cache: FrameCache, size: int, rows: npt.NDArray[np.int64]) -> Tensor:
    """Pixels uint8 (b, 3, S, S) of some records, without augmentation."""
    images = [centre(cache.image(records.frame_ids[int(row)]), size) for row in rows]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def eval_batches(
    records: Records, cache: FrameCache, size: int, batch: int = 64
) -> Iterator[tuple[Tensor, npt.NDArray[np.int64]]]:
    """Pixels uint8 (b, 3, S, S) of all records in order, without augmentation, with their rows."""
    for start in range(0, len(records), batch):
        rows = np.arange(start, min(start + batch, len(records)))
        yield frame_pixels(records, cache, size, rows), rows


def encode_frames(
    encode: Callable[[Tensor], Tensor],
    records: Records,
    cache: FrameCache,
    spec: ImageSpec,
    device: torch.device,
    *,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Image vectors (N, E) of all records.

    Raises
    ------
    ContentError
        A vector is not finite.
    """
    parts: list[npt.NDArray[Any]] = []
    for pixels, rows in eval_batches(records, cache, spec.size, batch):
        with torch.inference_mode():
            parts.append(encode(spec.normalise(pixels.to(device))).float().cpu().numpy())
        if progress is not None:
            progress(int(rows[-1]) + 1, len(records))
    return finite(np.concatenate(parts)) if parts else np.zeros((0, 0), np.float32)


def encode_texts(
    encode: Callable[[Tensor], Tensor],
    tokens: Callable[[Sequence[str]], Tensor],
    texts: Sequence[str],
    device: torch.device,
) -> npt.NDArray[np.float32]:
    """Text vectors (N, E); equal texts are encoded once.

    Raises
    ------
    ContentError
        A vector is not finite.
    """
    unique = list(dict.fromkeys(texts))
    parts: list[npt.NDArray[Any]] = []
    for start in range(0, len(unique), 256):
        with torch.inference_mode():
            parts.append(encode(tokens(unique[start : start + 256]).to(device)).float().cpu().numpy())
    place = {text: row for row, text in enumerate(unique)}
    return finite(np.concatenate(parts))[[place[text] for text in texts]]


def finite(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The vectors, if they can be compared: nothing is above a NaN, so it would rank first everywhere.

    Raises
    ------
    ContentError
        A vector is not finite.
    """
    if not np.isfinite(vectors).all():
        raise ContentError(
            "the network gives vectors that are not finite: its weights are damaged or did not converge. "
            "Take an earlier checkpoint, or train again with a lower optimizer.learning_rate"
        )
    return vectors
