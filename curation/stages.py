"""What workers do: the first pass (what is this file?) and the second (frames and captions).

Both look their item up in the private state by its key and leave their result there; the answer is a reason
code.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml

from usds.curation.catalogue import Catalogue
from usds.curation.deid.harvest import IdentifierIndex, Matcher
from usds.curation.deid.identity import Ids
from usds.curation.deid.pixels import PixelCleaner
from usds.curation.deid.prose import Scrubber
from usds.curation.outcomes import source_row
from usds.curation.pipeline import Pipeline, WorkItem
from usds.curation.probe import probe_file, probe_stamp
from usds.curation.review_folder import ReviewFolder
from usds.curation.settings import IngestSettings
from usds.curation.staging import Staged, Staging
from usds.curation.worker import Handler, WorkerSetup
from usds.schemas.state import State, read_key_file
from usds.taxonomy.udt import Taxonomy, load_taxonomy

__all__ = ["RUN", "curator", "prober", "read_run", "scrubber_terms", "worker_state", "write_run"]

RUN = "run"
"""Name of the state's document that tells workers what the run is about."""
_OVERLAY_DIMENSIONS = ("body_system", "organ")
_OVERLAY_FORMS = ("synonyms", "substructures")


def write_run(state: State, settings: IngestSettings, stamp: str) -> None:
    """Tell the workers the settings of the run and the stamp of what they stage."""
    state.write(RUN, {"settings": settings.model_dump(mode="json"), "stamp": stamp})


def read_run(state: State) -> tuple[IngestSettings, str]:
    """Settings and stamp as :func:`write_run` left them."""
    raw = cast("Mapping[str, Any]", state.read(RUN))
    return IngestSettings.model_validate(raw["settings"]), raw["stamp"]


def worker_state(setup: WorkerSetup) -> State:
    """The private state as a worker opens it; temporary files of libraries lie in it."""
    folder = Path(setup.state_folder)
    tempfile.tempdir = str(folder)  # a library's temporary file holds what the raw file holds
    return State(folder, read_key_file(folder / "key"))


def prober(setup: WorkerSetup) -> Handler:
    """First pass: item keys are rows of the catalogue."""
    state = worker_state(setup)
    settings, _ = read_run(state)
    catalogue = Catalogue(state.folder, probe_stamp(settings))

    def handle(item: str) -> str:
        entry = catalogue.entry(int(item))
        info = os.stat(entry.disk_path)
        probe = probe_file(entry.disk_path, entry.member, settings)
        size = entry.size if entry.member else info.st_size
        catalogue.save_probe(entry.id, probe, size=size, mtime_ns=info.st_mtime_ns)
        return probe.reason

    return handle


def curator(setup: WorkerSetup) -> Handler:
    """Second pass: item keys are source keys."""
    state = worker_state(setup)
    settings, stamp = read_run(state)
    catalogue = Catalogue(state.folder, probe_stamp(settings))
    staging = Staging(state.folder / "staging", stamp)
    index = IdentifierIndex.load(state)
    taxonomy = load_taxonomy("udt")
    cleaner = PixelCleaner(settings.pixels, overlay_vocabulary(taxonomy))
    review = ReviewFolder.doubted(state)
    pipeline = Pipeline(Ids(state.key), settings, cleaner, Scrubber(scrubber_terms(taxonomy)), review)

    @lru_cache(maxsize=64)
    def matcher(subject_id: str) -> Matcher:
        return index.matcher(subject_id)

    def handle(item: str) -> str:
        work = WorkItem.from_json(catalogue.work(item))
        staged = pipeline.run(work, matcher(work.subject_id))
        staging.write(item, staged)
        return staged.source["reason"]

    return handle


def failed(item: WorkItem, reason: str) -> Staged:
    """What is staged for a file whose worker gave up or died."""
    return Staged(source_row(item.source_key, item.kind, reason))


def scrubber_terms(taxonomy: Taxonomy) -> frozenset[str]:
    """Words that captions may hold because the taxonomy knows them."""
    terms: set[str] = set()
    for dimension in taxonomy.dimensions:
        for label in dimension.labels:
            terms.add(label.name)
            terms.update(form.text for form in label.forms)
    return frozenset(terms)


def overlay_vocabulary(taxonomy: Taxonomy) -> frozenset[str]:
    """Words that may be read off the screen: organs, sides, planes, positions; none with a digit."""
    content = (resources.files("usds.curation") / "overlay.yaml").read_text("utf-8")
    words: set[str] = set()
    for group in cast("dict[str, list[str]]", yaml.safe_load(content)).values():
        words.update(word.lower() for word in group)
    for dimension in taxonomy.dimensions:
        if dimension.name in _OVERLAY_DIMENSIONS:
            for label in dimension.labels:
                plain = (form.text for form in label.forms if form.group in _OVERLAY_FORMS)
                for text in (label.name, *plain):
                    words.update(text.lower().replace("-", " ").split())
    return frozenset(word for word in words if word.isalpha() and len(word) > 1)
