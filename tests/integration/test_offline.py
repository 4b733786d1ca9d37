"""Libraries that would report to their makers are kept silent: usds runs beside patients' data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = {
    "text networks": "from usds.curation.deid.ocr_models import session; session('PP-OCRv6_rec_small', 1)",
    "command": "from usds.cli.main import app; app(['doctor'])",
}


@pytest.mark.parametrize("case", CASES)
def test_the_network_runtime_leaves_no_trace_and_asks_nobody(case: str, tmp_path: Path) -> None:
    """When imported, ONNX Runtime opens a database below the home folder, a session file, a connection."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", CASES[case]], env={**kept, **places}, capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    assert "ORT_DISABLE_TELEMETRY" not in kept
    assert list(temporary.rglob(".ses")) == []
    assert [path.name for path in home.rglob("*") if "onnxruntime" in path.name.lower()] == []


def test_workers_are_silent_before_they_load_anything(
    usds, small_export: Path, tmp_path: Path, monkeypatch
) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    temporary.mkdir()
    for name, place in (("HOME", home), ("XDG_CACHE_HOME", home / ".cache"), ("TMPDIR", temporary)):
        monkeypatch.setenv(name, str(place))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    usds("ingest", small_export, "--dataset", tmp_path / "dataset", expect=None)
    assert (tmp_path / "dataset" / "dataset.json").is_file()
    assert list(temporary.rglob(".ses")) == []
    assert [path.name for path in home.rglob("*") if "onnxruntime" in path.name.lower()] == []
