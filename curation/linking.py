"""Who and what belongs together: subjects, studies, duplicates, and the captions of each medium.

All decisions follow from what the first pass found and are made in the order of keyed ids, so that they do
not depend on workers, on the place of the raw folder, or on the order of its files.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from usds.curation.captions import LinkedCaption
from usds.curation.catalogue import Entry
from usds.curation.deid.identity import Ids, SubjectSources, conflicting, resolve_study, resolve_subject
from usds.curation.pipeline import WorkItem
from usds.curation.probe import MEDIA_KINDS
from usds.curation.sidecars import Sidecars, is_sidecar
from usds.schemas.errors import UsageError

__all__ = ["LinkOptions", "Linked", "Source", "link"]


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """How subjects and captions are found.

    Attributes
    ----------
    subjects : mapping
        Subject by relative path, file name or PatientID (``--subjects``).
    mapped : bool
        Subjects of sidecars come from a column that a person named (``--map subject=COL``).
    file : Path or None
        Where ``subjects`` was read.
    """

    subjects: Mapping[str, str] = field(default_factory=dict[str, str])
    mapped: bool = False
    file: Path | None = None

    @classmethod
    def read(cls, path: Path | None) -> LinkOptions:
        """Read ``--subjects``: two columns, a file name, relative path or PatientID and the subject.

        Raises
        ------
        UsageError
            If the file cannot be read, or a line has fewer columns.
        """
        return cls(_read_subjects(path), file=path)


def _read_subjects(path: Path | None) -> Mapping[str, str]:
    if path is None:
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as a UTF-8 CSV file: name one with --subjects") from error
    for number, row in enumerate(rows, 1):
        if len(row) < 2 or not row[0].strip() or not row[1].strip():
            raise UsageError(f"{path}, line {number}: two columns are needed, file and subject")
    return {row[0].strip(): row[1].strip() for row in rows}


@dataclass(slots=True)
class Source:
    """One file of the scan, decided.

    Attributes
    ----------
    entry : Entry
    key : str
        Its source key.
    reason : str
        "ok", or why it gives nothing.
    duplicate_of : str or None
    subject_id : str or None
        Of a medium, and of a sidecar that speaks of one subject.
    item : WorkItem or None
        What the second pass does with it; None for all but media.
    targets : list of str
        Keys of the media that a sidecar speaks of.
    """

    entry: Entry
    key: str
    reason: str
    duplicate_of: str | None = None
    subject_id: str | None = None
    item: WorkItem | None = None
    targets: list[str] = field(default_factory=list[str])

    @property
    def is_sidecar(self) -> bool:
        """Whether it holds text about other files."""
        return is_sidecar(self.entry.kind)


@dataclass(slots=True)
class Linked:
    """All files of the scan, and what is no more.

    Attributes
    ----------
    sources : list of Source
    superseded : set of str
        Keys of earlier contents of these files.
    index_stamp : str
        Fingerprint of the harvested identifiers.
    warnings : list of str
    """

    sources: list[Source]
    superseded: set[str]
    index_stamp: str = ""
    warnings: list[str] = field(default_factory=list[str])

    @property
    def keys(self) -> set[str]:
        """Source keys of the scan."""
        return {source.key for source in self.sources}


@dataclass(slots=True)
class _Who:
    """Identity of one medium."""

    subject_id: str
    rule: str
    study_id: str
    series_id: str | None
    conflict: bool = False


def link(
    entries: Sequence[Entry],
    ids: Ids,
    options: LinkOptions,
    *,
    originals: Mapping[str, str],
    withdrawn: Set[str],
    gone: Set[str],
) -> Linked:
    """Decide what every file is.

    Parameters
    ----------
    entries : sequence of Entry
        The scan, sorted by name.
    ids : Ids
    options : LinkOptions
    originals : mapping
        Source key in the dataset by content, for media.
    withdrawn : set of str
        Subjects that are never ingested again.
    gone : set of str
        Keys of members of archives that changed.
    """
    sources = _keyed(entries, ids)
    media = [s for s in sources if s.reason == "ok" and s.entry.kind in MEDIA_KINDS]
    keys = {source.key for source in sources}
    old = {s.entry.old_key for s in sources if s.entry.old_key and s.entry.old_key != s.key}
    superseded = {key for key in old | gone if key not in keys}
    texts = [(s.key, s.entry) for s in sources if s.reason == "ok" and s.is_sidecar]
    refused = [s for s in sources if _is_refused_medium(s)]
    named = [(s.key, s.entry) for s in (*media, *refused)]
    sidecars = Sidecars(texts, named, {s.key for s in refused})
    who = {s.key: _identify(s, ids, options, sidecars) for s in media}
    warnings = _conflicts(media, who)
    kept = {content: key for content, key in originals.items() if key not in superseded}
    _mark_duplicates(media, sidecars, who, kept)
    for source in media:
        source.subject_id = who[source.key].subject_id
        if source.subject_id in withdrawn:
            source.reason, source.duplicate_of = "withdrawn", None
    _aim_sidecars(sources, media, sidecars, who)
    disk = {entry.id: entry for entry in entries}
    for source in media:
        if source.reason == "ok":
            holder = disk.get(source.entry.archive or 0, source.entry)
            source.item = _item(source, holder, who[source.key], sidecars.captions(source.key))
    _settle_archives(sources)
    return Linked(sources, superseded, warnings=warnings)


def _is_refused_medium(source: Source) -> bool:
    """Whether text may mean a file that the first pass refused; what cannot be read has an unknown kind."""
    if source.reason in ("ok", "ignored", "no_pixels"):
        return False
    return source.entry.kind in MEDIA_KINDS or (
        source.entry.kind == "unknown" and source.reason != "unsupported"
    )


def _keyed(entries: Sequence[Entry], ids: Ids) -> list[Source]:
    """Source keys are made of content and relative name; a second copy under the same name gets a number."""
    seen: Counter[tuple[str, str]] = Counter()
    sources: list[Source] = []
    for entry in entries:
        name = (entry.content, entry.relative)
        number = seen[name]
        seen[name] += 1
        key = ids.source(*name, *([str(number)] if number else []))
        sources.append(Source(entry, key, entry.reason))
    return sources


def _identify(source: Source, ids: Ids, options: LinkOptions, sidecars: Sidecars) -> _Who:
    facts, entry = source.entry.facts, source.entry
    path = PurePosixPath(entry.relative.replace("!/", "/"))
    listed = next(
        (
            options.subjects[name]
            for name in (str(path), path.name, path.stem, facts.get("patient_id") or "")
            if name and name in options.subjects
        ),
        None,
    )
    told = sidecars.subject(source.key)
    explicit = options.mapped and sidecars.is_by_column(source.key)
    fields, rule = resolve_subject(
        SubjectSources(
            entry.content, listed, told if explicit else None, None if explicit else told,
            facts.get("patient_id"), path.parts[0] if len(path.parts) > 1 else None,
        )
    )  # fmt: skip
    subject_id = ids.subject(*fields)
    study_id = ids.study(*resolve_study(subject_id, facts.get("study_uid"), str(path.parent)))
    series = facts.get("series_uid")
    return _Who(subject_id, rule, study_id, ids.series(study_id, series) if series else None)


def _conflicts(media: Sequence[Source], who: Mapping[str, _Who]) -> list[str]:
    """One id with two birth dates or sexes: marked, and counted for the person at the terminal."""
    people: defaultdict[str, list[Mapping[str, str | None]]] = defaultdict(list)
    for source in media:
        facts = source.entry.facts
        people[who[source.key].subject_id].append(
            {"birth_date": facts.get("birth_date"), "sex": facts.get("sex")}
        )
    bad = {subject for subject, found in people.items() if conflicting(found)}
    for one in who.values():
        one.conflict = one.subject_id in bad
    text = "subjects have files with different birth dates or sexes (column subject_conflict)"
    return [f"{len(bad)} {text}"] if bad else []


def _mark_duplicates(
    media: Sequence[Source], sidecars: Sidecars, who: Mapping[str, _Who], originals: Mapping[str, str]
) -> None:
    """Of equal bytes one is the original: the one in the dataset, else one with captions, else by key."""
    groups: defaultdict[str, list[Source]] = defaultdict(list)
    for source in media:
        groups[source.entry.content].append(source)
    for content, group in groups.items():
        first = originals.get(content)
        if first is None:
            first = min(group, key=lambda s: (not sidecars.captions(s.key), s.key)).key
        for source in group:
            if source.key != first:
                source.reason, source.duplicate_of = "duplicate", first
                same = first in who and who[first].subject_id == who[source.key].subject_id
                if same:
                    sidecars.move(source.key, first)


def _aim_sidecars(
    sources: Iterable[Source], media: Sequence[Source], sidecars: Sidecars, who: Mapping[str, _Who]
) -> None:
    """Tell each sidecar which media it speaks of, and whose it is when that is one subject."""
    by_key = {source.key: source for source in media}
    for source in sources:
        if source.reason != "ok" or not source.is_sidecar:
            continue
        source.targets = sidecars.targets(source.key)
        subjects = {who[target].subject_id for target in source.targets}
        source.subject_id = subjects.pop() if len(subjects) == 1 else None
        if not source.targets:
            source.reason = _without_targets(source.key, sidecars)
            continue
        reasons = {by_key[target].reason for target in source.targets}
        if reasons <= {"duplicate", "withdrawn"}:
            source.reason = "withdrawn" if "withdrawn" in reasons else "duplicate"
            if source.reason == "duplicate":
                source.duplicate_of = by_key[source.targets[0]].duplicate_of


def _without_targets(key: str, sidecars: Sidecars) -> str:
    if not sidecars.has_text(key):
        return "no_caption"
    return "media_unused" if sidecars.means_refused(key) else "unmatched_sidecar"


def _item(source: Source, holder: Entry, who: _Who, captions: Sequence[LinkedCaption]) -> WorkItem:
    entry = source.entry
    return WorkItem(
        source.key, str(entry.disk_path), entry.member, entry.kind, entry.content, holder.size,
        holder.mtime_ns, who.subject_id, who.rule, who.conflict, who.study_id, who.series_id,
        entry.facts["n_frames"] > 1, tuple(captions),
    )  # fmt: skip


def _settle_archives(sources: Sequence[Source]) -> None:
    """An archive is used when one of its members is."""
    used: set[Any] = {s.entry.archive for s in sources if s.reason in ("ok", "duplicate")}
    for source in sources:
        if source.entry.kind == "zip" and source.reason == "ok" and source.entry.id not in used:
            source.reason = "unsupported"
