"""Label records of a batch as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from usds.taxonomy.graph import LabelBatch

__all__ = ["LabelTensors"]


@dataclass(frozen=True, eq=False)
class LabelTensors:
    """Tensor form of :class:`usds.taxonomy.graph.LabelBatch`.

    Attributes
    ----------
    nodes : int64 (N,)
        Label ids of all records one after another.
    offsets : int64 (B + 1,)
        Record i owns ``nodes[offsets[i]:offsets[i + 1]]``.
    x : float32 (B, V)
        Multi-hot labels, each dimension divided by its number of labels.
    filled : bool (B, D)
        Dimensions that a record fills.
    use : bool (B,)
        Records whose labels the text side may see. Tag dropout clears entries; the targets ignore it.
    longest : int
        At least the most labels of a record; kept on the host so that shapes need no wait for the device.
    """

    nodes: Tensor
    offsets: Tensor
    x: Tensor
    filled: Tensor
    use: Tensor
    longest: int

    @classmethod
    def from_batch(cls, batch: LabelBatch, use: Tensor | None = None) -> LabelTensors:
        """Return the tensors of packed labels; ``use`` defaults to every record."""
        return cls(
            torch.from_numpy(batch.nodes),
            torch.from_numpy(batch.offsets),
            torch.from_numpy(batch.x),
            torch.from_numpy(batch.filled),
            torch.ones(len(batch), dtype=torch.bool) if use is None else use,
            int((batch.offsets[1:] - batch.offsets[:-1]).max(initial=0)),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> LabelTensors:
        """Return the labels on another device."""
        parts = (self.nodes, self.offsets, self.x, self.filled, self.use)
        return LabelTensors(
            *(part.to(device, non_blocking=non_blocking) for part in parts), longest=self.longest
        )

    def pin_memory(self) -> LabelTensors:
        """Return the labels in pinned memory (torch's loader calls this)."""
        parts = (self.nodes, self.offsets, self.x, self.filled, self.use)
        return LabelTensors(*(part.pin_memory() for part in parts), longest=self.longest)

    def slice(self, start: int, stop: int) -> LabelTensors:
        """Return the records ``start`` to ``stop``, for gradient-cache chunks."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        return LabelTensors(
            self.nodes[first:last],
            self.offsets[start : stop + 1] - first,
            self.x[start:stop],
            self.filled[start:stop],
            self.use[start:stop],
            self.longest,
        )

    @staticmethod
    def concatenate(parts: Sequence[LabelTensors]) -> LabelTensors:
        """Return the records of all parts, in order."""
        counts = torch.cat([part.offsets.diff() for part in parts])
        return LabelTensors(
            torch.cat([part.nodes for part in parts]),
            torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
            torch.cat([part.x for part in parts]),
            torch.cat([part.filled for part in parts]),
            torch.cat([part.use for part in parts]),
            max(part.longest for part in parts),
        )
