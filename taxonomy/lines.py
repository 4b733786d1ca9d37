"""Labels for text without a dataset: JSON lines in, JSON lines out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from usds.taxonomy.extract import Extraction, Extractor
from usds.taxonomy.normalise import sanitise

__all__ = ["LineError", "annotate_lines", "labels_jsonl", "result_record"]


@dataclass(frozen=True, slots=True)
class LineError:
    """A line that could not be read; `number` is 1-based."""

    number: int
    problem: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.problem}"


def result_record(identifier: object, extraction: Extraction) -> dict[str, Any]:
    """The output record of one caption: `expected` holds the present labels, empty dimensions are left
    out."""
    return {
        "id": identifier,
        "expected": {name: list(labels) for name, labels in extraction.present.items()},
        "negated": {name: list(labels) for name, labels in extraction.negated.items()},
        "uncertain": {name: list(labels) for name, labels in extraction.uncertain.items()},
        "abstained": extraction.abstained,
    }


def annotate_lines(
    extractor: Extractor, lines: Iterable[str | bytes]
) -> Iterator[dict[str, Any] | LineError]:
    """Label {id, text} lines one by one, in order.

    Parameters
    ----------
    extractor : Extractor
        With the taxonomy to use.
    lines : iterable of str or bytes
        JSON objects with `id` and `text`; blank lines are skipped.

    Yields
    ------
    dict or LineError
        One result for each line that can be read, one error for each that cannot.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        record = _read(line, number)
        if isinstance(record, LineError):
            yield record
        else:
            identifier, text = record
            yield result_record(identifier, extractor.extract(text))


def _read(line: str | bytes, number: int) -> tuple[object, str] | LineError:
    try:
        text = line.decode("utf-8") if isinstance(line, bytes) else line
        record: object = json.loads(text)
    except UnicodeDecodeError as error:
        return LineError(number, f"not UTF-8 text (byte {error.start})")
    except json.JSONDecodeError as error:
        return LineError(number, f"not JSON: {error.msg} (column {error.colno})")
    except RecursionError:
        return LineError(number, "not usable JSON: nested too deeply")
    return _fields(record, number)


def _fields(record: object, number: int) -> tuple[object, str] | LineError:
    if not isinstance(record, dict):
        return LineError(number, "not a JSON object with 'id' and 'text'")
    entry = cast("dict[str, object]", record)
    if "id" not in entry:
        return LineError(number, "the key 'id' is missing")
    caption = entry.get("text")
    if not isinstance(caption, str):
        return LineError(number, "the key 'text' is missing" if caption is None else "'text' is not a string")
    identifier = entry["id"]
    return (sanitise(identifier) if isinstance(identifier, str) else identifier), sanitise(caption)


def labels_jsonl(extractor: Extractor, lines: Iterable[str | bytes]) -> Iterator[str | LineError]:
    """As :func:`annotate_lines`, each result as one JSON line without its line break."""
    for result in annotate_lines(extractor, lines):
        yield result if isinstance(result, LineError) else json.dumps(result, ensure_ascii=False)
