"""Run `usds` in this process, with stdout and stderr apart."""

import pytest
from typer.testing import CliRunner


@pytest.fixture
def usds(tmp_path, monkeypatch):
    """``usds("stats", "--json")`` -> result with exit_code, stdout, stderr; in an empty working folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*args):
        from usds.cli.main import app

        result = CliRunner().invoke(app, [str(arg) for arg in args])
        assert "Traceback" not in result.stderr + result.stdout
        return result

    return run


@pytest.fixture
def labelled(make_dataset, rows):
    """A dataset of six frames with captions, not annotated."""
    texts = ["Ultrasound of the liver shows a simple cyst.", "Thyroid ultrasound shows a nodule."]
    frames = [rows.frame(frame_id=f"f{i}", study_id=f"st{i}", subject_id=f"s{i}") for i in range(6)]
    return make_dataset(tasks={"t1": (frames, [rows.caption(f"f{i}", texts[i % 2]) for i in range(6)])})
