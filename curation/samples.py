"""Image-text samples of a dataset, side by side of a split: what exports hand to other programs.

A sample is one frame with the caption to train on and its labels. Samples stand in the order of the image
shards, so that pixels are read once and in sequence; whoever trains on them shuffles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError

__all__ = ["SIDES", "Samples"]

SIDES: Final = ("train", "valid", "test")
_FACTS: Final = (
    "frame_id", "subject_id", "study_id", "clip_id", "frame_index", "mode", "vendor", "model_family",
    "transducer", "body_part", "sex", "age_band", "rows", "cols", "spacing_row_mm", "spacing_col_mm",
    "duplicate_of",
)  # fmt: skip
_LOCATOR: Final = ("shard", "row_group", "row")


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one dataset under one split and one annotation set.

    Use :meth:`of`.

    Attributes
    ----------
    dataset : Dataset
    split, set_name : str
        Names of the split and of the annotation set.
    dimensions : tuple of str
        Dimensions of that set's taxonomy: each is a column of labels.
    """

    dataset: Dataset
    split: str
    set_name: str
    dimensions: tuple[str, ...]

    @classmethod
    def of(cls, dataset: Dataset, *, split: str = "default", set_name: str | None = None) -> Samples:
        """Check that everything an export needs is there.

        Raises
        ------
        UsageError
            If the dataset is not annotated, has no such split, or has subjects that the split does not place.
        ContentError
            If there are no frames.
        """
        name = set_name or dataset.annotations.current()
        if name is None:
            raise UsageError("the dataset has no labels yet: run `usds annotate`")
        dimensions = dataset.annotations.read(name).dimensions
        again = "" if split == "default" else f" --name {split}"
        if split not in dataset.split_names():
            raise UsageError(f"the dataset has no split {split!r} yet: run `usds split{again}`")
        with dataset.connect(name) as connection:
            frames, unplaced = connection.execute(
                "SELECT count(*), count(DISTINCT subject_id) FILTER (WHERE subject_id NOT IN "
                "(SELECT subject_id FROM splits WHERE name = ?)) FROM frames",
                [split],
            ).fetchall()[0]
        if not frames:
            raise ContentError("the dataset has no frames: nothing to export")
        if unplaced:
            raise UsageError(
                f"split {split!r} does not place {unplaced} of the subjects: run `usds split{again}`, which "
                "keeps the others where they are"
            )
        return cls(dataset, split, name, dimensions)

    def facts(self, side: str) -> pa.Table:
        """Everything but the pixels of one side, in shard order.

        Returns
        -------
        pa.Table
            Facts of the frame, ``caption`` and ``caption_scope`` (null without one), one ``list<string>`` a
            dimension, ``negated`` and ``uncertain``, and the locator (``shard``, ``row_group``, ``row``).
        """
        columns = [f"f.{name}" for name in _FACTS]
        columns += ["c.text AS caption", "c.scope AS caption_scope"]
        columns += [f'a."{name}"' for name in (*self.dimensions, "negated", "uncertain")]
        columns += [f'f."{name}"' for name in _LOCATOR]
        with self.dataset.connect(self.set_name) as connection:
            return connection.sql(
                f"SELECT {', '.join(columns)} FROM frames f "
                "JOIN splits s ON s.subject_id = f.subject_id AND s.name = ? AND s.split = ? "
                "LEFT JOIN annotations a ON a.frame_id = f.frame_id "
                "LEFT JOIN captions c ON c.caption_id = a.caption_id ORDER BY shard, row_group, row",
                params=[self.split, side],
            ).to_arrow_table()

    def batches(self, side: str) -> Iterator[tuple[pa.Table, list[bytes]]]:
        """Samples of one side with their encoded images, at most one row group of a shard at a time."""
        facts = self.facts(side)
        for shard in facts.column("shard").unique().to_pylist():
            rows = facts.filter(pc.field("shard") == shard)
            with pq.ParquetFile(self.dataset.root / shard) as pixels:
                for group in rows.column("row_group").unique().to_pylist():
                    part = rows.filter(pc.field("row_group") == group)
                    images = pixels.read_row_group(group, columns=["image"]).column("image")
                    yield part.drop_columns(list(_LOCATOR)), images.take(part.column("row")).to_pylist()

    def counts(self) -> dict[str, dict[str, int]]:
        """Frames, subjects and captions of every side, ``excluded`` included where there is one."""
        with self.dataset.connect(self.set_name) as connection:
            rows: list[tuple[Any, ...]] = connection.execute(
                "SELECT split, count(f.frame_id), count(DISTINCT s.subject_id), "
                "count(DISTINCT a.caption_id) FROM splits s "
                "LEFT JOIN frames f USING (subject_id) LEFT JOIN annotations a USING (frame_id) "
                "WHERE name = ? GROUP BY 1 "
                "ORDER BY list_position(['train', 'valid', 'test', 'excluded'], split)",
                [self.split],
            ).fetchall()
        return {side: {"frames": f, "subjects": s, "captions": c} for side, f, s, c in rows}
