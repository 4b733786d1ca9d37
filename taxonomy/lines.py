"""Labels for text without a dataset: JSON lines in, JSON lines out."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, Final, cast

from usds.schemas.errors import ContentError
from usds.taxonomy.extract import Extraction, Extractor
from usds.taxonomy.normalise import sanitise
from usds.taxonomy.udt import Taxonomy

__all__ = [
    "LineError",
    "annotate_lines",
    "end_with_parent",
    "labels_by_processes",
    "labels_jsonl",
    "result_record",
]

BLOCK: Final = 1 << 19
"""Bytes of lines handed to a worker process at once: a second of work or less."""
_encode = json.JSONEncoder(ensure_ascii=False).encode


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
    extractor: Extractor, lines: Iterable[str | bytes], first: int = 1
) -> Iterator[dict[str, Any] | LineError]:
    """Label {id, text} lines one by one, in order.

    Parameters
    ----------
    extractor : Extractor
        With the taxonomy to use.
    lines : iterable of str or bytes
        JSON objects with `id` and `text`; blank lines are skipped.
    first : int
        Number of the first line.

    Yields
    ------
    dict or LineError
        One result for each line that can be read, one error for each that cannot.
    """
    for number, line in enumerate(lines, first):
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
        text = line.removeprefix(b"\xef\xbb\xbf").decode("utf-8") if isinstance(line, bytes) else line
        record: object = json.loads(text, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        return LineError(number, f"not UTF-8 text (byte {error.start})")
    except json.JSONDecodeError as error:
        return LineError(number, f"not JSON: {error.msg} (column {error.colno})")
    except RecursionError:
        return LineError(number, "not usable JSON: nested too deeply")
    except ValueError:
        return LineError(number, "not usable JSON: a number with too many digits")
    return _fields(record, number)


def _no_number(name: str) -> None:
    """Refuse NaN and Infinity, which Python reads and writes but JSON does not have."""
    raise json.JSONDecodeError(f"{name} is no number in JSON", "", 0)


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


def labels_jsonl(
    extractor: Extractor, lines: Iterable[str | bytes], first: int = 1
) -> Iterator[str | LineError]:
    """As :func:`annotate_lines`, each result as one JSON line without its line break."""
    for result in annotate_lines(extractor, lines, first):
        yield result if isinstance(result, LineError) else sanitise(_encode(result))


# -- worker processes -----------------------------------------------------------------------------------


def labels_by_processes(
    taxonomy: Taxonomy, lines: Iterable[bytes], workers: int
) -> Iterator[str | LineError]:
    """As :func:`labels_jsonl`, byte for byte and in order, by `workers` processes.

    Raises
    ------
    ContentError
        If a worker process dies.
    """
    waiting: deque[Future[list[str | LineError]]] = deque()
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start, initargs=(taxonomy,)) as pool:
        try:
            for first, block in _blocks(lines):
                waiting.append(pool.submit(_run, block, first))
                if len(waiting) > 2 * workers:  # so that memory stays flat
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenProcessPool as error:
            raise ContentError(
                "a worker process died, perhaps for want of memory: run the same command with --workers 1"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _blocks(lines: Iterable[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Lines in blocks, with the number of the first."""
    block: list[bytes] = []
    size = 0
    first = number = 1
    for number, line in enumerate(lines, 1):
        block.append(line)
        size += len(line)
        if size >= BLOCK:
            yield first, block
            block, size, first = [], 0, number + 1
    if block:
        yield first, block


_extractor: Extractor | None = None


def end_with_parent() -> None:
    """End this worker process with the one that started it: a killed parent leaves its pool waiting."""
    parent = parent_process()
    if parent is not None:
        Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _start(taxonomy: Taxonomy) -> None:
    """Build the extractor once in a worker process."""
    global _extractor  # noqa: PLW0603 - a process pool offers its workers no other place
    end_with_parent()
    _extractor = Extractor(taxonomy)


def _run(block: list[bytes], first: int) -> list[str | LineError]:
    if _extractor is None:
        raise RuntimeError("the worker was not initialised")
    return list(labels_jsonl(_extractor, block, first))
