"""Speed and memory of the extractor: stages, peers, and growth with the number of captions."""

from __future__ import annotations

import importlib.util
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import psutil
import spacy
from spacy.matcher import PhraseMatcher

from usds.taxonomy.assertion import Sweep
from usds.taxonomy.context import Context
from usds.taxonomy.extract import Extractor
from usds.taxonomy.normalise import normalise, tokenise

SEED = 7
_SENTENCE = re.compile(r"(?<=[.;])\s+")
_DIGIT = re.compile(r"\d")
Work = Callable[[], object]


def varied(captions: Sequence[str], seed: int = SEED) -> Iterator[str]:
    """Endless captions of real sentences in new company, with other numbers: none comes twice in a row."""
    rng = random.Random(seed)
    parts = [_SENTENCE.split(caption) for caption in captions]
    sentences = [sentence for part in parts for sentence in part]
    while True:
        for part in rng.sample(parts, len(parts)):
            mixed = [rng.choice(sentences) if rng.random() < 0.3 else sentence for sentence in part]
            rng.shuffle(mixed)
            yield _DIGIT.sub(lambda _: str(rng.randint(1, 9)), " ".join(mixed))


def best_seconds(work: dict[str, Work], repeat: int) -> dict[str, float]:
    """CPU seconds of each piece of work, best of `repeat` rounds in turn (so that all share busy times)."""
    best = dict.fromkeys(work, float("inf"))
    for _ in range(repeat):
        for name, run in work.items():
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start)
    return best


def stages(extractor: Extractor, texts: Sequence[str]) -> dict[str, Work]:
    """One function a stage, each over all captions with its inputs prepared."""
    normals = [normalise(text) for text in texts]
    tokens = [tokenise(normal) for normal in normals]
    contexts = [Context(n.text, t) for n, t in zip(normals, tokens, strict=True)]
    table, known = extractor.lexicon.table, extractor.lexicon.known
    unknown = [[word for word in t.words if word not in known] for t in tokens]
    hits = [
        extractor.lexicon.scan(t.words, list(map(table.get, t.words)), c)
        for t, c in zip(tokens, contexts, strict=True)
    ]
    rules = extractor.book.compounds

    def gate() -> None:
        for n, t, u in zip(normals, tokens, unknown, strict=True):
            extractor.gate.check(n, t.words, u, extractor.speller.lookup)

    def spell() -> None:
        for t, u, h in zip(tokens, unknown, hits, strict=True):
            extractor.speller.correct(t.words, u, h)

    def sweep() -> None:
        for h, t, n in zip(hits, tokens, normals, strict=True):
            Sweep(h, t, n.text, rules).run()

    return {
        "normalise": lambda: [normalise(text) for text in texts],
        "tokenise": lambda: [tokenise(normal) for normal in normals],
        "gate": gate,
        "find phrases": lambda: [
            extractor.lexicon.scan(t.words, list(map(table.get, t.words)), c)
            for t, c in zip(tokens, contexts, strict=True)
        ],
        "spelling": spell,
        "assertion": sweep,
        "all stages, labels": lambda: [extractor.extract(text).present for text in texts],
        "all stages, labels and evidence rows": lambda: [extractor.extract(text).evidence for text in texts],
    }


def peers(extractor: Extractor, texts: Sequence[str]) -> dict[str, Work]:
    """SpaCy, and negspaCy where it is installed, on the same captions and phrases."""
    nlp = spacy.blank("en")
    matcher = PhraseMatcher(nlp.vocab, attr="LOWER")
    phrases = sorted({form.text for _, _, form in extractor.taxonomy.forms()})
    matcher.add("form", list(nlp.tokenizer.pipe(phrases)))

    def match() -> None:
        with nlp.memory_zone():
            for text in texts:
                matcher(nlp.make_doc(text))

    work: dict[str, Work] = {
        "peer: spaCy tokenizer": lambda: [nlp.make_doc(text) for text in texts],
        "peer: spaCy tokenizer + PhraseMatcher": match,
    }
    ruled = spacy.blank("en")
    ruled.add_pipe("sentencizer")
    ruler: Any = ruled.add_pipe("entity_ruler", config={"phrase_matcher_attr": "LOWER"})
    ruler.add_patterns([{"label": "form", "pattern": phrase} for phrase in phrases])
    work["peer: spaCy sentencizer + EntityRuler"] = lambda: list(ruled.pipe(texts, disable=["negex"]))
    if importlib.util.find_spec("negspacy") is not None:
        importlib.import_module("negspacy.negation")
        ruled.add_pipe("negex", config={"ent_types": ["form"]})
        work["peer: the same + negspaCy"] = lambda: list(ruled.pipe(texts))
    return work


def long_seconds(extractor: Extractor) -> dict[str, float]:
    """CPU seconds of single long captions, by characters."""
    text = "No mass, cyst or collection. A hypoechoic nodule with smooth margins in the thyroid. " * 120_000
    seconds: dict[str, float] = {}
    for size in (45_000, 450_000, 10_000_000):
        start = time.process_time()
        rows = extractor.extract(text[:size]).evidence
        seconds[f"{size:,}"] = round(time.process_time() - start, 3)
        del rows
    return seconds


def scaling(extractor: Extractor, captions: Sequence[str], sizes: Sequence[int]) -> list[dict[str, float]]:
    """Rate and resident memory after each number of captions, one pass over captions that are not kept."""
    process = psutil.Process()
    stream = varied(captions)
    rows: list[dict[str, float]] = []
    done = 0
    seconds = 0.0
    for size in sorted(sizes):
        while done < size:
            batch = list(islice(stream, min(5000, size - done)))
            start = time.process_time()
            for text in batch:
                len(extractor.extract(text).evidence)
            seconds += time.process_time() - start
            done += len(batch)
        memory = process.memory_info().rss / 2**20
        rows.append({"captions": done, "per_cpu_s": round(done / seconds), "rss_mib": round(memory, 1)})
    return rows


def measure(
    extractor: Extractor, captions: Sequence[str], repeat: int, sizes: Sequence[int]
) -> dict[str, Any]:
    """All figures of one run; scaling first, before anything else has taken memory."""
    scale = scaling(extractor, captions, sizes)
    texts = list(islice(varied(captions), 1200))
    seconds = best_seconds({**stages(extractor, texts), **peers(extractor, texts)}, repeat)
    floor = seconds["peer: spaCy tokenizer"]
    return {
        "captions": len(texts),
        "mean_characters": round(sum(map(len, texts)) / len(texts), 1),
        "captions_per_cpu_s": {name: round(len(texts) / s) for name, s in seconds.items()},
        "microseconds_a_caption": {name: round(s / len(texts) * 1e6, 1) for name, s in seconds.items()},
        "time_over_spacy_tokenizer": {name: round(s / floor, 2) for name, s in seconds.items()},
        "long_caption_s": long_seconds(extractor),
        "scaling": scale,
    }
