"""Image and text towers from open_clip: built from names, files and local folders, never from a download."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn

from usds.model.precision import full_precision
from usds.model.settings import TowerSettings
from usds.schemas.errors import ContentError, UsageError

__all__ = ["BUNDLED", "ImageSpec", "Towers", "build_towers", "tower_config"]

BUNDLED = ("usds-tiny", "usds-biomed")
LENGTH_MULTIPLE = 8
_LOCAL = "local-dir:"
_GET_BERT = (
    "a BERT text tower is read from a local folder and never downloaded: give --text-tower DIR with "
    "config.json and vocab.txt (weights optional), for instance a copy of the files of microsoft/"
    "BiomedNLP-BiomedBERT-base-uncased-abstract from the Hugging Face hub; or choose another preset "
    "(improved, small, tiny)"
)


@dataclass(frozen=True)
class ImageSpec:
    """What an image tower takes in.

    Attributes
    ----------
    size : int
        Side of the square input in pixels.
    mean, std : tuple of float
        Channel statistics of pixel values in [0, 1].
    interpolation : str
        Resampling of the resize.
    train : bool
        Whether augmentation applies.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    train: bool = False

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) in 0..255 -> float32 tower input, on the same device."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255.0 - mean) / std


_Tokenizer = Callable[[Sequence[str]], Tensor]


class Towers(nn.Module):
    """An open_clip model with its tokenizer and its preprocessing.

    Attributes
    ----------
    clip : open_clip.CustomTextCLIP
        The towers and theta; its state loads into any open_clip model of the same configuration.
    config : dict
        open_clip configuration (``embed_dim``, ``vision_cfg``, ``text_cfg``) to build the same model.
    spec : ImageSpec
        Input of the image tower.
    """

    def __init__(self, config: Mapping[str, Any], spec: ImageSpec, tokenizer: _Tokenizer) -> None:
        super().__init__()
        self.config = dict(config)
        self.spec = spec
        parts = {key: value for key, value in config.items() if key != "custom_text"}
        self.clip = open_clip.CustomTextCLIP(**parts)
        self._tokenizer = tokenizer

    @property
    def width(self) -> int:
        """Width E of the common embedding space."""
        return int(self.config["embed_dim"])

    def encode_image(self, images: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) -> unit vectors (B, E), float32."""
        return _unit(self.clip.visual(images))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids (B, L), L up to the context length -> unit vectors (B, E), float32."""
        text = self.clip.text
        return _unit(_short_text(text, tokens) if _takes_short(text) else text(tokens))

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> int64 (B, L): L is the longest text rounded up to a multiple of 8, if the tower allows."""
        tokens = self.tokenize_full(texts)
        pad = self.pad_id
        if pad is None:
            return tokens
        # The last used place, not a count: id 0 is padding and also a word ("!") of CLIP's vocabulary.
        used = (tokens != pad).any(0).nonzero()
        longest = int(used.max()) + 1 if len(used) else 1
        length = -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
        return tokens[:, : min(length, tokens.shape[1])].contiguous()

    def tokenize_full(self, texts: Sequence[str]) -> Tensor:
        """Texts -> int64 (B, context length), padded and cut to it."""
        return self._tokenizer(list(texts))

    @property
    def pad_id(self) -> int | None:
        """Padding token, or None where the tower needs full-length texts."""
        if not isinstance(self.clip.text, TextTransformer):
            return int(getattr(self.clip.text.config, "pad_token_id", 0) or 0)
        return 0 if _takes_short(self.clip.text) else None


def _unit(vectors: Tensor) -> Tensor:
    with torch.autocast(vectors.device.type, enabled=False):
        return F.normalize(full_precision(vectors), dim=-1)


def _takes_short(text: nn.Module) -> bool:
    """Causal towers pooled at the end-of-text token give the same vector without the padding behind it."""
    return (
        isinstance(text, TextTransformer)
        and text.attn_mask is not None
        and text.cls_emb is None
        and text.pool_type in ("argmax", "eos")
        and not text.output_tokens
    )


def _short_text(text: Any, tokens: Tensor) -> Tensor:
    """Forward of open_clip's text tower for fewer tokens than its context: its own uses the full mask."""
    length = tokens.shape[1]
    states = text.token_embedding(tokens) + text.positional_embedding[:length]
    states = text.transformer(states, attn_mask=text.attn_mask[:length, :length])
    pooled = text_global_pool(text.ln_final(states), tokens, text.pool_type, eos_token_id=text.eos_id)
    projection = text.text_projection
    if projection is None:
        return pooled
    return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection


def tower_config(settings: TowerSettings) -> dict[str, Any]:
    """Return the open_clip configuration that the settings name, with ``preprocess`` where a folder has it.

    Raises
    ------
    UsageError
        Unknown name, missing file or folder, or a name that would need a download.
    """
    name = settings.name
    if name in BUNDLED:
        text = resources.files("usds.model").joinpath(f"{name}.json").read_text(encoding="utf-8")
        return cast(dict[str, Any], json.loads(text))
    if name.startswith(_LOCAL):
        return _read_config(Path(name.removeprefix(_LOCAL)) / "open_clip_config.json")
    if name.endswith(".json"):
        return _read_config(Path(name))
    config = open_clip.get_model_config(name.replace("/", "-")) if ":" not in name else None
    if config is None:
        raise UsageError(
            f"model.towers.name {name!r} is no open_clip architecture{_nearest(name)}, no .json file and no "
            f"'{_LOCAL}FOLDER'; nothing is downloaded. Bundled shapes: {', '.join(BUNDLED)}"
        )
    return cast(dict[str, Any], config)


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, [*open_clip.list_models(), *BUNDLED], n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(
            f"model.towers.name: {path} does not exist; an open_clip configuration is expected there"
        )
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        config = dict(stored.get("model_cfg", stored))
        missing = {"embed_dim", "vision_cfg", "text_cfg"} - config.keys()
    except (ValueError, AttributeError, TypeError) as error:
        raise ContentError(f"{path} is not an open_clip configuration: {error}") from None
    if missing:
        raise ContentError(f"{path} is not an open_clip configuration: {', '.join(sorted(missing))} missing")
    if "preprocess_cfg" in stored:
        config["preprocess"] = stored["preprocess_cfg"]
    return config


def build_towers(settings: TowerSettings) -> Towers:
    """Build the towers of the settings with fresh weights, or with those in the text tower's folder.

    Raises
    ------
    UsageError
        The name is unknown, or a BERT text tower lacks its folder or the extra ``[hf]``.
    """
    config = tower_config(settings)
    preprocess: dict[str, Any] = config.pop("preprocess", {})
    unsupported = {"multimodal_cfg"} & config.keys()
    if unsupported:
        raise UsageError(f"model.towers.name {settings.name!r}: captioning models (CoCa) are not supported")
    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    if settings.image_size is not None:
        vision["image_size"] = settings.image_size
    if settings.context_length is not None:
        text["context_length"] = settings.context_length
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text or settings.text_tower is not None:
        text = _bert(text, settings)
    config |= {"vision_cfg": vision, "text_cfg": text, "custom_text": True}
    return Towers(config, _image_spec(vision, preprocess), _tokenizer(text))


def _image_spec(vision: Mapping[str, Any], preprocess: Mapping[str, Any]) -> ImageSpec:
    size = vision.get("image_size", 224)
    side = int(size if isinstance(size, int) else size[0])
    spec = ImageSpec(side, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    known = {key: preprocess[key] for key in ("mean", "std") if key in preprocess}
    values = {key: cast(Any, tuple(float(v) for v in value)) for key, value in known.items()}
    return replace(spec, **values, interpolation=str(preprocess.get("interpolation", "bicubic")))


def _bert(text: Mapping[str, Any], settings: TowerSettings) -> dict[str, Any]:
    """Point a text configuration at the local BERT folder."""
    folder = settings.text_tower
    if folder is None and settings.name.startswith(_LOCAL):
        folder = _bundled_bert(Path(settings.name.removeprefix(_LOCAL)))
    if importlib.util.find_spec("transformers") is None:
        raise UsageError("a BERT text tower needs the extra [hf]: pip install 'usds[hf]'")
    if folder is None:
        raise UsageError(_GET_BERT)
    for name in ("config.json", "vocab.txt"):
        if not (folder / name).is_file():
            raise UsageError(f"--text-tower {folder}: {name} is missing; {_GET_BERT}")
    weights = ("model.safetensors", "pytorch_model.bin")
    defaults = {"hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"}
    return defaults | {
        **{key: value for key, value in text.items() if key.startswith("hf_") or key == "context_length"},
        "hf_model_name": str(folder),
        "hf_tokenizer_name": str(folder),
        "hf_model_pretrained": any((folder / name).is_file() for name in weights),
    }


def _bundled_bert(folder: Path) -> Path | None:
    """BERT files inside an exported folder (``text_tower/``), or beside its weights."""
    for place in (folder / "text_tower", folder):
        if (place / "config.json").is_file() and (place / "vocab.txt").is_file():
            return place
    return None


def _tokenizer(text: Mapping[str, Any]) -> _Tokenizer:
    length = int(text.get("context_length", 77))
    folder = text.get("hf_model_name")
    if folder:
        return _BertTokenizer(Path(str(folder)), length)
    if "hf_tokenizer_name" in text:
        raise UsageError(
            f"the text tower wants the tokenizer {text['hf_tokenizer_name']!r}, which open_clip downloads; "
            "choose an architecture with open_clip's own tokenizer, or a BERT with --text-tower DIR"
        )
    simple = open_clip.SimpleTokenizer(context_length=length)
    return lambda texts: simple(list(texts))


class _BertTokenizer:
    """WordPiece tokens from a local vocabulary, padded to the context length."""

    def __init__(self, folder: Path, length: int) -> None:
        from transformers import BertTokenizerFast  # pyright: ignore[reportAttributeAccessIssue]

        self._tokenizer: Any = BertTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        self._length = length

    def __call__(self, texts: Sequence[str]) -> Tensor:
        clean = [" ".join(text.split()) for text in texts]
        encoded: Any = self._tokenizer(
            clean, return_tensors="pt", max_length=self._length, padding="max_length", truncation=True
        )
        return cast(Tensor, encoded["input_ids"])
