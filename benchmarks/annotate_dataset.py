"""`usds annotate` over a dataset of many captions: rate, memory as it goes on, pictures untouched.

    python -m benchmarks.annotate_dataset [--captions FILE] [--size 1000000] [--workers N] [--json]

The dataset is made by the dataset's own writers: 10,000 captions a task, one frame each, captions as in
`benchmarks.annotate`. While the command runs, its memory and that of each worker is asked for every two
seconds; the four figures are the largest of each quarter of the run. The checksums of everything below
images/ are taken before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil

from benchmarks.annotate import read_captions
from benchmarks.annotate_speed import varied
from benchmarks.datasets import frame_row
from usds.schemas.dataset import Dataset

A_TASK = 10_000
EVERY = 2.0
PICTURE = b"\xff\xd8\xff" + bytes(200)  # annotation never opens it


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=Path)
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "dataset"
        write(root, varied(read_captions(options.captions)), options.size)
        figures = annotate(root, options.size, options.workers)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:32} {value}")


def write(root: Path, texts: Iterator[str], size: int) -> None:
    """A dataset of so many frames, each with a caption of its own."""
    dataset = Dataset.create(
        root, key_fingerprint="made", tool="made", detector="made", settings={}, settings_hash="made"
    )
    for start in range(0, size, A_TASK):
        with dataset.writer(f"task{start:09d}", ()) as writer:
            for number in range(start, min(start + A_TASK, size)):
                _add(writer, f"{number:09d}", next(texts))
            writer.commit()


def _add(writer: Any, key: str, text: str) -> None:
    writer.add_caption(
        {"caption_id": f"c{key}", "scope": "frame", "target_id": f"f{key}", "text": text,
         "origin": "sidecar", "n_removed": 0, "source_key": f"s{key}"}
    )  # fmt: skip
    row = frame_row(
        frame_id=f"f{key}", study_id=f"t{key}", subject_id=f"p{key}", subject_rule="patient_id",
        source_key=f"s{key}", source_frames=1, rows=64, cols=64, mode="b_mode", quality="ok", phash="0" * 16,
    )  # fmt: skip
    writer.add_frame(row, PICTURE)


def annotate(root: Path, size: int, workers: int) -> dict[str, Any]:
    """Run the command and watch it."""
    before = checksums(root / "images")
    command = [sys.executable, "-m", "usds.cli.main", "annotate", "--dataset", str(root), "--json"]
    start = time.monotonic()
    with subprocess.Popen([*command, "--workers", str(workers)], stdout=subprocess.PIPE) as process:
        seen = watch(psutil.Process(process.pid))
    seconds = time.monotonic() - start
    if process.returncode:
        raise SystemExit(f"usds annotate ended with {process.returncode}")
    if checksums(root / "images") != before:
        raise SystemExit("usds annotate changed a file below images/")
    return {
        "captions": size,
        "workers": workers,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(max(cpu for _, _, cpu in seen), 1),
        "captions_per_second": round(size / seconds),
        "command_mib_by_quarter": quarters([own for own, _, _ in seen]),
        "largest_worker_mib_by_quarter": quarters([largest for _, largest, _ in seen]),
        "files_of_images_unchanged": len(before),
    }


def watch(process: psutil.Process) -> list[tuple[int, int, float]]:
    """Memory of the command and of its largest child, MiB, and processor seconds of all, as time goes on."""
    seen: list[tuple[int, int, float]] = []
    spent: dict[int, float] = {}
    while process.status() != psutil.STATUS_ZOMBIE:
        try:
            family = [process, *process.children(recursive=True)]
            memory = [one.memory_info().rss >> 20 for one in family]
            spent |= {one.pid: sum(one.cpu_times()[:2]) for one in family}
            seen.append((memory[0], max(memory[1:], default=0), sum(spent.values())))
        except psutil.NoSuchProcess:
            pass  # a worker ended between the two questions
        time.sleep(EVERY)
    return seen


def quarters(values: Sequence[int]) -> list[int]:
    """The largest value of each quarter."""
    step = max(1, -(-len(values) // 4))
    return [max(values[at : at + step]) for at in range(0, len(values), step)]


def checksums(folder: Path) -> dict[str, str]:
    """Checksum of each file of a folder."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


if __name__ == "__main__":
    main()
