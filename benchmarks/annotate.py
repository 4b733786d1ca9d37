"""Captions a second, stage by stage, beside spaCy on the same captions in the same process.

Run ``python -m benchmarks.annotate [--captions FILE] [--repeat N] [--json]``. Times are CPU seconds of this
process, best of N rounds; the peers are spaCy's tokenizer and tokenizer + PhraseMatcher with the same
phrases, on
a blank "en". ``--captions`` takes {id, text} lines; default are the rule sentences of the tests, joined to
the
length of a usual caption.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import spacy
from spacy.matcher import PhraseMatcher

from usds.taxonomy.assertion import Sweep
from usds.taxonomy.context import Context
from usds.taxonomy.extract import Extractor
from usds.taxonomy.normalise import normalise, tokenise
from usds.taxonomy.udt import load_taxonomy

CASES = Path(__file__).parents[1] / "tests/data/extraction_cases.jsonl"
TARGET_LENGTH = 165


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


def best_rate(work: Callable[[], object], n: int, repeat: int) -> float:
    """Items a CPU second, best of `repeat` rounds."""
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return n / best


def stages(extractor: Extractor, texts: Sequence[str]) -> dict[str, Callable[[], object]]:
    """One function a stage, each over all captions with its inputs prepared."""
    normals = [normalise(text) for text in texts]
    tokens = [tokenise(normal) for normal in normals]
    contexts = [Context(n.text, t) for n, t in zip(normals, tokens, strict=True)]
    hits = [extractor.lexicon.scan(t.words, c) for t, c in zip(tokens, contexts, strict=True)]
    rules = extractor.book.compounds

    def sweep() -> None:
        for h, t, n in zip(hits, tokens, normals, strict=True):
            Sweep(h, t, n.text, rules).run()

    return {
        "normalise": lambda: [normalise(text) for text in texts],
        "tokenise": lambda: [tokenise(normal) for normal in normals],
        "find phrases": lambda: [
            extractor.lexicon.scan(t.words, c) for t, c in zip(tokens, contexts, strict=True)
        ],
        "assertion": sweep,
        "all stages": lambda: [extractor.extract(text) for text in texts],
    }


def peers(extractor: Extractor, texts: Sequence[str]) -> dict[str, Callable[[], object]]:
    """SpaCy on the same captions and phrases."""
    nlp = spacy.blank("en")
    matcher = PhraseMatcher(nlp.vocab, attr="LOWER")
    phrases = sorted({form.text for _, _, form in extractor.taxonomy.forms()})
    matcher.add("form", list(nlp.tokenizer.pipe(phrases)))

    return {
        "spaCy tokenizer only": lambda: [nlp.make_doc(text) for text in texts],
        "spaCy tokenizer + PhraseMatcher": lambda: [matcher(nlp.make_doc(text)) for text in texts],
    }


def measure(path: Path | None, repeat: int) -> dict[str, Any]:
    """All figures of one run."""
    start = time.process_time()
    extractor = Extractor(load_taxonomy("udt"))
    build = time.process_time() - start
    texts = read_captions(path)
    mine = {name: best_rate(work, len(texts), repeat) for name, work in stages(extractor, texts).items()}
    other = {name: best_rate(work, len(texts), repeat) for name, work in peers(extractor, texts).items()}
    long = "No mass, cyst or collection. A hypoechoic nodule with smooth margins in the thyroid. " * 530
    start = time.process_time()
    extractor.extract(long[:45_000])
    return {
        "captions": len(texts),
        "mean_characters": round(sum(map(len, texts)) / len(texts), 1),
        "build_s": round(build, 3),
        "captions_per_cpu_s": {name: round(rate) for name, rate in {**mine, **other}.items()},
        "all_stages_over_spacy_tokenizer": round(mine["all stages"] / other["spaCy tokenizer only"], 3),
        "caption_of_45000_characters_s": round(time.process_time() - start, 3),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--captions", type=Path)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.captions, options.repeat)
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        if isinstance(value, dict):
            print(key)
            for name, rate in value.items():
                print(f"  {name:34} {rate:>9,}")
        else:
            print(f"{key:36} {value}")


if __name__ == "__main__":
    main()
