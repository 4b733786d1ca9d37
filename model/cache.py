"""Resized frames in one memory-mapped Arrow file, for random access while training.

Decoding a native frame costs ten times what decoding a small one costs, and shards are made for sequential
reading. The cache is keyed by the dataset's manifests and the frame size: when either changes, it is built
again. It lies outside the dataset, in the user's cache folder unless ``data.cache`` names another.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import platformdirs
import pyarrow as pa
from filelock import FileLock

from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.files import atomic_path, canonical_json, remove_leftovers

__all__ = ["FrameCache", "cache_folder", "decode_rgb", "open_cache"]

# OpenCV prints what it thinks of a damaged picture to stderr by itself; None says it to the caller.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

Image = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]

VERSION: Final = 1
_ROWS: Final = 256
_JPEG: Final = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
_MARGIN: Final = 8 / 7  # room for the random crop: 256 for 224, as the field does
_LONGEST: Final = 2.0  # long side over short side, at most: a banner-shaped frame must not fill the cache
_SCHEMA: Final = pa.schema(
    [pa.field("frame_id", pa.string(), nullable=False), pa.field("image", pa.binary())]
)


def cache_folder(chosen: Path | None) -> Path:
    """Folder of all caches: ``chosen``, or the platform's user cache folder."""
    return chosen or platformdirs.user_cache_path("usds", appauthor=False) / "frames"


def decode_rgb(data: bytes | memoryview | pa.Buffer) -> Image | None:
    """Decode JPEG or PNG bytes to RGB (H, W, 3) uint8; None where they are not a whole image."""
    raw = np.frombuffer(data, np.uint8)
    if not len(raw):
        return None
    try:
        bgr = cv2.imdecode(raw, cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if bgr is None else np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def shrink(rgb: Image, side: int) -> Image:
    """Resize so that the short side is ``side``; smaller frames are left as they are."""
    rows, cols = rgb.shape[:2]
    factor = side / min(rows, cols)
    if factor >= 1:
        return rgb
    size = (
        min(round(cols * factor), round(side * _LONGEST)),
        min(round(rows * factor), round(side * _LONGEST)),
    )
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True, eq=False)
class FrameCache:
    """Encoded resized frames by row.

    Attributes
    ----------
    path : Path
        The Arrow file.
    unreadable : frozenset of str
        Frames whose bytes in the dataset cannot be decoded; the cache holds no pixels of them.
    """

    path: Path
    unreadable: frozenset[str]
    _chunks: tuple[Any, ...]
    _rows: dict[str, int]

    def image(self, frame_id: str) -> Image:
        """RGB (H, W, 3) uint8 of one frame.

        Raises
        ------
        ContentError
            The frame is not cached, or unreadable.
        """
        image = decode_rgb(self.encoded(frame_id))
        if image is None:
            raise ContentError(f"frame {frame_id} has no readable pixels: `usds audit` lists damaged shards")
        return image

    def encoded(self, frame_id: str) -> memoryview:
        """Encoded bytes of one frame, a view of the mapped file; empty where there are none."""
        row = self._rows.get(frame_id)
        value = None if row is None else self._chunks[row // _ROWS][row % _ROWS]
        return memoryview(value.as_buffer()) if value is not None and value.is_valid else memoryview(b"")

    def __len__(self) -> int:
        return len(self._rows)

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the same file instead of receiving its bytes.
        return (_map, (self.path,))


def open_cache(
    dataset: Dataset, size: int, folder: Path | None = None, progress: Progress | None = None
) -> FrameCache:
    """Open the cache of a dataset, building it where it is missing or out of date.

    Parameters
    ----------
    dataset : Dataset
        Its image shards are read once, in row order.
    size : int
        Input side of the network, pixels; frames are kept with a short side of 8/7 of it.
    folder : Path, optional
        Folder of all caches.
    progress : callable, optional
        Called with (frames done, frames in all).

    Raises
    ------
    ContentError
        A shard is damaged.
    UsageError
        The folder cannot be written.
    """
    home = cache_folder(folder) / dataset.info.dataset_id
    path = home / f"{size}-{_key(dataset, size)}.arrow"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / ".lock"):  # the other ranks wait for the one that builds
            if not path.is_file():
                remove_leftovers(home)  # a build that was killed may have left gigabytes
                _build(dataset, size, path, progress)
                _drop_stale(home, size, path)
    except OSError as error:
        raise UsageError(
            f"the frame cache {home} cannot be written ({error.strerror}): name a folder with room in "
            "data.cache"
        ) from error
    return _map(path)


def _key(dataset: Dataset, size: int) -> str:
    images = {task: m.files["images"].sha256 for task, m in dataset.manifests().items()}
    return hashlib.sha256(canonical_json([VERSION, size, images])).hexdigest()[:16]


def _drop_stale(home: Path, size: int, keep: Path) -> None:
    """Older caches of this size hold frames that the dataset may have given up (`usds forget`)."""
    for path in home.glob(f"{size}-*.arrow"):
        if path != keep:
            path.unlink(missing_ok=True)


def _build(dataset: Dataset, size: int, path: Path, progress: Progress | None) -> None:
    total = sum(m.files["images"].rows for m in dataset.manifests().values())
    side = round(size * _MARGIN)
    done = 0
    workers = max(1, (os.cpu_count() or 1))
    with (
        atomic_path(path) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, _SCHEMA) as writer,
        ThreadPoolExecutor(workers) as pool,
    ):
        images = _images(dataset)
        while rows := list(islice(images, _ROWS)):
            small = list(pool.map(lambda row: _encode(row[1], side), rows))
            writer.write_batch(pa.record_batch([[frame for frame, _ in rows], small], schema=_SCHEMA))
            done += len(rows)
            if progress is not None:
                progress(done, total)


def _images(dataset: Dataset) -> Iterator[tuple[str, bytes]]:
    images = dataset.iter_images()
    while True:
        try:
            yield next(images)
        except StopIteration:
            return
        except (pa.ArrowException, OSError) as error:
            damaged = dataset.damaged()
            raise ContentError(
                f"a shard of {dataset.root} cannot be read "
                f"({', '.join(damaged[:3]) or type(error).__name__}): "
                "restore it from a copy, or ingest its files again with `usds ingest --redo`"
            ) from error


def _encode(data: bytes, side: int) -> bytes | None:
    rgb = decode_rgb(data)
    if rgb is None:
        return None
    bgr = cv2.cvtColor(shrink(rgb, side), cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", bgr, _JPEG)
    return encoded.tobytes() if done else None


def _map(path: Path) -> FrameCache:
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    names = table.column("frame_id").to_pylist()
    images = table.column("image")
    missing = images.is_null().to_numpy()
    lost = frozenset(name for name, null in zip(names, missing, strict=True) if null)
    return FrameCache(path, lost, tuple(images.chunks), {name: i for i, name in enumerate(names)})


def describe_unreadable(frame_ids: Sequence[str]) -> str:
    """What to tell a person about frames without readable pixels."""
    some = ", ".join(sorted(frame_ids)[:3]) + (", ..." if len(frame_ids) > 3 else "")
    return (
        f"{len(frame_ids)} frame(s) cannot be decoded and are left out: {some}. "
        "`usds audit` names the damaged shards; `usds ingest --redo` writes them again"
    )
