"""Damage thousands of files and read each in a worker that can be killed.

    python -m benchmarks.mutate [--files 10000] [--workers 2] [--json]

Every file must end in exactly one outcome (frames, or a reason), within 10 seconds and 1.5 GB. A worker
that hangs is killed and one that dies is replaced; both are counted, and the run goes on.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

MAX_SECONDS = 10.0
MAX_MEMORY = 1.5e9
_Mutation = Callable[[bytearray, np.random.Generator], bytearray]


def corpus() -> list[bytes]:
    """Small sound files of every kind and syntax; mutations of these are what is read."""
    from PIL import Image
    from support import dicom_factory as factory

    files: list[bytes] = []
    for color in (False, True):
        frames = factory.phantom(3, 64, 80, color=color)
        for syntax in factory.SYNTAXES:
            if syntax != "htj2k":
                files.append(factory.make_us_dicom(frames, syntax=syntax, phi=factory.Planted()))
        for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"):
            out = io.BytesIO()
            Image.fromarray(frames[0]).save(out, kind)
            files.append(out.getvalue())
        for codec, container in (
            ("libx264", "mp4"),
            ("mpeg4", "avi"),
            ("mpeg2video", "mpeg"),
            ("mjpeg", "avi"),
        ):
            pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            files.append(factory.make_video(frames, codec, container, pixel_format=pixel_format))
    data = Path(__file__).parents[1] / "tests" / "data" / "dicom"
    files += [path.read_bytes() for path in sorted(data.glob("*.dcm")) if path.stat().st_size < 100_000]
    for name in ("htj2k_rgb_48x64", "htj2k_grey_48x64"):
        pixels = np.asarray(Image.open(data / f"{name}.png"))[None]
        streams = [(data / f"{name}.j2c").read_bytes()]
        files.append(factory.make_us_dicom(pixels, syntax="htj2k", codestreams=streams))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, content in enumerate(files[:4]):
            archive.writestr(f"f{index}", content)
    return [*files, out.getvalue()]


def _flip(data: bytearray, rng: np.random.Generator) -> bytearray:
    for at in rng.integers(0, len(data), int(rng.integers(1, 33))):
        data[at] ^= 1 << int(rng.integers(8))
    return data


def _extreme(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Write extreme integers, mostly where headers are: lengths and sizes are what breaks parsers."""
    for _ in range(int(rng.integers(1, 5))):
        span = len(data) if rng.random() < 0.3 else min(len(data), 2048)
        at = int(rng.integers(0, span))
        value = bytes.fromhex(
            str(rng.choice(["ffffffff", "ffffff7f", "00000000", "ffff", "0080", "fe", "00000080"]))
        )
        data[at : at + len(value)] = value
    return data


def _cut(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: int(rng.integers(0, len(data)))]


def _drop(data: bytearray, rng: np.random.Generator) -> bytearray:
    at, size = int(rng.integers(0, len(data))), int(rng.integers(1, 200))
    return data[:at] + data[at + size :]


def _repeat(data: bytearray, rng: np.random.Generator) -> bytearray:
    at, size = int(rng.integers(0, len(data))), int(rng.integers(1, 2000))
    return data[: at + size] + data[at : at + size] * int(rng.integers(1, 20)) + data[at + size :]


def _noise(data: bytearray, rng: np.random.Generator) -> bytearray:
    at, size = int(rng.integers(0, len(data))), int(rng.integers(1, 400))
    data[at : at + size] = rng.bytes(min(size, len(data) - at))
    return data


_MUTATIONS: tuple[_Mutation, ...] = (_flip, _extreme, _extreme, _cut, _drop, _repeat, _noise)


def mutate(files: list[bytes], number: int) -> bytes:
    """Return the mutated file of this number; the same number always gives the same bytes."""
    rng = np.random.default_rng(number)
    data = bytearray(files[int(rng.integers(len(files)))])
    if rng.random() < 0.05:  # two halves of different files
        other = files[int(rng.integers(len(files)))]
        return bytes(data[: len(data) // 2]) + other[len(other) // 2 :]
    for _ in range(int(rng.integers(1, 4))):
        if data:
            data = _MUTATIONS[int(rng.integers(len(_MUTATIONS)))](data, rng)
    return bytes(data)


def read(data: bytes) -> str:
    """Read one file to its last frame; returns its outcome."""
    from usds.curation.readers.archive import Archive
    from usds.curation.readers.base import MediaError, ReadLimits, open_media
    from usds.curation.readers.sniff import sniff

    kind = sniff(data[:16384])
    try:
        if kind == "zip":
            with Archive(data, ReadLimits()) as archive:
                for member in archive.members():
                    if member.reason is None:
                        read(archive.read(member.name))
            return "archive"
        if kind not in ("dicom", "image", "video"):
            return f"not media: {kind}"
        with open_media(data, kind=kind, limits=ReadLimits()) as media:
            media.identifiers()
            return "frames" if sum(1 for _ in media.frames()) else "no frames"
    except MediaError as error:
        return f"rejected: {error.reason}"


def _worker(connection: Any, log: str) -> None:
    """Serve numbers until told to stop; what libraries print goes to the log, to be measured."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = corpus()
    connection.send(None)
    while (number := connection.recv()) is not None:
        start = time.perf_counter()
        try:
            outcome = read(mutate(files, number))
        except Exception as error:  # noqa: BLE001 - an exception that escapes is what this looks for
            outcome = f"escaped: {type(error).__name__}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        connection.send((outcome, time.perf_counter() - start, peak))


@dataclass
class Slot:
    """One worker process and what it is doing."""

    context: Any
    log: str
    process: Any = None
    connection: Any = None
    number: int | None = None
    since: float = 0.0

    def start(self) -> None:
        """Start a fresh worker and wait until its files are made."""
        self.connection, far = self.context.Pipe()
        self.process = self.context.Process(target=_worker, args=(far, self.log), daemon=True)
        self.process.start()
        far.close()
        self.connection.recv()

    def give(self, number: int) -> None:
        """Hand over a file."""
        self.number, self.since = number, time.perf_counter()
        self.connection.send(number)

    def kill(self) -> None:
        """End the worker, whatever it does."""
        self.process.kill()
        self.process.join()


@dataclass
class Report:
    """Outcome counts and the worst figures."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    peak: float = 0.0
    bad: list[tuple[int, str]] = field(default_factory=list)

    def add(self, number: int, outcome: str, seconds: float, peak: float) -> None:
        """Count one file."""
        self.outcomes[outcome] += 1
        self.slowest, self.peak = max(self.slowest, seconds), max(self.peak, peak)
        if outcome.startswith(("hang", "crash", "escaped")) or peak > MAX_MEMORY:
            self.bad.append((number, outcome))


def run(n_files: int, n_workers: int, log: str, first: int = 0) -> Report:
    """Read `n_files` mutated files and return the report."""
    context = multiprocessing.get_context("forkserver")
    slots = [Slot(context, log) for _ in range(n_workers)]
    report, numbers = Report(), iter(range(first, first + n_files))
    for slot in slots:
        slot.start()
    busy = [slot for slot in slots if _next(slot, numbers)]
    while busy:
        for slot in list(busy):
            if not _poll(slot, report):
                continue
            if not _next(slot, numbers):
                busy.remove(slot)
    for slot in slots:
        slot.kill()
    return report


def _next(slot: Slot, numbers: Any) -> bool:
    number = next(numbers, None)
    if number is not None:
        slot.give(number)
    return number is not None


def _poll(slot: Slot, report: Report) -> bool:
    """Return whether the slot's file is settled: answered, crashed or out of time."""
    assert slot.number is not None
    spent = time.perf_counter() - slot.since
    try:
        if slot.connection.poll(0.002):
            report.add(slot.number, *slot.connection.recv())
            return True
    except (EOFError, ConnectionError):
        slot.kill()
        report.add(slot.number, f"crash: exit {slot.process.exitcode}", spent, 0.0)
        slot.start()
        return True
    if spent > MAX_SECONDS:
        slot.kill()
        report.add(slot.number, "hang", spent, 0.0)
        slot.start()
        return True
    return False


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        log = str(Path(folder, "worker.log"))
        report = run(options.files, options.workers, log, options.first)
        printed = Path(log).read_bytes() if Path(log).exists() else b""
    figures = {
        "files": options.files,
        "outcomes": dict(report.outcomes.most_common()),
        "one_outcome_each": sum(report.outcomes.values()) == options.files,
        "slowest_s": round(report.slowest, 3),
        "peak_gb": round(report.peak / 1e9, 3),
        "bad": report.bad[:50],
        "bytes_printed_by_libraries": len(printed),
        "first_printed": printed[:300].decode("latin-1"),
        "seconds": round(time.perf_counter() - start, 1),
    }
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        print(f"{key:28} {value}")


if __name__ == "__main__":
    main()
