"""`usds import us365k`: the published US-365K as a dataset: streamed, resumable, labels as released.

Frames keep their bytes (without metadata), captions their text; captions that say that nothing is described
are left out. The published labels become an annotation set of their own, so that `usds annotate` can lay its
own extraction beside them. The published split is kept as ``published``; ``default`` is the same without the
training and validation cases that share a picture with a later side.
"""

from __future__ import annotations

import re
import secrets
from base64 import b32encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from usds.curation.commit import mark_near_duplicates
from usds.curation.near_duplicates import MAX_DISTANCE
from usds.curation.published.frames import NO_FINDINGS, FrameWriter
from usds.curation.published.images import ReleasedImages
from usds.curation.published.labels import write_label_set, write_splits
from usds.curation.published.release import (
    RECORDS,
    Labels,
    Pair,
    Splits,
    assign_cases,
    read_labels,
    read_splits,
)
from usds.curation.settings import tool_version
from usds.curation.sources import refuse_overlap
from usds.schemas.dataset import Dataset, exclusive, is_dataset
from usds.schemas.errors import UsageError
from usds.schemas.files import canonical_json
from usds.schemas.state import State, fingerprint, state_folder
from usds.taxonomy.extract import Extractor
from usds.taxonomy.udt import Taxonomy

__all__ = ["ImportReport", "import_us365k", "preview_us365k"]

RULES: Final = 1
SETTINGS: Final[Mapping[str, Any]] = {"import": "us365k", "images": "as released", "rules": RULES}
DETECTOR: Final = "none: published pictures are stored as released"
# "No specific ultrasound findings are provided for a detailed description of the lesion."
_SAYS_NOTHING: Final = re.compile(
    r"\bno\b[^.;]{0,60}\b(?:findings?|details?|descriptions?|information|abnormalit\w+|features?)\b[^.;]{0,30}"
    r"\b(?:provided|available|given|described|specified|reported|stated|mentioned)\b",
    re.IGNORECASE,
)
_DESCRIBES: Final = ("finding", "descriptor")

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class ImportReport:
    """What an import found and did; counts are of the whole release, whenever the work was done.

    Attributes
    ----------
    pairs : int
        Lines of the split files that name a picture.
    frames, captions, cases : int
        In the dataset.
    no_findings : int
        Frames without a caption, because theirs says that nothing is described.
    refused : dict
        Reason code -> pictures that are not in the dataset.
    bad_lines : dict
        Split file -> numbers of the lines that hold no pair.
    unlabelled : int
        Frames without a record in full_data.json.
    unknown_labels : dict
        "key: label" that the taxonomy lacks -> how often.
    sides, excluded : dict
        Cases of each side of ``default``, and how many were excluded from which published side.
    warnings : list of str
    """

    dataset: str
    pairs: int = 0
    frames: int = 0
    captions: int = 0
    cases: int = 0
    no_findings: int = 0
    done: int = 0
    refused: dict[str, int] = field(default_factory=dict[str, int])
    bad_lines: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    unlabelled: int = 0
    unknown_labels: dict[str, int] = field(default_factory=dict[str, int])
    sides: dict[str, int] = field(default_factory=dict[str, int])
    excluded: dict[str, int] = field(default_factory=dict[str, int])
    near_duplicates: int = 0
    label_set: str = ""
    warnings: list[str] = field(default_factory=list[str])

    @property
    def exit_code(self) -> int:
        """0 done; 3 done, but pictures or lines were refused."""
        return 3 if self.refused or self.bad_lines else 0


def _nobody(_done: int, _total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class _Release:
    """A release as read from disk."""

    folder: Path
    splits: Splits
    pairs: list[Pair]
    labels: Labels
    images: ReleasedImages


def _read(folder: Path, taxonomy: Taxonomy) -> _Release:
    splits = read_splits(folder)
    labels = read_labels(folder / RECORDS, taxonomy, (pair.image for pair in splits.pairs))
    pairs = assign_cases(splits.pairs, labels.case)
    return _Release(folder, splits, pairs, labels, ReleasedImages(folder))


def preview_us365k(folder: Path, taxonomy: Taxonomy) -> ImportReport:
    """What an import would find; pictures are looked for, not opened, and nothing is written.

    Raises
    ------
    UsageError, ContentError
        As :func:`import_us365k`.
    """
    release = _read(folder, taxonomy)
    release.images.close()
    report = _begin(release, "")
    missing = sum(pair.image not in release.images for pair in release.pairs)
    report.frames = len(release.pairs) - missing
    report.refused = {"unmatched_sidecar": missing} if missing else {}
    report.sides = dict(Counter({pair.case: pair.side for pair in release.pairs}.values()))
    return report


def import_us365k(
    folder: Path,
    root: Path,
    taxonomy: Taxonomy,
    *,
    label_set: str = "us365k",
    key: bytes | None = None,
    command: str = "usds import us365k",
    progress: Progress | None = None,
) -> ImportReport:
    """Import a release into a new dataset, or go on with one that was interrupted.

    Parameters
    ----------
    folder : Path
        Holds train.jsonl, valid.jsonl or val.jsonl, test.jsonl, full_data.json, and images/ or images.zip.
    root : Path
        The dataset directory.
    taxonomy : Taxonomy
        Whose label names the published labels are looked up in.
    label_set : str
        Name of the annotation set.
    key : bytes, optional
        Key of a new dataset; a random one without it.
    command : str
        As typed, for the message to a second writer.
    progress : callable, optional
        Takes (pictures done, pictures in all).

    Raises
    ------
    UsageError
        A file of the release is missing, or the dataset was made otherwise.
    ContentError
        A file of the release is damaged, or another process writes.
    """
    release = _read(folder, taxonomy)
    refuse_overlap([folder], root, state_folder("any").parent)
    with exclusive(root, command):
        dataset, state = _open(root, key)
        dataset.sweep()
        report = _begin(release, str(root))
        silent = frozenset(_silent(release.pairs, taxonomy))
        writer = FrameWriter(dataset, state, release.pairs, release.images, silent)
        try:
            files = [*release.splits.files.values(), folder / RECORDS]
            report.done = writer.write(files, progress or _nobody)
        finally:
            release.images.close()
        write_label_set(dataset, taxonomy, label_set, writer.ids, release.pairs, release.labels, silent)
        report.near_duplicates = mark_near_duplicates(dataset, MAX_DISTANCE)
        report.sides, report.excluded = write_splits(dataset, writer.ids, release.pairs)
    return _finish(report, dataset, label_set)


def _begin(release: _Release, root: str) -> ImportReport:
    report = ImportReport(root, pairs=len(release.pairs), bad_lines=release.splits.bad_lines)
    report.cases = len({pair.case for pair in release.pairs})
    unknown = release.labels.unknown
    report.unknown_labels = {f"{key}: {label}": count for (key, label), count in unknown.most_common()}
    report.unlabelled = sum(pair.image not in release.labels.of for pair in release.pairs)
    for side in ("valid", "test"):
        if side not in release.splits.files:
            report.warnings.append(f"{release.folder} has no {side}.jsonl: the split has no side '{side}'")
    if release.splits.repeated:
        report.warnings.append(
            f"{release.splits.repeated} lines name a picture a second time: the first counts"
        )
    if release.images.repeated:
        report.warnings.append(f"{release.images.repeated} pictures are there twice: the first place counts")
    return report


def _finish(report: ImportReport, dataset: Dataset, label_set: str) -> ImportReport:
    frames = dataset.arrow("frames").to_table(columns=["subject_id"])
    captions = dataset.arrow("captions")
    report.frames, report.captions = len(frames), captions.count_rows()
    report.cases = len(frames.column(0).unique())
    sources = dataset.arrow("sources").to_table(columns=["kind", "reason", "warnings"]).to_pylist()
    reasons = Counter(row["reason"] for row in sources if row["reason"] not in ("ok", "ignored"))
    report.refused = dict(sorted(reasons.items()))
    report.no_findings = sum(NO_FINDINGS in row["warnings"] for row in sources)
    report.label_set = label_set
    return report


def _open(root: Path, key: bytes | None) -> tuple[Dataset, State]:
    """The dataset of an earlier import, or a new one with its private state."""
    code = sha256(canonical_json(dict(SETTINGS))).hexdigest()[:16]
    if is_dataset(root):
        dataset = Dataset.open(root)
        if dataset.info.settings_hash != code:
            raise UsageError(
                f"{root} was not made by this import: name a new folder with --dataset (raw exports and "
                "US-365K do not share a dataset)"
            )
        return dataset, State.open(dataset.info.dataset_id, dataset.info.key_fingerprint)
    others = [path.name for path in root.iterdir() if path.name != ".lock"]
    if others:
        raise UsageError(f"{root} exists and is no dataset: name an empty or a new folder with --dataset")
    dataset_id = b32encode(secrets.token_bytes(10)).decode().lower()
    state = State.create(dataset_id, key)  # first: a dataset without its key could never be added to
    dataset = Dataset.create(
        root, key_fingerprint=fingerprint(state.key), tool=tool_version(), detector=DETECTOR,
        settings=SETTINGS, settings_hash=code, dataset_id=dataset_id,
    )  # fmt: skip
    return dataset, state


def _silent(pairs: Iterable[Pair], taxonomy: Taxonomy) -> Iterator[str]:
    """Captions that say that nothing is described."""
    roles = {d.name: d.role for d in taxonomy.dimensions}
    extractor = Extractor(taxonomy)
    texts = list(dict.fromkeys(pair.caption for pair in pairs))
    for text, found in zip(texts, extractor.extract_many(texts), strict=True):
        described = any(roles[d] in _DESCRIBES for d in (*found.present, *found.negated, *found.uncertain))
        if found.abstained in ("no_findings", "empty") or (not described and _SAYS_NOTHING.search(text)):
            yield text
