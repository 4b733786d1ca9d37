"""Text beside the pictures: which words of which file are about which medium.

A row of a sidecar names its picture (by path, by file name, by DICOM instance or study), or the sidecar
itself is named like its picture, or it is the one report of a folder and speaks of the study there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from pathlib import PurePosixPath
from typing import Any, Final

from usds.curation.captions import LinkedCaption
from usds.curation.catalogue import Entry
from usds.curation.readers.base import RawCaption

__all__ = ["SIDECAR_KINDS", "Sidecars", "is_sidecar"]

SIDECAR_KINDS: Final = ("text", "json", "jsonl", "csv")
"""Kinds of files that hold nothing but text about others; "sr" is one of another kind."""


_REPORT_NAMES: Final = ("report", "finding", "impression", "befund", "caption", "description")


def is_sidecar(kind: str) -> bool:
    """Whether files of this kind speak about other files."""
    return kind in SIDECAR_KINDS or kind == "sr"


class _Names:
    """Media by the names that text may call them."""

    def __init__(self, media: Sequence[tuple[str, Entry]]) -> None:
        self._by: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for key, entry in media:
            path = _path(entry)
            folder, name, stem = str(path.parent), path.name, path.stem
            for handle in (
                ("path", str(path)), ("name", name), ("stem", stem), ("beside", folder, name),
                ("beside", folder, stem), ("folder", folder),
            ):  # fmt: skip
                self._by[handle].append(key)
            for kind in ("sop_uid", "study_uid"):
                if value := entry.facts.get(kind):
                    self._by[kind, value].append(key)

    def find(self, *handle: str) -> list[str]:
        """Keys of the media called so."""
        return self._by.get(handle, [])

    def one(self, *handle: str) -> list[str]:
        """The only medium called so, or none: an ambiguous name matches nothing."""
        found = self.find(*handle)
        return found if len(found) == 1 else []

    def called(self, reference: str, folder: str) -> list[str]:
        """Media that a reference in a sidecar of ``folder`` means: beside it first, then anywhere."""
        text = reference.strip().replace("\\", "/").removeprefix("./").casefold()
        if not text:
            return []
        path = PurePosixPath(text)
        below = str(PurePosixPath(folder) / text)
        return (
            self.find("path", below)
            or self.find("path", text)
            or self.find("beside", folder, path.name)
            or self.one("name", path.name)
            or self.find("beside", folder, path.stem)
            or self.one("stem", path.stem)
        )

    def named_like(self, entry: Entry) -> list[str]:
        """Media beside a sidecar that have its name: ``a.txt`` or ``a.png.txt`` for ``a.png``."""
        path = _path(entry)
        return self.find("beside", str(path.parent), path.stem)


class Sidecars:
    """All sidecars of a run, matched with its media.

    Parameters
    ----------
    texts, media : sequence of (source key, Entry)
        A sidecar's entry has ``facts["rows"]``: mappings with ``image``, ``subject``, ``sops``, ``study``,
        ``captions`` and ``identifiers``.
    refused : set of str
        Keys of the media that cannot be used. Text that means one of them must not pass to another picture.
    """

    def __init__(
        self,
        texts: Sequence[tuple[str, Entry]],
        media: Sequence[tuple[str, Entry]],
        refused: Set[str] = frozenset(),
    ) -> None:
        names = _Names(media)
        alone = Counter(str(_path(entry).parent) for _, entry in texts if not names.named_like(entry))
        self._captions: defaultdict[str, list[LinkedCaption]] = defaultdict(list)
        self._subjects: dict[str, str] = {}
        self._by_column: set[str] = set()
        self._targets: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._with_text: set[str] = set()
        self._of_refused: set[str] = set()
        for key, entry in texts:
            for row in entry.facts.get("rows", ()):
                if row["captions"]:
                    self._with_text.add(key)
                meant = _targets(row, entry, names)
                if not meant and not row.get("image") and _is_report(entry, alone):
                    meant = names.find("folder", str(_path(entry).parent))
                    row = {**row, "captions": [{**c, "scope": "study"} for c in row["captions"]]}  # noqa: PLW2901
                found = [target for target in meant if target not in refused]
                if meant and not found:
                    self._of_refused.add(key)
                self._link(key, row, found, by_column=entry.kind not in ("text", "sr"))

    def _link(self, key: str, row: dict[str, Any], targets: Iterable[str], *, by_column: bool) -> None:
        captions = [LinkedCaption(RawCaption(**caption), key) for caption in row["captions"]]
        for target in targets:
            self._targets[key][target] = None
            self._captions[target].extend(captions)
            if row.get("subject") and target not in self._subjects:
                self._subjects[target] = row["subject"]
                if by_column:
                    self._by_column.add(target)

    def captions(self, media_key: str) -> list[LinkedCaption]:
        """Captions of one medium, in the order of the sidecars' names."""
        return self._captions.get(media_key, [])

    def subject(self, media_key: str) -> str | None:
        """Subject that a sidecar gives a medium."""
        return self._subjects.get(media_key)

    def is_by_column(self, media_key: str) -> bool:
        """Whether that subject stood in a column of a table, not in running text."""
        return media_key in self._by_column

    def targets(self, key: str) -> list[str]:
        """Media that a sidecar speaks of."""
        return sorted(self._targets.get(key, ()))

    def has_text(self, key: str) -> bool:
        """Whether a sidecar holds any caption."""
        return key in self._with_text

    def means_refused(self, key: str) -> bool:
        """Whether a sidecar speaks of media that cannot be used."""
        return key in self._of_refused

    def move(self, duplicate: str, original: str) -> None:
        """Give the captions of a duplicate to its original."""
        self._captions[original].extend(self._captions.pop(duplicate, []))
        for targets in self._targets.values():
            if duplicate in targets:
                targets[original] = None


def _targets(row: dict[str, Any], entry: Entry, names: _Names) -> list[str]:
    folder = str(_path(entry).parent)
    if row.get("image"):
        return names.called(row["image"], folder)
    study = names.find("study_uid", row["study"]) if row.get("study") else []
    if row.get("sops"):
        pictures = list(dict.fromkeys(key for uid in row["sops"] for key in names.find("sop_uid", uid)))
        # Real exports repeat SOP Instance UIDs: a picture of another study is not meant.
        return [key for key in pictures if not study or key in study] or study
    if row.get("study"):
        return study
    return names.named_like(entry)


def _is_report(entry: Entry, alone: Counter[str]) -> bool:
    """Whether a text that is named like no picture speaks of its whole folder."""
    path = _path(entry)
    return alone[str(path.parent)] == 1 or any(word in path.stem for word in _REPORT_NAMES)


def _path(entry: Entry) -> PurePosixPath:
    """Relative name for comparing: archives are folders, letter case says nothing."""
    return PurePosixPath(entry.relative.replace("!/", "/").casefold())
