"""Recall of identifiers in prose, harmless words kept, speed: ``python -m benchmarks.prose --real FILE...``.

Three parts share no template, no origin of names and no real caption: misses of "tuning" were read,
"validation" gave figures while the rules grew, "test" ran when they were finished. A hit: no token of the
identifier is left in the output beyond those that the text around it holds anyway.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.prose_cases import CASES, Case, Part, generate
from usds.curation.deid.harvest import IdentifierIndex
from usds.curation.deid.prose import Scrubber
from usds.curation.deid.words import fold
from usds.curation.readers.base import Identifier
from usds.taxonomy.udt import load_taxonomy

_TOKEN = re.compile(r"[^\W_]+")
_Z: Final = 1.96
_CLASSES: Final = ("name", "id", "date", "phone", "mail", "age", "address", "institution")


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = hits / n, _Z * _Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * (p * (1 - p) / n + z2 / (4 * n * n)) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def _tokens(text: str) -> Counter[str]:
    return Counter(fold(token) for token in _TOKEN.findall(text))


def leaked(case: Case, output: str) -> list[tuple[str, str]]:
    """(class, tokens left) of the identifiers of which something is left."""
    # "Hospital" and its kin name no place by themselves.
    allowed = _tokens(case.rest) + _tokens("REMOVED DATE 90 Hospital Clinic Klinikum Medical Center St " * 99)
    left = _tokens(output) - allowed
    found: list[tuple[str, str]] = []
    for one in case.planted:
        kept = [token for token in _tokens(one.written) if token in left]
        if kept:
            found.append((one.klass, " ".join(kept)))
    return found


def recall(cases: Sequence[Case], scrub: Callable[[Case], str], show: int = 0) -> dict[str, Any]:
    """Recall by class and letter case, with n and interval."""
    n: Counter[tuple[str, str]] = Counter()
    misses: Counter[tuple[str, str]] = Counter()
    for case in cases:
        lost = leaked(case, scrub(case))
        for one in case.planted:
            n[one.klass, case.letter_case] += 1
        for klass, left in lost:
            misses[klass, case.letter_case] += 1
            if show > 0:
                show -= 1
                print(
                    f"left: {klass} {left!r} of {[p.written for p in case.planted]}: {case.text[:160]!r}",
                    file=sys.stderr,
                )
    table: dict[str, Any] = defaultdict(dict)
    for klass in _CLASSES:
        for letter_case in CASES:
            total = n[klass, letter_case]
            if total:
                hits = total - misses[klass, letter_case]
                low, high = wilson(hits, total)
                table[klass][letter_case] = {"recall": hits / total, "n": total, "low": low, "high": high}
    return dict(table)


def scrubber() -> Scrubber:
    """As ingest makes it: with the words of the bundled taxonomy."""
    terms = {
        text
        for dimension in load_taxonomy("udt").dimensions
        for label in dimension.labels
        for text in (label.name, *(form.text for form in label.forms))
    }
    return Scrubber(terms)


def harvested(case: Case) -> IdentifierIndex:
    """An index of the headers that hold the identifiers of a case."""
    index = IdentifierIndex()
    for one in case.planted:
        if one.header is not None:
            index.add("subject", one.header)
    index.add("subject", Identifier("20200131", "date"))
    return index


def harmless(captions: Iterable[str], scrub: Scrubber) -> dict[str, Any]:
    """Share of the tokens of real captions that are kept; none of them is called an identifier here."""
    n = removed = withheld = count = 0
    for text in captions:
        result = scrub.scrub(text)
        count += 1
        n += result.n_tokens
        removed += result.n_removed
        withheld += result.withheld
    return {"captions": count, "tokens": n, "kept": 1 - removed / n, "withheld": withheld}


def speed(captions: Sequence[str], scrub: Scrubber) -> dict[str, float]:
    """Captions and megabytes a second in one process, warm, against splitting into tokens alone."""
    for text in captions[:100]:
        scrub.scrub(text)
    start = time.perf_counter()
    for text in captions:
        scrub.scrub(text)
    own = time.perf_counter() - start
    start = time.perf_counter()
    for text in captions:
        _tokens(text)
    floor = time.perf_counter() - start
    size = sum(len(text.encode()) for text in captions)
    return {
        "captions_per_s": len(captions) / own,
        "mb_per_s": size / own / 1e6,
        "times_tokenizing": own / floor,
    }


def presidio(cases: Sequence[Case]) -> dict[str, Any] | str:
    """The same recall with presidio-analyzer, where it is installed; without a model it has no names."""
    try:
        from benchmarks.prose_presidio import analyser
    except ImportError:
        return "presidio-analyzer is not installed (pip install presidio-analyzer)"
    return recall(cases, analyser())


def real_captions(files: Sequence[Path], part: Part) -> list[str]:
    """Captions of a part: by their column `split`; those of files without it belong to the test part."""
    rows = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]
    parts = {"test": "validation", None: "test"}
    return [row["text"] for row in rows if parts.get(row.get("split"), "tuning") == part]


def run(real: Sequence[Path], n: int, part: Part, show: int) -> dict[str, Any]:
    """All figures as one object."""
    captions = real_captions(real, part)
    scrub = scrubber()
    cases = list(generate(part, captions, n, seed=20260401))
    return {
        "part": part,
        "unharvested": recall(cases, lambda case: scrub.scrub(case.text).text, show),
        "harvested": recall(
            cases, lambda case: scrub.scrub(case.text, harvested(case).matcher("subject")).text, show
        ),
        "harmless": harmless(captions, scrub),
        "speed": speed(captions * 4, scrub),
        "presidio": presidio(cases[:: max(1, len(cases) // 900)]),
    }


def _print(result: dict[str, Any]) -> None:
    for condition in ("unharvested", "harvested", "presidio"):
        table = result[condition]
        print(f"\n{condition} ({result['part']} part)")
        if isinstance(table, str):
            print(f"  {table}")
            continue
        for klass, row in table.items():
            cells = [
                f"{name} {one['recall']:.4f} [{one['low']:.4f}, {one['high']:.4f}] n={one['n']}"
                for name, one in row.items()
            ]
            print(f"  {klass:12}" + "   ".join(cells))
    print("\nharmless", json.dumps(result["harmless"]))
    print("speed", json.dumps({key: round(value, 2) for key, value in result["speed"].items()}))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=Path, nargs="+", required=True, help="JSON lines: text, split")
    parser.add_argument("-n", type=int, default=3000, help="captions a letter case")
    parser.add_argument("--part", choices=("tuning", "validation", "test"), default="test")
    parser.add_argument("--show", type=int, default=0, help="print so many misses (made-up names)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = run(arguments.real, arguments.n, arguments.part, arguments.show)
    if arguments.json:
        print(json.dumps(result))
    else:
        _print(result)


if __name__ == "__main__":
    main()
