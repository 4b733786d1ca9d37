"""Weights from elsewhere: open_clip checkpoints, BiomedCLIP-style folders, released Ultrasound-CLIP weights.

A checkpoint is read with ``weights_only``, brought to the names of the network here, and loaded; what did not
fit is listed by name, never skipped in silence.
"""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, cast

import torch
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed
from safetensors.torch import load_file
from torch import Tensor, nn

from usds.model.fusion import GatedFusion
from usds.model.graph_encoder import BipartiteEncoder
from usds.model.network import UltrasoundCLIP
from usds.model.settings import TowerSettings
from usds.model.towers import Towers
from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.udt import Taxonomy

__all__ = ["ImportReport", "clip_state", "find_weights", "import_weights", "load_tower_weights", "read_state"]

State = dict[str, Tensor]

_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pt",
    "ema.safetensors",
    "model.safetensors",
    "pytorch_model.bin",
)
_RELEASED = "base_clip."
_OWN = "towers.clip."
_LABEL_PATH = ("graph_encoder.", "text_graph_fusion.")
# Buffers that older libraries stored and newer ones compute.
_COMPUTED = ("position_ids", "attn_mask", "input_resolution", "context_length", "vocab_size")


@dataclass
class ImportReport:
    """What an import did.

    Attributes
    ----------
    loaded : list of str
        Parameters of the network that took a value.
    dropped : dict
        Entry of the file -> why it was not used.
    missing : list of str
        Parameters of the network that kept their fresh value.
    """

    loaded: list[str] = field(default_factory=list[str])
    dropped: dict[str, str] = field(default_factory=dict[str, str])
    missing: list[str] = field(default_factory=list[str])


def read_state(path: Path) -> State:
    """Read the tensors of a checkpoint file, or of the checkpoint in an open_clip folder.

    Raises
    ------
    UsageError
        The path does not exist, or the folder holds no weights.
    ContentError
        The file holds no plain tensors (it is damaged, or needs to run code to load).
    """
    path = find_weights(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        with warnings.catch_warnings(action="ignore"):
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # Without torch's own words, which advise to run what the file holds.
        raise ContentError(
            f"{path} cannot be read as weights: it holds more than tensors, or is damaged; nothing in it was "
            "run. Save the model's state_dict alone, or download the file again"
        ) from None
    except Exception as error:  # noqa: BLE001 - at a damaged file the readers raise whatever they stumble over
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ContentError(
            f"{path} cannot be read as weights ({reason}): it is damaged, or no file of torch or safetensors"
        ) from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    entries = cast(Mapping[str, Any], loaded) if isinstance(loaded, Mapping) else {}
    state = {str(k): v for k, v in entries.items() if isinstance(v, Tensor)}
    if not state:
        raise ContentError(f"{path} holds no weights")
    return {key.removeprefix("module."): value for key, value in state.items()}


def find_weights(path: Path) -> Path:
    """Return ``path``, or the weights file inside it when it is a folder: open_clip's, or a run's best.

    Raises
    ------
    UsageError
        There is no such path, or no weights in the folder.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(f"weights {path}: there is no such file or folder")
    if (path / "checkpoints").is_dir():
        from usds.model.checkpoint import find_checkpoint

        path = find_checkpoint(path)
    found = next((path / name for name in _FILES if (path / name).is_file()), None)
    if found is None:
        raise UsageError(f"weights {path}: the folder holds none of {', '.join(_FILES)}")
    return found


def clip_state(state: State) -> State:
    """Entries of the towers, under the names of open_clip's CustomTextCLIP; empty for no known layout."""
    for prefix in (_RELEASED, _OWN):
        inner = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if inner:
            return clip_state(inner)
    if "positional_embedding" in state:
        state = cast(State, convert_to_custom_text_state_dict(dict(state)))
    known = ("visual.", "text.", "logit_")
    return {k: v for k, v in state.items() if k.startswith(known) and not k.endswith(_COMPUTED)}


def load_tower_weights(towers: Towers, settings: TowerSettings) -> None:
    """Load the weights that the settings name into fresh towers.

    Raises
    ------
    UsageError, ContentError
        A path is missing, or the weights do not fit the architecture; the message names the difference.
    """
    if settings.name.startswith("local-dir:"):
        _load_clip(towers, Path(settings.name.removeprefix("local-dir:")))
    if settings.pretrained is not None:
        _load_clip(towers, settings.pretrained)
    for path, tower, prefix in (
        (settings.pretrained_image, towers.clip.visual, "visual."),
        (settings.pretrained_text, towers.clip.text, "text."),
    ):
        if path is not None:
            _load_one_tower(tower, prefix, path)


def _load_clip(towers: Towers, path: Path) -> None:
    state = clip_state(read_state(path))
    if not state:
        raise ContentError(f"weights {path}: no layout that is known here (open_clip, base_clip.*, usds)")
    _fit(towers, state)
    _load_strictly(towers.clip, state, path)


def _fit(towers: Towers, state: State) -> None:
    """Interpolate position embeddings to the input size, and bring theta to the model's shape."""
    clip = towers.clip
    if "logit_scale" in state and state["logit_scale"].numel() == 1:
        state["logit_scale"] = state["logit_scale"].reshape(clip.logit_scale.shape).float()
    wanted = clip.state_dict()
    for tower, resize in (("visual", resize_pos_embed), ("text", resize_text_pos_embed)):
        name = f"{tower}.positional_embedding"
        # Another width is another architecture: the strict load names the difference.
        if name in state and name in wanted and _is_resizable(state[name], wanted[name]):
            resize(state, clip)
    state.pop("logit_bias", None)


def _is_resizable(value: Tensor, wanted: Tensor) -> bool:
    return value.ndim == wanted.ndim == 2 and len(value) > 1 and value.shape[1] == wanted.shape[1]


def _load_one_tower(tower: nn.Module, prefix: str, path: Path) -> None:
    """Weights of one tower: from a checkpoint of both, or bare (a timm trunk, a BERT)."""
    state = read_state(path)
    whole = {k.removeprefix(prefix): v for k, v in clip_state(state).items() if k.startswith(prefix)}
    names = set(tower.state_dict())
    candidates = [
        whole,
        state,
        *({f"{lead}{k}": v for k, v in state.items()} for lead in ("trunk.", "transformer.")),
    ]
    candidates += [{f"transformer.{k.removeprefix('bert.')}": v for k, v in state.items()}]
    best = max(candidates, key=lambda c: len(names & c.keys()))
    used = {k: v for k, v in best.items() if k in names}
    # A trunk comes without this project's projection head; everything else must be there.
    missing = sorted(
        name for name in names - used.keys() if not name.startswith(("head.", "proj", "ln_", "text_proj"))
    )
    if not used or missing:
        raise ContentError(
            f"weights {path} do not fit the {prefix.rstrip('.')} tower: {len(missing)} of {len(names)} "
            f"entries are missing ({', '.join(missing[:3])}); model.towers.name must name their architecture"
        )
    _load_strictly(tower, {**tower.state_dict(), **used}, path)


def _load_strictly(module: nn.Module, state: State, path: Path) -> None:
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    extra = sorted(state.keys() - wanted.keys())
    shapes = [k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape]
    if missing or extra or shapes:
        parts = [f"{len(missing)} missing ({missing[0]}, ...)"] if missing else []
        parts += [f"{len(extra)} unknown ({extra[0]}, ...)"] if extra else []
        parts += [
            f"{k} is {tuple(state[k].shape)}, the model has {tuple(wanted[k].shape)}"
            for k in sorted(shapes)[:2]
        ]
        raise ContentError(
            f"weights {path} are of another architecture than model.towers.name: {'; '.join(parts)}"
        )
    module.load_state_dict(state)


def import_weights(model: UltrasoundCLIP, path: Path) -> ImportReport:
    """Load a checkpoint of another program into the network.

    Knows open_clip checkpoints and folders (towers only), and the released Ultrasound-CLIP layout
    (``base_clip.*``, ``graph_encoder.*``, ``text_graph_fusion.*``), whose label path loads into the ``paper``
    preset: the parameters that never had an effect there are dropped and listed.

    Raises
    ------
    UsageError, ContentError
        No such file, no known layout, or towers of another architecture.
    """
    state = read_state(path)
    clip = clip_state(state)
    if not clip:
        raise ContentError(f"weights {path}: no layout that is known here (open_clip, base_clip.*, usds)")
    _fit(model.towers, clip)
    _load_strictly(model.towers.clip, clip, path)
    report = ImportReport(loaded=[f"{_OWN}{key}" for key in clip])
    report.dropped |= {key: "no part of the network here" for key in state if _is_strange(key, clip)}
    rest = {k: v for k, v in state.items() if k.startswith(_LABEL_PATH)}
    if isinstance(model.graph, BipartiteEncoder) and isinstance(model.fusion, GatedFusion) and rest:
        _import_graph(model.graph, model.taxonomy, rest, report)
        _import_fusion(model.fusion, rest, report)
    else:
        kind = model.settings.graph.kind
        report.dropped |= dict.fromkeys(
            rest, f"the network has graph.kind '{kind}', the checkpoint 'bipartite'"
        )
        model.initialise_labels()
    names = [name for name, _ in model.named_parameters()]
    report.missing = [name for name in names if name not in set(report.loaded)]
    return report


def _is_strange(key: str, clip: State) -> bool:
    """Whether an entry belongs neither to the towers nor to the label path, and is not computed anyway."""
    name = key.removeprefix(_RELEASED).removeprefix(_OWN)
    known = name in clip or f"text.{name}" in clip or name.endswith(_COMPUTED) or name == "logit_bias"
    return not known and not key.startswith(_LABEL_PATH)


def _entry(state: State, name: str) -> Tensor:
    if name not in state:
        raise ContentError(f"released checkpoint: {name} is missing: download it again")
    return state[name]


def _put(target: Tensor, value: Tensor, name: str, report: ImportReport) -> None:
    if target.shape != value.shape:
        raise ContentError(
            f"released checkpoint: {name} is {tuple(value.shape)}, the network has {tuple(target.shape)}; "
            "set model.graph.width and model.graph.layers to the checkpoint's"
        )
    with torch.no_grad():
        target.copy_(value)
    report.loaded.append(name)


def _import_graph(graph: BipartiteEncoder, taxonomy: Taxonomy, state: State, report: ImportReport) -> None:
    lead = "graph_encoder."
    for name in ("node_norm.weight", "node_norm.bias", "proj.weight", "proj.bias"):
        _put(graph.get_parameter(name), _entry(state, lead + name), f"graph.{name}", report)
    for index in range(len(graph.layers)):
        for edge in ("described_by", "rev_described_by"):
            source, name = f"{lead}convs.{index}.mods.{edge}.", f"layers.{index}.{edge}."
            if source + "weight" not in state:
                continue
            # DGL's convolution stores (in, out), a linear layer (out, in).
            weight, bias = state[source + "weight"].T, _entry(state, source + "bias")
            _put(graph.get_parameter(name + "weight"), weight, f"graph.{name}weight", report)
            _put(graph.get_parameter(name + "bias"), bias, f"graph.{name}bias", report)
    _import_embeddings(graph, taxonomy, state, report)
    for key in state:
        if key.startswith(lead + "type_embeddings."):
            report.dropped[key] = "never enters the published output"


def _import_embeddings(
    graph: BipartiteEncoder, taxonomy: Taxonomy, state: State, report: ImportReport
) -> None:
    """Copy label rows by name: the taxonomy may order its labels differently, or have more of them."""
    published: dict[str, Any] = json.loads(
        resources.files("usds.model").joinpath("published.json").read_text(encoding="utf-8")
    )
    keys = list(taxonomy.label_index)
    places = {tuple(key): i for i, key in enumerate(published["descriptors"])}
    places |= {("diagnosis", label): i for i, label in enumerate(published["diagnosis"])}
    for table, side in (("diag_emb", "diagnosis"), ("desc_emb", "attribute")):
        name = f"graph_encoder.{table}.weight"
        values, stored = graph.get_parameter(f"{table}.weight").detach().clone(), _entry(state, name)
        # One row a published label and a last one for none; with other rows, labels would be mixed up.
        rows = len(published["diagnosis" if side == "diagnosis" else "descriptors"]) + 1
        if stored.shape != (rows, values.shape[1]):
            _put(values.new_empty(rows, values.shape[1]), stored, name, report)
        for row, column in enumerate(graph.get_buffer(side).tolist()):
            if keys[column] in places:
                values[row] = stored[places[keys[column]]]
            else:
                report.dropped[f"{name}[{'::'.join(keys[column])}]"] = (
                    "label unknown to the checkpoint, fresh row"
                )
        values[-1] = stored[-1]
        _put(graph.get_parameter(f"{table}.weight"), values, f"graph.{table}.weight", report)


def _import_fusion(fusion: GatedFusion, state: State, report: ImportReport) -> None:
    lead = "text_graph_fusion."
    width = fusion.value.weight.shape[0]
    pairs = {name: _entry(state, lead + name) for name in ("alpha", "norm.weight", "norm.bias")}
    for part in ("weight", "bias"):
        pairs[f"graph_proj.{part}"] = _entry(state, f"{lead}graph_proj.{part}")
        pairs[f"output_proj.{part}"] = _entry(state, f"{lead}output_proj.{part}")
        pairs[f"out.{part}"] = _entry(state, f"{lead}attention.out_proj.{part}")
        # Rows of the packed projection: query, key, value.
        pairs[f"value.{part}"] = _entry(state, f"{lead}attention.in_proj_{part}")[2 * width :]
        report.dropped[f"{lead}attention.in_proj_{part}[query, key]"] = "no effect: attention over one key"
        report.dropped[f"{lead}text_proj.{part}"] = "no effect: only the query of attention over one key"
    for name, value in pairs.items():
        _put(fusion.get_parameter(name), value, f"fusion.{name}", report)
