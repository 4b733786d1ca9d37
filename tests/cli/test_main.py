"""The frame of the commands: lazy, quick to help, one line an error, documented exit codes."""

import subprocess
import sys
import textwrap

import pytest
import typer

from usds.cli import errors, main
from usds.cli.commands import COMMANDS, commands
from usds.schemas.errors import ContentError, UsageError

BLOCK = """
    import sys
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in {modules!r}:
                raise ImportError("libGL.so.1: cannot open shared object file: No such file", name=name)
    sys.meta_path.insert(0, Broken())
    from usds.cli.main import app
    sys.argv = ["usds", *{args!r}]
    app()
"""
HEAVY = ("cv2", "torch", "open_clip", "duckdb", "pyarrow", "spacy", "pydicom", "rapidocr", "matplotlib")


def without_libraries(*args, modules=HEAVY):
    code = textwrap.dedent(BLOCK).format(modules=modules, args=args)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_needs_no_heavy_library():
    result = without_libraries("--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in commands())
    assert "Example" in result.stdout


def test_doctor_works_without_the_libraries_and_names_them():
    result = without_libraries("doctor")
    assert result.returncode == 1, result.stderr
    for line in ("opencv-python", "torch", "duckdb", "apt-get install -y libgl1"):
        assert line in result.stdout
    assert "Traceback" not in result.stderr


def test_a_command_whose_library_is_broken_points_at_the_doctor():
    result = without_libraries("stats")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "libGL.so.1" in result.stderr
    assert "`usds doctor` says how to mend it" in result.stderr


def test_every_command_of_the_table_registers_itself():
    for name, command in commands().items():
        assert main.load_command(name).name == name, command.module


def test_the_table_is_in_order_of_its_panels():
    panels = [command.panel for command in COMMANDS]
    assert panels == sorted(panels, key=["Dataset", "Privacy", "Model", "Tools"].index)


def leaves(name, command):
    inner = getattr(command, "commands", None)
    return [[name]] if inner is None else [[name, *path] for key in inner for path in leaves(key, inner[key])]


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_has_help_with_an_example(usds, name):
    for path in leaves(name, main.load_command(name)):
        result = usds(*path, "--help")
        assert result.exit_code == 0
        assert "Example" in result.stdout, f"usds {' '.join(path)} --help shows no example"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["stast"], "No such command 'stast'; did you mean 'stats'? (see `usds --help`)"),
        (["zzzz"], "No such command 'zzzz' (see `usds --help`)"),
        (["--verbse"], "No such option: --verbse"),
        (["stats", "--htm", "x"], "--htm"),
        (["annotate", "--explain"], "Option '--explain' requires an argument (see `usds COMMAND --help`)"),
        (
            ["taxonomy", "similarity", "--mode", "x"],
            "Invalid value for '--mode': 'x' is not one of 'identity'",
        ),
        (["sql"], "Missing argument 'SELECT' (see `usds sql --help`)"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(usds, args, message):
    result = usds(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_version(usds):
    assert usds("--version").stdout.startswith("usds ")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ContentError("bad\ncontent"), 1, "error: bad content\n"),
        (UsageError("mend it"), 2, "error: mend it\n"),
        (KeyboardInterrupt(), 130, "error: interrupted: run the same command again to go on\n"),
        (typer.Exit(3), 3, ""),
        (SystemExit(4), 4, ""),
    ],
)
def test_exit_codes(capsys, error, code, line):
    def fail():
        if isinstance(error, typer.Exit):
            return error.exit_code
        raise error

    assert errors.guarded(fail) == code
    assert capsys.readouterr().err == line


def test_an_unexpected_error_prints_its_class_and_keeps_its_value_private(capsys, private_state_home):
    def fail():
        raise ValueError("Invalid value for VR DA: 'SMITH1960'")

    assert errors.guarded(fail) == 1
    line = capsys.readouterr().err
    log = private_state_home / "logs" / "usds.log"
    assert "SMITH" not in line
    assert "unexpected error (ValueError)" in line
    assert str(log) in line
    assert "SMITH1960" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700


def test_an_unwritable_log_is_said(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("USDS_STATE", str(tmp_path / "file"))

    def fail():
        raise KeyError("SMITH")

    assert errors.guarded(fail) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_warnings_of_libraries_stay_off_the_terminal(tmp_path):
    code = (
        "import logging, warnings; from usds.cli import errors; errors.quiet_libraries(); "
        "warnings.warn('value SMITH1960'); logging.getLogger('pydicom').warning('SMITH1960')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")


def test_debug_writes_to_the_private_log(private_state_home):
    code = (
        "from usds.cli import errors as e; e.debug_log(); import logging; logging.getLogger().debug('SMITH')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("", "")
    assert "SMITH" in (private_state_home / "logs" / "usds.log").read_text()
