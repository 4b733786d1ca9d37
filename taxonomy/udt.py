"""The taxonomy as an object: dimensions, labels, parents, codes, surface forms, loaded from one YAML file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path

from usds.taxonomy.document import Document, FormEntry, LabelEntry
from usds.taxonomy.source import Source, TaxonomyError, parse_source, read_source

__all__ = [
    "Code",
    "Dimension",
    "Form",
    "Label",
    "Taxonomy",
    "TaxonomyError",
    "bundled_names",
    "load_taxonomy",
]

_MOST_FORMS = 20_000  # that one pattern may stand for
_SIGN = re.compile(r"[\[\]{}|]")

# Group of a form in the file -> extraction method that its evidence carries.
METHODS: Mapping[str, str] = {
    "name": "exact",
    "synonyms": "exact",
    "substructures": "exact",
    "variants": "variant",
    "misspellings": "variant",
    "abbreviations": "abbreviation",
    "implied": "implied",
    "regions": "implied",
}


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (DICOM PS3.16 context groups, SNOMED CT as DICOM cites it)."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Form:
    """One surface form after expansion of alternatives.

    Attributes
    ----------
    text : str
        The words as a person writes them.
    group : str
        Group of the file it stands in, for instance ``synonyms`` or ``abbreviations``.
    require, block : tuple of str
        Phrases of which one must, or none may, occur in the caption.
    case : bool
        Letters count as written.
    path : tuple
        Place in the document, for messages.
    """

    text: str
    group: str
    require: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    case: bool = False
    path: tuple[str | int, ...] = ()
    also: tuple[tuple[str, str], ...] = ()
    whole: bool = False

    @property
    def method(self) -> str:
        """Extraction method that a hit of this form carries."""
        return METHODS[self.group]


@dataclass(frozen=True, slots=True)
class Label:
    """One label of a closed vocabulary."""

    name: str
    parent: tuple[str, str] | None
    codes: tuple[Code, ...]
    forms: tuple[Form, ...]
    rank: int | None = None
    pediatric: str | None = None
    body_parts: tuple[str, ...] = ()
    substructures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension of the taxonomy."""

    name: str
    title: str
    role: str
    ordinal: bool
    adjectival: bool
    fuzzy: bool
    prompts: tuple[str, ...]
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Taxonomy:
    """A loaded taxonomy; immutable, picklable, equal when its content is equal."""

    id: str
    version: str
    title: str
    content_hash: str
    source_text: str = field(repr=False, compare=False)
    file: str = field(repr=False, compare=False)
    dimensions: tuple[Dimension, ...] = field(repr=False)
    document: Document = field(repr=False, compare=False)

    @property
    def set_name(self) -> str:
        """Name of the annotation set that this taxonomy writes: id and first 8 digits of the content hash."""
        return f"{self.id}-{self.content_hash[:8]}"

    @cached_property
    def _by_name(self) -> dict[str, Dimension]:
        return {dimension.name: dimension for dimension in self.dimensions}

    @cached_property
    def _labels(self) -> dict[tuple[str, str], Label]:
        return {(d.name, label.name): label for d in self.dimensions for label in d.labels}

    @cached_property
    def label_index(self) -> dict[tuple[str, str], int]:
        """(dimension, label) -> column among all labels, dimensions in order."""
        return {key: i for i, key in enumerate(self._labels)}

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of labels of each dimension."""
        return tuple(len(dimension.labels) for dimension in self.dimensions)

    @property
    def dimension_names(self) -> tuple[str, ...]:
        """Names of the dimensions in order."""
        return tuple(self._by_name)

    def dimension(self, name: str) -> Dimension:
        """The dimension called `name`; KeyError names the valid ones."""
        try:
            return self._by_name[name]
        except KeyError:
            raise KeyError(
                f"no dimension '{name}' in taxonomy {self.id}; it has {', '.join(self._by_name)}"
            ) from None

    def label(self, dimension: str, label: str) -> Label:
        """One label; KeyError when the dimension does not hold it."""
        try:
            return self._labels[dimension, label]
        except KeyError:
            raise KeyError(f"no label '{label}' in dimension '{dimension}' of taxonomy {self.id}") from None

    def vocabulary(self, dimension: str) -> tuple[str, ...]:
        """Label names of a dimension in order."""
        return tuple(label.name for label in self.dimension(dimension).labels)

    def parent_of(self, dimension: str, label: str) -> tuple[str, str] | None:
        """(dimension, label) of the parent, None for a root."""
        return self.label(dimension, label).parent

    def prompts(self, dimension: str, label: str) -> tuple[str, ...]:
        """Zero-shot prompts of a label: the dimension's templates filled in."""
        name = self.label(dimension, label).name
        text = name if name[:2].isupper() else name[:1].lower() + name[1:]
        return tuple(template.replace("{label}", text) for template in self.dimension(dimension).prompts)

    def forms(self) -> Iterator[tuple[Dimension, Label, Form]]:
        """Every surface form with its dimension and label."""
        for dimension in self.dimensions:
            for label in dimension.labels:
                for form in label.forms:
                    yield dimension, label, form


def bundled_names() -> tuple[str, ...]:
    """Names of the taxonomies that come with the package."""
    return ("udt",)


def load_taxonomy(name_or_path: str | Path) -> Taxonomy:
    """Load a taxonomy file, or a bundled taxonomy by name.

    Parameters
    ----------
    name_or_path : str or Path
        A YAML file; or the name of a bundled taxonomy (``udt``, ``udt.yaml``) where no such file exists.

    Raises
    ------
    TaxonomyError
        The file cannot be used; the message names file, line and what to change.
    """
    path = Path(name_or_path)
    name = str(name_or_path).removesuffix(".yaml")
    if not path.exists() and name in bundled_names():
        text = (resources.files("usds.taxonomy.data") / f"{name}.yaml").read_text(encoding="utf-8")
        return build_taxonomy(parse_source(text, f"{name}.yaml"))
    return build_taxonomy(read_source(path, str(name_or_path)))


def build_taxonomy(source: Source) -> Taxonomy:
    """Check a parsed file and turn it into a :class:`Taxonomy`."""
    from usds.taxonomy.structure import (
        check_document,  # the checks need the models above, not the other way round
    )

    document = check_document(source)
    canonical = json.dumps(source.data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return Taxonomy(
        id=document.id,
        version=document.version,
        title=document.title,
        content_hash=hashlib.sha256(canonical.encode("utf-8")).hexdigest(),
        source_text=source.text,
        file=source.file,
        dimensions=tuple(_dimension(document, i) for i in range(len(document.dimensions))),
        document=document,
    )


def _dimension(document: Document, index: int) -> Dimension:
    entry = document.dimensions[index]
    return Dimension(
        name=entry.name,
        title=entry.title,
        role=entry.role,
        ordinal=entry.ordinal,
        adjectival=entry.adjectival,
        fuzzy=entry.fuzzy,
        prompts=entry.prompts,
        labels=tuple(
            _label(label, entry.parent_dimension or entry.name, ("dimensions", index, "labels", i))
            for i, label in enumerate(entry.labels)
        ),
    )


def _label(entry: LabelEntry, parent_dimension: str, path: tuple[str | int, ...]) -> Label:
    return Label(
        name=entry.name,
        parent=(parent_dimension, entry.parent) if entry.parent is not None else None,
        codes=tuple(Code(c.scheme, c.value, c.meaning) for c in entry.codes),
        forms=tuple(_forms(entry, path)),
        rank=entry.rank,
        pediatric=entry.pediatric,
        body_parts=entry.body_parts,
        substructures=tuple(entry.substructures),
    )


def _forms(entry: LabelEntry, path: tuple[str | int, ...]) -> Iterator[Form]:
    if entry.matches_own_name:
        yield Form(entry.name, "name", path=(*path, "name"))
    for group in METHODS:
        if group in ("name", "substructures"):
            continue
        for i, form in enumerate(getattr(entry, group)):
            yield from expand_form(form, group, (*path, group, i))
    for name, members in entry.substructures.items():
        for i, form in enumerate(members):
            yield from expand_form(form, "substructures", (*path, "substructures", name, i))


def expand_form(entry: FormEntry, group: str, path: tuple[str | int, ...] = ()) -> Iterator[Form]:
    """All forms that an entry with alternatives stands for."""
    case = entry.case if entry.case is not None else group == "abbreviations"
    also = tuple(entry.also.items())
    for text in expand(entry.text):
        yield Form(text, group, entry.require, entry.block, case, path, also, entry.whole)


def expand(pattern: str) -> list[str]:
    """Expand ``{a|b}`` (one of) and ``[a|b]`` (one of, or nothing); brackets may nest.

    >>> expand("{well|sharply} defined")
    ['well defined', 'sharply defined']
    >>> expand("cyst[s]")
    ['cyst', 'cysts']
    """
    texts, end = _alternatives(pattern, 0)
    if end != len(pattern):
        raise ValueError(f"unbalanced '{pattern[end]}' in '{pattern}'")
    return list(dict.fromkeys(" ".join(text.split()) for text in texts))


def _short(pattern: str) -> str:
    return pattern if len(pattern) <= 60 else pattern[:57] + "..."


def _alternatives(pattern: str, at: int, closing: str = "") -> tuple[list[str], int]:
    """Texts of the alternatives from `at` to the closing bracket (or the end)."""
    done: list[str] = []
    current = [""]
    while at < len(pattern):
        char = pattern[at]
        if char in "{[":
            close = "}" if char == "{" else "]"
            inner, at = _alternatives(pattern, at + 1, close)
            if at >= len(pattern) or pattern[at] != close:
                raise ValueError(f"'{char}' is not closed in '{pattern}'")
            options = inner if char == "{" else ["", *inner]
            if len(current) * len(options) + len(done) > _MOST_FORMS:
                raise ValueError(f"'{_short(pattern)}' stands for more than {_MOST_FORMS:,} forms")
            current = [left + right for left in current for right in options]
        elif char == "|" and closing:
            done += current
            current = [""]
        elif char in "}]":
            break
        else:
            sign = _SIGN.search(pattern, at + 1)
            end = sign.start() if sign is not None else len(pattern)
            current = [text + pattern[at:end] for text in current]
            at = end - 1
        at += 1
    return done + current, at
