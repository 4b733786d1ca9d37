"""Training images a second on a GPU in bf16: whole steps, the real loader beside synthetic data.

    python -m benchmarks.throughput [--shapes ViT-B-32,ViT-B-16,biomed] [--steps 30] [--workers N] [--json]
    python -m benchmarks.throughput --smoke        a tiny shape on whatever is there, to see that it runs

A step is what `usds train` takes: encode, label path, loss, backward, clip, AdamW, EMA. ``synthetic`` repeats
a few batches that lie on the device; ``real`` takes them from the training stream (memory-mapped cache,
decode, augment, tokens, labels, worker processes). ``plain CLIP`` is the same step without labels, semantic
loss and prompts; what the improved and the paper label path add to it is a share of its time. The first steps
are not counted. ``biomed`` is timm ViT-B/16 with a BERT-base of random weights at 64 tokens; nothing is
downloaded. Without a GPU nothing is measured, and the command says so.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from benchmarks import phantom_data
from usds.model.ema import EMA
from usds.model.network import Batch, UltrasoundCLIP
from usds.model.optim import Schedule, build_optimizer
from usds.model.runtime import Runtime, runtime
from usds.model.settings import TrainSettings, build_settings, merge
from usds.model.step import Stepper
from usds.model.stream import TrainStream, train_loader
from usds.model.train_data import TrainData, load_train_data
from usds.schemas.dataset import Dataset
from usds.taxonomy.udt import load_taxonomy

WARM = 5
SYNTHETIC_BATCHES = 4
# Images a second on one H100 in bf16 that the project wants.
WANTED = {"ViT-B-32": 4000, "ViT-B-16": 2000, "biomed": 1500}
BATCH = {"ViT-B-32": 1024, "ViT-B-16": 512, "biomed": 512, "usds-tiny": 16}
ARMS: dict[str, dict[str, Any]] = {
    "improved": {},
    "paper label path": {
        "graph": {"kind": "bipartite", "width": 128, "layers": 2, "dropout": 0.1, "tag_dropout": 0.0},
        "fusion": {"kind": "gated"},
        "loss": {"kind": "paper", "target": "paper", "prompt_weight": 0.0},
    },
    "plain CLIP": {"graph": {"kind": "none"}, "loss": {"kind": "clip", "prompt_weight": 0.0}},
}


@dataclass(frozen=True)
class Options:
    """What is measured and for how long."""

    steps: int
    workers: int
    batch: int | None


def settings_of(shape: str, arm: str, folder: Path, options: Options) -> TrainSettings:
    """Settings of a run with this shape of towers and this label path."""
    towers: dict[str, Any] = {"name": shape}
    if shape == "biomed":
        towers = {"name": "usds-biomed", "text_tower": str(bert_folder(folder)), "context_length": 64}
    base: dict[str, Any] = {
        "preset": "improved",
        "model": {"towers": towers},
        "data": {
            "batch_size": options.batch or BATCH[shape],
            "workers": options.workers,
            "cache": str(folder / "cache"),
        },
        "schedule": {"warmup_steps": 10},
    }
    return build_settings(merge(base, {"model": ARMS[arm]}))


def bert_folder(folder: Path) -> Path:
    """A BERT-base's configuration and a vocabulary of its size, without weights."""
    place = folder / "bert"
    if not place.is_dir():
        place.mkdir()
        config = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 30522}
        (place / "config.json").write_text(json.dumps(config), "utf-8")
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ultrasound", "of", "the", "with", "and"]
        words += [f"word{i}" for i in range(30522 - len(words))]
        (place / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    return place


def stepper_of(settings: TrainSettings, dataset: Dataset, device: Runtime) -> tuple[Stepper, TrainData]:
    """A model with its optimizer, as `usds train` builds them, and the data."""
    taxonomy = load_taxonomy("udt")
    torch.manual_seed(0)
    model = UltrasoundCLIP(settings.model, taxonomy).to(device.device).train()
    optimizer = build_optimizer(model, settings.optimizer, device.device)
    schedule = Schedule(settings.schedule, 1000, settings.optimizer.learning_rate)
    ema = EMA(model, settings.run.ema_decay) if settings.run.ema_decay > 0 else None
    stepper = Stepper(model, optimizer, schedule, ema=ema, settings=settings, device=device)
    size = model.image_transform(True).size
    return stepper, load_train_data(dataset, taxonomy, settings, size, 1, note=lambda _: None)


def images_per_second(stepper: Stepper, batches: Iterable[Batch], steps: int, device: Runtime) -> float:
    """Images a second over ``steps`` steps after the warm-up."""
    seen, start = 0, 0.0
    for number, batch in enumerate(islice(batches, WARM + steps)):
        if number == WARM:
            synchronise(device)
            start = time.perf_counter()
        stepper(batch, number)
        seen += len(batch.images) if number >= WARM else 0
    synchronise(device)
    return seen / (time.perf_counter() - start)


def synchronise(device: Runtime) -> None:
    """Wait for the GPU."""
    if device.device.type == "cuda":
        torch.cuda.synchronize(device.device)


def loader_only(stream: TrainStream, options: Options, *, pin: bool) -> float:
    """Images a second of the stream alone, its workers warm."""
    batches = train_loader(stream, 0, WARM + options.steps, options.workers, pin)
    start, seen = 0.0, 0
    for number, batch in enumerate(batches):
        if number == WARM:
            start = time.perf_counter()
        seen += len(batch.pixels) if number >= WARM else 0
    return seen / (time.perf_counter() - start)


def measure(shape: str, dataset: Dataset, folder: Path, options: Options, device: Runtime) -> dict[str, Any]:
    """All figures of one shape."""
    figures: dict[str, Any] = {"wanted": WANTED.get(shape)}
    for arm in ARMS:
        settings = settings_of(shape, arm, folder, options)
        stepper, data = stepper_of(settings, dataset, device)
        spec = stepper.model.image_transform(True)
        stream = data.stream(stepper.model.towers, settings, 0, 1)

        def real(stream: TrainStream = stream, spec: Any = spec) -> Iterator[Batch]:
            on_gpu = device.device.type == "cuda"
            for batch in train_loader(stream, 0, WARM + options.steps, options.workers, on_gpu):
                yield batch.to_batch(device.device, spec)

        held = [stream[i].to_batch(device.device, spec) for i in range(SYNTHETIC_BATCHES)]
        figures[arm] = images_per_second(stepper, cycle(held), options.steps, device)
        if arm == "improved":
            figures["batch"] = data.plan.batch_size
            figures["real"] = images_per_second(stepper, real(), options.steps, device)
            figures["real / synthetic"] = figures["real"] / figures[arm]
            figures["loader alone"] = loader_only(stream, options, pin=device.device.type == "cuda")
            if device.device.type == "cuda":
                figures["peak GiB"] = torch.cuda.max_memory_allocated(device.device) / 2**30
        del stepper, held
        gc.collect()
        torch.cuda.empty_cache()
    for arm in ("improved", "paper label path"):
        figures[f"{arm} adds"] = figures["plain CLIP"] / figures[arm] - 1
    return figures


def main() -> None:
    """Measure and print, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shapes", default="ViT-B-32,ViT-B-16,biomed")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, help="images a step; default: by shape")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--smoke", action="store_true", help="a tiny shape on whatever is there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.smoke:
        print(json.dumps({"gpu": None, "note": "not measured"}) if options.json else "not measured: no GPU")
        return
    shapes = ["usds-tiny"] if options.smoke else options.shapes.split(",")
    steps, workers = (3, 0) if options.smoke else (options.steps, options.workers)
    chosen = Options(steps, workers, options.batch)
    device = runtime(settings_of(shapes[0], "improved", Path(tempfile.gettempdir()), chosen).run)
    most = max(chosen.batch or BATCH[shape] for shape in shapes)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        frames = phantom_data.PhantomSettings(
            subjects=most, frames_per_subject=1, side=64 if options.smoke else 320, train_share=1.0
        )
        dataset = phantom_data.write_dataset(folder / "dataset", frames)
        found = {shape: measure(shape, dataset, folder, chosen, device) for shape in shapes}
    report = {"device": device.describe(), "workers": workers, "steps": steps, "images/s": found}
    print(json.dumps(report, indent=1) if options.json else "\n".join(lines(report)))


def lines(report: dict[str, Any]) -> list[str]:
    """The report in words."""
    out = [f"{report['device']}, {report['workers']} workers, {report['steps']} steps; images a second:"]
    for shape, figures in report["images/s"].items():
        out.append(shape)
        for name, value in figures.items():
            if value is None:
                continue
            shown = f"{value:,.3f}" if isinstance(value, float) and value < 10 else f"{value:,.0f}"
            out.append(f"  {name:<24} {shown}")
    return out


if __name__ == "__main__":
    main()
