"""The run folder: everything another person needs to train the same again.

settings.yaml     every setting, resolved: `usds train --config RUN/settings.yaml`
taxonomy.yaml     the taxonomy of the labels
data.json         which dataset, annotation set, split, frames; which subjects stood on which side
environment.json  versions, device, command
metrics.jsonl     one line a logged step and a validation
tensorboard/      the same for TensorBoard
plots/            loss and learning rate
checkpoints/      step-..., see usds.model.checkpoint
"""

from __future__ import annotations

import errno
import hashlib
import platform
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml
from filelock import FileLock, Timeout

from usds.model.records import Records
from usds.model.settings import TrainSettings, build_settings, settings_hash
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.files import atomic_path, canonical_json, read_json, write_json
from usds.taxonomy.udt import Taxonomy, load_taxonomy

__all__ = ["Run", "create_run", "data_manifest", "find_run", "newest_run"]

_LOCK: Final = ".lock"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
_LIBRARIES: Final = ("usds", "torch", "open_clip_torch", "timm", "numpy", "pyarrow", "opencv-python")


@dataclass(frozen=True)
class Run:
    """A run folder."""

    folder: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The metrics, one JSON object a line."""
        return self.folder / "metrics.jsonl"

    def settings(self) -> TrainSettings:
        """The resolved settings."""
        try:
            values: Any = yaml.safe_load((self.folder / "settings.yaml").read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise self._damaged("settings.yaml") from error
        if not isinstance(values, dict):
            raise self._damaged("settings.yaml")
        return build_settings(values)

    def taxonomy(self) -> Taxonomy:
        """The taxonomy that the run was trained with."""
        return load_taxonomy(self.folder / "taxonomy.yaml")

    def data(self) -> dict[str, Any]:
        """The data manifest."""
        try:
            found: Any = read_json(self.folder / "data.json")
        except (OSError, ValueError) as error:
            raise self._damaged("data.json") from error
        if not isinstance(found, dict) or not found.keys() >= {"dataset_id", "annotation_set", "subjects"}:
            raise self._damaged("data.json")
        return found

    def _damaged(self, name: str) -> ContentError:
        return ContentError(
            f"{self.folder} is no whole run folder: {name} is missing or damaged; copy the folder again"
        )

    @property
    def imported(self) -> bool:
        """Whether its weights come from elsewhere: what they were trained on is not recorded."""
        return bool(self.data().get("imported"))


def create_run(
    base: Path, settings: TrainSettings, taxonomy: Taxonomy, data: Mapping[str, Any], *, exact: bool = False
) -> Run:
    """Make a new run folder.

    Parameters
    ----------
    base : Path
        Folder of all runs; the run is named ``<UTC>-<preset>-<hash6>``. With ``exact`` the folder itself.
    settings, taxonomy, data
        What is recorded.

    Raises
    ------
    UsageError
        The folder exists and holds something, or cannot be made: nothing is overwritten.
    """
    code = hashlib.sha256(f"{settings_hash(settings)}{data['hash']}".encode()).hexdigest()[:6]
    folder = base if exact else base / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{settings.preset}-{code}"
    _refuse_full(folder)
    with alone(folder):
        _refuse_full(folder)
        write_text(
            folder / "settings.yaml", yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
        )
        write_text(folder / "taxonomy.yaml", taxonomy.source_text)
        write_json(folder / "data.json", data)
        write_json(folder / "environment.json", environment())
    return Run(folder)


def _refuse_full(folder: Path) -> None:
    if folder.is_dir() and any(path.name != _LOCK for path in folder.iterdir()):
        raise UsageError(
            f"{folder} is not empty: go on with it by --resume {folder}, or give another folder with --out"
        )


@contextmanager
def alone(folder: Path) -> Generator[None]:
    """Hold a run folder, made if it is missing: two processes in one would mix their checkpoints.

    Raises
    ------
    UsageError
        Another process holds it.
    ContentError
        The folder cannot be written, now or inside the block.
    """
    lock = FileLock(folder / _LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"another process trains in {folder}: wait for it, or name another folder with --out"
        ) from None
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written ({error.strerror}): name another folder with --out"
        ) from error
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise ContentError(
            f"{folder} could not be written ({error.strerror}): make room, then go on from the last "
            f"checkpoint with usds train --resume {folder}"
        ) from error
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, "utf-8")


def environment() -> dict[str, Any]:
    """Versions, device and command of this process; no host and no person."""
    versions: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "libraries": versions,
        "command": " ".join(["usds", *sys.argv[1:]]),
    }


def data_manifest(
    dataset: Dataset, records: Records, taxonomy: Taxonomy, split: str, label_set: str | None = None
) -> dict[str, Any]:
    """What a run is trained on, with a hash over everything that decides its batches.

    Subjects are the dataset's keyed ids. They are kept because evaluation must know what was trained on, even
    after the split was made anew.
    """
    shards = {task: m.files["images"].sha256 for task, m in dataset.manifests().items()}
    rows = [
        (frame, subject, side, int(caption))
        for frame, subject, side, caption in zip(
            records.frame_ids, records.subject_ids, records.sides, records.captions, strict=True
        )
    ]
    labels = hashlib.sha256(records.labels.x.tobytes()).hexdigest()
    content = canonical_json([shards, rows, labels, taxonomy.content_hash])
    sides = sorted(set(records.sides))
    by_side = {
        side: sorted({s for s, at in zip(records.subject_ids, records.sides, strict=True) if at == side})
        for side in sides
    }
    return {
        "dataset": str(dataset.root),
        "dataset_id": dataset.info.dataset_id,
        "tool": dataset.info.tool,
        "annotation_set": label_set or dataset.annotations.current(),
        "split": split,
        "frames": {side: records.sides.count(side) for side in sides},
        "labelled": _labelled(records, taxonomy),
        "selection": records.counts.sentence(),
        "subjects": by_side,
        "hash": hashlib.sha256(content).hexdigest(),
    }


def _labelled(records: Records, taxonomy: Taxonomy) -> dict[str, int]:
    """Training records that carry each dimension: what carries none cannot have been learned."""
    trained = np.array([side == "train" for side in records.sides], dtype=bool)
    counts = records.labels.filled[trained].sum(axis=0).tolist()
    return dict(zip(taxonomy.dimension_names, counts, strict=True))


def newest_run(base: Path = Path("runs")) -> Run:
    """The run that was started last.

    Raises
    ------
    UsageError
        There is none.
    """
    runs = [p for p in base.iterdir() if (p / "settings.yaml").is_file()] if base.is_dir() else []
    if not runs:
        raise UsageError(f"no run in {base}: train one with `usds train`, or name its folder")
    return Run(max(runs, key=lambda p: ((p / "environment.json").stat().st_mtime_ns, p.name)))


def find_run(named: Path | None, base: Path = Path("runs")) -> Run:
    """The named run, or the newest.

    Raises
    ------
    UsageError
        The folder is no run.
    """
    if named is None:
        return newest_run(base)
    if not (named / "settings.yaml").is_file():
        raise UsageError(
            f"{named} is no run folder (it has no settings.yaml): name one that `usds train` made"
        )
    return Run(named)
