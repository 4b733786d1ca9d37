"""Checkpoints of a run: whole or absent, self-contained, and refused where they do not belong.

A checkpoint is a folder ``step-00000120``: ``model.safetensors`` and ``ema.safetensors`` (tensors),
``state.pt`` (optimizer, schedule, random states, sampler position; read with ``weights_only``), the settings,
the architecture of the towers, the taxonomy and ``meta.json``. It is written beside under another name,
synced and renamed, so a kill at any moment leaves the checkpoints before it untouched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final, cast
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from usds.model.network import UltrasoundCLIP
from usds.model.settings import ModelSettings, settings_hash, validate
from usds.model.tower_files import stored_towers, write_tower_files
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.files import write_json
from usds.taxonomy.similarity import load_similarity
from usds.taxonomy.udt import Taxonomy, load_taxonomy

__all__ = ["Checkpoint", "CheckpointStore", "Identity", "find_checkpoint", "identity_of", "load_model"]

# A step saved twice (a signal right after a regular save) gets a revision: .1, .2, ...
_NAME = re.compile(r"(step-\d{8,})(?:\.(\d+))?")
_PARTIAL = ".partial-"
_FORMAT = 1
_DAMAGED: Final = (SafetensorError, UnpicklingError, BadZipFile)


@dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to; a difference in any but ``settings`` refuses it.

    Attributes
    ----------
    taxonomy : str
        Set name and content hash of the taxonomy.
    architecture : dict
        Parameter name -> shape.
    similarity : str
        Hash of the label similarity S.
    settings : str
        Hash of all settings of the run.
    data : str
        Hash of the data manifest (which frames, which split).
    """

    taxonomy: str
    architecture: Mapping[str, Sequence[int]]
    similarity: str
    settings: str = ""
    data: str = ""

    def refuse(self, stored: Identity, path: Path, *, resume: bool) -> None:
        """Raise a ContentError that names the first difference to a stored identity.

        ``resume`` also demands equal data and settings, because the rest of the run would differ.
        """
        where = f"checkpoint {path.name}"
        if stored.taxonomy != self.taxonomy:
            raise ContentError(
                f"{where} was trained with taxonomy {stored.taxonomy[:40]}, not {self.taxonomy[:40]}: "
                "use its own (usds annotate --taxonomy RUN/taxonomy.yaml), or start a new run"
            )
        difference = _shape_difference(stored.architecture, self.architecture)
        if difference:
            raise ContentError(
                f"{where} is of another architecture: {difference}; use the settings stored with it "
                "(model.towers, model.graph, model.fusion)"
            )
        if stored.similarity != self.similarity:
            raise ContentError(
                f"{where} was trained with another label similarity ({stored.similarity[:8]}, now "
                f"{self.similarity[:8]}): set model.similarity as in its settings"
            )
        if resume and stored.data != self.data:
            raise ContentError(
                f"{where}: the dataset or the split has changed since; a resumed run would not be the same "
                f"run. Start a new one from its weights: usds train --init {path}"
            )
        if resume and stored.settings != self.settings:
            raise ContentError(
                f"{where}: the settings differ from those of the run; resume with the run's own"
            )


def _shape_difference(stored: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]]) -> str:
    missing = sorted(wanted.keys() - stored.keys())
    extra = sorted(stored.keys() - wanted.keys())
    if missing or extra:
        parts = [f"it lacks {missing[0]} and {len(missing) - 1} more"] if missing else []
        parts += [f"it has {extra[0]} and {len(extra) - 1} more that the network lacks"] if extra else []
        return "; ".join(parts)
    for name in sorted(wanted):
        if list(stored[name]) != list(wanted[name]):
            return f"{name} is {list(stored[name])} there and {list(wanted[name])} here"
    return ""


def _name(taxonomy: Taxonomy) -> str:
    return f"{taxonomy.set_name} ({taxonomy.content_hash})"


def identity_of(model: UltrasoundCLIP, *, settings: str = "", data: str = "") -> Identity:
    """Return the identity of a network; ``settings`` and ``data`` are hashes of the run."""
    return Identity(
        _name(model.taxonomy),
        {name: list(value.shape) for name, value in model.state_dict().items()},
        model.prior.hash,
        settings,
        data,
    )


@dataclass
class Checkpoint:
    """What is saved of a run at one step.

    Attributes
    ----------
    step : int
        Optimizer steps done.
    model, ema : dict
        State of the network, and of its average where there is one.
    state : dict
        Optimizer, schedule, random states of every rank, sampler position: tensors, numbers, strings and
        containers of them, nothing else.
    metrics : dict
        Figures at this step.
    """

    step: int
    model: dict[str, Tensor]
    ema: dict[str, Tensor] | None = None
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    metrics: dict[str, float] = field(default_factory=dict[str, float])


class CheckpointStore:
    """The checkpoints of one run.

    Parameters
    ----------
    folder : Path
        Usually ``RUN/checkpoints``.
    keep_last : int
        How many of the newest stay; the best stays besides.
    """

    def __init__(self, folder: Path, keep_last: int = 2) -> None:
        self.folder = folder
        self.keep_last = keep_last

    def paths(self) -> list[Path]:
        """Return all whole checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [p for p in self.folder.iterdir() if _NAME.fullmatch(p.name) and p.is_dir()]
        return sorted(found, key=lambda p: (p.name.partition(".")[0], _revision(p)))

    def latest(self) -> Path | None:
        """Return the newest checkpoint."""
        return next(reversed(self.paths()), None)

    def best(self) -> Path | None:
        """Return the checkpoint with the highest score; the newest where none has a score."""
        return _best_of(self.paths())

    def save(
        self, checkpoint: Checkpoint, model: UltrasoundCLIP, identity: Identity, *, score: float | None = None
    ) -> Path:
        """Write a checkpoint atomically, then remove those that need not stay.

        Parameters
        ----------
        score : float, optional
            Validation figure, higher is better; decides which checkpoint is the best.

        Raises
        ------
        ContentError
            The disk is full or read-only; the checkpoints before are untouched.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        final = self.folder / self._free_name(checkpoint.step)
        partial = self.folder / f"{_PARTIAL}{os.getpid()}-{final.name}"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            _write(partial, checkpoint, model, identity, score)
            partial.rename(final)
            _sync(self.folder)
        except (OSError, SafetensorError, RuntimeError) as error:  # safetensors and torch wrap a full disk
            shutil.rmtree(partial, ignore_errors=True)
            raise ContentError(
                f"checkpoint {final} could not be written ({_reason(error)}): make room, then go on from the "
                f"checkpoint before with usds train --resume {self.folder.parent}"
            ) from None
        self._remove_old()
        return final

    def _free_name(self, step: int) -> str:
        stem = f"step-{step:08d}"
        taken = [_revision(path) for path in self.paths() if path.name.partition(".")[0] == stem]
        return f"{stem}.{max(taken) + 1}" if taken else stem

    def _remove_old(self) -> None:
        paths = self.paths()
        newest = {path.name.partition(".")[0]: path for path in paths}
        current = list(newest.values())
        keep = {*current[-self.keep_last :], _best_of(current)}
        for path in paths:
            if path not in keep:
                # Renamed first: a kill while files go must not leave half a checkpoint under a good name.
                shutil.rmtree(path.rename(self.folder / f"{_PARTIAL}{os.getpid()}-{path.name}-old"))
        for leftover in self.folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def load(self, path: Path, expected: Identity | None = None, *, resume: bool = False) -> Checkpoint:
        """Read a checkpoint.

        Parameters
        ----------
        expected : Identity, optional
            Refuse a checkpoint of another taxonomy, architecture or similarity.
        resume : bool
            Refuse other data and other settings too.

        Raises
        ------
        ContentError
            A file is damaged or missing, or the identity differs; the message names the difference.
        """
        meta = _meta(path)
        with _whole(path):
            if expected is not None:
                expected.refuse(Identity(**meta["identity"]), path, resume=resume)
            ema = load_file(str(path / "ema.safetensors")) if (path / "ema.safetensors").is_file() else None
            state: Any = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
            model = load_file(str(path / "model.safetensors"))
            return Checkpoint(meta["step"], model, ema, cast(dict[str, Any], state), meta["metrics"])


def _write(
    folder: Path, checkpoint: Checkpoint, model: UltrasoundCLIP, identity: Identity, score: float | None
) -> None:
    save_file(_plain(checkpoint.model), str(folder / "model.safetensors"))
    if checkpoint.ema is not None:
        save_file(_plain(checkpoint.ema), str(folder / "ema.safetensors"))
    torch.save(checkpoint.state, folder / "state.pt")
    (folder / "taxonomy.yaml").write_text(model.taxonomy.source_text, encoding="utf-8")
    model.prior.save(folder / "similarity.npz")
    write_json(folder / "model.json", model.settings.model_dump(mode="json"))
    write_tower_files(model.towers, folder)
    meta = {
        "format": _FORMAT,
        "step": checkpoint.step,
        "score": score,
        "metrics": checkpoint.metrics,
        "identity": asdict(identity),
        "model_settings": settings_hash(model.settings),
    }
    write_json(folder / "meta.json", meta)
    for path in sorted(folder.rglob("*")):
        _sync(path)
    _sync(folder)


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU, without shared memory."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _whole(path: Path) -> Generator[None]:
    """Turn whatever a library raises at a damaged or missing file of a checkpoint into one message."""
    try:
        yield
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, *_DAMAGED) as error:
        raise ContentError(
            f"checkpoint {path} is damaged ({_reason(error)}): copy it again, or remove its folder, and the "
            "checkpoint before it is taken"
        ) from None


def _reason(error: Exception) -> str:
    """What went wrong, on one short line."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return next(iter(said.splitlines()), type(error).__name__).partition(". ")[0][:120]


def _meta(path: Path) -> dict[str, Any]:
    try:
        with _whole(path):
            meta: dict[str, Any] = json.loads((path / "meta.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{path} is no checkpoint: it has no meta.json. Remove its folder, and the checkpoint before it "
            "is taken"
        ) from None
    if meta.get("format") != _FORMAT:
        raise ContentError(f"checkpoint {path} has format {meta.get('format')}, this version reads {_FORMAT}")
    return meta


def _revision(path: Path) -> int:
    return int(path.name.partition(".")[2] or 0)


def _best_of(paths: Sequence[Path]) -> Path | None:
    """The path with the highest score, the later one of equals; the last where none has a score."""
    scored = [(score, i) for i, path in enumerate(paths) if (score := _score(path)) is not None]
    return paths[max(scored)[1]] if scored else next(reversed(paths), None)


def _score(path: Path) -> float | None:
    score = _meta(path)["score"]
    return None if score is None else float(score)


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that a path means: itself, or the best one of a run folder.

    Raises
    ------
    UsageError
        There is none.
    """
    if (path / "meta.json").is_file():
        return path
    for folder in (path, path / "checkpoints"):
        best = CheckpointStore(folder).best()
        if best is not None:
            return best
    raise UsageError(f"{path} holds no checkpoint: give a run folder or a step-... folder")


def _taxonomy(folder: Path) -> Taxonomy:
    taxonomy = load_taxonomy(folder / "taxonomy.yaml")
    if _meta(folder)["identity"]["taxonomy"] != _name(taxonomy):
        raise ContentError(
            f"checkpoint {folder} is damaged: its taxonomy.yaml is not the one that it was trained with; "
            "copy the checkpoint again"
        )
    return taxonomy


def load_model(path: Path, *, average: bool = True, device: torch.device | str = "cpu") -> UltrasoundCLIP:
    """Build the network of a checkpoint or run folder from what is stored with it, in evaluation mode.

    Parameters
    ----------
    average : bool
        Take the averaged weights where they were kept.

    Raises
    ------
    UsageError, ContentError
        No checkpoint there, or a damaged one.
    """
    folder = find_checkpoint(path)
    with _whole(folder):
        stored: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        prior = load_similarity(folder / "similarity.npz")
    settings = validate(ModelSettings, stored)
    settings = settings.model_copy(update={"towers": stored_towers(settings.towers, folder)})
    model = UltrasoundCLIP(settings, _taxonomy(folder), prior)
    checkpoint = CheckpointStore(folder.parent).load(folder, identity_of(model))
    chosen = checkpoint.ema if average and checkpoint.ema is not None else checkpoint.model
    nn.Module.load_state_dict(model, chosen)
    return model.to(device).eval()
