"""Released weights as a run: evaluate, search and export take it like one that was trained here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import open_clip
import torch

from usds.model.checkpoint import Checkpoint, CheckpointStore, identity_of
from usds.model.network import UltrasoundCLIP
from usds.model.run import Run, create_run
from usds.model.settings import TrainSettings, build_settings, merge, settings_hash
from usds.model.tower_files import CONFIG, TEXT_TOWER
from usds.model.weights import ImportReport, clip_state, find_weights, import_weights, read_state
from usds.schemas.errors import UsageError
from usds.schemas.files import file_sha256, write_json
from usds.taxonomy.udt import Taxonomy

__all__ = ["ImportedRun", "import_run", "settings_for"]

State = Mapping[str, torch.Tensor]
REPORT: Final = "import.json"
_CONFIG: Final = "open_clip_config.json"


@dataclass(frozen=True)
class ImportedRun:
    """The new run, and what became of the entries of the file."""

    run: Run
    report: ImportReport


def settings_for(path: Path, state: State, overrides: Mapping[str, Any]) -> TrainSettings:
    """Settings of the network that a checkpoint fits, with what the caller knows better on top.

    A folder says its architecture; a timm ViT-B/16 with a BERT is recognised by the names of its entries (its
    text tower's folder must be given); other architectures must be named. The label path is that of the
    published modules where the file has one, and left out where it does not.

    Raises
    ------
    UsageError
        The architecture cannot be told; the message lists those that fit.
    """
    known: dict[str, Any] = {"preset": "paper", "model": {"graph": _graph(state)}}
    if known["model"]["graph"]["kind"] == "none":
        known["model"]["loss"] = {"kind": "clip"}
    chosen = merge(known, overrides)
    if "name" not in chosen["model"].get("towers", {}):
        towers = {**_towers(path, state), **chosen["model"].get("towers", {})}
        chosen = merge(chosen, {"model": {"towers": towers}})
    return build_settings(chosen)


def _graph(state: State) -> dict[str, Any]:
    labels = state.get("graph_encoder.diag_emb.weight")
    if labels is None or labels.ndim != 2:
        return {"kind": "none"}
    layers = {key.split(".")[2] for key in state if key.startswith("graph_encoder.convs.")}
    return {"kind": "bipartite", "width": labels.shape[1], "layers": max(1, len(layers))}


def _towers(path: Path, state: State) -> dict[str, Any]:
    """Architecture of a file: a checkpoint of usds keeps its own, with a BERT's files."""
    folder = find_weights(path).parent
    if not (folder / CONFIG).is_file():
        return {"name": _architecture(path, state)}
    bert = folder / TEXT_TOWER
    return {"name": str(folder / CONFIG), **({"text_tower": str(bert)} if bert.is_dir() else {})}


def _architecture(path: Path, state: State) -> str:
    folder = path if path.is_dir() else path.parent
    if (folder / _CONFIG).is_file():
        return f"local-dir:{folder.resolve()}"
    towers = clip_state(dict(state))
    if "visual.trunk.blocks.0.attn.qkv.weight" in towers and any(
        "text.transformer." in key for key in towers
    ):
        return "usds-biomed"
    fitting = _fitting(towers)
    some = f" Of the same size are: {', '.join(fitting)}." if fitting else ""
    raise UsageError(
        f"{path} does not say its architecture: name it with --towers (an open_clip architecture, a JSON "
        f"configuration, or local-dir:FOLDER).{some}"
    )


def _fitting(state: State) -> list[str]:
    """open_clip architectures of plain ViT and text transformer whose sizes are those of the file."""
    try:
        patches, texts = state["visual.conv1.weight"], state["text.token_embedding.weight"]
        embed = state["text.text_projection"].shape[1]
    except (KeyError, IndexError):
        return []
    layers = {key.split(".")[3] for key in state if key.startswith("visual.transformer.resblocks.")}
    wanted = (embed, patches.shape[0], patches.shape[2], len(layers), texts.shape[1], texts.shape[0])
    return [name for name in open_clip.list_models() if _sizes(name) == wanted]


def _sizes(name: str) -> tuple[Any, ...]:
    config: dict[str, Any] = open_clip.get_model_config(name) or {}
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    if "timm_model_name" in vision or "hf_model_name" in text:
        return ()
    return (
        config.get("embed_dim"),
        vision.get("width", 768),
        vision.get("patch_size", 16),
        vision.get("layers", 12),
        text.get("width", 512),
        text.get("vocab_size", 49408),
    )


def import_run(
    path: Path, base: Path, taxonomy: Taxonomy, overrides: Mapping[str, Any], *, exact: bool = False
) -> ImportedRun:
    """Make a run of released weights.

    Parameters
    ----------
    path : Path
        A checkpoint file, or a folder with one.
    base : Path
        Folder of all runs; with ``exact`` the run folder itself.
    taxonomy : Taxonomy
        Whose labels the run knows.
    overrides : mapping
        Nested settings that the caller names (towers, preset ...).

    Raises
    ------
    UsageError, ContentError
        No such file, no known layout, another architecture, or the folder is not empty; nothing is written.
    """
    file = find_weights(path)
    settings = settings_for(path, read_state(path), overrides)
    model = UltrasoundCLIP(settings.model, taxonomy)
    report = import_weights(model, path)
    digest = file_sha256(file)
    facts = {
        "dataset": None, "dataset_id": None, "tool": None, "annotation_set": None,
        "split": settings.data.split, "frames": {}, "subjects": {}, "selection": "weights from elsewhere",
        "imported": {"file": file.name, "sha256": digest}, "hash": digest,
    }  # fmt: skip
    run = create_run(base, settings, taxonomy, facts, exact=exact)
    write_json(run.folder / REPORT, json.loads(json.dumps(asdict(report))))
    identity = identity_of(model, settings=settings_hash(settings), data=digest)
    CheckpointStore(run.checkpoints).save(Checkpoint(0, model.state_dict()), model, identity)
    return ImportedRun(run, report)
