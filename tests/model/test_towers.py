"""Towers: local BERT folders, configurations, tokens."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch

from usds.model.export import export_open_clip
from usds.model.network import UltrasoundCLIP
from usds.model.settings import TowerSettings, build_settings
from usds.model.towers import build_towers, tower_config
from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.udt import Taxonomy

BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 14,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "cyst",
    "nodule",
    "of",
    "the",
    "liver",
    "##s",
    "no",
    ".",
]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BERT), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def bert_towers(bert: Path, tmp_path: Path) -> TowerSettings:
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
        "text_cfg": {"hf_model_name": "never/downloaded", "context_length": 32},
    }
    (tmp_path / "shape.json").write_text(json.dumps(config), encoding="utf-8")
    return TowerSettings(name=str(tmp_path / "shape.json"), text_tower=bert)


def test_local_bert_tokenizes_and_encodes(bert_towers: TowerSettings) -> None:
    towers = build_towers(bert_towers).eval()
    tokens = towers.tokenize(["cysts of the liver", "a nodule"])
    assert tokens.tolist()[0][:7] == [2, 6, 11, 8, 9, 10, 3]
    assert tokens.shape == (2, 8)
    with torch.no_grad():
        padded = towers.encode_text(towers.tokenize_full(["a nodule"]))
        torch.testing.assert_close(towers.encode_text(tokens[1:]), padded, atol=1e-6, rtol=0)


def test_weights_in_the_bert_folder_are_used(bert: Path, bert_towers: TowerSettings) -> None:
    from safetensors.torch import save_file

    first = build_towers(bert_towers).clip.text.transformer.state_dict()
    marked = {k: torch.full_like(v, 0.01) if v.is_floating_point() else v for k, v in first.items()}
    save_file(marked, str(bert / "model.safetensors"), metadata={"format": "pt"})
    loaded = build_towers(bert_towers).clip.text.transformer.state_dict()
    assert all(torch.equal(loaded[name], marked[name]) for name in marked)


def test_network_with_bert_exports_to_open_clip(
    bert_towers: TowerSettings, taxonomy: Taxonomy, tmp_path: Path
) -> None:
    model = {"towers": bert_towers.model_dump(), "graph": {"width": 16, "heads": 2}, "fusion": {"heads": 2}}
    network = UltrasoundCLIP(build_settings({"preset": "improved", "model": model}).model, taxonomy).eval()
    folder = export_open_clip(network, tmp_path / "out")
    loaded = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = network.tokenize(["a cyst", "no nodule"])
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode_text(tokens, normalize=True), network.encode_text(tokens))
    again = build_towers(TowerSettings(name=f"local-dir:{folder}"))
    assert torch.equal(again.tokenize(["a cyst"]), network.tokenize(["a cyst"]))


def test_paper_preset_without_a_bert_folder_says_how_to_get_one() -> None:
    settings = build_settings({"preset": "paper"}).model.towers
    with pytest.raises(
        UsageError, match=r"never downloaded: give --text-tower DIR with config.json and vocab.txt"
    ):
        build_towers(settings)


def test_incomplete_bert_folder_names_the_file(bert: Path, bert_towers: TowerSettings) -> None:
    (bert / "vocab.txt").unlink()
    with pytest.raises(UsageError, match=r"vocab.txt is missing"):
        build_towers(bert_towers)


def test_missing_extra_is_named(bert_towers: TowerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'usds\[hf\]'"):
        build_towers(bert_towers)


def test_architectures_that_download_a_tokenizer_are_refused() -> None:
    with pytest.raises(UsageError, match="which open_clip downloads"):
        build_towers(TowerSettings(name="ViT-B-16-SigLIP"))


def test_configurations_come_from_names_files_and_folders(tower_file: Path, tmp_path: Path) -> None:
    assert tower_config(TowerSettings(name="ViT-S-16"))["embed_dim"] == 384
    assert tower_config(TowerSettings(name=str(tower_file)))["embed_dim"] == 32
    with pytest.raises(UsageError, match="does not exist"):
        tower_config(TowerSettings(name=f"local-dir:{tmp_path}"))
    (tmp_path / "open_clip_config.json").write_text('{"embed_dim": 3}')
    with pytest.raises(ContentError, match="text_cfg, vision_cfg missing"):
        tower_config(TowerSettings(name=f"local-dir:{tmp_path}"))


def test_exclamation_marks_do_not_shorten_a_text(tower_file: Path) -> None:
    """Id 0 is both padding and a word of CLIP's vocabulary."""
    towers = build_towers(TowerSettings(name=str(tower_file)))
    tokens = towers.tokenize(["a ! ! ! ! ! ! cyst ! !"])
    assert int(tokens.max()) == 49407
    assert tokens.shape[1] == 16


def test_normalise_is_the_inverse_of_the_statistics(tower_file: Path) -> None:
    spec = build_towers(TowerSettings(name=str(tower_file))).spec
    out = spec.normalise(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    expected = [(1 - m) / s for m, s in zip(spec.mean, spec.std, strict=True)]
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor(expected))
