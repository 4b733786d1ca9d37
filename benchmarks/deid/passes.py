"""False passes: `python -m benchmarks.deid.passes [--frames 320] [--out FOLDER] [--shard I/N]`.

Frames carry harvested names, numbers and dates over scan, banner and edge, in many fonts, sizes, colours and
directions. They go through the whole pixel pipeline with the real matcher of harvested identifiers; what it
would ingest is read by the reader of `usds audit` (Tesseract), which must find none of them. For comparison
the same reader reads the frames as they came.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.deid.echo import SHAPES, scan
from benchmarks.deid.lettering import FONTS, place
from benchmarks.deid.scenes import BANNERS, RGB, TINTS
from benchmarks.deid.score import interval
from usds.curation.audit.images import judge, tesseract_words
from usds.curation.deid.harvest import IdentifierIndex, Matcher
from usds.curation.deid.pixels import PixelCleaner
from usds.curation.readers.base import Identifier

SUBJECT = "s" * 26
HARVESTED = (
    ("Winterbottom^Agatha", "name"), ("Kowalczyk^Tadeusz", "name"), ("Featherstone^Ida", "name"),
    ("MRN0048213", "id"), ("HX4410137", "id"), ("19570311", "date"), ("Kestrel Infirmary", "institution"),
)  # fmt: skip
DRAWN = (
    "WINTERBOTTOM, AGATHA", "Winterbottom A", "KOWALCZYK TADEUSZ", "Kowalczyk^T", "Featherstone Ida",
    "MRN0048213", "ID HX4410137", "11.03.1957", "03/11/1957", "KESTREL INFIRMARY",
)  # fmt: skip
_SIZES = (7, 8, 9, 10, 12, 14, 16)


@dataclass(slots=True)
class Passed:
    """One frame: what became of it, and how many identifiers the audit reads before and after."""

    number: int
    outcome: str
    before: int
    after: int


def main() -> int:
    """Parse, run, print; exit 1 on a false pass."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deid.passes", description=__doc__)
    parser.add_argument("--frames", type=int, default=320)
    parser.add_argument("--out", type=Path, help="folder of results; frames found there are not run again")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="every N-th frame from the I-th on")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not shutil.which("tesseract"):
        parser.error("tesseract is not on the path: apt-get install tesseract-ocr")
    store = options.out / "passes.jsonl" if options.out else None
    done = _stored(store)
    first, step = (int(part) for part in options.shard.split("/"))
    cleaner, matcher = PixelCleaner(), _matcher()
    for number in range(first - 1, options.frames, step):
        if number not in done:
            done[number] = run(number, cleaner, matcher)
            if store is not None:
                store.parent.mkdir(parents=True, exist_ok=True)
                with store.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(asdict(done[number])) + "\n")
    done |= _stored(store)
    result = report([done[number] for number in sorted(done) if number < options.frames])
    print(
        json.dumps(result)
        if options.json
        else "\n".join(f"{name}: {value}" for name, value in result.items())
    )
    return 1 if result["false_passes"] else 0


def _stored(path: Path | None) -> dict[int, Passed]:
    if path is None or not path.is_file():
        return {}
    frames = [Passed(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]
    return {frame.number: frame for frame in frames}


def _matcher() -> Matcher:
    index = IdentifierIndex()
    for value, klass in HARVESTED:
        index.add(SUBJECT, Identifier(value, klass))  # type: ignore[arg-type]
    return index.matcher(SUBJECT)


def run(number: int, cleaner: PixelCleaner, matcher: Matcher) -> Passed:
    """Draw, clean, and read one frame."""
    rgb = lettered(np.random.default_rng(90_000 + number), number)
    result = cleaner.clean([(0, rgb)], samples=[rgb], regions=(), matcher=matcher)
    before = _identifiers(rgb, matcher)
    after = sum(_identifiers(frame.image, matcher) for frame in result.frames)
    outcome = result.outcome if result.outcome != "ok" or result.frames else "review"
    return Passed(number, outcome, before, after)


def _identifiers(rgb: RGB, matcher: Matcher) -> int:
    found = judge(tesseract_words(rgb), matcher, "frame")
    return sum(finding.klass in {klass for _, klass in HARVESTED} for finding in found)


def lettered(rng: np.random.Generator, number: int) -> RGB:
    """A scan with an identifier inside or across its edge, small enough to be ingested, and three around."""
    shape = SHAPES[number % len(SHAPES)]
    echo = scan(shape, (600, 800), rng, doppler=number % 4 == 1, gain=float(rng.uniform(0.55, 1.15)))
    picture = echo.rgb
    top = max(14, int(np.flatnonzero(echo.area.any(axis=1))[0]) - 6)
    picture[:top][echo.area[:top] == 0] = BANNERS[int(rng.integers(0, len(BANNERS)))]
    for _ in range(3):
        _draw(picture, rng, (int(rng.integers(2, 500)), int(rng.integers(1, top))), _SIZES)
    inner = cv2.erode(echo.area, np.ones((15, 15), np.uint8)) > 0
    edge = (echo.area == 1) & (np.roll(echo.area, 1, axis=1) == 0)
    places = np.argwhere(edge if number % 3 == 2 else inner)
    y, x = (int(value) for value in places[int(rng.integers(0, len(places)))])
    _draw(picture, rng, (max(0, x - 30), y), _SIZES[:5], turned=number % 7 == 3)
    return picture


def _draw(
    picture: RGB, rng: np.random.Generator, at: tuple[int, int], sizes: Sequence[int], *, turned: bool = False
) -> None:
    text = DRAWN[int(rng.integers(0, len(DRAWN)))]
    font, size = str(rng.choice(np.array(FONTS))), int(rng.choice(np.array(sizes)))
    tint, contrast = TINTS[int(rng.integers(0, len(TINTS)))], float(rng.uniform(30, 180))
    place(
        picture, text, font=font, size=size, at=at, contrast=contrast, klass="identifier", tint=tint,
        turns=int(rng.choice((1, 3))) if turned else 0,
    )  # fmt: skip


def report(frames: list[Passed]) -> dict[str, object]:
    """Counts, and the interval of the share of ingested frames in which an identifier is still read."""
    ingested = [frame for frame in frames if frame.outcome == "ok"]
    false = sum(frame.after > 0 for frame in ingested)
    return {
        "frames": len(frames),
        "read_by_the_audit_as_they_came": sum(frame.before > 0 for frame in frames),
        "ingested": len(ingested),
        "ingested_and_readable_as_they_came": sum(frame.before > 0 for frame in ingested),
        "false_passes": false,
        "share_of_false_passes": interval(false, len(ingested)) if ingested else None,
    }


if __name__ == "__main__":
    sys.exit(main())
