"""Towers for other programs: open_clip folders and ONNX files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch

from usds.model.export import export_onnx, export_open_clip
from usds.model.network import UltrasoundCLIP
from usds.model.settings import ModelSettings, build_settings
from usds.schemas.errors import UsageError
from usds.taxonomy.udt import Taxonomy


def test_open_clip_loads_the_folder_with_equal_embeddings(network: UltrasoundCLIP, tmp_path: Path) -> None:
    folder = export_open_clip(network, tmp_path / "out")
    loaded = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["cyst of the liver", "mass"])
    images = torch.randn(2, 3, 16, 16)
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode_image(images, normalize=True), network.encode_image(images))
        torch.testing.assert_close(loaded.encode_text(tokens, normalize=True), network.encode_text(tokens))
    assert torch.equal(loaded.logit_scale, network.towers.clip.logit_scale)


def test_exported_folder_serves_as_towers_again(
    network: UltrasoundCLIP, tmp_path: Path, taxonomy: Taxonomy, settings_of: Callable[..., ModelSettings]
) -> None:
    folder = export_open_clip(network, tmp_path / "out")
    model = settings_of().model_dump() | {"towers": {"name": f"local-dir:{folder}"}}
    again = UltrasoundCLIP(build_settings({"preset": "improved", "model": model}).model, taxonomy)
    for name, value in network.towers.clip.state_dict().items():
        assert torch.equal(again.towers.clip.state_dict()[name], value)
    assert again.image_transform(train=True).mean == network.image_transform(train=True).mean


def test_nothing_is_overwritten(network: UltrasoundCLIP, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    for export in (export_open_clip, export_onnx):
        with pytest.raises(UsageError, match="nothing is overwritten"):
            export(network, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["note.txt"]


@pytest.mark.slow
def test_onnx_towers_agree_with_the_network(network: UltrasoundCLIP, tmp_path: Path) -> None:
    differences = export_onnx(network, tmp_path / "onnx")
    assert set(differences) == {"image", "text"}
    assert max(differences.values()) <= 1e-4
    names = sorted(path.name for path in (tmp_path / "onnx").iterdir())
    assert names == ["image.onnx", "preprocess.json", "text.onnx"]
    assert network.training


def test_onnx_check_sees_a_wrong_export(network: UltrasoundCLIP, tmp_path: Path) -> None:
    import onnxruntime

    from usds.model.export import _cosine_difference

    export_onnx(network, tmp_path / "onnx")
    tokens = network.towers.tokenize_full(["cyst"])
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "text.onnx"))
    (right,) = session.run(None, {"tokens": tokens.numpy()})
    path = tmp_path / "onnx" / "text.onnx"
    assert _cosine_difference(path, "tokens", tokens, right) < 1e-6
    assert _cosine_difference(path, "tokens", tokens, right[:, ::-1].copy()) > 1e-3
