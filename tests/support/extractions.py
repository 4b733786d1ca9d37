"""Print all that the extractor finds in the captions of the tests and in odd texts, a line each.

python tests/support/extractions.py {pure,compiled} > FILE

Two builds of usds must print the same bytes; the argument says which build this has to be. The install without a
compiler and the one with it are compared so by .ci/run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import astuple
from itertools import islice
from pathlib import Path

from usds.taxonomy import extract
from usds.taxonomy.udt import load_taxonomy

DATA = Path(__file__).parents[1] / "data"
ODD = (
    *(
        "",
        " ",
        "\n\n",
        "\x00",
        "no\x00 cyst",
        "\ud800",
        "a cyst \udfff",
        "...",
        "((((",
        "no " * 5000,
        "?" * 5000,
    ),
    *(
        "\u202ecyst of the liver\u202c",
        "كيس في الكبد",
        "肝囊肿",
        "🩺 liver cyst 🩺",
        "ﬁbroadenoma of the breast",
    ),
    *(
        "LIVER CYST, NO MASS",
        "lıver cyst",
        "ⅳ: liver  cyst",
        "cyst\u0301 of the li\u00advér",
        "¼ of the liver",
    ),
)


def texts() -> Iterator[str]:
    """Captions of tests/data, each also with its sentences turned round, in capitals and torn, and odd texts."""
    for path in sorted(DATA.glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            text: str = json.loads(line)["text"]
            yield text
            yield ". ".join(reversed(text.split(". ")))
            yield text.upper()
            yield text[1::2] + text[len(text) // 3 :]
    yield from ODD
    yield "No mass, cyst or collection. A hypoechoic nodule in the thyroid. " * 3000


def main() -> None:
    """Label every text twice, as an adult's and as a child's caption."""
    build = "pure" if extract.__file__.endswith(".py") else "compiled"
    if sys.argv[1:] != [build]:
        sys.exit(
            f"this usds is {build}, asked for was {' '.join(sys.argv[1:]) or 'nothing'}: {extract.__file__}"
        )
    extractor = extract.Extractor(load_taxonomy("udt"))
    for text in texts():
        for pediatric in (False, True):
            found = extractor.extract(text, pediatric=pediatric)
            spans = [astuple(span) for span in islice(extract.explain(found, text), 1000)]
            print(json.dumps([found.to_json(), spans]))


if __name__ == "__main__":
    main()
