"""Interruptions of every kind: nothing half-written, and the same command ends what was begun."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pytest

from usds.schemas.dataset import Dataset

pytestmark = pytest.mark.slow


def start(line: list[str], cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        line, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
    )


def wait_for_staged(state_home: Path, process: subprocess.Popen[str], count: int) -> None:
    """Wait until the workers finished ``count`` files."""
    deadline = time.monotonic() + 120
    while len(list(state_home.glob("*/staging/*.staged"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no file was finished"
        time.sleep(0.02)


def end(process: subprocess.Popen[str]) -> None:
    """Wait for a process and for the workers it left."""
    process.communicate(timeout=120)
    deadline = time.monotonic() + 120
    while any(
        str(process.pid) in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def content(root: Path) -> dict[str, str]:
    """Frame ids and a hash of each image."""
    found = list(Dataset.open(root).iter_images())
    assert len({name for name, _ in found}) == len(found), "a frame stands in the dataset twice"
    return {name: sha256(image).hexdigest() for name, image in found}


def test_a_killed_ingest_goes_on_and_ends_as_if_nothing_had_been(
    tmp_path: Path, small_export: Path, demo_key: Path, *, usds: Any, command_line: Callable[..., list[str]],
    private_state_home: Path,
) -> None:  # fmt: skip
    usds("ingest", small_export, "--dataset", "whole", "--key", demo_key, "--workers", 1)
    reference = content(tmp_path / "whole")
    assert len(reference) == 6
    shutil.rmtree(private_state_home)

    line = command_line("ingest", small_export, "--dataset", "killed", "--key", demo_key, "--workers", 2)
    process = start(line, tmp_path)
    wait_for_staged(private_state_home, process, 2)
    process.send_signal(signal.SIGKILL)
    end(process)
    killed = tmp_path / "killed"
    assert not list(killed.glob("manifests/*.json"))
    assert not list(killed.rglob("*.parquet")), "no shard without a manifest"

    report = json.loads(usds("ingest", small_export, "--dataset", "killed", "--workers", 2, "--json").stdout)
    assert report["done"] == 6
    assert content(killed) == reference
    assert Dataset.open(killed).damaged() == []

    third = json.loads(usds("ingest", small_export, "--dataset", "killed", "--json").stdout)
    assert third["done"] == 0
    assert content(killed) == reference
    assert "nothing to do" in usds("ingest", small_export, "--dataset", "killed").stdout


def test_an_interrupt_exits_130_and_leaves_no_process(
    tmp_path: Path, small_export: Path, command_line: Callable[..., list[str]], private_state_home: Path,
    usds: Any,
) -> None:  # fmt: skip
    process = start(command_line("ingest", small_export, "--dataset", "d"), tmp_path)
    wait_for_staged(private_state_home, process, 1)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted: run the same command again to go on" in err
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(children, timeout=120)
    assert alive == []
    usds("ingest", small_export, "--dataset", "d")
    assert len(content(tmp_path / "d")) == 6


def test_a_killed_worker_costs_nothing(
    tmp_path: Path, small_export: Path, command_line: Callable[..., list[str]], private_state_home: Path
) -> None:
    process = start(command_line("ingest", small_export, "--dataset", "d", "--workers", 1), tmp_path)
    wait_for_staged(private_state_home, process, 1)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.memory_info().rss > 100_000_000
    ]
    assert workers
    max(workers, key=lambda child: child.create_time()).kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    assert len(content(tmp_path / "d")) == 6


def test_a_second_writer_is_told_who_works(
    tmp_path: Path, small_export: Path, command_line: Callable[..., list[str]], private_state_home: Path,
    usds: Any,
) -> None:  # fmt: skip
    process = start(command_line("ingest", small_export, "--dataset", "d", "--workers", 1), tmp_path)
    wait_for_staged(private_state_home, process, 1)
    second = usds("ingest", small_export, "--dataset", "d", expect=1)
    assert "is being written by `usds ingest" in second.stderr
    assert f"process {process.pid}" in second.stderr
    assert process.wait(timeout=120) == 0
    process.communicate()
