"""Released weights as a run: imported by the command, then evaluated, searched and exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from support.tiny_dataset import TOWERS, make_dataset, specs

from usds.cli.main import app
from usds.model.checkpoint import load_model


@pytest.fixture
def usds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in the test's folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            app([str(word) for word in words])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture
def released(tmp_path: Path, published: dict[str, Any]) -> Path:
    """A checkpoint in the released layout, with entries that no network has."""
    torch.manual_seed(6)
    config = {**TOWERS, "embed_dim": int(published["graph.proj.weight"].shape[0])}
    (tmp_path / "towers.json").write_text(json.dumps(config), "utf-8")
    state = {f"base_clip.{k}": v for k, v in open_clip.CustomTextCLIP(**config).state_dict().items()}
    for name, value in published.items():
        part, _, rest = name.partition(".")
        lead = {"graph": "graph_encoder.", "fusion": "text_graph_fusion."}.get(part)
        if lead and rest:
            state[lead + rest] = value
    state["base_clip.visual.unheard_of"] = torch.zeros(1)
    state["projector.weight"] = torch.zeros(1)
    torch.save({"model": state, "epoch": 4}, tmp_path / "ultrasound_clip.pt")
    return tmp_path / "ultrasound_clip.pt"


def test_a_released_checkpoint_is_evaluated_on_my_dataset(usds: Any, released: Path, tmp_path: Path) -> None:
    state = torch.load(released, weights_only=True)
    del state["model"]["base_clip.visual.unheard_of"]
    torch.save(state, released)
    code, out, err = usds(
        "import", "weights", released, "--towers", "towers.json", "--out", "runs/released", "--json"
    )
    assert code == 0, err
    report = json.loads(out)
    assert report["missing"] == []
    assert report["dropped"]["projector.weight"] == "no part of the network here"
    assert "no effect" in " ".join(report["dropped"].values())
    assert json.loads((tmp_path / "runs/released/import.json").read_text())["dropped"] == report["dropped"]

    # The run is whole: neither the file nor the architecture's file is needed any longer.
    (tmp_path / "towers.json").unlink()
    released.unlink()
    make_dataset(tmp_path / "dataset", specs(15, 2))
    code, out, err = usds("evaluate", "--no-probe", "--json")
    assert code == 0, err
    assert "the model may have seen these frames: its weights come from elsewhere" in err
    figures = json.loads(out)
    assert figures["n"] > 0
    assert "may have seen" in figures["definitions"]["training data"]
    assert len(json.loads(usds("search", "liver nodule", "--json")[1])["frames"]) == 10
    assert usds("export", "open_clip", "--out", "exported")[0] == 0
    card = (tmp_path / "exported" / "README.md").read_text("utf-8")
    assert "weights from `ultrasound_clip.pt`" in card
    assert "not recorded here" in card


def test_an_entry_of_another_architecture_is_refused_and_nothing_is_written(
    usds: Any, released: Path, tmp_path: Path
) -> None:
    code, _, err = usds("import", "weights", released, "--towers", "towers.json", "--out", "runs/x")
    assert code == 1
    assert "1 unknown (visual.unheard_of, ...)" in err
    assert not (tmp_path / "runs").exists()


def test_what_does_not_say_its_architecture_must_be_told(usds: Any, tmp_path: Path) -> None:
    config = open_clip.get_model_config("ViT-S-32-alt")
    assert config is not None
    torch.save(open_clip.CLIP(**config).state_dict(), tmp_path / "clip.pt")
    code, _, err = usds("import", "weights", "clip.pt")
    assert code == 2
    assert "does not say its architecture: name it with --towers" in err
    assert "ViT-S-32-alt" in err


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 2, "there is no such file or folder"),
        (b"no weights", 1, "cannot be read as weights"),
        ({"a": torch.zeros(1)}, 2, "does not say its architecture"),
        ({"graph_encoder.diag_emb.weight": torch.zeros(1)}, 2, "does not say its architecture"),
        (
            dict.fromkeys(
                ("visual.conv1.weight", "text.token_embedding.weight", "text.text_projection"), torch.zeros(1)
            ),
            2,
            "does not say its architecture",
        ),
    ],
)
def test_what_holds_no_weights_is_refused(
    usds: Any, tmp_path: Path, content: Any, code: int, message: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / "file.pt").write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / "file.pt")
    found, _, err = usds("import", "weights", "file.pt")
    assert (found, message in err) == (code, True), err
    assert not (tmp_path / "runs").exists()


def test_a_folder_says_its_architecture_and_a_run_can_start_from_a_run(
    usds: Any, released: Path, tmp_path: Path
) -> None:
    state = torch.load(released, weights_only=True)
    del state["model"]["base_clip.visual.unheard_of"]
    torch.save(state, released)
    assert usds("import", "weights", released, "--towers", "towers.json", "--out", "runs/one")[0] == 0
    assert usds("export", "open_clip", "runs/one", "--out", "folder")[0] == 0
    code, out, err = usds("import", "weights", "folder", "--out", "runs/two", "--json")
    assert code == 0, err
    assert json.loads(out)["missing"] == []  # no label path is made where the file has none
    shutil.rmtree(tmp_path / "folder")
    one, two = (load_model(tmp_path / "runs" / name).towers.clip.state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)

    make_dataset(tmp_path / "dataset", specs(15, 2))
    code, out, err = usds(
        "train", "--preset", "tiny", "--init", "runs/one", "--set", "model.towers.name=towers.json",
        "--set", "schedule.max_steps=1", "--set", "data.image_size=32", "--set", "model.graph.width=32", "--json",
    )  # fmt: skip
    assert code == 0, err
    start = load_model(
        Path(json.loads(out)["run"]) / "checkpoints" / "step-00000000"
    ).towers.clip.state_dict()
    assert all(torch.equal(one[name], start[name]) for name in one)
