"""Run the benchmark: `python -m benchmarks.deid [--split test] [--tool tesseract] [--out FOLDER] [--json]`.

With `--out`, every scored scene is one line of `FOLDER/scenes.jsonl`: a run that was stopped goes on where it
stood, and runs with `--shard 1/2` and `--shard 2/2` may share one folder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.deid.clean import clean
from benchmarks.deid.lettering import CJK_HINT, cjk_font
from benchmarks.deid.scenes import Planned, Split, generated, real
from benchmarks.deid.score import Record, report, score
from benchmarks.deid.tools import TOOLS, Tool


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deid", description=__doc__)
    parser.add_argument("--split", choices=("tune", "test"), default="test")
    parser.add_argument("--scenes", type=int, default=200, help="generated scenes")
    parser.add_argument(
        "--real", type=Path, action="append", default=[], help="folder of pictures without text"
    )
    parser.add_argument("--real-scenes", type=int, default=20, help="real scenes a folder")
    parser.add_argument(
        "--clean",
        type=Path,
        action="append",
        default=[],
        help="folder of pictures and clips to use as they are",
    )
    parser.add_argument("--clean-scenes", type=int, default=40, help="clean files a folder")
    parser.add_argument("--tool", choices=sorted(TOOLS), default="usds")
    parser.add_argument("--out", type=Path, help="folder of scored scenes; what is there is not run again")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="every N-th scene from the I-th on")
    parser.add_argument("--misses", action="store_true", help="list the strings that survived")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if (problem := TOOLS[options.tool].missing()) is not None:
        parser.error(problem)
    records = _records(options)
    result = {
        "tool": options.tool, "split": options.split, "scenes": len(records), **report(records),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "skipped": [] if cjk_font() else [CJK_HINT],
    }  # fmt: skip
    if options.misses:
        result["missed"] = [words for one in records for _, _, hit, words in one.strings if not hit]
    print(json.dumps(result) if options.json else text(result))
    return 0


def _planned(options: argparse.Namespace) -> list[Planned]:
    split: Split = options.split
    scenes = generated(split, options.scenes)
    for folder in [*options.real, *options.clean]:
        if not folder.is_dir():
            sys.exit(f"{folder} is not a folder: --real and --clean want folders of pictures")
    for folder in options.real:
        scenes += real(split, folder, options.real_scenes)
    for folder in options.clean:
        scenes += clean(folder, options.clean_scenes)
    return scenes


def _records(options: argparse.Namespace) -> list[Record]:
    """Scores of all planned scenes: those in the folder, and those of this shard that are still missing."""
    planned = _planned(options)
    store = options.out / "scenes.jsonl" if options.out else None
    done = {record.name: record for record in _stored(store)} if store else {}
    first, step = (int(part) for part in options.shard.split("/"))
    todo = [(name, make) for name, make in planned[first - 1 :: step] if name not in done]
    tool: Tool = TOOLS[options.tool]() if todo else TOOLS["none"]()
    for record in run(tool, todo):
        done[record.name] = record
        if store is not None:
            store.parent.mkdir(parents=True, exist_ok=True)
            with store.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(record)) + "\n")
    if store is not None:
        done = {record.name: record for record in _stored(store)}
    return [done[name] for name, _ in planned if name in done]


def _stored(path: Path) -> list[Record]:
    if not path.is_file():
        return []
    return [Record(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def run(tool: Tool, scenes: Sequence[Planned]) -> Iterator[Record]:
    """Score a tool on scenes, one after the other."""
    for _, make in scenes:
        scene = make()
        if scene is not None:
            unit = _unit()
            start = _cpu_seconds()
            outcome, frames = tool.run(scene)
            yield score(scene, outcome, frames, _cpu_seconds() - start, unit)


def _cpu_seconds() -> float:
    """Processor time of this process and its finished children: what a quiet core would need."""
    return sum(os.times()[:4])


def _unit() -> float:
    """Processor seconds of a fixed piece of work, the least of three: how fast this core is just now.

    Blurs and matrix products, alike to what text detectors do; a neighbour on the same core slows both.
    """
    picture = np.random.default_rng(0).random((480, 640)).astype(np.float32)
    square = picture[:256, :256].copy()
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        for _ in range(10):
            cv2.GaussianBlur(picture, (0, 0), 5)
            np.dot(square, square)
        best = min(best, time.process_time() - start)
    return best


def text(result: dict[str, Any]) -> str:
    """A table for people."""
    lines = [f"{result['tool']} on {result['scenes']} scenes of the {result['split']} split", ""]
    lines.append(f"{'strings':<26}{'removed':>10}  95 % interval")
    for name, row in [*result["recall"].items(), *result["heights"].items()]:
        lines.append(
            f"{name:<26}{row['hits']:>5}/{row['n']:<5}{row['share']:.3f}  "
            f"[{row['low']:.3f}, {row['high']:.3f}]"
        )
    for name in ("false_redaction", "area_iou", "trace_kept", "kept"):
        for group, row in result[name].items():
            lines.append(
                f"{name}, {group}: mean {row['mean']:.4f}, median {row['median']:.4f}, "
                f"5-95 % {row['p05']:.4f}-{row['p95']:.4f}, "
                f"range {row['least']:.4f}-{row['worst']:.4f} (n={row['n']})"
            )
    for name, row in result["outcomes"].items():
        lines.append(f"{name} scenes: {row}")
    for name, row in result["seconds"].items():
        quiet = result["quiet"][name]
        lines.append(
            f"{name}: mean {row['mean']:.2f}, p95 {row['p95']:.2f} CPU s (n={row['n']}); "
            f"at the fastest moment's speed {quiet['mean']:.2f}, p95 {quiet['p95']:.2f}"
        )
    lines.append(f"peak memory of this process {result['peak_memory_mb']:.0f} MB")
    lines += [f"left out: {reason}" for reason in result["skipped"]]
    lines.extend(result.get("missed", []))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
