"""Weights from other programs: open_clip files and folders, the released layout, single towers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from usds.model.network import UltrasoundCLIP
from usds.model.settings import ModelSettings, build_settings
from usds.model.weights import import_weights, read_state
from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.udt import Taxonomy


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture
def plain_clip(tower_file: Path) -> Any:
    """An open_clip model in the old layout, where the text tower has no prefix."""
    config = json.loads(tower_file.read_text(encoding="utf-8"))
    torch.manual_seed(5)
    return open_clip.CLIP(**config)


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "module"])
def test_old_open_clip_checkpoint_gives_equal_embeddings(
    wrap: str, network: UltrasoundCLIP, plain_clip: Any, tmp_path: Path
) -> None:
    state = plain_clip.state_dict()
    if wrap == "module":
        state = {f"module.{name}": value for name, value in state.items()}
    torch.save({"state_dict": state, "epoch": 3} if wrap != "plain" else state, tmp_path / "clip.pt")
    report = import_weights(network, tmp_path / "clip.pt")
    images, tokens = torch.randn(2, 3, 16, 16), network.towers.tokenize_full(["cyst", "mass"])
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            network.encode_image(images), plain_clip.encode_image(images, normalize=True)
        )
        torch.testing.assert_close(
            network.encode_text(tokens), plain_clip.encode_text(tokens, normalize=True)
        )
    assert "graph.label_embedding" in report.missing
    assert "towers.clip.logit_scale" in report.loaded


def test_safetensors_of_the_own_network_load_as_towers(
    network: UltrasoundCLIP, tmp_path: Path, settings_of: Callable[..., ModelSettings], taxonomy: Taxonomy
) -> None:
    save_file(
        {k: v.contiguous() for k, v in network.state_dict().items()}, str(tmp_path / "model.safetensors")
    )
    torch.manual_seed(9)
    other = UltrasoundCLIP(settings_of("paper"), taxonomy)
    import_weights(other, tmp_path / "model.safetensors")
    assert equal(other.towers.clip.state_dict(), network.towers.clip.state_dict())


@pytest.fixture
def released(published: dict[str, Any], tower_file: Path, tmp_path: Path) -> Path:
    """A checkpoint in the released layout: towers, graph encoder and fusion of the recorded forward."""
    torch.manual_seed(6)
    config = json.loads(tower_file.read_text(encoding="utf-8"))
    state = {f"base_clip.{k}": v for k, v in open_clip.CustomTextCLIP(**config).state_dict().items()}
    for name, value in published.items():
        if isinstance(value, Tensor):
            part, _, rest = name.partition(".")
            lead = {"graph": "graph_encoder.", "fusion": "text_graph_fusion."}.get(part)
            if lead and rest:
                state[lead + rest] = value
    path = tmp_path / "ultrasound_clip.pt"
    torch.save({"model_state_dict": state}, path)
    return path


def test_released_checkpoint_loads_into_paper_and_lists_what_it_drops(
    released: Path, settings_of: Callable[..., ModelSettings], taxonomy: Taxonomy, labels: Any, published: Any
) -> None:
    model = UltrasoundCLIP(settings_of("paper"), taxonomy).eval()
    report = import_weights(model, released)
    assert report.missing == []
    dropped = " ".join(report.dropped)
    for name in ("type_embeddings.emb_diagnosis", "in_proj_weight[query, key]", "text_proj.weight"):
        assert name in dropped
    with torch.no_grad():
        assert model.graph is not None
        torch.testing.assert_close(model.graph(labels), published["graph_output"], atol=1e-6, rtol=0)


def test_released_checkpoint_gives_its_towers_to_other_presets(
    released: Path, network: UltrasoundCLIP
) -> None:
    report = import_weights(network, released)
    assert "graph.kind 'tags'" in report.dropped["graph_encoder.proj.weight"]
    assert equal(
        network.towers.clip.state_dict(),
        {
            k.removeprefix("base_clip."): v
            for k, v in read_state(released).items()
            if k.startswith("base_clip.")
        },
    )


def test_released_checkpoint_of_another_width_is_refused(
    released: Path, taxonomy: Taxonomy, tower_file: Path
) -> None:
    model = {"towers": {"name": str(tower_file)}, "graph": {"width": 24}}
    network = UltrasoundCLIP(build_settings({"preset": "paper", "model": model}).model, taxonomy)
    with pytest.raises(ContentError, match=r"set model.graph.width and model.graph.layers"):
        import_weights(network, released)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("graph_encoder.proj.bias", None, r"graph_encoder.proj.bias is missing"),
        ("text_graph_fusion.graph_proj.weight", None, r"text_graph_fusion.graph_proj.weight is missing"),
        ("graph_encoder.diag_emb.weight", lambda value: value[1:], r"diag_emb.weight is \(5, \d+\), .*\(6, "),
        ("graph_encoder.desc_emb.weight", lambda value: value[0], r"desc_emb.weight is \(\d+,\), .*\(89, "),
        ("base_clip.visual.positional_embedding", lambda value: value[0], r"visual.positional_embedding is"),
        ("base_clip.logit_scale", lambda value: value.expand(3), r"logit_scale is \(3,\)"),
    ],
)
def test_an_entry_that_is_missing_or_of_another_shape_is_named(
    released: Path,
    settings_of: Callable[..., ModelSettings],
    taxonomy: Taxonomy,
    name: str,
    change: Callable[[Tensor], Tensor] | None,
    message: str,
) -> None:
    state = read_state(released)
    value = state.pop(name)
    if change is not None:
        state[name] = change(value).clone()
    torch.save(state, released)
    with pytest.raises(ContentError, match=message):
        import_weights(UltrasoundCLIP(settings_of("paper"), taxonomy), released)


def test_settings_load_towers_at_construction(
    plain_clip: Any, tmp_path: Path, taxonomy: Taxonomy, tower_file: Path
) -> None:
    torch.save(plain_clip.state_dict(), tmp_path / "clip.pt")
    trunk = {k.removeprefix("visual."): v + 1 for k, v in plain_clip.state_dict().items() if "visual." in k}
    torch.save(trunk, tmp_path / "visual.pt")
    towers = {"name": str(tower_file), "pretrained": str(tmp_path / "clip.pt")}
    towers["pretrained_image"] = str(tmp_path / "visual.pt")
    model = {"towers": towers, "graph": {"width": 16, "heads": 2}, "fusion": {"heads": 2}}
    network = UltrasoundCLIP(build_settings({"preset": "improved", "model": model}).model, taxonomy)
    assert torch.equal(network.towers.clip.visual.proj, trunk["proj"])  # type: ignore[arg-type]
    assert torch.equal(network.towers.clip.text.positional_embedding, plain_clip.positional_embedding)


def test_position_embeddings_are_interpolated_to_the_input_size(
    plain_clip: Any, tmp_path: Path, taxonomy: Taxonomy, tower_file: Path
) -> None:
    torch.save(plain_clip.state_dict(), tmp_path / "clip.pt")
    towers = {"name": str(tower_file), "pretrained": str(tmp_path / "clip.pt"), "image_size": 32}
    model = {"towers": towers, "graph": {"width": 16, "heads": 2}, "fusion": {"heads": 2}}
    network = UltrasoundCLIP(build_settings({"preset": "improved", "model": model}).model, taxonomy)
    assert network.image_transform(train=False).size == 32
    assert network.encode_image(torch.zeros(1, 3, 32, 32)).shape == (1, 32)


def test_weights_of_another_architecture_are_refused(network: UltrasoundCLIP, tmp_path: Path) -> None:
    state = {k: v for k, v in network.towers.clip.state_dict().items() if "ln_post" not in k}
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(ContentError, match=r"another architecture.*2 missing \(visual.ln_post"):
        import_weights(network, tmp_path / "less.pt")
    state = network.towers.clip.state_dict() | {"visual.proj": torch.zeros(3, 3)}
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ContentError, match=r"visual.proj is \(3, 3\), the model has \(32, 32\)"):
        import_weights(network, tmp_path / "other.pt")


class Harmful:
    """An object that a pickle would build by running code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must not run",)


def test_files_that_are_no_weights_are_refused(
    network: UltrasoundCLIP, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noise.pt").write_bytes(b"not a checkpoint")
    torch.save({"x": Harmful()}, tmp_path / "harmful.pt")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "unknown.pt")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "text.pt").write_bytes(b"hello")
    for name, message in (
        ("noise", "cannot be read"),
        ("harmful", "cannot be read.*nothing in it was run"),
        ("list", "holds no weights"),
        ("empty", r"cannot be read as weights \(EOFError\)"),
        ("text", "cannot be read"),
        ("unknown", "no layout"),
    ):
        with pytest.raises(ContentError, match=message):
            import_weights(network, tmp_path / f"{name}.pt")
    assert "must not run" not in capsys.readouterr().out
    with pytest.raises(UsageError, match="no such file or folder"):
        import_weights(network, tmp_path / "absent.pt")
    with pytest.raises(UsageError, match=r"holds none of open_clip_model.safetensors"):
        import_weights(network, tmp_path)
