"""Settings of the network and of its training: frozen, complete, and refused when a key is misspelt.

``preset("improved")`` gives the settings of one of the four presets (``presets.yaml``), ``build_settings``
the same with overrides from a file or the command line. ``python -m usds.model.settings`` prints the JSON
Schema.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from usds.schemas.errors import UsageError

__all__ = [
    "PRESETS",
    "AugmentSettings",
    "DataSettings",
    "FusionSettings",
    "GraphSettings",
    "LossSettings",
    "ModelSettings",
    "OptimizerSettings",
    "PresetName",
    "RunSettings",
    "ScheduleSettings",
    "SimilaritySettings",
    "TowerSettings",
    "TrainSettings",
    "build_settings",
    "json_schema",
    "merge",
    "preset",
    "settings_hash",
]

PresetName = Literal["paper", "improved", "small", "tiny"]
PRESETS: tuple[PresetName, ...] = get_args(PresetName)

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base of every settings class: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TowerSettings(Settings):
    """Image and text tower. Nothing is downloaded: weights come from local files only.

    ``name`` is an open_clip architecture name, the path of an open_clip JSON configuration,
    ``local-dir:FOLDER`` (an open_clip folder with its weights), or a bundled shape: ``usds-tiny``,
    ``usds-biomed`` (timm ViT-B/16 with a BERT text tower, which needs ``text_tower``).
    """

    name: str = "ViT-B-16"
    text_tower: Path | None = Field(
        default=None, description="folder of a BERT: config.json, vocab.txt, weights optional"
    )
    pretrained: Path | None = Field(
        default=None, description="checkpoint of both towers, any supported layout"
    )
    pretrained_image: Path | None = Field(default=None, description="weights of the image tower alone")
    pretrained_text: Path | None = Field(default=None, description="weights of the text tower alone")
    image_size: Positive | None = Field(
        default=None, description="input side in pixels; default: the architecture's"
    )
    context_length: Positive | None = Field(
        default=None, description="most tokens of a text; default: the architecture's"
    )


class GraphSettings(Settings):
    """Encoder of a record's labels.

    ``bipartite`` is the published two-layer diagnosis-attribute convolution in closed form, ``tags`` one
    token a label with typed attention, ``none`` leaves the text tower alone.
    """

    kind: Literal["none", "bipartite", "tags"] = "tags"
    width: Positive = 256
    layers: Positive = 1
    heads: Positive = 4
    dropout: Fraction = 0.0
    tag_dropout: Fraction = Field(default=0.5, description="share of records trained on their text alone")
    diagnosis_dimension: str | None = Field(
        default=None,
        description="dimension on the diagnosis side of the graph; default: those with the role 'finding'",
    )


class FusionSettings(Settings):
    """How the labels enter the text vector: ``gated`` is published, ``attention`` attends over tag tokens."""

    kind: Literal["gated", "attention"] = "attention"
    heads: Positive = 8
    gate_max: Fraction = Field(default=0.2, description="largest weight of the label residual")
    train: Literal["mixed", "both", "beside"] = Field(
        default="mixed",
        description="mixed: a record's text with its labels, or alone by tag dropout; both: each record with "
        "and without its labels; beside: the text alone trains the towers, the text with labels only the "
        "label path",
    )


class LossSettings(Settings):
    """Contrastive loss: ``clip`` (identity targets), ``paper`` (CLIP + MSE + KL) or ``multi_positive``."""

    kind: Literal["clip", "paper", "multi_positive"] = "multi_positive"
    target: Literal["paper", "masked"] = "masked"
    weight: float = Field(
        default=1.0, ge=0.0, description="lambda of the semantic term (paper); unpublished, our choice"
    )
    temperature: float = Field(default=0.07, gt=0.0, description="tau of the KL term (paper)")
    mix: Fraction = Field(
        default=0.2, description="a: share of the target given to semantic neighbours (multi_positive)"
    )
    neighbours: Positive = Field(
        default=16, description="m: most semantic neighbours of a row (multi_positive)"
    )
    threshold: Fraction = Field(default=0.5, description="least similarity of a neighbour (multi_positive)")
    perplexity: float = Field(
        default=3.0, ge=1.0, description="effective number of neighbours (multi_positive)"
    )
    dimension_weights: dict[str, float] | None = Field(
        default=None, description="weight of each dimension; default: equal"
    )
    prompt_weight: float = Field(
        default=0.0,
        ge=0.0,
        description="weight of the classification among the prompts of a dimension's labels",
    )
    prompt_sides: Literal["image", "both"] = Field(
        default="both", description="what is classified: the image alone, or the image and its caption"
    )
    logit_scale_max: float = Field(default=100.0, gt=0.0, description="upper bound of exp(theta)")
    chunk_rows: int = Field(default=0, ge=0, description="rows of the logits at a time; 0: all rows at once")


class SimilaritySettings(Settings):
    """Prior of label similarity (``usds.taxonomy.similarity``)."""

    mode: Literal["identity", "taxonomy", "cooccurrence", "file"] = "taxonomy"
    measure: Literal["jaccard", "npmi"] = "jaccard"
    path: Path | None = None

    @model_validator(mode="after")
    def _file_has_path(self) -> SimilaritySettings:
        if (self.mode == "file") != (self.path is not None):
            raise ValueError("mode 'file' and a path go together")
        return self


class ModelSettings(Settings):
    """Everything that decides the shape of the network and its objective."""

    towers: TowerSettings = TowerSettings()
    graph: GraphSettings = GraphSettings()
    fusion: FusionSettings = FusionSettings()
    loss: LossSettings = LossSettings()
    similarity: SimilaritySettings = SimilaritySettings()

    @model_validator(mode="after")
    def _graph_matches_fusion(self) -> ModelSettings:
        fitting = {"bipartite": "gated", "tags": "attention", "none": self.fusion.kind}[self.graph.kind]
        if self.fusion.kind != fitting:
            raise ValueError(f"graph.kind '{self.graph.kind}' needs fusion.kind '{fitting}'")
        return self


class AugmentSettings(Settings):
    """Augmentation of training images; every draw is a function of (seed, epoch, frame_id)."""

    crop_scale: tuple[Fraction, Fraction] = Field(default=(0.6, 1.0), description="area of the random crop")
    flip: Fraction = Field(
        default=0.0, description="share of mirrored images; captions that name a side forbid it"
    )
    brightness: Fraction = 0.2
    contrast: Fraction = 0.2
    speckle: Fraction = Field(default=0.0, description="standard deviation of multiplicative noise")


class DataSettings(Settings):
    """Which records are trained on, and how batches are made of them."""

    split: str = "default"
    labels: str | None = Field(default=None, description="label set; default: the dataset's current one")
    batch_size: Positive = Field(default=256, description="pairs a step over all ranks, one subject each")
    image_size: Positive | None = Field(
        default=None, description="cache resolution; default: the image tower's"
    )
    workers: int = Field(default=2, ge=0)
    cache: Path | None = Field(
        default=None, description="folder of the resized frames; default: the user's cache folder"
    )
    modes: tuple[str, ...] = Field(
        default=(), description="image modes to keep (b_mode, color_doppler, ...); empty: all"
    )
    valid_frames: Positive = Field(
        default=2048, description="most validation frames looked at while training"
    )


class OptimizerSettings(Settings):
    """AdamW; norms, biases and theta have no weight decay."""

    learning_rate: float = Field(default=5e-4, gt=0.0)
    betas: tuple[Fraction, Fraction] = (0.9, 0.98)
    epsilon: float = Field(default=1e-6, gt=0.0)
    weight_decay: float = Field(default=0.2, ge=0.0)
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    clip_norm: float = Field(default=1.0, ge=0.0, description="largest gradient norm; 0: no clipping")


class ScheduleSettings(Settings):
    """Linear warm-up, then cosine to ``final_fraction`` of the learning rate, counted in steps."""

    epochs: Positive = 32
    max_steps: Positive | None = None
    warmup_steps: int = Field(default=500, ge=0)
    final_fraction: Fraction = 0.0


class RunSettings(Settings):
    """Precision, resources and what a run leaves behind."""

    seed: int = Field(default=0, ge=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    accumulate: Positive = Field(
        default=1, description="gradient-cache chunks of a batch: less memory, same gradient"
    )
    grad_checkpointing: bool = False
    compile: bool = False
    ema_decay: Fraction = Field(default=0.999, description="decay of the averaged weights; 0: no average")
    log_every: Positive = 10
    checkpoint_every: int = Field(
        default=0, ge=0, description="steps between checkpoints; 0: every epoch, at most 1000"
    )
    evaluate_every: Positive = Field(default=1, description="epochs between validations")
    keep_last: Positive = 2
    max_bad_steps: Positive = Field(default=10, description="stop after this many non-finite losses in a row")


class TrainSettings(Settings):
    """Settings of one training run."""

    preset: PresetName = "improved"
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    run: RunSettings = RunSettings()


SettingsT = TypeVar("SettingsT", bound=Settings)


@lru_cache(maxsize=1)
def _preset_table() -> dict[str, dict[str, Any]]:
    text = resources.files("usds.model").joinpath("presets.yaml").read_text(encoding="utf-8")
    return cast(dict[str, dict[str, Any]], yaml.safe_load(text))


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the keys of ``over`` laid on top, mapping by mapping."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge(cast(Mapping[str, Any], below), cast(Mapping[str, Any], value))
        else:
            merged[key] = value
    return merged


def preset(name: str) -> TrainSettings:
    """Return the settings of a preset.

    Raises
    ------
    UsageError
        No preset has this name.
    """
    return build_settings({"preset": name})


def build_settings(overrides: Mapping[str, Any], *, default: PresetName = "improved") -> TrainSettings:
    """Return a preset with overrides.

    Parameters
    ----------
    overrides : Mapping
        Nested keys of :class:`TrainSettings`; its ``preset`` key picks the preset.
    default : str
        Preset taken when ``overrides`` names none.

    Raises
    ------
    UsageError
        An unknown preset or key (the message gives the nearest valid one) or a value out of range.
    """
    name = str(overrides.get("preset", default))
    if name not in PRESETS:
        raise UsageError(
            f"unknown preset {name!r}{_nearest(name, PRESETS)}; the presets are {', '.join(PRESETS)}"
        )
    values = merge(_preset_table()[name], {**overrides, "preset": name})
    return validate(TrainSettings, values)


def validate(kind: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """Check ``values`` against a settings class; errors become one readable :class:`UsageError`."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(kind, item) for item in cast(Sequence[Mapping[str, Any]], error.errors())]
        raise UsageError("settings: " + "; ".join(lines)) from None


def _explain(kind: type[Settings], item: Mapping[str, Any]) -> str:
    path = [str(part) for part in item["loc"]]
    where = ".".join(path) or "settings"
    if item["type"] == "extra_forbidden":
        valid = _keys_at(kind, path[:-1])
        return f"unknown key {where!r}{_nearest(path[-1], valid)}; valid here: {', '.join(valid)}"
    given = "" if isinstance(item["input"], Mapping) else f" (got {item['input']!r})"
    return f"{where}: {str(item['msg']).removeprefix('Value error, ')}{given}"


def _keys_at(kind: type[Settings], path: Sequence[str]) -> tuple[str, ...]:
    for part in path:
        field = kind.model_fields.get(part)
        if (
            field is None
            or not isinstance(field.annotation, type)
            or not issubclass(field.annotation, Settings)
        ):
            return ()
        kind = field.annotation
    return tuple(kind.model_fields)


def _nearest(word: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""


def settings_hash(settings: Settings) -> str:
    """Return the SHA-256 (hex) of the settings' canonical JSON."""
    text = json.dumps(settings.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def json_schema() -> str:
    """Return the JSON Schema of :class:`TrainSettings` (``schemas/train-settings.schema.json``)."""
    schema = TrainSettings.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
