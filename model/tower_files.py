"""Towers as files: what builds the same architecture again, wherever the folder is moved to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

from usds.model.settings import TowerSettings
from usds.model.towers import Towers
from usds.schemas.files import write_json

__all__ = ["copy_bert", "open_clip_config", "stored_towers", "write_tower_files"]

CONFIG: Final = "towers.json"
TEXT_TOWER: Final = "text_tower"
_BERT_FILES: Final = (
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)


def open_clip_config(towers: Towers) -> dict[str, Any]:
    """Content of an ``open_clip_config.json``: architecture and preprocessing."""
    spec = towers.spec
    preprocess = {"mean": spec.mean, "std": spec.std, "interpolation": spec.interpolation}
    config = json.loads(json.dumps(towers.config, default=str))
    return {"model_cfg": config, "preprocess_cfg": preprocess}


def copy_bert(towers: Towers, folder: Path) -> Path | None:
    """Copy a BERT's configuration and vocabulary (no weights) to ``folder``/text_tower; None without one."""
    source = towers.config["text_cfg"].get("hf_model_name")
    if not source:
        return None
    target = folder / TEXT_TOWER
    target.mkdir()
    for name in _BERT_FILES:
        if (Path(source) / name).is_file():
            shutil.copyfile(Path(source) / name, target / name)
    return target


def write_tower_files(towers: Towers, folder: Path) -> None:
    """Write ``towers.json``, and a BERT's files in ``text_tower/``: no path leads out of the folder."""
    stored = open_clip_config(towers)
    if copy_bert(towers, folder) is not None:
        stored["model_cfg"]["text_cfg"] |= {"hf_model_name": "", "hf_tokenizer_name": ""}
        stored["model_cfg"]["text_cfg"]["hf_model_pretrained"] = False
    write_json(folder / CONFIG, stored)


def stored_towers(settings: TowerSettings, folder: Path) -> TowerSettings:
    """The settings with the architecture that lies in ``folder``, and without weights to start from.

    Folders of earlier versions hold no tower files: theirs is then looked for where it was while training.
    """
    values: dict[str, Any] = {"pretrained": None, "pretrained_image": None, "pretrained_text": None}
    if (folder / CONFIG).is_file():
        bert = folder / TEXT_TOWER
        values |= {"name": str(folder / CONFIG), "text_tower": bert if bert.is_dir() else None}
    return settings.model_copy(update=values)
