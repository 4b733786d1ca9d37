"""The commands train, evaluate, search and export as typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from support.tiny_dataset import make_dataset, quick_settings, specs

from usds.cli.main import app


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, and settings whose towers are quick."""
    folder = tmp_path_factory.mktemp("place")
    make_dataset(folder / "dataset", specs(15, 2))
    settings = quick_settings(folder).model_dump(mode="json")
    (folder / "train.yaml").write_text(yaml.safe_dump({"train": settings}), "utf-8")
    return folder


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def usds(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        app(list(words))
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def data(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    code, out, err = usds(capsys, *words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_from_training_to_export(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    plan = data(capsys, "train", "--config", "train.yaml", "--dry-run")
    assert plan["steps"] == 2 * plan["steps_per_epoch"]
    assert not (place / "runs").exists()

    trained = data(capsys, "train", "--config", "train.yaml", "--set", "optimizer.learning_rate=3e-4")
    assert trained["steps"] == trained["planned_steps"]
    stored = yaml.safe_load((Path(trained["run"]) / "settings.yaml").read_text("utf-8"))
    assert stored["optimizer"]["learning_rate"] == 3e-4

    code, _, err = usds(capsys, "evaluate", "--no-probe", "--json")
    assert (code, f"evaluating {trained['run']} (the newest run)" in err) == (0, True)
    assert (Path(trained["run"]) / "evaluation" / "evaluation.json").is_file()

    found = data(capsys, "search", "round nodule of the liver", "--top", "3")
    assert len(found["frames"]) == 3
    usds(capsys, "export", "embeddings", "--out", "vectors.parquet")
    assert len(pq.read_table("vectors.parquet")) == 30
    code, _, err = usds(capsys, "export", "embeddings", "--out", "vectors.parquet")
    assert (code, "nothing is overwritten" in err) == (2, True)
    usds(capsys, "export", "open_clip", "--out", "exported")
    assert {"README.md", "open_clip_config.json", "open_clip_model.safetensors"} <= {
        p.name for p in Path("exported").iterdir()
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--set", "data.bach_size=3"], "unknown key 'data.bach_size', did you mean 'batch_size'?"),
        (["train", "--set", "epochs"], "write key=value"),
        (["train", "--preset", "huge"], "unknown preset 'huge'"),
        (["train", "--resume", "nowhere"], "is no run folder"),
        (["train", "--resume", "nowhere", "--epochs", "3"], "goes on with the run's own settings"),
        (["train", "--preset", "paper"], "--text-tower DIR"),
        (["train", "--dataset", "elsewhere"], "no dataset at elsewhere"),
        (["search"], "give a text or a picture"),
        (["search", "--image", "none.png"], "no file none.png"),
    ],
)
def test_what_the_command_line_can_mend_ends_with_2(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, out, err = usds(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
