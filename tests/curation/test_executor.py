"""Workers that crash, hang, grow, or are killed cost one item each."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from usds.curation.executor import Job, LocalExecutor, WatchLimits
from usds.curation.worker import WorkerSetup
from usds.schemas.errors import ContentError

HANDLERS = """
import os, signal, sys, time, warnings, errno
from pathlib import Path
from usds.curation.readers.base import MediaError
from usds.schemas.errors import ContentError

def plain(setup):
    folder = Path(setup.dataset)
    def handle(item):
        with (folder / item).open("a") as stream:
            stream.write("x")
        kind = item.split("-")[0]
        if kind == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        if kind == "hang":
            time.sleep(60)
        if kind == "grow":
            held = bytearray(700_000_000)
            time.sleep(60)
        if kind == "alloc":
            bytearray(40_000_000_000)
        if kind == "media":
            raise MediaError("truncated")
        if kind == "denied":
            raise PermissionError(errno.EACCES, "SMITH^JOHN")
        if kind == "full":
            raise OSError(errno.ENOSPC, "no space")
        if kind == "bug":
            print("SMITH^JOHN on stdout"); os.write(2, b"SMITH^JOHN from C code\\n")
            warnings.warn("SMITH^JOHN in a warning")
            raise ValueError("Invalid value: SMITH^JOHN")
        if kind == "killed" and (folder / item).stat().st_size == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "oom":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "slow":
            time.sleep(0.5)
        return "ok"
    return handle

def torch_free(setup):
    return lambda item: "torch" if "torch" in sys.modules else "ok"

def refusing(setup):
    raise ContentError("the detector's models are missing: install rapidocr")

def dying(setup):
    os._exit(3)
"""


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], WorkerSetup]:
    """Worker setups whose handlers live in a module the workers can import."""
    (tmp_path / "executor_handlers.py").write_text(HANDLERS, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "seen").mkdir()

    def make(name: str) -> WorkerSetup:
        return WorkerSetup(f"executor_handlers:{name}", str(tmp_path / "state"), str(tmp_path / "seen"))

    return make


def outcomes(
    setup: WorkerSetup, *jobs: tuple[str, ...], workers: int = 2, seconds: float = 30
) -> dict[str, str]:
    limits = WatchLimits(seconds=seconds, memory_bytes=500_000_000)
    with LocalExecutor(setup, workers=workers, limits=limits) as executor:
        done = list(executor.map([Job(items) for items in jobs]))
        assert len(executor.worker_pids()) <= workers
        pids = executor.worker_pids()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert len({d.item for d in done}) == len(done)
    return {d.item: d.reason for d in done}


def test_every_item_is_answered_once(setup: Callable[[str], WorkerSetup]) -> None:
    items = [tuple(f"a-{i}-{j}" for j in range(5)) for i in range(6)]
    assert outcomes(setup("plain"), *items) == {item: "ok" for job in items for item in job}


def test_crash_hang_and_growth_cost_one_item_each(setup: Callable[[str], WorkerSetup]) -> None:
    found = outcomes(
        setup("plain"), ("a-1", "segv-1", "a-2", "a-3"), ("hang-1", "b-1"), ("grow-1", "b-2"), seconds=2
    )
    assert found == {
        "a-1": "ok", "segv-1": "decoder_crash", "a-2": "ok", "a-3": "ok",
        "hang-1": "timeout", "b-1": "ok", "grow-1": "memory", "b-2": "ok",
    }  # fmt: skip


def test_finished_neighbours_are_not_done_again(setup: Callable[[str], WorkerSetup], tmp_path: Path) -> None:
    outcomes(setup("plain"), ("a-1", "segv-1", "a-2"))
    assert {p.name: p.read_text() for p in (tmp_path / "seen").iterdir()} == {
        "a-1": "x", "segv-1": "x", "a-2": "x"
    }  # fmt: skip


def test_a_worker_killed_from_outside_is_given_a_second_chance(setup: Callable[[str], WorkerSetup]) -> None:
    assert outcomes(setup("plain"), ("killed-1", "oom-1", "a-1")) == {
        "killed-1": "ok", "oom-1": "memory", "a-1": "ok"
    }  # fmt: skip


def test_exceptions_become_reasons_and_their_text_stays_in_the_private_log(
    setup: Callable[[str], WorkerSetup], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = outcomes(setup("plain"), ("media-1", "denied-1", "bug-1", "alloc-1"))
    assert found == {
        "media-1": "truncated", "denied-1": "permission_denied", "bug-1": "stage_failed", "alloc-1": "memory"
    }  # fmt: skip
    out, err = capfd.readouterr()
    assert "SMITH" not in out + err
    log = tmp_path / "state" / "logs" / "workers.log"
    assert log.stat().st_mode & 0o777 == 0o600
    for text in ("on stdout", "from C code", "in a warning", "Invalid value"):
        assert text in log.read_text("utf-8")


def test_a_full_disk_ends_the_run_with_what_to_do(setup: Callable[[str], WorkerSetup]) -> None:
    with pytest.raises(ContentError, match=r"full: free space there, then run the same command again"):
        outcomes(setup("plain"), ("full-1", "a-1"))


def test_a_worker_that_cannot_start_says_why(setup: Callable[[str], WorkerSetup]) -> None:
    with pytest.raises(ContentError, match=r"models are missing: install rapidocr"):
        outcomes(setup("refusing"), ("a-1",))
    with pytest.raises(ContentError, match=r"workers die when they start: run `usds doctor`"):
        outcomes(setup("dying"), ("a-1",))


def test_an_error_in_the_parent_leaves_no_worker(setup: Callable[[str], WorkerSetup]) -> None:
    pids: list[int] = []

    def interrupted() -> None:
        with LocalExecutor(setup("plain"), workers=2) as executor:
            for _ in executor.map([Job(("a-1", "slow-1", "hang-1"))]):
                pids.extend(executor.worker_pids())
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert pids
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_workers_do_not_load_torch(setup: Callable[[str], WorkerSetup]) -> None:
    assert outcomes(setup("torch_free"), ("a-1",)) == {"a-1": "ok"}
