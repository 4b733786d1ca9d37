"""Checks that decide whether a taxonomy file can be used at all; each failure names file and line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from usds.schemas.tables import RESERVED_COLUMNS
from usds.taxonomy.document import Document
from usds.taxonomy.source import Source, TaxonomyError
from usds.taxonomy.udt import expand

__all__ = ["check_document"]

Path = tuple[str | int, ...]


def check_document(source: Source) -> Document:
    """Validate the shape and the references of a taxonomy file.

    Raises
    ------
    TaxonomyError
        For the first problem in the order of the file.
    """
    try:
        document = Document.model_validate(source.data)
    except ValidationError as error:
        raise _shape_error(source, error) from error
    problems = sorted(_problems(document), key=lambda problem: source.line(problem[1]) or 0)
    if problems:
        text, path = problems[0]
        raise source.error(text, path)
    return document


def _shape_error(source: Source, error: ValidationError) -> TaxonomyError:
    first = min(error.errors(), key=lambda e: _telling(e["type"], e["loc"], source))
    path: Path = first["loc"]
    where = ".".join(str(part) for part in path)
    kind = first["type"]
    if kind == "extra_forbidden":
        return source.error(f"unknown key '{path[-1]}'{_nearest(str(path[-1]), path)}", path)
    if kind == "missing":
        return source.error(f"the key '{path[-1]}' is missing", path[:-1])
    if kind == "too_short":
        return source.error(f"'{path[-1]}' is empty: it needs at least one entry", path)
    name = next((str(part) for part in reversed(path) if isinstance(part, str)), where)
    return source.error(f"'{name}' {_wanted(kind, first['input'], first['msg'])}", path)


def _wanted(kind: str, value: object, message: str) -> str:
    """What a value should have been, in words of a YAML file."""
    got = repr(value) if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
    if isinstance(value, bool):
        return f"holds {value!s}, as YAML reads a bare yes, no, on or off: put the word in quotes"
    if kind == "string_type" and isinstance(value, (int, float)):
        return f"must be text, not the number {value}: put it in quotes"
    if kind == "tuple_type":
        return (
            f"must be a list, not {got}: write [{value}]"
            if isinstance(value, str)
            else f"must be a list, not {got}"
        )
    if kind == "string_pattern_mismatch":
        pattern = message.partition("pattern ")[2]
        return f"is {got}: use letters, digits and _ (pattern {pattern})"
    return f"is {got}: {message.replace('Input should be', 'it should be')}"


def _telling(kind: str, path: Path, source: Source) -> tuple[int, int, int]:
    """Order of errors: a misspelt key is also a missing one, a list with a wrong entry also counts as too
    short.
    """
    weak = {"missing": 1, "too_short": 2}.get(kind, 0)
    return weak, -len(path) if kind == "too_short" else 0, source.line(path) or 0


def _nearest(key: str, path: Path) -> str:
    from usds.taxonomy.document import DimensionEntry, LabelEntry

    model = Document
    if "labels" in path:
        model = LabelEntry
    elif "dimensions" in path and len(path) == 3:
        model = DimensionEntry
    near = difflib.get_close_matches(key, list(model.model_fields), n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known here: {', '.join(model.model_fields)}"


def _problems(document: Document) -> Iterator[tuple[str, Path]]:
    yield from _duplicate_names(document)
    yield from _parents(document)
    yield from _patterns(document)
    yield from _references(document)


def _duplicate_names(document: Document) -> Iterator[tuple[str, Path]]:
    seen_dimensions: set[str] = set()
    for i, dimension in enumerate(document.dimensions):
        if dimension.name in RESERVED_COLUMNS:
            text = f"dimension '{dimension.name}' is called like a column of every label table; rename it"
            yield text, ("dimensions", i, "name")
        if dimension.name in seen_dimensions:
            yield f"dimension '{dimension.name}' stands twice", ("dimensions", i, "name")
        seen_dimensions.add(dimension.name)
        seen: set[str] = set()
        for j, label in enumerate(dimension.labels):
            if label.name in seen:
                path = ("dimensions", i, "labels", j, "name")
                yield f"label '{label.name}' stands twice in dimension '{dimension.name}'", path
            seen.add(label.name)


def _parents(document: Document) -> Iterator[tuple[str, Path]]:
    names = {d.name: {label.name for label in d.labels} for d in document.dimensions}
    parents: dict[tuple[str, str], tuple[str, str]] = {}
    places: dict[tuple[str, str], Path] = {}
    for i, dimension in enumerate(document.dimensions):
        target = dimension.parent_dimension or dimension.name
        if target not in names:
            yield f"unknown parent dimension '{target}'", ("dimensions", i, "parent_dimension")
            continue
        for j, label in enumerate(dimension.labels):
            path = ("dimensions", i, "labels", j, "parent")
            if label.parent is None:
                continue
            if label.parent not in names[target]:
                hint = _suggest(label.parent, names[target])
                yield f"unknown parent '{label.parent}' of label '{label.name}'{hint}", path
                continue
            parents[dimension.name, label.name] = (target, label.parent)
            places[dimension.name, label.name] = path
    yield from _cycles(parents, places)


def _cycles(
    parents: dict[tuple[str, str], tuple[str, str]], places: dict[tuple[str, str], Path]
) -> Iterator[tuple[str, Path]]:
    done: set[tuple[str, str]] = set()
    for start in parents:
        trail: list[tuple[str, str]] = []
        node = start
        while node in parents and node not in done and node not in trail:
            trail.append(node)
            node = parents[node]
        if node in trail:
            loop = [*trail[trail.index(node) :], node]
            yield "cycle of parents: " + " -> ".join(label for _, label in loop), places[node]
        done.update(trail)


def _patterns(document: Document) -> Iterator[tuple[str, Path]]:
    for i, dimension in enumerate(document.dimensions):
        for j, label in enumerate(dimension.labels):
            path = ("dimensions", i, "labels", j)
            groups = ("synonyms", "variants", "misspellings", "abbreviations", "implied", "regions")
            for group in groups:
                for k, form in enumerate(getattr(label, group)):
                    yield from _pattern(form.text, (*path, group, k))
            for name, forms in label.substructures.items():
                for k, form in enumerate(forms):
                    yield from _pattern(form.text, (*path, "substructures", name, k))
    for k, form in enumerate(document.ignore):
        yield from _pattern(form.text, ("ignore", k))
    for name, members in document.groups.items():
        for k, text in enumerate(members):
            yield from _pattern(text, ("groups", name, k))
    for k, compound in enumerate(document.compounds):
        for n, text in enumerate(compound.modifiers):
            yield from _pattern(text, ("compounds", k, "modifiers", n))


def _pattern(text: str, path: Path) -> Iterator[tuple[str, Path]]:
    try:
        empty = not all(any(c.isalnum() for c in form) for form in expand(text))
    except ValueError as error:
        yield f"bad surface form: {error}", path
        return
    if empty:
        yield f"surface form '{text}' holds no word", path


def _references(document: Document) -> Iterator[tuple[str, Path]]:
    for k, compound in enumerate(document.compounds):
        if compound.heads not in document.groups:
            yield f"unknown group '{compound.heads}'", ("compounds", k, "heads")


def _suggest(word: str, known: Sequence[str] | set[str]) -> str:
    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
