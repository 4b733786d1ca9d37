"""How the guarded spelling rule does on slips of its own terms, and on words that are no slips.

python -m benchmarks.annotate_typos [--each 20] [--seed 7]
"""

from __future__ import annotations

import argparse
import gzip
import random
import string
from collections import Counter
from importlib import resources

from usds.taxonomy.extract import Extractor
from usds.taxonomy.fuzzy import Speller
from usds.taxonomy.udt import load_taxonomy

LISTS = ("english", "medical")  # of the text protection: words that are nobody's name


def slip(word: str, rng: random.Random) -> str:
    """One random edit behind the first letter: a letter lost, added, changed, or two swapped."""
    at = rng.randrange(1, len(word))
    letter = rng.choice(string.ascii_lowercase)
    kind = rng.choice("laxs")
    if kind == "l":
        return word[:at] + word[at + 1 :]
    if kind == "a":
        return word[:at] + letter + word[at:]
    if kind == "x":
        return word[:at] + letter + word[at + 1 :]
    at = min(at, len(word) - 2)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def outcomes(speller: Speller, each: int, seed: int) -> Counter[str]:
    """Counts of right, wrong (another label), left (no correction) and real (the slip is a known word)."""
    rng = random.Random(seed)
    labels = {
        word: {(item.dimension, item.label) for item, _ in mark.labels}
        for word, mark in speller.marks.items()
    }
    counts: Counter[str] = Counter()
    for word in sorted(labels):
        for _ in range(each):
            written = slip(word, rng)
            if written == word:
                continue
            target = speller.lookup(written)
            if written in speller.known:
                counts["real"] += 1
            elif target is None:
                counts["left"] += 1
            else:
                counts["right" if labels[target] == labels[word] else "wrong"] += 1
    return counts


def taken(speller: Speller, name: str) -> tuple[int, list[str]]:
    """Words of a list, and those that would be read as a slip of a term."""
    with (resources.files("usds.curation.deid") / f"{name}.txt.gz").open("rb") as file:
        lines = gzip.decompress(file.read()).decode("utf-8").splitlines()
    words = {word for word in (line.split("\t")[0].lower() for line in lines) if word.isalpha()}
    found = [(word, speller.lookup(word)) for word in sorted(words) if word not in speller.known]
    return len(words), [f"{word} > {target}" for word, target in found if target]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=20, help="slips of each term")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    speller = Extractor(load_taxonomy("udt")).speller
    counts = outcomes(speller, args.each, args.seed)
    total = sum(counts.values())
    print(
        f"{len(speller.marks)} terms, {total} slips: "
        + ", ".join(f"{k} {v}" for k, v in counts.most_common())
    )
    print(f"read rightly {counts['right'] / total:.3f}, as another label {counts['wrong'] / total:.4f}")
    for name in LISTS:
        size, wrong = taken(speller, name)
        print(f"{name}: {size} words, {len(wrong)} read as a slip: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
