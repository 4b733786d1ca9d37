"""An executor without processes, for tests of whole ingests that shall be quick."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from usds.curation.executor import Done, Job
from usds.curation.ingest import IngestOptions, IngestReport, ingest
from usds.curation.settings import IngestSettings
from usds.curation.worker import WorkerSetup

DEMO_KEY = Path(__file__).parents[2] / "examples" / "demo.key"


class InProcess:
    """An executor without processes: the real handlers, quick to start."""

    def __init__(self, setup: WorkerSetup, calls: Counter[str] | None = None) -> None:
        from usds.curation import stages

        name = setup.handler.partition(":")[2]
        self._temporary = tempfile.tempdir  # handlers move it into the private state
        self._handler = getattr(stages, name)(setup)
        self._calls, self._name = Counter[str]() if calls is None else calls, name

    def map(self, jobs: Iterable[Job]) -> Iterator[Done]:
        from usds.curation.worker import _handle

        for job in jobs:
            for item in job.items:
                self._calls[self._name] += 1
                yield Done(item, _handle(self._handler, item))

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *error: object) -> None:
        tempfile.tempdir = self._temporary


def ingest_here(
    raw: Path, root: Path, settings: IngestSettings | None = None, **options: Any
) -> IngestReport:
    """Ingest in this process, with the public key."""
    key = None if (root / "dataset.json").exists() else DEMO_KEY
    return ingest(
        [raw],
        root,
        settings,
        IngestOptions(key_file=key, **options),
        executor=lambda setup, _: InProcess(setup),
    )
