"""Everything that can be wrong with a taxonomy file, each finding with its file and line.

Errors make the file unusable; warnings name what would work badly: a form that two labels of one dimension
share, a
code that no DICOM context group knows, two long words one letter apart, a rule about a label that does not
exist.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapidfuzz.distance import OSA

from usds.taxonomy.context import phrase_tokens
from usds.taxonomy.document import Document
from usds.taxonomy.fuzzy import MIN_LENGTH
from usds.taxonomy.source import Source, TaxonomyError, parse_source, read_source
from usds.taxonomy.udt import Taxonomy, build_taxonomy, bundled_names, load_taxonomy

_GROUPS = ("synonyms", "variants", "misspellings", "abbreviations", "implied", "regions")

__all__ = ["Finding", "json_schema", "validate_taxonomy"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One message: `level` is error or warning, `line` 1-based or None."""

    level: str
    file: str
    line: int | None
    text: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{place}: {self.level}: {self.text}"


def validate_taxonomy(name_or_path: str | Path) -> list[Finding]:
    """Check a taxonomy file.

    Parameters
    ----------
    name_or_path : str or Path
        As for :func:`usds.taxonomy.udt.load_taxonomy`.

    Returns
    -------
    list of Finding
        One error when the file cannot be used, otherwise the warnings in the order of the file.
    """
    try:
        source = _source(name_or_path)
        taxonomy = build_taxonomy(source)
    except TaxonomyError as error:
        place = error.file if error.line is None else f"{error.file}, line {error.line}"
        return [Finding("error", error.file, error.line, str(error).removeprefix(f"{place}: "))]
    warnings = [
        *_shared_forms(taxonomy),
        *_codes(taxonomy),
        *_neighbours(taxonomy),
        *_dangling(taxonomy.document),
    ]
    findings = [Finding("warning", source.file, source.line(path), text) for text, path in warnings]
    return sorted(findings, key=lambda finding: (finding.line or 0, finding.text))


def _source(name_or_path: str | Path) -> Source:
    path = Path(name_or_path)
    if not path.exists() and str(name_or_path).removesuffix(".yaml") in bundled_names():
        taxonomy = load_taxonomy(name_or_path)
        return parse_source(taxonomy.source_text, taxonomy.file)
    return read_source(path, str(name_or_path))


Problem = tuple[str, tuple[str | int, ...]]


def _shared_forms(taxonomy: Taxonomy) -> Iterator[Problem]:
    """The same words for two labels of one dimension: a caption would get both."""
    first: dict[tuple[str, tuple[str, ...]], str] = {}
    for dimension, label, form in taxonomy.forms():
        if form.require or form.block or form.case:
            continue
        key = (dimension.name, phrase_tokens(form.text))
        holder = first.setdefault(key, label.name)
        if holder != label.name:
            yield f"'{form.text}' stands for '{holder}' and for '{label.name}' ({dimension.name})", form.path


def _codes(taxonomy: Taxonomy) -> Iterator[Problem]:
    known = _known_codes()
    for i, dimension in enumerate(taxonomy.dimensions):
        for j, label in enumerate(dimension.labels):
            for k, code in enumerate(label.codes):
                if (code.scheme, code.value) not in known:
                    path = ("dimensions", i, "labels", j, "codes", k)
                    yield f"no DICOM context group holds {code.scheme} {code.value} ({code.meaning})", path


def _known_codes() -> set[tuple[str, str]]:
    """Codes of the context groups that pydicom ships (PS3.16)."""
    from pydicom.sr._concepts_dict import concepts

    known: set[tuple[str, str]] = set()
    tables: dict[str, dict[str, dict[str, Any]]] = concepts
    for scheme in ("DCM", "SCT"):
        for values in tables.get(scheme, {}).values():
            known.update((scheme, value) for value in values)
    return known


def _neighbours(taxonomy: Taxonomy) -> Iterator[Problem]:
    """Words of fuzzy dimensions that one slip turns into a word of another label."""
    words: dict[str, tuple[str, str, tuple[str | int, ...]]] = {}
    for dimension, label, form in taxonomy.forms():
        word = form.text.lower()
        if dimension.fuzzy and word.isalpha() and len(word) >= MIN_LENGTH and form.group != "misspellings":
            words.setdefault(word, (dimension.name, label.name, form.path))
    sharing: dict[str, list[str]] = {}
    for word in words:
        for rest in _rests(word):
            sharing.setdefault(rest, []).append(word)
    for word, (dimension_name, label_name, path) in words.items():
        for other in sorted({other for rest in _rests(word) for other in sharing[rest]}):
            longer = len(other) > len(word) or (len(other) == len(word) and other > word)  # each pair once
            if not longer or other[0] != word[0] or words[other][:2] == (dimension_name, label_name):
                continue
            if words[other][0] == dimension_name and OSA.distance(word, other, score_cutoff=1) <= 1:
                where = f"'{other}' ({words[other][1]})"
                yield f"'{word}' and {where} are one slip apart; neither is corrected", path


def _rests(word: str) -> set[str]:
    """The word, and what is left of it without one of its letters: two words one slip apart share one."""
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}


def _dangling(document: Document) -> Iterator[Problem]:
    """Rules about labels that this taxonomy does not have: they do nothing."""
    names = {(d.name, label.name) for d in document.dimensions for label in d.labels}
    organs = document.pediatric.dimension if document.pediatric is not None else None
    for i, dimension in enumerate(document.dimensions):
        for j, label in enumerate(dimension.labels):
            counterpart = label.pediatric
            if counterpart is not None and (organs or dimension.name, counterpart) not in names:
                path = ("dimensions", i, "labels", j, "pediatric")
                yield f"'{label.name}' has an unknown pediatric counterpart '{label.pediatric}'", path
    for k, compound in enumerate(document.compounds):
        if (compound.dimension, compound.label) not in names:
            yield f"rule '{compound.id}' is about the unknown label '{compound.label}'", ("compounds", k)
    for k, rule in enumerate(document.combinations):
        missing = [key for key in (*rule.all, *rule.add, *rule.drop) if key not in names]
        if missing:
            yield f"rule '{rule.id}' is about the unknown label '{missing[0][1]}'", ("combinations", k)
    yield from _dangling_sites(document, names)
    yield from _dangling_forms(document, names)
    if document.normal is not None and (document.normal.dimension, document.normal.label) not in names:
        yield (
            f"the unknown label '{document.normal.label}' cannot mean normal appearance",
            ("normal", "label"),
        )


def _dangling_sites(document: Document, names: set[tuple[str, str]]) -> Iterator[Problem]:
    """Sites and the pediatric override: labels that do not exist."""
    sites = {d.name for d in document.dimensions if d.role == "site"}
    systems = {d.name for d in document.dimensions if d.role == "system"}
    for k, rule in enumerate(document.sites):
        for key in ("keep", "drop"):
            for label in getattr(rule, key) or ():
                if not any((dimension, label) in names for dimension in sites | systems):
                    yield f"site rule '{rule.id}' names the unknown label '{label}'", ("sites", k, key)
        if rule.system is not None and not any((dimension, rule.system) in names for dimension in systems):
            yield f"site rule '{rule.id}' names the unknown system '{rule.system}'", ("sites", k, "system")
    override = document.pediatric
    if override is None:
        return
    if (override.system_dimension, override.system) not in names:
        text = f"the pediatric override names the unknown label '{override.system}': it does nothing"
        yield text, ("pediatric", "system")
    for label in override.infant_only:
        if (override.dimension, label) not in names:
            yield f"the pediatric override names the unknown label '{label}'", ("pediatric", "infant_only")


def _dangling_forms(document: Document, names: set[tuple[str, str]]) -> Iterator[Problem]:
    """Forms that also state a label of another dimension which does not exist."""
    for i, dimension in enumerate(document.dimensions):
        for j, label in enumerate(dimension.labels):
            for group in _GROUPS:
                for k, form in enumerate(getattr(label, group)):
                    path = ("dimensions", i, "labels", j, group, k)
                    yield from _dangling_also(form.also, form.text, path, names)
            for part, forms in label.substructures.items():
                for k, form in enumerate(forms):
                    path = ("dimensions", i, "labels", j, "substructures", part, k)
                    yield from _dangling_also(form.also, form.text, path, names)


def _dangling_also(
    also: dict[str, str], text: str, path: tuple[str | int, ...], names: set[tuple[str, str]]
) -> Iterator[Problem]:
    for key in also.items():
        if key not in names:
            yield f"'{text}' also states the unknown label '{key[1]}' ({key[0]})", path


def json_schema() -> str:
    """JSON Schema of a taxonomy file, as shipped in ``schemas/udt.schema.json``."""
    schema = Document.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "usds taxonomy file"
    form = schema["$defs"].get("FormEntry")
    code = schema["$defs"].get("CodeEntry")
    # A form may be written as its text alone, a code on one line.
    schema["$defs"]["FormEntry"] = {"anyOf": [{"type": "string", "minLength": 1}, form]}
    schema["$defs"]["CodeEntry"] = {"anyOf": [{"type": "string", "pattern": r"^(DCM|SCT) \S+ .+"}, code]}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
