"""How a command ends: one line on stderr and an exit code, never a traceback, never a value of a raw file.

Exit codes: 0 done; 1 content or run time; 2 what the command line or the settings can mend; 3 done, but some
inputs were rejected or quarantined; 130 interrupted.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import typer

from usds.schemas.errors import UsdsError
from usds.schemas.state import state_folder

__all__ = ["INTERRUPTED", "PARTIAL", "debug_log", "guarded", "private_log", "quiet_libraries", "report"]

PARTIAL: Final = 3
"""Exit code: done, but some inputs were rejected or quarantined."""
INTERRUPTED: Final = 130

# The base of typer's command line errors has no public name; BadParameter, which has one, derives from it.
_CommandLineError = cast("type[Exception]", typer.BadParameter.__base__)
_ASKS_FOR_HELP: Final = "NoArgsIsHelpError"
_TABLE_READERS: Final = frozenset({"pyarrow", "duckdb"})
"""Libraries that read nothing but the dataset's tables; `usds sql` explains errors of a statement itself."""


def guarded(run: Callable[[], Any]) -> int:
    """Run a command and turn whatever it raises into one line on stderr and an exit code."""
    try:
        result = run()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except (KeyboardInterrupt, typer.Abort):
        report("interrupted: run the same command again to go on")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last handler; of an unknown error it prints the class alone
        return _explain(error)
    if result == INTERRUPTED:
        report("interrupted: run the same command again to go on")
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def _explain(error: Exception) -> int:
    if isinstance(error, UsdsError):
        report(str(error))
        return error.exit_code
    if isinstance(error, _CommandLineError):
        return _command_line(error)
    return _missing_library(error) if isinstance(error, ImportError) else _unexpected(error)


def report(message: str) -> None:
    """Print one line on stderr."""
    line = " ".join(message.split())
    sys.stderr.write(f"error: {line}\n".encode("utf-8", "backslashreplace").decode("utf-8"))


def _command_line(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == _ASKS_FOR_HELP:
        return 2  # the help has been printed already
    path = context.command_path if context is not None else "usds COMMAND"
    text = cast("Any", error).format_message().rstrip(".").replace("Value error, ", "")
    report(f"{text} (see `{path} --help`)")
    return 2


def _missing_library(error: ImportError) -> int:
    """Name the module, never the message: a module of ours could be asked to import anything."""
    log = _write_log(error)
    report(
        f"a library this command needs cannot be loaded ({_culprit(error)}): `usds doctor` says how to "
        f"mend it; details in {log}"
    )
    return 1


def _culprit(error: ImportError) -> str:
    text = str(error)
    if "cannot open shared object file" in text:
        return text.split(":", 1)[0]
    return error.name or "unknown"


def _unexpected(error: Exception) -> int:
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        kind = f"{kind}: {os.strerror(error.errno)}"
        if error.errno == errno.ENOSPC:
            report("no space left on the device: free some, then run the same command again")
            return 1
    if type(error).__module__.split(".")[0].lstrip("_") in _TABLE_READERS:
        report(
            "a table cannot be read: a file of the dataset is damaged or was changed by hand; `usds audit` "
            f"names it, and ingesting or annotating again makes it anew; details are in {_write_log(error)}"
        )
        return 1
    report(f"unexpected error ({kind}); details, which may be private, are in {_write_log(error)}")
    return 1


def private_log() -> Path:
    """The log of what went wrong outside any dataset; private like the state it lies in."""
    return state_folder("logs") / "usds.log"


def _write_log(error: BaseException) -> str:
    """Append the traceback to the private log; return its path, or why there is none."""
    path = private_log()
    text = "".join(traceback.format_exception(error))
    try:
        _open_private(path)
        with path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"--- {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {os.getpid()}\n{text}")
    except OSError as failure:
        return f"no log, for {path} cannot be written ({failure.strerror}): set USDS_STATE"
    return str(path)


def _open_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=True)


def quiet_libraries() -> None:
    """Keep warnings and log lines of libraries off the terminal: they quote values of the files they read."""
    logging.captureWarnings(True)
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())


def debug_log() -> Path:
    """Send every library's log lines and warnings to the private log."""
    path = private_log()
    _open_private(path)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    return path
