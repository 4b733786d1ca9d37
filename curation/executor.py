"""Run work in processes that may die: one bad file costs one file.

Only names cross the process line: the parent sends item keys, a worker answers with keys and reason codes.
What an item *is* stands in the private state, where the worker looks it up.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Protocol, Self

import psutil

from usds.curation.worker import WorkerSetup, serve
from usds.schemas.errors import ContentError
from usds.schemas.offline import silence

__all__ = ["Done", "Executor", "Job", "LocalExecutor", "WatchLimits"]

_POLL_SECONDS = 0.1
_MAX_FAILED_STARTS = 3
_RECYCLE_AT = 0.8
_PRELOAD = ["numpy", "cv2", "pydicom", "pyarrow", "onnxruntime"]
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


@dataclass(frozen=True, slots=True)
class Job:
    """Items that one worker handles one after the other."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an item: "ok", or a reason code of `usds.schemas.tables`."""

    item: str
    reason: str


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """What one item may use before its worker is killed.

    Attributes
    ----------
    seconds : float
        Wall clock of one item.
    memory_bytes : int
        Resident memory of the worker.
    """

    seconds: float = 300.0
    memory_bytes: int = 1_500_000_000


class Executor(Protocol):
    """Something that runs jobs somewhere; leave it as a context manager so that nothing stays behind."""

    def map(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Run the jobs; every item is yielded exactly once, in any order."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(slots=True)
class _Lane:
    """One worker process and what it is doing."""

    process: BaseProcess
    connection: Connection[Any, Any]
    pending: deque[str] = field(default_factory=deque[str])
    current: str | None = None
    since: float = 0.0
    ready: bool = False
    verdict: str | None = None


class LocalExecutor:
    """Worker processes of this machine, started by a fork server.

    A worker that crashes, hangs, or outgrows its memory is replaced; the file it held gets the reason
    ("decoder_crash", "timeout", "memory"), and the files that waited behind it are tried again one by one.

    Parameters
    ----------
    setup : WorkerSetup
        What a worker loads when it starts.
    workers : int
        Number of processes.
    limits : WatchLimits
    """

    def __init__(self, setup: WorkerSetup, *, workers: int, limits: WatchLimits | None = None) -> None:
        self._setup = setup
        self._workers = max(1, workers)
        self._limits = limits or WatchLimits()
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            self._context.set_forkserver_preload(_PRELOAD)
        self._lanes: list[_Lane] = []
        self._queue: deque[Job] = deque()
        self._killed_once: set[str] = set()
        self._failed_starts = 0
        self.peak_bytes = 0
        """Largest resident memory any worker reported or was seen with."""

    # -- life ---------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for lane in self._lanes:
            if error is None and lane.current is None:
                _send(lane, None)
            else:
                lane.process.kill()
        for lane in self._lanes:
            lane.process.join(5)
            if lane.process.is_alive():
                lane.process.kill()
                lane.process.join()
            lane.connection.close()
        self._lanes.clear()

    def worker_pids(self) -> list[int]:
        """Process ids of the living workers."""
        return [lane.process.pid for lane in self._lanes if lane.process.pid]

    # -- work ---------------------------------------------------------------------------------------

    def map(self, jobs: Iterable[Job]) -> Iterator[Done]:
        """Run the jobs; every item is yielded exactly once, in any order.

        Raises
        ------
        ContentError
            If workers cannot start, or a disk is full.
        """
        self._queue.extend(jobs)
        while self._queue or any(lane.pending or lane.current for lane in self._lanes):
            self._fill()
            readable = wait([lane.connection for lane in self._lanes], timeout=_POLL_SECONDS)
            for lane in [lane for lane in self._lanes if lane.connection in readable]:
                yield from self._listen(lane)
            self._watch()

    def _fill(self) -> None:
        """Give waiting jobs to idle workers, starting as many workers as there is work for."""
        for lane in self._lanes:
            if self._queue and lane.current is None and not lane.pending:
                self._give(lane)
        while self._queue and len(self._lanes) < self._workers:
            lane = self._start()
            self._lanes.append(lane)
            self._give(lane)

    def _give(self, lane: _Lane) -> None:
        job = self._queue.popleft()
        lane.pending.extend(job.items)
        lane.since = time.monotonic()
        _send(lane, job.items)

    def _start(self) -> _Lane:
        parent, child = self._context.Pipe()
        process = self._context.Process(target=serve, args=(child, self._setup), daemon=True)
        with _single_threaded():
            process.start()
        child.close()
        return _Lane(process, parent)

    def _listen(self, lane: _Lane) -> Iterator[Done]:
        """Take what a worker has said so far."""
        try:
            while lane.connection.poll():
                kind, value, extra = lane.connection.recv()
                if kind == "start":
                    lane.current, lane.since, lane.ready = value, time.monotonic(), True
                elif kind == "done":
                    lane.pending.remove(value)
                    lane.current, lane.since = None, time.monotonic()
                    if extra == "disk_full":
                        raise ContentError(_disk_full_message(self._setup))
                    yield Done(value, extra)
                elif kind == "idle":
                    self._recycle(lane, int(value))
                elif kind == "refused":
                    raise ContentError(value)
        except (EOFError, ConnectionResetError):
            yield from self._bury(lane)

    def _bury(self, lane: _Lane) -> Iterator[Done]:
        """A worker died: name the culprit, put what waited behind it back singly."""
        self._lanes.remove(lane)
        lane.process.join()
        lane.connection.close()
        culprit = lane.current
        rest = [item for item in lane.pending if item != culprit]
        self._queue.extendleft(Job((item,)) for item in reversed(rest))
        if culprit is None:
            self._failed_starts += 0 if lane.ready else 1
            if self._failed_starts >= _MAX_FAILED_STARTS:
                raise ContentError(
                    "the workers die when they start: run `usds doctor`; the reason is in the log "
                    f"{self._setup.log_name}.log of the private state"
                )
            return
        killed = lane.process.exitcode == -signal.SIGKILL
        if lane.verdict is None and killed and culprit not in self._killed_once:
            self._killed_once.add(culprit)  # somebody killed the process: that says little about the file
            self._queue.appendleft(Job((culprit,)))
            return
        yield Done(culprit, lane.verdict or ("memory" if killed else "decoder_crash"))

    def _recycle(self, lane: _Lane, peak: int) -> None:
        """Replace an idle worker that has grown, before a file is blamed for it."""
        self.peak_bytes = max(self.peak_bytes, peak)
        if _resident(lane) > _RECYCLE_AT * self._limits.memory_bytes:
            self._lanes.remove(lane)
            _send(lane, None)
            lane.process.join(5)
            lane.process.kill()
            lane.connection.close()

    def _watch(self) -> None:
        """Kill workers over their limits; `_listen` then meets the closed pipe."""
        now = time.monotonic()
        for lane in self._lanes:
            if lane.verdict is not None or not (lane.current or lane.pending):
                continue
            resident = _resident(lane)
            self.peak_bytes = max(self.peak_bytes, resident)
            if lane.current is not None and now - lane.since > self._limits.seconds:
                lane.verdict = "timeout"
            elif resident > self._limits.memory_bytes:
                lane.verdict = "memory"
            if lane.verdict is not None:
                lane.process.kill()


def _send(lane: _Lane, message: object) -> None:
    try:
        lane.connection.send(message)
    except (BrokenPipeError, ConnectionResetError, OSError):
        return  # a worker that is gone is found by its closed pipe


def _resident(lane: _Lane) -> int:
    try:
        return psutil.Process(lane.process.pid).memory_info().rss
    except psutil.Error:
        return 0


def _disk_full_message(setup: WorkerSetup) -> str:
    return (
        f"the disk of the private state ({setup.state_folder}) is full: free space there, then run the same "
        "command again; finished files are kept"
    )


@contextmanager
def _single_threaded() -> Generator[None]:
    """Let the fork server, and so every worker, start with one thread a library: workers are the threads."""
    silence()
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
