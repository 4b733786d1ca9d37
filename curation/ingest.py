"""``usds ingest``: raw folders to a dataset, in two passes, resumable at any moment.

The first pass learns what each file is and whom it names; the second writes frames and captions knowing all
of that. Every step is decided from what is on disk: running the command again does what is missing.
"""

from __future__ import annotations

import secrets
from base64 import b32encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from usds.curation.catalogue import Catalogue
from usds.curation.commit import drop_sources, mark_near_duplicates
from usds.curation.deid.identity import Ids
from usds.curation.first_pass import first_pass
from usds.curation.linking import LinkOptions
from usds.curation.outcomes import HARMLESS, TRANSIENT, outcome_of
from usds.curation.probe import probe_stamp
from usds.curation.recheck import recheck_captions
from usds.curation.review_folder import ReviewFolder
from usds.curation.run import NOBODY, ExecutorFactory, Run, Watcher, local_executor
from usds.curation.second_pass import second_pass
from usds.curation.settings import IngestSettings, detector_version, differences, tool_version
from usds.curation.sources import Scan, encode_path, refuse_overlap, scan
from usds.curation.waiting import keep_out, undone
from usds.schemas.dataset import Dataset, exclusive, is_dataset
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.state import State, fingerprint, read_key_file, state_folder

__all__ = ["INGESTS", "IngestOptions", "IngestReport", "Watcher", "ingest", "preview"]


INGESTS: Final = "ingests"
"""Document of the private state: raw folders and ``--subjects`` of earlier runs, the latest first."""
_REMEMBERED: Final = 100


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """What one run is asked to do besides its settings.

    Attributes
    ----------
    key_file : Path or None
        Key of a new dataset; a random one is made without it.
    link : LinkOptions
        How subjects are found (``--subjects``).
    redo : bool
        Write everything again, also with other settings.
    retry : frozenset of str
        "transient", "review", "quarantined": which files are tried again.
    command : str
        As typed, for the message to a second writer.
    """

    key_file: Path | None = None
    link: LinkOptions = field(default_factory=LinkOptions)
    redo: bool = False
    retry: frozenset[str] = frozenset()
    command: str = "usds ingest"


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one run did.

    Attributes
    ----------
    files : int
        Files below the raw arguments, members of archives included.
    done : int
        Files that this run worked on; 0 when there was nothing to do.
    reasons : dict
        Files of this scan by reason code, whenever they were worked on.
    frames, captions, subjects, near_duplicates : int
        In the dataset now.
    withheld_captions : int
        In the private state, by this run.
    warnings : tuple of str
    """

    dataset: str
    files: int
    done: int
    reasons: Mapping[str, int]
    frames: int
    captions: int
    subjects: int
    near_duplicates: int
    withheld_captions: int
    peak_worker_bytes: int
    warnings: tuple[str, ...]

    @property
    def refused(self) -> int:
        """Files that were rejected as unusable or quarantined."""
        return sum(
            count
            for reason, count in self.reasons.items()
            if reason not in HARMLESS and outcome_of(reason) in ("rejected", "quarantined")
        )

    @property
    def exit_code(self) -> int:
        """0 done; 3 done, but some files were refused."""
        return 3 if self.refused else 0


def preview(
    raws: Sequence[Path], root: Path, settings: IngestSettings, options: IngestOptions
) -> dict[str, int]:
    """What an ingest would look at; nothing is written, and nothing of the files is read.

    Returns
    -------
    dict
        Files and their bytes; how many of them the dataset does not know as they are ("new"); how many
        would be refused unopened, by reason.

    Raises
    ------
    UsageError, ContentError
        As :func:`ingest` would before its work begins.
    """
    found = _scan(raws)
    refuse_overlap(raws, root, state_folder("any").parent)
    known = set[tuple[str, int, int]]()
    exists = is_dataset(root)
    if exists:
        dataset, state = _reopen(root, options)
        if not _settings_differ(dataset, settings, options) and not options.redo:
            known = state.known_files()
    refused = Counter(file.reason for file in found.files if file.reason)
    new = sum((encode_path(file.path), file.size, file.mtime_ns) not in known for file in found.files)
    return {
        "files": len(found.files), "new": new, "bytes": sum(file.size for file in found.files),
        "datasets_skipped": found.datasets_skipped, "dataset_exists": int(exists),
        **{str(reason): n for reason, n in refused.items()},
    }  # fmt: skip


def ingest(
    raws: Sequence[Path],
    root: Path,
    settings: IngestSettings | None = None,
    options: IngestOptions | None = None,
    *,
    watcher: Watcher = NOBODY,
    executor: ExecutorFactory = local_executor,
) -> IngestReport:
    """Bring raw files into a dataset.

    Parameters
    ----------
    raws : sequence of Path
        Folders or files.
    root : Path
        The dataset directory; made when it does not exist.
    settings : IngestSettings, optional
    options : IngestOptions, optional
    watcher : Watcher
        Hears how far the work is.
    executor : function
        Makes what runs the work.

    Raises
    ------
    UsageError
        A raw folder is missing, a place lies inside another, or settings differ from the dataset's.
    ContentError
        There is no file, the key is missing or wrong, another process writes, or a disk is full.
    """
    settings, options = settings or IngestSettings(), options or IngestOptions()
    found = _scan(raws)
    refuse_overlap(raws, root, state_folder("any").parent)
    with exclusive(root, options.command):
        dataset, state = _open(root, settings, options)
        dataset.sweep()
        if _settings_differ(dataset, settings, options):
            _save_settings(dataset, settings)
        catalogue = Catalogue(state.folder, probe_stamp(settings))
        link = replace(options.link, mapped="subject" in settings.columns)
        run = Run(dataset, state, Ids(state.key), settings, catalogue, watcher, executor, link)
        _remember(state, raws, options.link)
        try:
            return _ingest(run, found, options)
        finally:
            catalogue.close()


def _scan(raws: Sequence[Path]) -> Scan:
    found = scan(raws)
    if not found.files:
        names = ", ".join(str(raw) for raw in raws)
        raise ContentError(f"no files below {names}: name the folder that holds the raw export")
    return found


def _open(root: Path, settings: IngestSettings, options: IngestOptions) -> tuple[Dataset, State]:
    """Open the dataset and its state, or make both."""
    if is_dataset(root):
        return _reopen(root, options)
    key = read_key_file(options.key_file) if options.key_file else None
    others = [path.name for path in root.iterdir() if path.name != ".lock"]
    if others:
        raise UsageError(f"{root} exists and is no dataset: name an empty or a new folder with --dataset")
    dataset_id = b32encode(secrets.token_bytes(10)).decode().lower()
    state = State.create(dataset_id, key)
    dataset = Dataset.create(
        root, key_fingerprint=fingerprint(state.key), tool=tool_version(), detector=detector_version(),
        settings=settings.output(), settings_hash=settings.output_hash(), dataset_id=dataset_id,
    )  # fmt: skip
    return dataset, state


def _reopen(root: Path, options: IngestOptions) -> tuple[Dataset, State]:
    dataset = Dataset.open(root)
    state = State.open(dataset.info.dataset_id, dataset.info.key_fingerprint)
    if options.key_file and read_key_file(options.key_file) != state.key:
        raise UsageError(
            f"{options.key_file} is not the key that {root} was made with: leave --key away, or ingest "
            "into another dataset"
        )
    return dataset, state


def _settings_differ(dataset: Dataset, settings: IngestSettings, options: IngestOptions) -> bool:
    """Whether the dataset was made otherwise. One dataset has one way of being made.

    Raises
    ------
    UsageError
        Naming each difference, unless everything is to be done again.
    """
    if dataset.info.settings_hash == settings.output_hash():
        return False
    found = differences(
        {**dataset.info.settings, "detector": dataset.info.detector},
        {**settings.output(), "detector": detector_version()},
    )
    if not options.redo:
        raise UsageError(
            f"{dataset.root} was made with other settings or by another version ({'; '.join(found)}): go "
            "back to those, write it again with --redo, or ingest into another dataset with --dataset"
        )
    return True


def _save_settings(dataset: Dataset, settings: IngestSettings) -> None:
    dataset.save_info(
        settings=settings.output(), settings_hash=settings.output_hash(), detector=detector_version(),
        tool=tool_version(),
    )  # fmt: skip


def _remember(state: State, raws: Sequence[Path], link: LinkOptions) -> None:
    """Note how the raw folders were read, so that the end of a review can do it again."""
    subjects = encode_path(str(link.file.resolve())) if link.file else None
    entry = {"raws": [encode_path(str(raw.resolve())) for raw in raws], "subjects": subjects}
    before: list[Any] = state.read(INGESTS) or []
    others = [other for other in before if other["raws"] != entry["raws"]]
    state.write(INGESTS, [entry, *others][:_REMEMBERED])


def _ingest(run: Run, found: Scan, options: IngestOptions) -> IngestReport:
    run.catalogue.note_scan(found.files)
    keep_out(run.dataset, run.state)
    ReviewFolder.viewed(run.state).sweep(frozenset())  # what a killed review left
    _prepare_retry(run, options)
    linked = first_pass(run)
    rechecked = recheck_captions(run.dataset, run.state, linked.index_stamp)
    result = second_pass(run, linked, redo=options.redo)
    near = mark_near_duplicates(run.dataset, run.settings.near_duplicate_bits)
    warnings = list(linked.warnings)
    if rechecked:
        warnings.append(f"{rechecked} captions were cleaned again: files of this run name more identifiers")
    if waiting := len(undone(run.dataset, run.state)):
        warnings.append(f"{waiting} decisions of a person wait: their files are not below this raw folder")
    if found.datasets_skipped:
        warnings.append(f"{found.datasets_skipped} folders with a dataset.json were passed over")
    frames = run.dataset.arrow("frames")
    subjects = frames.to_table(columns=["subject_id"]).column(0).unique()
    return IngestReport(
        str(run.dataset.root), len(linked.sources), result.done, result.reasons, frames.count_rows(),
        run.dataset.arrow("captions").count_rows(), len(subjects), near, result.withheld, run.peak_bytes,
        tuple(warnings),
    )  # fmt: skip


def _prepare_retry(run: Run, options: IngestOptions) -> None:
    """Drop the rows of files that shall be tried again, and read them anew."""
    if not options.retry:
        return
    rows = run.dataset.arrow("sources").to_table(columns=["source_key", "outcome", "reason"]).to_pylist()
    wanted = {row["source_key"] for row in rows if _is_wanted(row["outcome"], row["reason"], options.retry)}
    drop_sources(run.dataset, wanted)
    run.catalogue.forget_probe(_rows_of(run.catalogue, wanted))


def _is_wanted(outcome: str, reason: str, retry: Iterable[str]) -> bool:
    return outcome in retry or ("transient" in retry and reason in TRANSIENT)


def _rows_of(catalogue: Catalogue, keys: set[str]) -> list[int]:
    return [entry.id for entry in catalogue.entries() if entry.old_key in keys]
