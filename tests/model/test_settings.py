"""Settings: presets, refusals with the nearest name, schema."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from usds.model.settings import (
    PRESETS,
    ModelSettings,
    build_settings,
    json_schema,
    merge,
    preset,
    settings_hash,
)
from usds.schemas.errors import UsageError

SCHEMA = Path(__file__).parents[2] / "schemas" / "train-settings.schema.json"


def test_presets_are_the_four_and_load() -> None:
    assert PRESETS == ("paper", "improved", "small", "tiny")
    kinds = {name: preset(name).model for name in PRESETS}
    assert {name: model.graph.kind for name, model in kinds.items()} == {
        "paper": "bipartite",
        "improved": "tags",
        "small": "tags",
        "tiny": "tags",
    }
    assert kinds["paper"].loss.target == "paper"
    assert kinds["improved"].loss.kind == "multi_positive"


def test_overrides_lie_on_top_of_the_preset() -> None:
    settings = build_settings({"preset": "tiny", "model": {"loss": {"mix": 0.1}}, "run": {"seed": 3}})
    assert settings.model.loss.mix == 0.1
    assert settings.model.towers.name == "usds-tiny"
    assert settings.run.seed == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"preset": "tinny"}, "unknown preset 'tinny', did you mean 'tiny'"),
        ({"modle": {}}, "unknown key 'modle', did you mean 'model'"),
        ({"model": {"loss": {"temprature": 1}}}, "'model.loss.temprature', did you mean 'temperature'"),
        ({"optimizer": {"learning_rate": -1}}, r"optimizer.learning_rate: .*greater than 0 \(got -1\)"),
        ({"model": {"graph": {"kind": "bipartite"}}}, "graph.kind 'bipartite' needs fusion.kind 'gated'"),
        ({"model": {"similarity": {"mode": "file"}}}, "mode 'file' and a path go together"),
    ],
)
def test_wrong_settings_are_named(overrides: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_settings(overrides)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        preset("tiny").preset = "paper"  # type: ignore[misc]


def test_hash_follows_the_content() -> None:
    assert settings_hash(preset("tiny")) == settings_hash(build_settings({"preset": "tiny"}))
    assert settings_hash(preset("tiny").model) != settings_hash(preset("small").model)
    assert (
        ModelSettings.model_validate(preset("paper").model.model_dump(mode="json")) == preset("paper").model
    )


def test_merge_goes_into_mappings_and_replaces_the_rest() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2]}) == {
        "a": {"b": 3, "c": 2},
        "d": [2],
    }


def test_stored_schema_is_current() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == json_schema(), (
        "run: python -m usds.model.settings > schemas/train-settings.schema.json"
    )
