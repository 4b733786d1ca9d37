"""Towers for other programs: an open_clip folder, and ONNX files of both towers."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from usds.model.network import UltrasoundCLIP
from usds.model.tower_files import copy_bert, open_clip_config
from usds.model.towers import Towers
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.files import atomic_path, make_folder, write_json
from usds.schemas.offline import silence

__all__ = ["export_onnx", "export_open_clip"]

_LARGEST_DIFFERENCE = 1e-4


def export_open_clip(model: UltrasoundCLIP, folder: Path) -> Path:
    """Write the towers so that ``open_clip.create_model("local-dir:FOLDER")`` gives equal embeddings.

    The label path stays behind: open_clip encodes text alone. A BERT's configuration and vocabulary are
    copied into ``text_tower/``; open_clip wants that folder as an absolute path, so a moved folder needs it
    edited in ``open_clip_config.json`` (``text_cfg.hf_model_name``).

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UsageError
        The folder exists and is not empty.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; nothing is overwritten: give another folder")
    make_folder(folder)
    config = open_clip_config(model.towers)
    bert = copy_bert(model.towers, folder)
    if bert is not None:
        place = str(bert.resolve())
        config["model_cfg"]["text_cfg"] |= {"hf_model_name": place, "hf_tokenizer_name": place}
    state = {k: v.detach().cpu().contiguous() for k, v in model.towers.clip.state_dict().items()}
    try:
        with atomic_path(folder / "open_clip_model.safetensors") as partial:
            save_file(state, str(partial))
    except SafetensorError as error:  # safetensors wraps a full disk
        raise ContentError(f"{folder} could not be written ({error}): make room, then export again") from None
    write_json(folder / "open_clip_config.json", config)
    return folder


class _ImageTower(nn.Module):
    def __init__(self, towers: Towers) -> None:
        super().__init__()
        self.towers = towers

    def forward(self, pixels: Tensor) -> Tensor:
        return self.towers.encode_image(pixels)


class _TextTower(nn.Module):
    def __init__(self, towers: Towers) -> None:
        super().__init__()
        self.towers = towers

    def forward(self, tokens: Tensor) -> Tensor:
        return self.towers.encode_text(tokens)


def export_onnx(model: UltrasoundCLIP, folder: Path) -> dict[str, float]:
    """Write ``image.onnx`` and ``text.onnx`` with a free batch size, and check them against the network.

    Inputs are ``pixels`` float32 (B, 3, H, W), normalised, and ``tokens`` int64 (B, context length);
    the output ``unit_vector`` is (B, E). ``preprocess.json`` holds size, mean, std and context length.

    Returns
    -------
    dict
        Largest cosine difference of each tower to the network.

    Raises
    ------
    UsageError
        The extra ``[onnx]`` is not installed, or the folder is not empty.
    ContentError
        An exported tower differs by more than 1e-4.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"ONNX export needs {' and '.join(missing)}: pip install 'usds[onnx]'")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; nothing is overwritten: give another folder")
    make_folder(folder)
    towers = model.towers
    was_training = model.training
    model.eval()
    pixels = torch.randn(3, 3, towers.spec.size, towers.spec.size)
    tokens = _example_tokens(towers)
    try:
        differences = {
            "image": _export(_ImageTower(towers), "pixels", pixels, folder / "image.onnx"),
            "text": _export(_TextTower(towers), "tokens", tokens, folder / "text.onnx"),
        }
    finally:
        model.train(was_training)
    spec = towers.spec
    facts = {"size": spec.size, "mean": spec.mean, "std": spec.std, "context_length": tokens.shape[1]}
    write_json(folder / "preprocess.json", facts)
    return differences


def _example_tokens(towers: Towers) -> Tensor:
    """Texts of different lengths at the full context length."""
    texts = ["ultrasound", "hypoechoic nodule with ill-defined margins", "simple cyst of the right kidney"]
    return towers.tokenize_full(texts)


def _export(tower: nn.Module, name: str, example: Tensor, path: Path) -> float:
    tower = tower.cpu().eval()
    batch: Any = torch.export.Dim("batch")
    with torch.no_grad(), warnings.catch_warnings():
        # The exporter warns about its own internals, which a user can do nothing about.
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            tower,
            (example,),
            dynamo=True,
            input_names=[name],
            output_names=["unit_vector"],
            dynamic_shapes=({0: batch},),
            verbose=False,
        )
        with atomic_path(path) as partial:
            program.save(str(partial), external_data=False)
        expected = tower(torch.cat([example, example])).numpy()
    difference = _cosine_difference(path, name, torch.cat([example, example]), expected)
    if not difference <= _LARGEST_DIFFERENCE:
        raise ContentError(f"{path} differs from the network by {difference:.1e} in cosine; do not use it")
    return difference


def _cosine_difference(path: Path, name: str, inputs: Tensor, expected: np.ndarray[Any, Any]) -> float:
    silence()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (got,) = session.run(["unit_vector"], {name: inputs.numpy()})
    vectors = np.asarray(got, dtype=np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return float(np.abs(1.0 - (vectors * expected).sum(axis=1)).max())
