"""Images a second of the training stream beside its floors.

Run ``python -m benchmarks.loader [--frames N] [--size S] [--json]``. Times are CPU seconds of this process
with one thread, so that other load of the machine does not count. Floors and peers in the same run:

* ``cache bytes``: random access to the encoded frames of the memory-mapped cache, nothing decoded;
* ``decode``: the same frames decoded by OpenCV, without augmentation or batching (the floor of the stream);
* ``stream``: whole training batches: decode, augment, tokens, labels;
* ``shards``: the same frames read by locator from the Parquet shards, decoded at native size and resized:
  what a stream without a cache would do.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks import phantom_data
from usds.model.augment import augment
from usds.model.cache import FrameCache, decode_rgb, open_cache
from usds.model.sampler import record_rng
from usds.model.settings import build_settings
from usds.model.towers import build_towers
from usds.model.train_data import load_train_data
from usds.schemas.dataset import Dataset
from usds.taxonomy.udt import load_taxonomy

NATIVE = 768


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(Path(folder), options.frames, options.size)
    if options.json:
        print(json.dumps(rates, indent=1))
        return
    for name, rate in rates.items():
        print(f"{name:32s} {rate:12,.1f}")


def measure(folder: Path, frames: int, size: int) -> dict[str, float]:
    """Frames a CPU second of each way to read."""
    dataset = make_dataset(folder / "dataset", frames)
    settings = build_settings(
        {"preset": "tiny", "data": {"cache": str(folder / "cache"), "batch_size": 64, "image_size": size}}
    )
    start = time.process_time()
    cache = open_cache(dataset, size, folder / "cache")
    built = frames / (time.process_time() - start)
    towers = build_towers(settings.model.towers.model_copy(update={"image_size": size}))
    taxonomy = load_taxonomy("udt")
    data = load_train_data(dataset, taxonomy, settings, size, 1, note=lambda _: None)
    stream = data.stream(towers, settings, 0, 1)
    names = [data.train.frame_ids[i] for i in np.random.default_rng(0).permutation(len(data.train))]
    steps = max(1, len(names) // data.plan.batch_size)
    rates = {
        "cache bytes": rate(lambda: touch(cache, names), len(names)),
        "decode": rate(lambda: [cache.image(name) for name in names], len(names)),
        "stream": rate(lambda: [stream[step] for step in range(steps)], steps * data.plan.batch_size),
        "shards": rate(lambda: from_shards(dataset, names[:128], size, settings), min(128, len(names))),
        "cache build": built,
    }
    return {
        **rates,
        "stream / decode": rates["stream"] / rates["decode"],
        "stream / shards": rates["stream"] / rates["shards"],
    }


def rate(work: Callable[[], Any], items: int, rounds: int = 3) -> float:
    """Items a CPU second, best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return items / max(best, 1e-9)


def touch(cache: FrameCache, names: list[str]) -> int:
    """Read the last byte of each encoded frame."""
    return sum(cache.encoded(name)[-1] for name in names)


def from_shards(dataset: Dataset, names: list[str], size: int, settings: Any) -> None:
    """Random access without a cache, in batches of 64."""
    for start in range(0, len(names), 64):
        for frame, data in dataset.read_pixels(names[start : start + 64]).items():
            rgb = decode_rgb(data)
            assert rgb is not None
            augment(rgb, size, settings.augment, record_rng(0, 0, frame, "image"))


def make_dataset(root: Path, frames: int) -> Dataset:
    """Phantoms at the size of a real frame, one a subject and all on the training side."""
    spec = phantom_data.PhantomSettings(subjects=frames, frames_per_subject=1, side=NATIVE, train_share=1.0)
    return phantom_data.write_dataset(root, spec)


if __name__ == "__main__":
    main()
