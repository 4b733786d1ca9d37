"""Runs that are stopped, killed or shared between processes end where an undisturbed one ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.tiny_dataset import make_dataset, quick_settings, specs

from usds.model.checkpoint import CheckpointStore, load_model
from usds.model.run import Run
from usds.model.train import Hooks, TrainResult, resume, train
from usds.schemas.dataset import Dataset
from usds.taxonomy.udt import load_taxonomy

TAXONOMY = load_taxonomy("udt")
WORKER = Path(__file__).with_name("rank_worker.py")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Sums in one order: the claim is equality to the bit."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset", specs(20, 3))


@pytest.fixture(scope="module")
def undisturbed(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    folder = tmp_path_factory.mktemp("undisturbed")
    settings = quick_settings(folder, schedule={"epochs": 4}, run={"ema_decay": 0.9, "checkpoint_every": 3})
    return train(dataset, TAXONOMY, settings, folder / "run", exact=True)


def state(run: Run) -> dict[str, torch.Tensor]:
    newest = CheckpointStore(run.checkpoints).latest()
    assert newest is not None
    found = CheckpointStore(run.checkpoints).load(newest)
    moments = {
        f"{i}.{name}": value
        for i, part in found.state["optimizer"]["state"].items()
        for name, value in part.items()
    }
    assert found.ema is not None
    return {**found.model, **{f"ema.{k}": v for k, v in found.ema.items()}, **moments}


def same(one: Run, other: Run) -> bool:
    a, b = state(one), state(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def losses(run: Run) -> list[float]:
    rows = [json.loads(line) for line in run.metrics.read_text("utf-8").splitlines()]
    return [row["train/loss"] for row in rows if "train/loss" in row]


@pytest.mark.parametrize("stop_at", [1, 7])
def test_a_stopped_run_that_goes_on_is_equal_to_the_bit(
    dataset: Dataset, undisturbed: TrainResult, tmp_path: Path, stop_at: int
) -> None:
    def interrupt(values: dict[str, float]) -> None:
        if values["step"] == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    settings = undisturbed.run.settings()
    stopped = train(dataset, TAXONOMY, settings, tmp_path / "run", exact=True, hooks=Hooks(step=interrupt))
    assert stopped.interrupted
    assert stop_at <= stopped.steps <= stop_at + 1
    finished = resume(dataset, stopped.run)
    assert (finished.steps, finished.interrupted) == (20, False)
    assert same(finished.run, undisturbed.run)
    assert losses(finished.run) == losses(undisturbed.run)


def test_resuming_a_finished_run_does_nothing(dataset: Dataset, undisturbed: TrainResult) -> None:
    before = undisturbed.run.metrics.read_bytes()
    assert resume(dataset, undisturbed.run).steps == 20
    assert undisturbed.run.metrics.read_bytes() == before


def _start(dataset: Dataset, source: Run, target: Path, **extra: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **extra}
    command = [sys.executable, str(WORKER), str(dataset.root), str(source.folder), str(target)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_a_killed_run_leaves_a_loadable_checkpoint_and_goes_on(
    dataset: Dataset, undisturbed: TrainResult, tmp_path: Path
) -> None:
    target = tmp_path / "run"
    process = _start(dataset, undisturbed.run, target)
    try:
        while not (target / "checkpoints" / "step-00000003").exists():
            assert process.poll() is None, (process.stderr.read().decode() if process.stderr else "")[-2000:]
            time.sleep(0.01)
        time.sleep(0.03)  # somewhere in a step or in the next save
    finally:
        process.kill()
        process.communicate()
    assert load_model(target).logit_scale.isfinite()
    finished = resume(dataset, Run(target))
    assert same(finished.run, undisturbed.run)
    assert losses(finished.run) == losses(undisturbed.run)


@pytest.mark.slow
def test_two_ranks_train_as_one_process(dataset: Dataset, tmp_path: Path) -> None:
    settings = quick_settings(tmp_path, schedule={"max_steps": 4}, run={"ema_decay": 0.9})
    alone = train(dataset, TAXONOMY, settings, tmp_path / "alone", exact=True).run
    _two_ranks(dataset, alone, tmp_path / "together")
    together = Run(tmp_path / "together")
    first, other = (
        [json.loads(line) for line in run.metrics.read_text("utf-8").splitlines()]
        for run in (alone, together)
    )
    assert other[0]["train/gradient_norm"] == pytest.approx(first[0]["train/gradient_norm"], rel=2e-6)
    a, b = state(alone), state(together)
    for name, value in a.items():
        if value.is_floating_point():
            assert float((b[name] - value).abs().max()) < 1e-3, name


def _two_ranks(dataset: Dataset, source: Run, target: Path) -> None:
    """Start two ranks as torchrun does; again where another program took the free port in between."""
    for _ in range(5):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        shared["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
        ranks = [_start(dataset, source, target, RANK=str(r), LOCAL_RANK=str(r), **shared) for r in range(2)]
        try:
            errors = ranks[0].communicate(timeout=900)[1].decode()
            if "EADDRINUSE" in errors or "address already in use" in errors.lower():
                continue
            assert ranks[0].returncode == 0, errors[-2000:]
            errors = ranks[1].communicate(timeout=900)[1].decode()
            assert ranks[1].returncode == 0, errors[-2000:]
            return
        finally:
            for rank in ranks:
                rank.kill()
                rank.communicate()
    pytest.fail("no port stayed free")
