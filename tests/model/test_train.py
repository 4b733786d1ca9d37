"""A training run and what it leaves behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_dataset import make_dataset, quick_settings, specs

from usds.model.checkpoint import load_model
from usds.model.network import UltrasoundCLIP
from usds.model.run import find_run, newest_run
from usds.model.runtime import explain_memory
from usds.model.step import Stepper
from usds.model.train import Hooks, Trainer, dry_run, resume, train
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.udt import load_taxonomy

TAXONOMY = load_taxonomy("udt")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    corrupt = frozenset({"frame00101"})
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset", specs(20, 3), corrupt=corrupt)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder).state_dict()


def test_a_run_learns_and_can_be_made_again_from_its_folder(dataset: Dataset, tmp_path: Path) -> None:
    notes: list[str] = []
    settings = quick_settings(tmp_path, schedule={"epochs": 6})
    result = train(dataset, TAXONOMY, settings, tmp_path / "runs", hooks=Hooks(notes.append))
    assert result.first_loss is not None
    assert result.last_loss is not None
    assert result.last_loss < result.first_loss
    assert (result.steps, result.interrupted) == (30, False)
    run = newest_run(tmp_path / "runs")
    assert run.folder.name.split("-")[1] == "tiny"
    assert run.settings() == settings
    assert run.taxonomy().content_hash == TAXONOMY.content_hash
    assert run.data()["frames"] == {"train": 35, "valid": 12, "test": 12}
    assert (run.folder / "plots" / "training.png").stat().st_size > 1000
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows if "train/loss" in row] == list(range(1, 31))
    assert any("valid/mrr" in row for row in rows)
    text = "\n".join(notes)
    assert "1 frame(s) cannot be decoded and are left out: frame00101" in text
    assert "no training record has a label of margins" in text
    again = train(dataset, run.taxonomy(), run.settings(), tmp_path / "again", exact=True)
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights(run.folder).values(), weights(again.run.folder).values(), strict=True)
    )


def test_step_zero_is_saved_before_anything_is_learned(
    dataset: Dataset, tmp_path: Path, monkeypatch: Any
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stepper, "__call__", fail)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, TAXONOMY, quick_settings(tmp_path), tmp_path / "run", exact=True)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000000"]


def test_a_batch_larger_than_the_subjects_shrinks_and_says_so(dataset: Dataset, tmp_path: Path) -> None:
    notes: list[str] = []
    plan = dry_run(dataset, TAXONOMY, quick_settings(tmp_path, data={"batch_size": 64}), Hooks(notes.append))
    assert plan.batch_size == 12
    assert any("batch size 64 -> 12: a batch holds each subject once" in note for note in notes)


def test_a_dry_run_counts_and_writes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    settings = quick_settings(tmp_path)
    plan = dry_run(dataset, TAXONOMY, settings)
    model = UltrasoundCLIP(settings.model, TAXONOMY)
    assert plan.parameters["in all"] == sum(p.numel() for p in model.parameters())
    assert plan.memory_bytes > 16 * plan.parameters["in all"]
    assert (plan.steps_per_epoch, plan.steps) == (5, 10)
    assert plan.data["subjects"] == {"train": 12, "valid": 4, "test": 4}
    assert {p.name for p in tmp_path.iterdir()} == {"towers.json", "private-state"} & {
        p.name for p in tmp_path.iterdir()
    }


@pytest.mark.parametrize("how", ["mixed", "beside"])
def test_gradient_cache_gives_the_gradient_of_the_whole_batch(
    how: str, dataset: Dataset, tmp_path: Path
) -> None:
    found: list[list[torch.Tensor]] = []
    for pieces in (1, 3):
        model = {"fusion": {"train": how}}
        settings = quick_settings(
            tmp_path, run={"accumulate": pieces}, optimizer={"clip_norm": 0.0}, model=model
        )
        trainer = Trainer(dataset, TAXONOMY, settings, Hooks())
        spec = trainer.model.image_transform(True)
        batch = trainer.data.stream(trainer.model.towers, settings, 0, 1)[0].to_batch(
            torch.device("cpu"), spec
        )
        trainer.stepper(batch, 0)
        found.append([p.grad for p in trainer.model.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 20
    for whole, cached in zip(*found, strict=True):
        assert float((whole - cached).norm()) <= 1e-4 * float(whole.norm()) + 1e-7


def test_a_loss_that_is_no_number_changes_no_weight_and_ends_with_advice(
    dataset: Dataset, tmp_path: Path, monkeypatch: Any
) -> None:
    real = Stepper._loss

    def broken(self: Stepper, encoded: Any, batch: Any, step: int) -> Any:
        parts = real(self, encoded, batch, step)
        return replace(parts, total=parts.total * float("nan")) if step >= 2 else parts

    monkeypatch.setattr(Stepper, "_loss", broken)
    settings = quick_settings(tmp_path, run={"max_bad_steps": 3, "checkpoint_every": 2})
    with pytest.raises(
        ContentError, match=r"not finite in 3 steps in a row.*lower optimizer\.learning_rate \(now 0.001\)"
    ):
        train(dataset, TAXONOMY, settings, tmp_path / "run", exact=True)
    assert all(
        bool(torch.isfinite(v).all()) for v in weights(tmp_path / "run").values() if v.is_floating_point()
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["train/loss"] for row in rows if row["step"] in (3, 4)] == [None, None]


def test_no_memory_names_the_settings() -> None:
    with (
        pytest.raises(
            UsageError,
            match=r"batch size 64 in 2 chunk\(s\): raise run.accumulate to 4.*data.batch_size to 32",
        ),
        explain_memory(64, 2),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    with pytest.raises(RuntimeError, match="another"), explain_memory(64, 2):
        raise RuntimeError("another matter")


def test_a_folder_with_something_in_it_is_not_written_to(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="is not empty: go on with it by --resume"):
        train(dataset, TAXONOMY, quick_settings(tmp_path), tmp_path / "run", exact=True)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_labels_nobody_has_are_refused_unless_the_loss_needs_none(tmp_path: Path) -> None:
    bare = make_dataset(tmp_path / "dataset", specs(6, 1), labels=lambda _: {})
    with pytest.raises(
        ContentError, match=r"no training record has a label: run `usds annotate`.*model.loss.kind: clip"
    ):
        train(bare, TAXONOMY, quick_settings(tmp_path), tmp_path / "runs")
    model = {"graph": {"kind": "none"}, "loss": {"kind": "clip", "prompt_weight": 0.0}}
    assert train(bare, TAXONOMY, quick_settings(tmp_path, model=model), tmp_path / "runs").steps == 2


def test_a_run_of_another_taxonomy_or_architecture_is_not_resumed(dataset: Dataset, tmp_path: Path) -> None:
    result = train(dataset, TAXONOMY, quick_settings(tmp_path), tmp_path / "run", exact=True)
    before = {p.name for p in result.run.checkpoints.iterdir()}
    settings = result.run.folder / "settings.yaml"
    text = settings.read_text()
    settings.write_text(text.replace("width: 32", "width: 16"))
    with pytest.raises(ContentError, match=r"of another architecture: .* use the settings stored with it"):
        resume(dataset, result.run)
    settings.write_text(text)
    taxonomy = result.run.folder / "taxonomy.yaml"
    taxonomy.write_text(
        taxonomy.read_text().replace("an ultrasound image showing {label}", "a scan of {label}")
    )
    with pytest.raises(ContentError, match="was trained with taxonomy udt-"):
        resume(dataset, result.run)
    assert {p.name for p in result.run.checkpoints.iterdir()} == before


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no run in .*: train one with `usds train`"):
        find_run(None, tmp_path / "runs")
    with pytest.raises(UsageError, match=r"is no run folder \(it has no settings.yaml\)"):
        find_run(tmp_path)
