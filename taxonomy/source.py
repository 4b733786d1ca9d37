"""YAML with places: every value of a document can be traced back to its line.

A person who edits a taxonomy needs "udt.yaml, line 214", not "dimensions.1.labels.17.parent".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from usds.schemas.errors import ContentError

__all__ = ["Source", "TaxonomyError", "read_source"]

LARGEST = 4 << 20  # bytes of a taxonomy file; the bundled one has 0.2 MB
_DEEPEST = 40  # levels of nesting
_MOST = 500_000  # values, anchors unfolded
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class TaxonomyError(ContentError):
    """A taxonomy file cannot be used; the message names the file and the line.

    Attributes
    ----------
    file : str
        The file as the user named it.
    line : int or None
        1-based line, None when the problem has no single place.
    """

    def __init__(self, problem: str, *, file: str, line: int | None = None) -> None:
        self.file = file
        self.line = line
        place = f"{file}, line {line}" if line is not None else file
        super().__init__(f"{place}: {problem}")


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed YAML document and the line of each of its nodes.

    Attributes
    ----------
    file : str
        Name for messages.
    text : str
        The YAML text as read.
    data : dict
        Plain Python content.
    lines : dict
        Path of keys and indexes -> 1-based line.
    """

    file: str
    text: str
    data: dict[str, Any]
    lines: dict[tuple[str | int, ...], int]

    def line(self, path: Sequence[str | int]) -> int | None:
        """Line of the deepest known node on `path`."""
        key = tuple(path)
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key)

    def error(self, problem: str, path: Sequence[str | int] = ()) -> TaxonomyError:
        """Build the error for a problem at `path`."""
        return TaxonomyError(problem, file=self.file, line=self.line(path))


def read_source(path: Path, name: str | None = None) -> Source:
    """Read a YAML file whose root is a mapping.

    Parameters
    ----------
    path : Path
        The file.
    name : str, optional
        What messages call it; default the path as given.

    Raises
    ------
    TaxonomyError
        The file is missing, is not UTF-8 or not YAML, repeats a key, or is not a mapping.
    """
    file = name or str(path)
    try:
        with path.open("rb") as opened:
            raw = opened.read(LARGEST + 1)
        text = raw[:LARGEST].decode("utf-8")
    except OSError as error:
        raise TaxonomyError(
            f"cannot be read ({error.strerror}); name an existing YAML file", file=file
        ) from error
    except UnicodeDecodeError as error:
        raise TaxonomyError(f"is not UTF-8 text (byte {error.start}); save it as UTF-8", file=file) from error
    if len(raw) > LARGEST:
        raise TaxonomyError(f"is larger than {LARGEST >> 20} MB: this is no taxonomy file", file=file)
    return parse_source(text, file)


def parse_source(text: str, file: str) -> Source:
    """Parse YAML text; see :func:`read_source`."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise TaxonomyError("must be a mapping with id, version and dimensions", file=file, line=1)
            lines: dict[tuple[str | int, ...], int] = {}
            _index(node, (), lines, file)
            data = cast("dict[str, Any]", loader.construct_document(node))
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "cannot be parsed"
        line = mark.line + 1 if mark is not None else None
        raise TaxonomyError(f"not valid YAML: {problem}", file=file, line=line) from error
    return Source(file=file, text=text, data=data, lines=lines)


def _index(
    root: yaml.Node, at: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], file: str
) -> None:
    """Record the line of each node; refuse a repeated key, which YAML would silently overwrite."""
    stack: list[tuple[yaml.Node, tuple[str | int, ...]]] = [(root, at)]
    while stack:
        node, path = stack.pop()
        lines.setdefault(path, node.start_mark.line + 1)
        if len(path) > _DEEPEST or len(lines) > _MOST:
            what = "is nested too deeply" if len(path) > _DEEPEST else "repeats itself without end"
            raise TaxonomyError(
                f"what stands here {what}; write it out without anchors", file=file, line=lines[path[:1]]
            )
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                child = (*path, str(key.value))
                line = key.start_mark.line + 1
                if child in lines:
                    raise TaxonomyError(
                        f"the key '{key.value}' stands twice in one mapping (first on line {lines[child]})",
                        file=file,
                        line=line,
                    )
                lines[child] = line
                stack.append((value, child))
        elif isinstance(node, yaml.SequenceNode):
            stack.extend((value, (*path, i)) for i, value in enumerate(node.value))
