"""A made release in the layout of US-365K.

    python -m benchmarks.release --folder FOLDER [--pairs 364365]

11,676 cases for 364,365 pairs (or as many in proportion), few of them with hundreds of pictures and many with
a handful; pictures of a case look alike; a case has one caption; labels at the published coverage; sides by
case. The pictures are small (about 3 KB), so that a whole release fits a small disk.
"""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.targets import Record, sample_records
from usds.taxonomy.udt import load_taxonomy

PAIRS: Final = 364_365
CASES: Final = 11_676
SIDES: Final = ("train", "train", "train", "valid", "test")
KEYS: Final = {
    "body_system": "Body_system_level",
    "organ": "Organ_level",
    "diagnosis": "Diagnosis",
    "shape": "Shape",
    "margins": "Margins",
    "echogenicity": "Echogenicity",
    "internal_characteristics": "InternalCharacteristics",
    "posterior_acoustics": "PosteriorAcoustics",
    "vascularity": "Vascularity",
}
SIZE: Final = (96, 128)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    write_release(options.folder, options.pairs)


def write_release(folder: Path, pairs: int) -> None:
    """Write the release; full_data.json comes last, so a release without it is not whole."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    cases = max(10, round(pairs * CASES / PAIRS))
    labels = sample_records(load_taxonomy("udt"), cases)
    lines: dict[str, list[str]] = {side: [] for side in SIDES}
    records: list[str] = []
    sizes = case_sizes(pairs, cases)
    number = 0
    for case, (size, label) in enumerate(zip(sizes.tolist(), labels, strict=True)):
        side, caption = SIDES[case % len(SIDES)], describe(label, case)
        published = {key: label[name] for name, key in KEYS.items()}
        for picture in pictures(case, size):
            name = f"{number:06d}_{case:06d}_{uuid.UUID(int=case)}.jpg"
            (folder / "images" / name).write_bytes(picture)
            lines[side].append(json.dumps({"image": name, "caption": caption}))
            records.append(json.dumps({"media_name": name, **published}))
            number += 1
    for side, rows in lines.items():
        (folder / f"{side}.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    (folder / "full_data.json").write_text("[" + ",\n".join(records) + "]", "utf-8")


def case_sizes(pairs: int, cases: int) -> npt.NDArray[np.int64]:
    """Pictures of each case: at least one, exponentially spread."""
    rng = np.random.default_rng(0)
    share = rng.exponential(size=cases)
    return 1 + rng.multinomial(pairs - cases, share / share.sum())


def describe(label: Record, case: int) -> str:
    """A caption that names the labels of a case."""
    told = {name: " and ".join(found).lower() for name, found in label.items() if found}
    looks = ", ".join(told[n] for n in ("shape", "margins", "echogenicity") if n in told)
    parts = [
        f"Ultrasound image {case} of the {told.get('organ', 'body')} shows a {looks or 'visible'} lesion"
    ]
    parts += [f"{told[n]}" for n in ("internal_characteristics", "posterior_acoustics") if n in told]
    ending = f", consistent with {told['diagnosis']}." if "diagnosis" in told else "."
    return ", with ".join(parts) + ending


def pictures(case: int, count: int) -> Iterator[bytes]:
    """JPEGs of one case: one scene of its own, seen again with a little motion and noise."""
    rng = np.random.default_rng(case)
    rows, cols = SIZE
    scene = cv2.resize(
        rng.random((10, 12), np.float32) * 255, (cols + 8, rows + 8), interpolation=cv2.INTER_CUBIC
    )
    for _ in range(count):
        y, x = rng.integers(0, 8, 2)
        noise = rng.integers(-6, 7, (rows // 4, cols // 4)).repeat(4, 0).repeat(4, 1)
        grey = (scene[y : y + rows, x : x + cols] + noise).clip(0, 255).astype(np.uint8)
        yield cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


if __name__ == "__main__":
    main()
