"""Files are whole or not there, also when the process is killed while it writes."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from usds.schemas import files


def test_atomic_path_replaces_the_file_at_the_end(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with files.atomic_path(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(TypeError, match="data must be str"), files.atomic_path(path) as partial:
        partial.write_text(b"half")  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_mode_is_set_before_the_name_appears(tmp_path):
    with files.atomic_path(tmp_path / "key", mode=0o600) as partial:
        partial.write_text("secret")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_kill_9_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"version": 1})
    code = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from usds.schemas.files import atomic_path
        with atomic_path(Path({str(path)!r})) as partial:
            partial.write_text("half of a")
            print("writing", flush=True)
            time.sleep(60)
    """)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert files.read_json(path) == {"version": 1}
    assert len(list(tmp_path.iterdir())) == 2
    assert files.remove_leftovers(tmp_path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_canonical_json_depends_on_content_alone():
    assert files.canonical_json({"b": 1, "a": "é"}) == files.canonical_json({"a": "é", "b": 1})
    assert json.loads(files.canonical_json({"a": "é"})) == {"a": "é"}


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.file_sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")
