"""Cost by picture size, clip length and number of processes: `python -m benchmarks.deid.scaling [--json]`.

Every measurement runs in processes of its own, so that peak memory is that of the measurement. On a busy
machine seconds say little: `passes` is the cost in passes of the bare network over 480x640 pixels, timed
just before.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import cv2
import numpy as np

from benchmarks.deid.echo import RGB, scan

SIZES = ((240, 320), (480, 640), (768, 1024), (1080, 1920), (2160, 3840))
KEY_FRAMES = (1, 4, 8)
PROCESSES = (1, 2, 4)
_STILL = (480, 640)
_PER_PROCESS = 4


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deid.scaling", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--processes", type=int, nargs="*", default=list(PROCESSES))
    options = parser.parse_args()
    for row in _rows(options.processes):
        line = json.dumps(row) if options.json else "  ".join(f"{k} {v}" for k, v in row.items())
        print(line, flush=True)
    return 0


def _rows(processes: Sequence[int]) -> Iterator[dict[str, object]]:
    for rows, columns in SIZES:
        yield {"what": f"still {rows}x{columns}", **_alone(_still, (rows, columns))}
    for count in KEY_FRAMES:
        yield {"what": f"colour clip, {count} key frames", **_alone(_clip, count)}
    for count in processes:
        yield _together(count)


def picture(size: tuple[int, int], seed: int, *, doppler: bool = False) -> RGB:
    """A convex scan with one short string inside."""
    rgb = scan("convex", size, np.random.default_rng(seed), doppler=doppler, gain=0.9).rgb
    place = (size[1] // 2 - 40, size[0] // 2)
    cv2.putText(rgb, "ID 4711", place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
    return rgb


def _clean(frames: Sequence[RGB], samples: Sequence[RGB]) -> dict[str, float]:
    """Processor and wall seconds of one file, and the peak memory of this process with its networks open."""
    from benchmarks.deid.tools import NothingHarvested
    from usds.curation.deid.pixels import PixelCleaner

    cleaner = PixelCleaner()
    cleaner.detector.detect(np.zeros((64, 64, 3), np.uint8))
    unit = _pass()
    start, wall = time.process_time(), time.perf_counter()
    cleaner.clean(list(enumerate(frames)), samples=samples, regions=(), matcher=NothingHarvested())
    seconds = time.process_time() - start
    return {
        "cpu_s": round(seconds, 2),
        "passes": round(seconds / unit, 1),
        "wall_s": round(time.perf_counter() - wall, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _pass() -> float:
    """Processor seconds of the detection network once over 480x640 pixels, the least of three: the floor."""
    from usds.curation.deid.ocr_models import session

    network, picture = session("PP-OCRv6_det_small", 1), np.zeros((1, 3, *_STILL), np.float32)
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        network.run(None, {"x": picture})
        best = min(best, time.process_time() - start)
    return best


def _still(size: tuple[int, int]) -> dict[str, float]:
    rgb = picture(size, 1)
    return _clean([rgb], [rgb])


def _clip(key_frames: int) -> dict[str, float]:
    """A colour clip of 480x640 of which 16 samples decide about the area."""
    samples = [picture(_STILL, seed, doppler=True) for seed in range(16)]
    return _clean(samples[:key_frames], samples)


def _batch(first: int) -> float:
    """Processor seconds of a few stills."""
    start = time.process_time()
    for seed in range(first, first + _PER_PROCESS):
        rgb = picture(_STILL, seed)
        _clean([rgb], [rgb])
    return time.process_time() - start


def _alone(task: Callable[[Any], dict[str, float]], argument: Any) -> dict[str, float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(task, argument).result()


def _together(count: int) -> dict[str, object]:
    """So many processes side by side, the same work for each."""
    wall = time.perf_counter()
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        seconds = list(pool.map(_batch, range(0, count * _PER_PROCESS, _PER_PROCESS)))
    frames = count * _PER_PROCESS
    return {
        "what": f"{count} processes, stills 480x640",
        "cpu_s_a_still": round(sum(seconds) / frames, 2),
        "stills_a_wall_second": round(frames / (time.perf_counter() - wall), 2),
    }


if __name__ == "__main__":
    sys.exit(main())
