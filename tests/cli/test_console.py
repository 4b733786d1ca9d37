"""Options, settings files, output and progress that the commands share."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from usds.cli.console import Output, load_settings, nearest, progress, read_config
from usds.schemas.errors import UsageError


class Inner(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    quality: int = 95


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    workers: int = 0
    image_format: str = "jpeg"
    deid: Inner = Inner()


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "usds.yaml"
        path.write_text(text)
        return path

    return write


def test_options_win_over_the_file_and_the_file_over_defaults(config):
    path = config("ingest:\n  workers: 3\n  image_format: png\nstats: {}\n")
    found = load_settings(Settings, path, "ingest", {"workers": 5, "image_format": None, "deid.quality": 90})
    assert (found.workers, found.image_format, found.deid.quality) == (5, "png", 90)


def test_a_file_may_hold_the_settings_of_one_command_alone(config):
    assert load_settings(Settings, config("workers: 3\n"), "ingest").workers == 3


def test_a_file_without_the_section_changes_nothing(config):
    assert load_settings(Settings, config("stats:\n  x: 1\n"), "ingest") == Settings()
    assert load_settings(Settings, config(""), "ingest") == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worker: 3", r"unknown setting 'worker'; did you mean 'workers'\?"),
        ("ingest:\n  imageformat: png", r"unknown setting 'imageformat'; did you mean 'image_format'\?"),
        ("deid:\n  qualty: 3", r"unknown setting 'deid.qualty'; did you mean 'quality'\?"),
        ("zzz: 3", r"unknown setting 'zzz'; known are workers, image_format, deid"),
        ("workers: 3.5", r"setting 'workers': Input should be a valid integer.* \(got 3\.5\)"),
        ("workers: many", "setting 'workers': Input should be a valid integer"),
        ("ingest: {}\nstast: {}", r"no command 'stast' has settings; did you mean 'stats'\?"),
        ("a: [1\nb: 2", r"usds.yaml, line 2: not YAML"),
        ("- 1", "settings are `name: value` lines"),
        ("ingest: {}\nannotate: 3\n", r"unknown setting|section"),
    ],
)
def test_what_cannot_be_used_is_named(config, text, message):
    section = "annotate" if "annotate" in text else "ingest"
    with pytest.raises(UsageError, match=message):
        load_settings(Settings, config(text), section)


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="No such file or directory: name an existing file with --config"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        read_config(tmp_path / "x")


def test_nearest_is_none_when_nothing_is_near():
    assert nearest("epocs", ["epochs", "batch"]) == "epochs"
    assert nearest("zzz", ["epochs", "batch"]) is None


def test_json_is_the_only_thing_on_stdout(capsys):
    @dataclass
    class Row:
        n: int

    output = Output(json=True)
    output.show("table")
    output.note("note")
    output.data({"row": Row(1), "number": np.float32(0.5), "path": Path("a"), "set": {"b", "a"}, "text": "ü"})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"row": {"n": 1}, "number": 0.5, "path": "a", "set": ["a", "b"], "text": "ü"}
    assert err == "note\n"


def test_without_json_people_get_text_and_no_markup_is_read(capsys):
    output = Output()
    output.show("a [bold]line[/] " + "x" * 300)
    output.data({"a": 1})
    assert capsys.readouterr().out == "a [bold]line[/] " + "x" * 300 + "\n"


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    with progress("reading", total=3) as bar:
        bar.advance()
        bar.update(done=2, total=3, label="more")
    assert capsys.readouterr() == ("", "")
