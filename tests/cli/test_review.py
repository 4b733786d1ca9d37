"""`usds review` as a process: it prints its link, serves, ends when told to or at Ctrl-C, and labels anew."""

import json
import re
import signal
import subprocess
import sys
import urllib.request

import pytest


@pytest.fixture
def started(labelled):
    assert subprocess.run(command("annotate", labelled), check=False, capture_output=True).returncode == 0
    process = subprocess.Popen(
        command("review", labelled, "--all", "--no-browser", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stderr.readline()
    yield process, re.search(r"http://\S+", line).group()
    process.kill()
    process.wait()


def command(name, dataset, *options):
    return [sys.executable, "-m", "usds.cli.main", name, "--dataset", str(dataset.root), *options]


def post(url, body):
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())) as response:
        return json.loads(response.read())


def first_caption(url):
    with urllib.request.urlopen(f"{url}overview") as response:
        return json.loads(response.read())["captions"][0]["id"]


def test_the_page_ends_the_command_and_the_frames_are_labelled_anew(started, labelled):
    process, url = started
    caption = first_caption(url)
    assert post(f"{url}caption/{caption}", {"organ": ["Spleen"]})["corrections"] > 0
    post(f"{url}finish", {})
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert json.loads(out)["saved"] == 1
    with labelled.connect() as connection:
        found = connection.execute("SELECT DISTINCT unnest(organ) FROM annotations").fetchall()
    assert ("Spleen",) in found


def test_ctrl_c_is_a_regular_end(started):
    process, url = started
    first_caption(url)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert json.loads(out) == {"captions": json.loads(out)["captions"], "saved": 0, "corrections": 0}
    assert "Traceback" not in err


def test_a_port_in_use_is_named(usds, started, labelled):
    _, url = started
    port = re.search(r":(\d+)/", url).group(1)
    result = usds("review", "--dataset", labelled.root, "--all", "--no-browser", "--port", port)
    assert result.exit_code == 2
    assert f"port {port}: Address already in use: choose another with --port" in result.stderr


def test_an_unlabelled_dataset_says_what_to_do(usds, labelled):
    result = usds("review", "--dataset", labelled.root)
    assert result.exit_code == 1
    assert "has no labels yet: run `usds annotate` first" in result.stderr
