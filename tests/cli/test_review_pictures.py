"""`usds review --pictures` as a process: it serves, is killed, ends, and brings decisions into the dataset."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.dicom_factory import make_us_dicom
from support.in_process import ingest_here
from support.pixel_scenes import linear_area, screen, write

from usds.curation.deid.decision import Decision
from usds.curation.deid.identity import Ids
from usds.curation.picture_corrections import append_decision, read_decisions
from usds.schemas.dataset import Dataset
from usds.schemas.state import State


@pytest.fixture
def dataset(tmp_path):
    """A dataset with one file under review: its image area is full of words."""
    rgb = screen(linear_area())
    for y in range(120, 400, 30):
        write(rgb, "LIVER RIGHT LOBE SEGMENT", (170, y), scale=0.6)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.dcm").write_bytes(make_us_dicom(np.stack([rgb]), photometric="RGB"))
    ingest_here(tmp_path / "raw", tmp_path / "d")
    return Dataset.open(tmp_path / "d")


@pytest.fixture
def started(dataset):
    arguments = ["review", "--pictures", "--dataset", str(dataset.root), "--no-browser", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "usds.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stderr.readline()
    assert "1 file to look at" in line
    yield process, re.search(r"http://\S+", line).group()
    process.kill()
    process.wait()


def source(dataset):
    (row,) = dataset.arrow("sources").to_table().to_pylist()
    return row


def decide(url, number, **changes):
    with urllib.request.urlopen(f"{url}overview") as response:
        key = json.loads(response.read())["files"][0]["key"]
    body = {"outcome": "accept", "area": [], "added": [], "opened": [], "number": number, **changes}
    request = urllib.request.Request(f"{url}file/{key}", json.dumps(body).encode())
    with urllib.request.urlopen(request) as response:
        return json.loads(response.read())["number"]


def test_finish_does_the_file_again(started, dataset):
    process, url = started
    assert source(dataset)["reason"] == "redaction_large"
    decide(url, 0)
    urllib.request.urlopen(urllib.request.Request(f"{url}finish", b"{}")).close()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert json.loads(out) == {
        "files": 1,
        "saved": 1,
        "outcomes": {"ok": 1},
        "waiting": 0,
        "refused": 0,
        "problems": [],
    }
    assert source(dataset)["outcome"] == "ingested"
    assert "a.dcm" not in out + err


def test_a_kill_while_saving_loses_nothing_that_was_answered(started, dataset):
    process, url = started
    answered = []

    def save():
        try:
            while True:
                answered.append(decide(url, len(answered)))
                if len(answered) == 5:
                    os.kill(process.pid, signal.SIGKILL)
        except OSError:
            return

    with ThreadPoolExecutor(1) as pool:
        pool.submit(save).result(timeout=120)
    assert process.wait(timeout=60) == -signal.SIGKILL
    (decided,) = read_decisions(dataset).values()
    assert decided.number >= len(answered) >= 5
    (dataset.root / "corrections" / ".partial-1-pictures-000009.parquet").write_bytes(b"PAR1")
    with dataset.lock("usds review"):
        left = [path.name for path in (dataset.root / "corrections").iterdir()]
    assert sorted(left) == [f"pictures-{number:06d}.parquet" for number in range(1, decided.number + 1)]


def test_a_dataset_without_its_private_state_is_told_so(usds, dataset, monkeypatch, tmp_path):
    monkeypatch.setenv("USDS_STATE", str(tmp_path / "elsewhere"))
    result = usds("review", "--pictures", "--dataset", dataset.root)
    assert result.exit_code == 1
    assert "the key of this dataset is missing" in result.stderr


def test_options_that_do_not_go_together_are_named(usds, dataset):
    result = usds("review", "--frame", "x", "--dataset", dataset.root)
    assert (result.exit_code, "--frame names a picture: add --pictures" in result.stderr) == (2, True)
    result = usds("review", "--pictures", "--set", "x", "--dataset", dataset.root)
    assert (result.exit_code, "--set chooses labels" in result.stderr) == (2, True)
    result = usds("review", "--pictures", "--frame", "zzz", "--dataset", dataset.root)
    assert (result.exit_code, "no frame 'zzz'" in result.stderr) == (2, True)


def test_nothing_in_doubt_is_said(usds, labelled):
    result = usds("review", "--pictures", "--dataset", labelled.root)
    assert result.exit_code == 0
    assert "nothing to review: no file is in doubt" in result.stdout


def test_no_program_is_started_with_the_secret_of_the_page(usds, dataset, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("usds.curation.review_server.ReviewServer.serve_forever", lambda _: None)
    result = usds("review", "--pictures", "--dataset", dataset.root)
    assert result.exit_code == 0
    secret = re.search(r"http://127\.0\.0\.1:\d+/(\S+)/", result.stderr)[1]
    (link,) = opened
    assert secret not in link


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_leaves_no_native_picture(dataset, number):
    info = dataset.info
    state = State.open(info.dataset_id, info.key_fingerprint)
    key = source(dataset)["source_key"]
    settle_once(dataset, state)
    arguments = ["review", "--pictures", "--frame", key, "--no-browser", "--dataset", str(dataset.root)]
    process = subprocess.Popen(
        [sys.executable, "-m", "usds.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "1 file to look at" in process.stderr.readline()
    viewed = state.folder / "viewed"
    assert len(list(viewed.rglob("*.png"))) == 1
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert list(viewed.iterdir()) == []


def settle_once(dataset, state):
    """Bring the file into the dataset, as somebody who accepted it."""
    decision = Decision(accepted=("redaction_large",))
    (place,) = state.locate(source(dataset)["source_key"])
    with dataset.lock("usds review"):
        append_decision(dataset, Ids(state.key).clip(place["content"]), decision)
    ingest_here(dataset.root.parent / "raw", dataset.root)
    assert source(dataset)["outcome"] == "ingested"
