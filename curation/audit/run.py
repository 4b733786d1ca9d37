"""The audit: read a finished dataset as an adversary would, and say what should not be in it.

Every string of every table and file, every image, every file of the folder. The identifiers come from the
private state, or are harvested from RAW again; patterns (dates, numbers of people, mail addresses) are
searched always. Images are read by another family of reader than the one that cleaned them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from usds.curation.audit.documents import DocumentAuditor
from usds.curation.audit.files import AUDIT_FILE, check_files
from usds.curation.audit.images import ImageAuditor, ImageFinding
from usds.curation.audit.matchers import Finder, Matchers
from usds.curation.audit.text import TextAuditor
from usds.curation.audit.types import Finding, mask
from usds.curation.deid.encode import format_of
from usds.curation.deid.harvest import IdentifierIndex
from usds.curation.stats import settled_by_person
from usds.schemas.dataset import Dataset
from usds.schemas.files import canonical_json, read_json, write_json
from usds.schemas.state import State

__all__ = ["AUDIT_FILE", "AuditReport", "Cohort", "audit", "manifests_digest", "passes"]

SMALL_COHORT: Final = 5
_COHORT_LIMIT: Final = 200

_COHORTS: Final = """
SELECT f.sex, f.age_band, f.vendor, {organ} AS organ, {diagnosis} AS diagnosis,
       count(DISTINCT f.subject_id) AS subjects
FROM frames f {join} GROUP BY ALL HAVING count(DISTINCT f.subject_id) < {limit}
ORDER BY subjects, sex, age_band, vendor, organ, diagnosis
"""


@dataclass(frozen=True, slots=True)
class Cohort:
    """A combination of published facts that fewer than five subjects share."""

    sex: str
    age_band: str
    vendor: str
    organ: str
    diagnosis: str
    subjects: int


@dataclass(slots=True)
class AuditReport:
    """What the audit found.

    Attributes
    ----------
    findings : list of Finding
        Any of them makes the audit fail.
    cohorts : list of Cohort
        Small combinations: a risk to weigh before sharing, not a leak; they do not fail the audit.
    images, strings, files : int
        How much was read.
    known : dict
        With how many identifiers it was compared, by class; empty when nobody was known.
    about : dict
        Of the dataset: its id, what made it, with which settings and key.
    reader : str
        What read the images.
    independent : bool
        Whether that reader is of another family than the detector of the ingest.
    digest : str
        Of the manifests: the state of the dataset that was audited.
    person : dict
        What a person settled: files, frames with boxes of a person, frames where a person removed boxes.
    """

    findings: list[Finding] = field(default_factory=list[Finding])
    cohorts: list[Cohort] = field(default_factory=list[Cohort])
    images: int = 0
    strings: int = 0
    files: int = 0
    known: dict[str, int] = field(default_factory=dict[str, int])
    about: dict[str, str] = field(default_factory=dict[str, str])
    reader: str = "none"
    independent: bool = False
    digest: str = ""
    image_findings: list[ImageFinding] = field(default_factory=list[ImageFinding])
    person: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def passed(self) -> bool:
        """Whether nothing was found by an independent reader."""
        return self.independent and not self.findings

    @property
    def identifiers(self) -> int:
        """With how many identifiers everything was compared."""
        return sum(self.known.values())

    def counts(self) -> dict[str, int]:
        """Findings by class."""
        return dict(sorted(Counter(finding.klass for finding in self.findings).items()))

    def to_json(self) -> dict[str, Any]:
        """Everything, with masked values only."""
        return {
            **self.summary(),
            "findings": [asdict(finding) for finding in self.findings],
            "small_cohorts": [asdict(cohort) for cohort in self.cohorts],
        }

    def summary(self) -> dict[str, Any]:
        """What goes into ``audit.json`` of the dataset: counts, no values and no places."""
        return {
            "passed": self.passed,
            "digest": self.digest,
            "reader": self.reader,
            "independent": self.independent,
            "read": {"images": self.images, "strings": self.strings, "files": self.files},
            "identifiers_compared": self.identifiers,
            "found": self.counts(),
            "small_cohorts_found": len(self.cohorts),
            "settled_by_person": self.person,
        }


def audit(
    dataset: Dataset,
    index: IdentifierIndex | None,
    *,
    state: State | None = None,
    show: bool = False,
    note: bool = True,
    advance: Callable[[int], None] = lambda _: None,
) -> AuditReport:
    """Audit a dataset.

    Parameters
    ----------
    dataset : Dataset
    index : IdentifierIndex or None
        Harvested identifiers; None searches for patterns alone.
    state : State, optional
        The private state: it knows which subjects withdrew.
    note : bool
        Write ``audit.json`` into the dataset; without it nothing of the dataset changes.
    show : bool
        Keep pictures in doubt in the private state, for a person who asks to see them.
    advance : callable
        Told how many images were read, for a progress bar.

    Returns
    -------
    AuditReport
        Also written, as counts, to ``audit.json`` of the dataset, if wanted.
    """
    report = AuditReport(digest=manifests_digest(dataset))
    matchers = Matchers(index)
    report.about = {
        name: _hidden(str(getattr(dataset.info, name)), matchers.people)
        for name in ("dataset_id", "tool", "detector", "settings_hash", "key_fingerprint")
    }
    report.known = matchers.known
    report.files, problems = check_files(dataset, matchers.people)
    text = TextAuditor(dataset, matchers, state.withdrawn() if state else frozenset())
    documents = DocumentAuditor(dataset, matchers.everybody, matchers.people)
    problems += [*text.check(), *documents.check()]
    report.strings = text.strings + documents.strings
    auditor = ImageAuditor(dataset, matchers)
    report.reader, report.independent = auditor.reader, auditor.independent
    report.image_findings = list(auditor.check(advance))
    report.images = auditor.images
    report.findings = list(dict.fromkeys([*problems, *(one.finding for one in report.image_findings)]))
    if not any(finding.klass == "damaged_file" for finding in report.findings):
        report.cohorts = _cohorts(dataset, matchers.people)
        report.person = settled_by_person(dataset)
    if state is not None and show:
        _keep_pictures(dataset, state, report.image_findings)
    if note:
        write_json(dataset.root / AUDIT_FILE, report.summary())
    return report


def manifests_digest(dataset: Dataset) -> str:
    """SHA-256 over the manifests of tasks and annotation sets: changes when frames, captions or labels do."""
    manifests = [manifest.to_json() for manifest in dataset.manifests().values()]
    sets = [asdict(dataset.annotations.read(name)) for name in dataset.annotations.names()]
    return hashlib.sha256(canonical_json([manifests, sets])).hexdigest()


def passes(dataset: Dataset) -> bool:
    """Whether the dataset, as it is now, has a passing audit; exports ask this."""
    path = dataset.root / AUDIT_FILE
    if not path.is_file():
        return False
    try:
        summary = read_json(path)
    except ValueError:
        return False
    return bool(summary.get("passed")) and summary.get("digest") == manifests_digest(dataset)


def _cohorts(dataset: Dataset, people: Finder | None) -> list[Cohort]:
    connection = dataset.connect()
    current = dataset.annotations.current()
    dimensions = dataset.annotations.read(current).dimensions if current else ()
    columns = {
        name: f"list_aggregate(list_sort(a.{name}), 'string_agg', ', ')" if name in dimensions else "''"
        for name in ("organ", "diagnosis")
    }
    join = "LEFT JOIN annotations a USING (frame_id)" if current else ""
    rows = connection.execute(_COHORTS.format(join=join, limit=SMALL_COHORT, **columns)).fetchall()
    cohorts: list[Cohort] = []
    for *facts, subjects in rows[:_COHORT_LIMIT]:
        sex, age, vendor, organ, diagnosis = (_hidden(fact or "", people) for fact in facts)
        cohorts.append(Cohort(sex, age, vendor, organ, diagnosis, subjects))
    return cohorts


def _hidden(fact: str, people: Finder | None) -> str:
    """A fact as it may be printed: one that names somebody is a finding, and masked here too."""
    return mask(fact) if people is not None and people.find(fact) else fact


def _keep_pictures(dataset: Dataset, state: State, found: Sequence[ImageFinding]) -> None:
    folder = state.folder / "audit"
    folder.mkdir(mode=0o700, exist_ok=True)
    for frame_id, image in dataset.read_pixels(_frames(found)).items():
        suffix = "png" if format_of(image) == "png" else "jpg"
        path = folder / f"{frame_id}.{suffix}"
        path.touch(mode=0o600)
        path.write_bytes(image)


def _frames(found: Iterable[ImageFinding]) -> list[str]:
    return sorted({item.frame_id for item in found if item.frame_id})
