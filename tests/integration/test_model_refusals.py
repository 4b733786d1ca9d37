"""What training and evaluation refuse, as typed: a message that says what to change, nothing overwritten."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.tiny_dataset import labels_of, make_dataset, quick_settings, specs

from usds.cli.main import app
from usds.model.run import alone, create_run
from usds.taxonomy.udt import load_taxonomy

Usds = Callable[..., tuple[int, str]]


@pytest.fixture
def usds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Usds:
    """Run a command in a folder whose train.yaml has quick towers: (exit code, stderr)."""
    monkeypatch.chdir(tmp_path)
    settings = quick_settings(tmp_path).model_dump(mode="json")
    (tmp_path / "train.yaml").write_text(yaml.safe_dump({"train": settings}), "utf-8")

    def run(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            app([str(word) for word in words])
        return int(end.value.code or 0), capsys.readouterr().err

    return run


TRAIN = ("train", "--config", "train.yaml", "--out", "run")


def gizzard(spec: Any) -> dict[str, list[str]]:
    return {**labels_of(spec), "organ": ["Gizzard"]}


def on(side: str, count: int = 6) -> Any:
    return [replace(spec, split=side) for spec in specs(count, 2)]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"labels": gizzard}, "label 'Gizzard' is not in dimension 'organ' of taxonomy"),
        ({"labels": lambda _: {}}, "or train without labels (model.graph.kind: none, model.loss.kind: clip)"),
        (
            {"chosen": on("train", 1)},
            "the training side has 1 subject: contrastive training needs at least two",
        ),
        (
            {"chosen": on("test")},
            "side 'train' of split 'default' has no captioned frame (there is: test 12)",
        ),
        (
            {"corrupt": frozenset(f"frame{i:03d}{j:02d}" for i in range(12) for j in range(2))},
            "with unreadable pixels)). Make another split",
        ),
    ],
)
def test_data_that_cannot_be_trained_on(usds: Usds, tmp_path: Path, made: Any, message: str) -> None:
    made = {"chosen": specs(12, 2), **made}
    make_dataset(tmp_path / "dataset", made.pop("chosen"), **made)
    code, err = usds(*TRAIN)
    assert (code, message in err) == (1, True), err
    assert not (tmp_path / "run").exists()


def test_a_dimension_without_labels_is_said_and_the_rest_is_trained(usds: Usds, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", specs(12, 2))
    code, err = usds(*TRAIN)
    assert code == 0
    assert "no training record has a label of margins, internal_characteristics" in err
    code, err = usds("evaluate", "run", "--no-probe")
    assert code == 0
    report = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text("utf-8"))
    assert "margins" in report["attribute_summary"]["without_records"]


def test_frames_and_shards_that_cannot_be_read(usds: Usds, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", specs(12, 2), corrupt=frozenset({"frame00000"}))
    code, err = usds(*TRAIN)
    assert (code, "1 frame(s) cannot be decoded and are left out: frame00000" in err) == (0, True)
    [shard] = dataset.paths("images")
    shard.write_bytes(shard.read_bytes()[:5000])
    code, err = usds("train", "--config", "train.yaml", "--out", "other", "--set", "data.cache=elsewhere")
    assert (code, "(images/task0.parquet): restore it from a copy" in err) == (1, True), err
    assert not (tmp_path / "other").exists()


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(usds: Usds, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", specs(12, 2))
    code, err = usds(
        *TRAIN, "--epochs", 20, "--set", "optimizer.learning_rate=1e30", "--set", "run.max_bad_steps=2",
        "--set", "schedule.warmup_steps=0",
    )  # fmt: skip
    assert code == 1
    assert "lower optimizer.learning_rate (now 1e+30)" in err
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000000"]


def test_a_run_is_not_overwritten_nor_mixed_with_another(usds: Usds, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", specs(12, 2))
    assert usds(*TRAIN)[0] == 0
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    code, err = usds(*TRAIN)
    assert (code, "run is not empty: go on with it by --resume run" in err) == (2, True)

    code, err = usds(
        "train",
        "--config",
        "train.yaml",
        "--out",
        "wide",
        "--init",
        "run",
        "--set",
        "model.towers.name=usds-tiny",
    )
    assert (code, "weights run are of another architecture than model.towers.name" in err) == (1, True)

    text = load_taxonomy("udt").source_text.replace("id: udt", "id: other", 1)
    (tmp_path / "other.yaml").write_text(text, "utf-8")
    make_dataset(tmp_path / "other", specs(12, 2), taxonomy=load_taxonomy(tmp_path / "other.yaml"))
    code, err = usds("evaluate", "run", "--dataset", "other")
    assert (code, "annotate it with `usds annotate --taxonomy run/taxonomy.yaml`" in err) == (1, True)
    code, err = usds("train", "--resume", "run", "--dataset", "other")
    assert (code, "which other lacks: label it with `usds annotate" in err) == (1, True), err

    make_dataset(tmp_path / "fewer", specs(11, 2))
    code, err = usds("train", "--resume", "run", "--dataset", "fewer")
    assert (code, "the dataset or the split has changed since" in err) == (1, True)
    code, err = usds("evaluate", "run", "--labels", "nobody")
    assert (code, "no annotation set 'nobody'" in err) == (2, True)
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("--set", "data.batch_size=1"), 1, "a step contrasts at least two records"),
        (("--set", "data.modes=[b-mode]"), 1, "no frame is of the image modes that data.modes names"),
        (("--split", "defualt"), 2, "has no split 'defualt' (there are: default)"),
    ],
)
def test_settings_that_fit_no_data(
    usds: Usds, tmp_path: Path, words: tuple[str, ...], status: int, message: str
) -> None:
    dataset = make_dataset(tmp_path / "dataset", specs(12, 2))
    code, err = usds(*TRAIN, *words)
    assert (code, message in err) == (status, True), err
    assert not (tmp_path / "run").exists()
    assert dataset.split_names() == ["default"]


def test_results_that_cannot_be_written_are_refused_before_the_work(usds: Usds, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", specs(12, 2))
    assert usds(*TRAIN)[0] == 0
    for command in (("evaluate",), ("export", "open_clip"), ("export", "onnx")):
        code, err = usds(*command, "run", "--out", "train.yaml")
        assert (code, "train.yaml cannot be written (File exists): name another place" in err) == (2, True), (
            err
        )
    code, err = usds("evaluate", "run", "--split", "nope")
    assert (code, "has no split 'nope' (there are: default)" in err) == (2, True)


def test_a_run_is_imported_with_its_own_architecture_and_not_resumed(usds: Usds, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", specs(12, 2))
    assert usds(*TRAIN)[0] == 0
    code, err = usds("import", "weights", "run", "--out", "imported")
    assert code == 0, err
    code, err = usds("train", "--resume", "imported")
    assert (code, "start one from them with usds train --init imported" in err) == (2, True), err


def test_two_trainings_do_not_share_a_folder(usds: Usds, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", specs(12, 2))
    with alone(tmp_path / "run"):
        code, err = usds(*TRAIN)
        assert (code, "another process trains in run: wait for it, or name another folder" in err) == (
            2,
            True,
        )
    assert usds(*TRAIN)[0] == 0
    with alone(tmp_path / "run"):
        code, err = usds("train", "--resume", "run")
        assert (code, "another process trains in run" in err) == (2, True)


@pytest.mark.parametrize("name", ["settings.yaml", "data.json"])
@pytest.mark.parametrize("content", ["", "- 1", "{", None])
def test_a_run_folder_that_is_not_whole(usds: Usds, tmp_path: Path, name: str, content: str | None) -> None:
    dataset = make_dataset(tmp_path / "dataset", specs(12, 2))
    taxonomy = load_taxonomy("udt")
    run = create_run(
        tmp_path / "run", quick_settings(tmp_path), taxonomy,
        {"hash": "0", "dataset_id": dataset.info.dataset_id, "annotation_set": taxonomy.set_name, "subjects": {}},
        exact=True,
    )  # fmt: skip
    (run.folder / name).unlink()
    if content is not None:
        (run.folder / name).write_text(content, "utf-8")
    code, err = usds("train", "--resume", "run")
    assert (code, f"run is no whole run folder: {name} is missing or damaged" in err) in {(1, True)} or (
        code == 2 and "has no settings.yaml" in err
    ), err


def test_a_damaged_checkpoint_is_named(usds: Usds, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", specs(12, 2))
    assert usds(*TRAIN)[0] == 0
    for path in (tmp_path / "run" / "checkpoints").glob("*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    for command in (("evaluate", "run"), ("export", "onnx", "run"), ("search", "cyst", "--run", "run")):
        code, err = usds(*command)
        assert (code, "checkpoint run/checkpoints/step-" in err, "is damaged" in err) == (1, True, True)


_SHORT = """
import json, os, resource, sys
from pathlib import Path
import cv2, duckdb, open_clip, pyarrow, torch
import usds.model.train
from usds.cli.main import app
from usds.model.run import alone, create_run
torch.set_num_threads(1)
used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
app(["train", "--config", "train.yaml", "--out", "run", "--set", "model.towers.name=wide.json"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space as Linux does")
def test_memory_that_runs_out_for_real_names_the_settings(usds: Usds, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", specs(12, 2))
    wide = {"image_size": 32, "layers": 12, "width": 4096, "head_width": 64, "patch_size": 8}
    text = {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 32, "vision_cfg": wide, "text_cfg": text}
    (tmp_path / "wide.json").write_text(json.dumps(config), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", _SHORT], cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "raise run.accumulate to 2 (same batch, same gradient)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
