"""What the steps of one ingest share: the places, the key's ids, the settings, who listens, who works."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from usds.curation.catalogue import Catalogue
from usds.curation.deid.identity import Ids
from usds.curation.executor import Done, Executor, Job, LocalExecutor, WatchLimits
from usds.curation.linking import LinkOptions
from usds.curation.settings import IngestSettings
from usds.curation.worker import WorkerSetup
from usds.schemas.dataset import Dataset
from usds.schemas.state import State

__all__ = ["NOBODY", "ExecutorFactory", "Run", "Watcher", "local_executor"]


class Watcher(Protocol):
    """Hears how far the work is."""

    def stage(self, label: str, total: int) -> None:
        """A stage begins: ``total`` files are ahead."""
        ...

    def advance(self) -> None:
        """One more file is done."""
        ...


class _Nobody:
    def stage(self, label: str, total: int) -> None:
        """Nobody listens."""

    def advance(self) -> None:
        """Nobody listens."""


NOBODY: Final[Watcher] = _Nobody()

ExecutorFactory = Callable[[WorkerSetup, IngestSettings], Executor]


def local_executor(setup: WorkerSetup, settings: IngestSettings) -> Executor:
    """Worker processes of this machine."""
    limits = WatchLimits(settings.run.timeout_s, setup.memory_bytes)
    return LocalExecutor(setup, workers=settings.run.worker_count, limits=limits)


@dataclass(slots=True)
class Run:
    """One ingest."""

    dataset: Dataset
    state: State
    ids: Ids
    settings: IngestSettings
    catalogue: Catalogue
    watcher: Watcher
    executor: ExecutorFactory
    link: LinkOptions
    peak_bytes: int = 0

    def work(self, handler: str, label: str, items: Iterable[str], *, per_job: int = 1) -> Iterator[Done]:
        """Have workers handle items; each is answered once.

        Parameters
        ----------
        handler : str
            Name of the factory in `usds.curation.stages`.
        label : str
            What the person at the terminal reads.
        items : iterable of str
        per_job : int
            Items that go to a worker at once.
        """
        keys = list(items)
        if not keys:
            return
        self.watcher.stage(label, len(keys))
        setup = WorkerSetup(
            f"usds.curation.stages:{handler}", str(self.state.folder), str(self.dataset.root),
            self.settings.run.memory_mb * 1_000_000,
        )  # fmt: skip
        jobs = [Job(tuple(keys[i : i + per_job])) for i in range(0, len(keys), per_job)]
        with self.executor(setup, self.settings) as executor:
            for done in executor.map(jobs):
                self.watcher.advance()
                yield done
            self.peak_bytes = max(self.peak_bytes, getattr(executor, "peak_bytes", 0))
