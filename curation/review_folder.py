"""Pictures that a person shall look at: native frames and what was found in them, in the private state.

One folder a file: ``pictures.json`` (geometry and boxes, no words) and one PNG a frame. Native frames show
all that stood on the screen, names included: they leave the private state through the review page alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from usds.curation.deid.decision import Mark, Part
from usds.curation.deid.pixels import CleanFrame
from usds.curation.deid.redaction import Box, to_native
from usds.schemas.errors import ContentError
from usds.schemas.files import read_json, write_json
from usds.schemas.state import State

__all__ = [
    "Pictures",
    "ReviewFolder",
    "Seen",
    "frame_in_doubt",
    "native_area",
    "pictures_in_dataset",
]

_INDEX: Final = "pictures.json"


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame as the page shows it, all places in native pixels.

    Attributes
    ----------
    index : int
        Number in the file.
    boxes : tuple of (Mark, method)
        What was blacked, and by which detector or person.
    hits : tuple of (Mark, harvested)
        What verification still reads; with ``harvested`` an identifier of the run.
    redacted : float
        Share of the area that is black.
    passed : bool
        Whether the frame by itself could be written.
    """

    index: int
    boxes: tuple[tuple[Mark, str], ...] = ()
    hits: tuple[tuple[Mark, bool], ...] = ()
    redacted: float = 0.0
    passed: bool = True


@dataclass(frozen=True, slots=True)
class Pictures:
    """What lies in the folder of one file: size of its native frames, the area found, the frames."""

    rows: int
    cols: int
    n_frames: int
    area: tuple[Part, ...]
    frames: tuple[Seen, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Pictures:
        """Inverse of :meth:`to_json`."""
        parts = (Part(part["kind"], tuple((x, y) for x, y in part["points"])) for part in value["area"])
        frames = (
            Seen(
                frame["index"],
                tuple((Mark(**mark), method) for mark, method in frame["boxes"]),
                tuple((Mark(**mark), harvested) for mark, harvested in frame["hits"]),
                frame["redacted"],
                frame["passed"],
            )
            for frame in value["frames"]
        )
        return cls(value["rows"], value["cols"], value["n_frames"], tuple(parts), tuple(frames))


class ReviewFolder:
    """Folder of the private state with one folder a source file."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def doubted(cls, state: State) -> ReviewFolder:
        """Frames under review."""
        return cls(state.folder / "review")

    @classmethod
    def viewed(cls, state: State) -> ReviewFolder:
        """Frames of the dataset as they came, as long as a person looks at them."""
        return cls(state.folder / "viewed")

    def clear(self, source_key: str) -> None:
        """Remove what an earlier run kept of a file."""
        shutil.rmtree(self.root / source_key, ignore_errors=True)

    def sweep(self, known: Set[str]) -> None:
        """Remove what is kept of files that nobody knows any more: their bytes were replaced."""
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)

    def write(
        self, source_key: str, pictures: Pictures, native: Iterable[tuple[int, NDArray[np.uint8]]]
    ) -> None:
        """Keep the frames of a file; its index is written last.

        Parameters
        ----------
        source_key : str
        pictures : Pictures
        native : iterable of (index, (rows, columns, 3) uint8)
        """
        folder = self.root / source_key
        for path in (self.root, folder):
            path.mkdir(mode=0o700, exist_ok=True)
        for index, rgb in native:
            data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
            descriptor = os.open(folder / f"{index:06d}.png", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
        write_json(folder / _INDEX, pictures.to_json(), mode=0o600)

    def read(self, source_key: str) -> Pictures | None:
        """What is kept of a file; None where there is nothing, or what another version left."""
        path = self.root / source_key / _INDEX
        try:
            return Pictures.from_json(read_json(path)) if path.is_file() else None
        except (ValueError, KeyError, TypeError):
            return None

    def picture(self, source_key: str, index: int) -> bytes:
        """One native frame as PNG.

        Raises
        ------
        ContentError
            If it is not kept.
        """
        path = self.root / source_key / f"{index:06d}.png"
        if not path.is_file():
            raise ContentError(f"no picture of frame {index} is kept: run `usds ingest RAW --retry-review`")
        return path.read_bytes()

    def holds(self, source_key: str, index: int | None) -> bool:
        """Whether the picture of a frame is kept."""
        return index is not None and (self.root / source_key / f"{index:06d}.png").is_file()


def frame_in_doubt(frame: CleanFrame, *, passed: bool) -> Seen:
    """A frame that the pipeline did not write, with what is still legible in it."""
    hits = ((_mark(frame.index, hit.box, frame.crop, frame.scale), hit.harvested) for hit in frame.hits)
    return Seen(
        frame.index,
        tuple((_mark(frame.index, box, frame.crop, frame.scale), box.method) for box in frame.boxes),
        tuple(hits),
        frame.redacted_fraction,
        passed,
    )


def pictures_in_dataset(rows: Sequence[Mapping[str, Any]]) -> Pictures | None:
    """What the table ``frames`` says of a file; None without a row."""
    if not rows:
        return None
    first = rows[0]
    area = [(part["kind"], [(p["x"], p["y"]) for p in part["points"]]) for part in first["area"]]
    return Pictures(
        first["native_rows"], first["native_cols"], first["source_frames"],
        native_area(area, _crop(first), first["scale"]), tuple(_frame_in_dataset(row) for row in rows),
    )  # fmt: skip


def _crop(row: Mapping[str, Any]) -> Box:
    return row["crop_x0"], row["crop_y0"], row["crop_x1"], row["crop_y1"]


def _frame_in_dataset(row: Mapping[str, Any]) -> Seen:
    crop = _crop(row)
    boxes = (
        (
            Mark(
                row["frame_index"],
                *to_native((box["x0"], box["y0"], box["x1"], box["y1"]), crop, row["scale"]),
            ),
            str(box["method"]),
        )
        for box in row["text_boxes"]
    )
    return Seen(row["frame_index"], tuple(boxes), (), row["redacted_fraction"])


def native_area(components: Sequence[tuple[Any, Any]], crop: Box, scale: float) -> tuple[Part, ...]:
    """Polygons in written pixels, (kind, corners) each, as parts in native pixels."""
    left, top = crop[:2]
    return tuple(
        Part(
            kind,
            tuple(
                (round((float(x) + 0.5) / scale - 0.5) + left, round((float(y) + 0.5) / scale - 0.5) + top)
                for x, y in points
            ),
        )
        for kind, points in components
    )


def _mark(index: int, box: Any, crop: Box, scale: float) -> Mark:
    return Mark(index, *to_native((box.x0, box.y0, box.x1, box.y1), crop, scale))
