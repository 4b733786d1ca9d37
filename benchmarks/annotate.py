"""Captions a second, stage by stage, beside spaCy on the same captions in the same process.

``--calibrate`` measures instead the confidence of each extraction method on the labelled captions of the
tests (or on the ``--gold`` files) and writes ``taxonomy/data/confidence.json``; ``--dry-run`` only prints it.

Run ``python -m benchmarks.annotate [--captions FILE] [--repeat N] [--json]``. Times are CPU seconds of this
process, best of N rounds. A stage is the time of all work up to its end less that up to its beginning, so
the stages sum up to the whole. The peers are spaCy's tokenizer and tokenizer + PhraseMatcher with the same
phrases, on a blank "en". ``--captions`` takes {id, text} lines; default are the rule sentences of the tests,
joined to the length of a usual caption.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import annotate_speed
from usds.taxonomy.codes import header_labels
from usds.taxonomy.evaluate import method_precision, read_gold
from usds.taxonomy.extract import Extractor
from usds.taxonomy.udt import load_taxonomy

CASES = Path(__file__).parents[1] / "tests/data/extraction_cases.jsonl"
TARGET_LENGTH = 165
GOLD = (CASES, *sorted(CASES.parent.glob("captions_heldout_*.jsonl")))
CONFIDENCE = Path(__file__).parents[1] / "taxonomy/data/confidence.json"


def read_captions(path: Path | None) -> list[str]:
    """Captions of a JSON lines file, or rule sentences joined to the length of a usual caption."""
    lines = (path or CASES).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines if line.strip()]
    if path is not None:
        return [record["text"] for record in records]
    captions: list[str] = [""]
    for record in records:
        if record["abstained"] is None:
            captions[-1] = f"{captions[-1]} {record['text']}".strip()
            if len(captions[-1]) >= TARGET_LENGTH:
                captions.append("")
    return [caption for caption in captions if caption]


def measure(path: Path | None, repeat: int, sizes: Sequence[int]) -> dict[str, Any]:
    """All figures of one run."""
    start = time.process_time()
    extractor = Extractor(load_taxonomy("udt"))
    build = time.process_time() - start
    figures = annotate_speed.measure(extractor, read_captions(path), repeat, sizes)
    return {"build_s": round(build, 3), **figures}


def calibrate(gold: Sequence[Path]) -> dict[str, Any]:
    """Content of ``confidence.json``: smoothed precision per method, (right + 1) / (n + 2).

    Text methods are judged on labelled captions. The method "header" is a table look-up and is judged by one:
    every code and body part of the taxonomy is looked up, a row is right where its label owns the entry.
    That says how far the table is unambiguous, not how often a header is filled in correctly.
    """
    taxonomy = load_taxonomy("udt")
    records = [record for path in gold for record in read_gold(path)]
    methods = method_precision(Extractor(taxonomy), records)
    right = total = 0
    for dimension in taxonomy.dimensions:
        for label in dimension.labels:
            looked_up = [header_labels(taxonomy, [code], None) for code in label.codes]
            looked_up += [header_labels(taxonomy, [], part) for part in label.body_parts]
            for rows in looked_up:
                total += len(rows)
                right += sum(row[:2] == (dimension.name, label.name) for row in rows)
    methods["header"] = {"confidence": round((right + 1) / (total + 2), 4), "n": total}
    names = ", ".join(path.name for path in gold)
    about = (
        "Confidence of an evidence row by extraction method: (right + 1) / (n + 2) over the evidence rows"
        f" stated on the {len(records)} labelled captions of {names}."
        " The rules have since been corrected on these captions, so these are upper estimates."
        " Method header: rows that the codes and body parts of the taxonomy give when looked up; it says that"
        " the table is unambiguous, not that a header was filled in correctly."
        " Made by python -m benchmarks.annotate --calibrate."
    )
    return {"about": about, "methods": dict(sorted(methods.items()))}


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--captions", type=Path)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--scale", type=int, nargs="*", default=[10_000], help="numbers of captions")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--gold", type=Path, nargs="+", default=GOLD)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    if options.calibrate:
        content = json.dumps(calibrate(options.gold), indent=1) + "\n"
        print(content, end="")
        if not options.dry_run:
            CONFIDENCE.write_text(content, encoding="utf-8")
        return
    figures = measure(options.captions, options.repeat, options.scale)
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        print(key)
        for row in value.items() if isinstance(value, dict) else enumerate(value) if key == "scaling" else ():
            print(f"  {row[0]!s:42} {row[1]}")
        if not isinstance(value, dict | list):
            print(f"  {value}")


if __name__ == "__main__":
    main()
