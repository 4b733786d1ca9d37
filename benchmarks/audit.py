"""Time and memory of `usds audit`, against bare Tesseract over the same pictures in the same run.

    python -m benchmarks.audit [--frames 100 1000] [--pictures FOLDER] [--no-reading] [--json]

Datasets of stills are made by the dataset's own writers: scans of the burned-in text benchmark, or PNG and
JPEG files of your own, each mirrored and with other gain so that no two are alike; four frames a subject,
a caption each, three harvested identifiers a subject. The floor starts Tesseract once a picture, at the
pictures' own size, as many at a time as there are cores; it is run over a tenth of them. Processor time
counts the audit's process and the readers it starts; memory is the audit's own peak, without the readers.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.datasets import frame_row
from benchmarks.ingest import peak_mb

BASES = 24
FRAMES_A_SUBJECT = 4
FRAMES_A_TASK = 200
NAMES = ("Winterbottom", "Kowalczyk", "Featherstonehaugh", "Quillfeather", "Okonkwo", "Vanterpool")


@dataclass(slots=True)
class Cost:
    """What one audit of a dataset took."""

    frames: int
    seconds: float
    cpu_seconds: float
    without_images_cpu_seconds: float
    peak_mb: float
    findings: int
    floor_seconds: float
    floor_cpu_seconds: float
    ratio: float = 0.0
    cpu_ratio: float = 0.0


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000])
    parser.add_argument(
        "--pictures", type=Path, help="folder of pictures of your own, read without subfolders"
    )
    parser.add_argument(
        "--no-reading", action="store_true", help="leave out Tesseract: the rest of the audit"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    work = rest if options.no_reading else measure
    costs = [work(frames, options.pictures) for frames in options.frames]
    if options.json:
        print(json.dumps([asdict(cost) for cost in costs]))
        return
    for cost in costs:
        print("  ".join(f"{name} {value:,.2f}" for name, value in asdict(cost).items()))


def measure(frames: int, pictures: Path | None) -> Cost:
    """Make a dataset, audit it, and run the floor over a tenth of its pictures, each in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        place = (folder, frames, str(pictures) if pictures else None)
        _in_process(_make, place)
        audited = _in_process(_audit, (folder, True))
        text = _in_process(_audit, (folder, False))
        floor = _in_process(_floor, (folder, max(1, frames // 10)))
    cost = Cost(
        frames, audited["seconds"], audited["cpu"], text["cpu"], audited["peak_mb"],
        audited["findings"], floor["seconds"] * frames, floor["cpu"] * frames,
    )  # fmt: skip
    cost.ratio, cost.cpu_ratio = cost.seconds / cost.floor_seconds, cost.cpu_seconds / cost.floor_cpu_seconds
    return cost


def rest(frames: int, pictures: Path | None) -> Cost:
    """The same without reading any picture."""
    with tempfile.TemporaryDirectory() as folder:
        _in_process(_make, (folder, frames, str(pictures) if pictures else None))
        text = _in_process(_audit, (folder, False))
    cost = (text["seconds"], text["cpu"], text["cpu"], text["peak_mb"], text["findings"])
    return Cost(frames, *cost, floor_seconds=0.0, floor_cpu_seconds=0.0)


def _in_process(work: Callable[[Any], Any], arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, arguments).result()


def _bases(pictures: str | None) -> list[np.ndarray]:
    if pictures is None:
        from benchmarks.deid.echo import SHAPES, scan

        rng = np.random.default_rng(7)
        made = (
            scan(SHAPES[i % len(SHAPES)], (480, 640), rng, doppler=i % 4 == 1, gain=0.9) for i in range(BASES)
        )
        return [echo.rgb for echo in made]
    read = (cv2.imread(str(path)) for path in sorted(Path(pictures).iterdir()) if path.is_file())
    found = [picture[:, :, ::-1] for picture in read if picture is not None]
    if not found:
        sys.exit(f"no picture in {pictures}")
    return found


def _still(bases: list[np.ndarray], number: int) -> bytes:
    """One of the pictures, mirrored and with another gain."""
    from usds.curation.deid.encode import encode

    rng = np.random.default_rng(number)
    base = bases[number % len(bases)]
    mirrored = base[:, ::-1] if number // len(bases) % 2 else base
    return encode(np.clip(mirrored * rng.uniform(0.7, 1.1), 0, 255).astype(np.uint8))


def _make(arguments: tuple[str, int, str | None]) -> None:
    from usds.curation.deid.harvest import IdentifierIndex
    from usds.curation.deid.identity import Ids
    from usds.curation.readers.base import Identifier
    from usds.schemas.dataset import Dataset
    from usds.schemas.state import State, fingerprint

    folder, frames, pictures = arguments
    os.environ["USDS_STATE"] = f"{folder}/state"
    key = bytes(32)
    ids, bases, index = Ids(key), _bases(pictures), IdentifierIndex()
    dataset = Dataset.create(
        Path(folder) / "dataset", key_fingerprint=fingerprint(key), tool="benchmark", detector="none",
        settings={}, settings_hash="0" * 64,
    )  # fmt: skip
    state = State.create(dataset.info.dataset_id, key)
    for first in range(0, frames, FRAMES_A_TASK):
        with dataset.writer(ids.source(f"task {first}"), ()) as writer:
            for number in range(first, min(frames, first + FRAMES_A_TASK)):
                subject = ids.subject("id", str(number // FRAMES_A_SUBJECT))
                row, caption = _rows(ids, number, subject)
                writer.add_frame(row, _still(bases, number))
                writer.add_caption(caption)
                if number % FRAMES_A_SUBJECT == 0:
                    for value, klass in _identifiers(number // FRAMES_A_SUBJECT):
                        index.add(subject, Identifier(value, klass))  # type: ignore[arg-type]
            writer.commit()
    index.save(state)


def _identifiers(subject: int) -> Iterator[tuple[str, str]]:
    yield f"{NAMES[subject % len(NAMES)]}^{chr(65 + subject % 26)}gatha", "name"
    yield f"MRN{4_000_000 + 7919 * subject}", "id"
    yield f"{1930 + subject % 70}0{1 + subject % 9}1{subject % 10}", "date"


def _rows(ids: Any, number: int, subject: str) -> tuple[dict[str, Any], dict[str, Any]]:
    source = ids.source(f"file {number}")
    frame = frame_row(
        frame_id=ids.frame(f"{number:064x}", 0), study_id=ids.study(subject), subject_id=subject,
        subject_rule="patient_id", source_key=source, media="dicom", mode="b_mode", quality="ok", sex="F",
        age_band="40-44", vendor="unknown", model_family="unknown", transducer="unknown", body_part="unknown",
        area_method="speckle", verified_by="strokes", phash=f"{number:016x}",
    )  # fmt: skip
    caption = {
        "caption_id": ids.keyed_hash("caption", str(number)),
        "scope": "frame", "target_id": frame["frame_id"],
        "text": f"Hypoechoic nodule of {number % 40 + 3} mm in the left breast, margins circumscribed.",
        "origin": "sidecar", "n_removed": 0, "source_key": source, "language": "en",
    }  # fmt: skip
    return frame, caption


def _audit(arguments: tuple[str, bool]) -> dict[str, float]:
    from usds.curation.audit import images as reader
    from usds.curation.audit.run import audit
    from usds.curation.deid.harvest import IdentifierIndex
    from usds.schemas.dataset import Dataset
    from usds.schemas.state import State

    folder, images = arguments
    os.environ["USDS_STATE"] = f"{folder}/state"
    dataset = Dataset.open(Path(folder) / "dataset")
    state = State.open(dataset.info.dataset_id, dataset.info.key_fingerprint)
    if not images:
        reader.tesseract_pages = lambda pictures, _: [[] for _ in pictures]  # type: ignore[assignment]
    start, cpu = time.perf_counter(), _cpu()
    report = audit(dataset, IdentifierIndex.load(state), state=state)
    return {
        "seconds": time.perf_counter() - start, "cpu": _cpu() - cpu, "peak_mb": peak_mb(),
        "findings": len(report.findings),
    }  # fmt: skip


def _floor(arguments: tuple[str, int]) -> dict[str, float]:
    """Seconds a picture of Tesseract alone."""
    from usds.schemas.dataset import Dataset

    folder, count = arguments
    stored = Dataset.open(Path(folder) / "dataset").iter_images()
    pictures = [data for _, data in islice(stored, count)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        start, cpu = time.perf_counter(), _cpu()
        list(pool.map(_bare, pictures))
        return {"seconds": (time.perf_counter() - start) / count, "cpu": (_cpu() - cpu) / count}


def _bare(picture: bytes) -> None:
    command = ["tesseract", "stdin", "stdout", "--psm", "11", "tsv"]
    limited = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    subprocess.run(command, input=picture, capture_output=True, check=True, env=limited)


def _cpu() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


if __name__ == "__main__":
    main()
