"""Speed and memory of the extractor: stages, peers, and growth with the number of captions."""

from __future__ import annotations

import importlib.util
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice, pairwise
from typing import Any

import psutil
import spacy
from spacy.matcher import PhraseMatcher

from usds.taxonomy import extract
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


def steps(extractor: Extractor, text: str) -> Iterator[str]:
    """The work of ``Extractor.extract``, with the name of each stage when it is done."""
    normal = normalise(text)
    yield "normalise"
    tokens = tokenise(normal)
    yield "tokenise"
    words = tokens.words
    nodes = list(map(extractor.lexicon.table.get, words))
    unknown = [word for word, node in zip(words, nodes, strict=True) if node is None]
    yield "look words up"
    if extractor.gate.check(normal, words, unknown, extractor.speller.lookup) is not None:
        return
    yield "gate"
    context = Context(normal.text, tokens)
    hits = extractor.lexicon.scan(words, nodes, context)
    yield "find phrases"
    hits = extractor.speller.correct(words, unknown, hits)
    if extractor.gate.check_hits(hits, words, notable=context.notable) is not None:
        return
    yield "spelling, gate of phrases"
    sweep = Sweep(hits, tokens, normal.text, extractor.book.compounds)
    sweep.run()
    yield "assertion"
    facts = extractor._facts(sweep, normal, context, pediatric=False)
    yield "rules"
    found = extractor._collapse(facts, tokens, normal)
    yield "collapse"
    found.evidence  # noqa: B018 - made when asked for
    yield "evidence rows"


def stages(extractor: Extractor, texts: Sequence[str]) -> dict[str, Work]:
    """Work up to and with each stage (the first is nothing), and the whole as it is called."""
    names = max((list(steps(extractor, text)) for text in texts), key=len)

    def until(count: int) -> None:
        for text in texts:
            stage = steps(extractor, text)
            for _ in range(count):
                next(stage, None)

    return {
        **{name: partial(until, i) for i, name in enumerate(["nothing", *names])},
        "all stages, labels": lambda: [extractor.extract(text).present for text in texts],
        "all stages, labels and evidence rows": lambda: [extractor.extract(text).evidence for text in texts],
    }


def shares(seconds: dict[str, float]) -> dict[str, float]:
    """Seconds of each stage alone, from the seconds of the work up to and with it."""
    names = list(seconds)
    last = names.index("evidence rows")
    alone = {name: seconds[name] - seconds[before] for before, name in pairwise(names[: last + 1])}
    return {**alone, **{name: seconds[name] for name in names[last + 1 :]}}


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
    seconds = shares(best_seconds({**stages(extractor, texts), **peers(extractor, texts)}, repeat))
    floor = seconds["peer: spaCy tokenizer"]
    return {
        "build": "pure" if extract.__file__.endswith(".py") else "compiled",
        "captions": len(texts),
        "mean_characters": round(sum(map(len, texts)) / len(texts), 1),
        "captions_per_cpu_s": {name: round(len(texts) / s) if s > 0 else None for name, s in seconds.items()},
        "microseconds_a_caption": {name: round(s / len(texts) * 1e6, 1) for name, s in seconds.items()},
        "time_over_spacy_tokenizer": {name: round(s / floor, 2) for name, s in seconds.items()},
        "long_caption_s": long_seconds(extractor),
        "scaling": scale,
    }
