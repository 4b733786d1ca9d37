"""Datasets in the formats of other programs: a Hugging Face folder, WebDataset shards.

Each function writes a new folder that appears when it is whole.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from usds.curation.dataset_card import dataset_card
from usds.curation.deid.encode import format_of
from usds.curation.samples import SIDES, Samples
from usds.schemas.dataset import is_dataset
from usds.schemas.errors import UsageError
from usds.schemas.files import canonical_json

__all__ = ["SHARD_BYTES", "export_huggingface", "export_webdataset"]

SHARD_BYTES: Final = 500 << 20
"""Size after which a new shard begins; the Hugging Face hub's own default."""
_HF_SIDES: Final = {"train": "train", "valid": "validation", "test": "test"}
_ENDINGS: Final = {"jpeg": "jpg", "png": "png", None: "bin"}

Advance = Callable[[int], None]


def _nothing(_: int) -> None: ...


def export_huggingface(
    samples: Samples,
    folder: Path,
    *,
    title: str = "Ultrasound dataset",
    licence: str | None = None,
    advance: Advance = _nothing,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write Parquet shards and a dataset card that ``datasets.load_dataset(FOLDER)`` loads.

    Parameters
    ----------
    samples : Samples
    folder : Path
        Must not exist.
    title, licence : str
        For the card; the licence is an SPDX identifier or one of the hub's names.
    advance : callable
        Told how many frames were written.
    shard_bytes : int
        A shard ends with the row group that passes this size.

    Raises
    ------
    UsageError
        If ``folder`` exists, cannot be made, or is being written by another process.
    """
    with _new_folder(folder) as partial:
        for side, name in _HF_SIDES.items():
            _write_parquet_shards(samples, side, partial / "data", name, advance, shard_bytes)
        files = [{"split": n, "path": f"data/{n}-*"} for n in _HF_SIDES.values() if _has(partial, n)]
        front = {
            "pretty_name": title,
            **({"license": licence} if licence else {}),
            "tags": ["medical", "ultrasound", "image-text"],
            "configs": [{"config_name": "default", "data_files": files}],
        }
        card = dataset_card(samples, title=title, licence=licence)
        # JSON is YAML: no second writer is needed, and nothing has to be quoted by hand.
        text = f"---\n{json.dumps(front, indent=1, ensure_ascii=False)}\n---\n\n{card}"
        (partial / "README.md").write_text(text, "utf-8")
    return folder


def _has(folder: Path, name: str) -> bool:
    return any((folder / "data").glob(f"{name}-*"))


def _write_parquet_shards(
    samples: Samples, side: str, folder: Path, name: str, advance: Advance, shard_bytes: int
) -> None:
    """``NAME-00000-of-N.parquet``: the count is known only at the end, so the names are given then."""
    folder.mkdir(exist_ok=True)
    written: list[Path] = []
    writer: pq.ParquetWriter | None = None
    size = 0
    try:
        for facts, images in samples.batches(side):
            table = _with_images(facts, images)
            if writer is None:
                written.append(folder / f".{name}-{len(written):05d}")
                writer = pq.ParquetWriter(written[-1], table.schema, compression=_codecs(table))
            writer.write_table(table)
            advance(len(images))
            size += sum(map(len, images))
            if size >= shard_bytes:
                writer.close()
                writer, size = None, 0
    finally:
        if writer is not None:
            writer.close()
    for index, path in enumerate(written):
        path.rename(folder / f"{name}-{index:05d}-of-{len(written):05d}.parquet")


def _codecs(table: pa.Table) -> Any:
    """Compression by column: encoded images do not shrink, everything else does."""
    return {**dict.fromkeys(table.column_names, "zstd"), "image.path": "zstd", "image.bytes": "none"}


def _with_images(facts: pa.Table, images: list[bytes]) -> pa.Table:
    """The table with the hub's Image column in front, and the features that tell `datasets` its types."""
    names = [f"{f}.{_ending(i)}" for f, i in zip(facts.column("frame_id").to_pylist(), images, strict=True)]
    column = pa.StructArray.from_arrays(
        [pa.array(images, pa.binary()), pa.array(names, pa.string())], names=["bytes", "path"]
    )
    table = facts.add_column(0, "image", column)
    features = {field.name: _feature(field.type) for field in table.schema}
    features["image"] = {"_type": "Image"}
    info = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": info})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """A column's type as `datasets` writes it (datasets.Features.to_dict)."""
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    name = {"float": "float32", "double": "float64"}.get(str(kind), str(kind))
    return {"dtype": name, "_type": "Value"}


def export_webdataset(
    samples: Samples,
    folder: Path,
    *,
    title: str = "Ultrasound dataset",
    licence: str | None = None,
    advance: Advance = _nothing,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write tar shards ``SIDE-000000.tar``: image, ``.txt`` (caption) and ``.json`` (facts, labels) a frame.

    Frames without a caption have no ``.txt``; loaders that ask for one (open_clip's) pass over them. The same
    dataset gives the same bytes.

    Parameters, Raises
    ------------------
    As for :func:`export_huggingface`.
    """
    with _new_folder(folder) as partial:
        shards: dict[str, list[str]] = {}
        for side in SIDES:
            names = _write_tars(samples, side, partial, advance, shard_bytes)
            if names:
                shards[side] = names
        (partial / "shards.json").write_text(json.dumps(shards, indent=1) + "\n", "utf-8")
        (partial / "README.md").write_text(dataset_card(samples, title=title, licence=licence), "utf-8")
    return folder


def _write_tars(samples: Samples, side: str, folder: Path, advance: Advance, shard_bytes: int) -> list[str]:
    names: list[str] = []
    archive: tarfile.TarFile | None = None
    size = 0
    try:
        for facts, images in samples.batches(side):
            for row, image in zip(facts.to_pylist(), images, strict=True):
                if archive is None:
                    names.append(f"{side}-{len(names):06d}.tar")
                    archive = _new_tar(folder / names[-1])
                for member, data in _members(row, image):
                    archive.addfile(member, io.BytesIO(data))
                size += len(image)
                if size >= shard_bytes:
                    archive.close()
                    archive, size = None, 0
            advance(len(images))
    finally:
        if archive is not None:
            archive.close()
    return names


def _new_tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)


def _members(row: dict[str, Any], image: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Members of one sample; TarInfo's defaults carry no time, user or host."""
    key = row["frame_id"]
    parts = {_ending(image): image}
    if row["caption"]:
        parts["txt"] = row["caption"].encode("utf-8")
    parts["json"] = canonical_json(row)
    for ending, data in parts.items():
        member = tarfile.TarInfo(f"{key}.{ending}")
        member.size = len(data)
        yield member, data


def _ending(image: bytes) -> str:
    return _ENDINGS[format_of(image)]


@contextmanager
def _new_folder(folder: Path) -> Generator[Path]:
    """A folder beside ``folder`` that gets its name when the block ends well; else nothing stays."""
    _refuse_existing(folder)
    partial = folder.with_name(f".partial-{folder.name}")
    with _sole_writer(folder):
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        try:
            partial.mkdir()
            yield partial
            _refuse_existing(folder)  # made meanwhile by somebody else
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _refuse_existing(folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} exists; nothing is overwritten: give another name with --out")
    if any(is_dataset(parent) for parent in folder.absolute().parents):
        raise UsageError(f"{folder} lies inside a dataset directory: name a place outside with --out")


@contextmanager
def _sole_writer(folder: Path) -> Generator[None]:
    """Hold the lock of an export's name: a second run would clear away what the first one writes."""
    path = folder.with_name(f".partial-{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise UsageError(
            f"{folder} is being written by another process: wait for it, or give another name with --out"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written ({error.strerror}): give another name with --out"
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
