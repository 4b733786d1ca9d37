"""The inside of a worker process: nothing it or its libraries say leaves the private state.

Standard output, standard error (also what C code writes to the descriptors), warnings and log records go to a
log of the private state. Through the pipe go item keys and reason codes.
"""

from __future__ import annotations

import errno
import faulthandler
import importlib
import logging
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from usds.curation.readers.base import MediaError
from usds.schemas.errors import UsdsError

__all__ = ["Handler", "WorkerSetup", "serve"]

Handler = Callable[[str], str]
"""Handles one item by its key and returns a reason code; it may raise."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REASONS: dict[int, str] = {errno.EACCES: "permission_denied", errno.EPERM: "permission_denied"}


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker needs to start. It carries no key and no raw path: those stand in the state.

    Attributes
    ----------
    handler : str
        ``module:function``; called once with this setup, gives the :data:`Handler`.
    state_folder : str
        Folder of the private state.
    dataset : str
        The dataset directory.
    memory_bytes : int
        Soft limit of the watchdog; the process cannot allocate more than twice as much at once.
    """

    handler: str
    state_folder: str
    dataset: str = ""
    memory_bytes: int = 1_500_000_000

    @property
    def log_name(self) -> str:
        """Name of the workers' log in the private state."""
        return "workers"

    @property
    def log_path(self) -> Path:
        """Where the workers' log lies."""
        return Path(self.state_folder) / "logs" / f"{self.log_name}.log"


def serve(connection: Connection[Any, Any], setup: WorkerSetup) -> None:
    """Main loop of a worker: take jobs until told to stop or the parent is gone."""
    _redirect(setup.log_path)
    _leave_with_parent()
    resource.setrlimit(resource.RLIMIT_DATA, (2 * setup.memory_bytes, resource.RLIM_INFINITY))
    try:
        handler = _load(setup)
    except UsdsError as error:
        connection.send(("refused", str(error), ""))
        return
    try:
        while (items := connection.recv()) is not None:
            for item in items:
                connection.send(("start", item, ""))
                connection.send(("done", item, _handle(handler, item)))
            connection.send(("idle", _peak_bytes(), ""))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone


def _load(setup: WorkerSetup) -> Handler:
    module, _, name = setup.handler.partition(":")
    factory: Callable[[WorkerSetup], Handler] = getattr(importlib.import_module(module), name)
    return factory(setup)


def _handle(handler: Handler, item: str) -> str:
    """Run one item; whatever goes wrong becomes a reason code, its text goes to the log."""
    try:
        return handler(item)
    except MediaError as error:
        return error.reason
    except MemoryError:
        return "memory"
    except OSError as error:
        _log_failure(item)
        if error.errno in _FULL:
            return "disk_full"
        return _REASONS.get(error.errno or 0, "disk_error")
    except Exception:  # noqa: BLE001 - a stage that fails costs its file, never the run
        _log_failure(item)
        return "stage_failed"


def _log_failure(item: str) -> None:
    sys.stderr.write(f"--- {item}\n{traceback.format_exc()}")
    sys.stderr.flush()


def _redirect(log: Path) -> None:
    """Point descriptors 0, 1 and 2, warnings, logging and crash dumps away from the terminal."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(nothing)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    faulthandler.enable(target)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)


def _leave_with_parent() -> None:
    """End with the parent, however it ends; an interrupt is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def follow() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _peak_bytes() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage * (1 if sys.platform == "darwin" else 1024)
