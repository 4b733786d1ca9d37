"""Audit of what is no table: names of files and folders, JSON documents, the taxonomies beside the labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any, Final, cast

from usds.curation.audit.files import AUDIT_FILE
from usds.curation.audit.matchers import Finder, found_in
from usds.curation.audit.patterns import patterns_in, shown
from usds.curation.audit.types import Finding, mask
from usds.curation.croissant import croissant
from usds.curation.settings import IngestSettings
from usds.schemas.dataset import LOCK, Dataset

__all__ = ["DocumentAuditor"]

_PARTS: Final = re.compile(r"[_=.]+")
_HASH: Final = re.compile(r"[0-9a-f]{12,64}|[a-z2-7]{16,26}")
_VERSION: Final = re.compile(r"(?:usds|rapidocr) [\w.+-]+")
_LICENCE: Final = re.compile(
    r"https?://(?:www\.)?(?:creativecommons|spdx|opensource|opendatacommons)\.org/[\w./-]*"
)
_COMMAND: Final = re.compile(r"usds( [a-z]+)?")


class DocumentAuditor:
    """Reads names and documents of a dataset.

    Parameters
    ----------
    dataset : Dataset
    everybody, people : Finder or None
        Of all identifiers, and of names, ids and numbers of people; None: patterns only.

    Attributes
    ----------
    strings : int
        How many were read.
    """

    def __init__(self, dataset: Dataset, everybody: Finder | None, people: Finder | None) -> None:
        self._dataset = dataset
        self._everybody = everybody
        self._people = people
        self.strings = 0

    def check(self) -> Iterator[Finding]:
        """Findings in all of them."""
        yield from self._names()
        yield from self._json()
        yield from self._taxonomies()

    def _names(self) -> Iterator[Finding]:
        """Names of files and folders: splits, annotation sets and the rest of the dataset directory."""
        root = self._dataset.root
        for path in sorted(root.rglob("*")):
            words = " ".join(word for word in _PARTS.split(shown(path.stem)) if not _is_hash(word))
            folder = path.parent.relative_to(root).as_posix()
            yield from self._judge(f"name of a file or folder in {folder}/", words, self._people)

    def _json(self) -> Iterator[Finding]:
        root = self._dataset.root
        paths = [
            *root.glob("*.json"), *root.glob("manifests/*.json"), *root.glob("annotations/**/*.json"),
        ]  # fmt: skip
        own = self._own_words()
        for path in sorted(path for path in paths if path.is_file() and not path.is_symlink()):
            if path.name == AUDIT_FILE:  # of the last audit; this one is going to replace it
                continue
            place = path.relative_to(root).as_posix()
            try:
                keys, values = _words_of(path.read_text("utf-8"))
            except (OSError, ValueError, RecursionError):
                yield Finding("damaged_file", place, "")
                continue
            for key in keys:
                yield from self._judge(place, shown(key), self._people)
            for value in values:
                ours = value in own or _VERSION.fullmatch(value) or _LICENCE.fullmatch(value)
                if not ours and not _is_hash(value):
                    yield from self._judge(place, shown(value), self._everybody)
        yield from self._lock()

    def _lock(self) -> Iterator[Finding]:
        """The lock tells a second writer which command works here; what was typed behind it is private."""
        path = self._dataset.root / LOCK
        if not path.is_file() or path.stat().st_size == 0:
            return
        try:
            held = json.loads(path.read_text("utf-8"))
            sound = set(held) == {"command", "pid"} and isinstance(held["pid"], int)
            sound = sound and _COMMAND.fullmatch(held["command"]) is not None
        except (OSError, ValueError, TypeError):
            sound = False
        if not sound:
            yield Finding("hidden_bytes", LOCK, "more than a command")

    def _taxonomies(self) -> Iterator[Finding]:
        """Comments of a taxonomy are text that somebody typed; lines of the bundled one are nobody's."""
        root = self._dataset.root
        for path in sorted(root.glob("annotations/*/taxonomy.yaml")):
            place = path.relative_to(root).as_posix()
            try:
                lines = path.read_text("utf-8").splitlines()
            except (OSError, ValueError):
                yield Finding("damaged_file", place, "")
                continue
            for line in lines:
                if line.strip() not in _bundled_lines():
                    yield from self._judge(place, line, self._people)

    def _own_words(self) -> set[str]:
        """Whole values that usds itself writes: a folder "jpeg" makes the setting of that name no leak."""
        settings = IngestSettings()
        written = (settings.model_json_schema(), settings.model_dump(), croissant(self._dataset))
        return {value for document in written for value in _leaves(document)}

    def _judge(self, place: str, text: str, matcher: Finder | None) -> Iterator[Finding]:
        self.strings += 1
        yield from found_in(text, matcher, place)
        yield from (Finding(klass, place, mask(found)) for klass, found in patterns_in(text))


def _is_hash(word: str) -> bool:
    return _HASH.fullmatch(word) is not None and not word.isdigit()


@cache
def _bundled_lines() -> frozenset[str]:
    text = (resources.files("usds.taxonomy") / "data" / "udt.yaml").read_text("utf-8")
    return frozenset(line.strip() for line in text.splitlines())


def _words_of(text: str) -> tuple[set[str], set[str]]:
    """Keys and string values of a JSON document, also of keys that stand twice, which readers drop."""
    keys: set[str] = set()
    values: set[str] = set()

    def pairs(items: list[tuple[str, Any]]) -> None:
        keys.update(key for key, _ in items)
        values.update(leaf for _, value in items for leaf in _leaves(value))

    values.update(_leaves(json.loads(text, object_pairs_hook=pairs)))
    return keys, values


def _leaves(value: Any) -> Iterator[str]:
    """Every string value in a JSON document; its numbers are settings and counts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in cast("dict[str, Any]", value).values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _leaves(inner)
