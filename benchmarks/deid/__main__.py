"""Run the benchmark: `python -m benchmarks.deid [--split test] [--tool tesseract] [--json]`."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.deid.scenes import Scene, Split, generated, real
from benchmarks.deid.score import Tally
from benchmarks.deid.tools import Tesseract, Tool, Usds


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deid", description=__doc__)
    parser.add_argument("--split", choices=("tune", "test"), default="test")
    parser.add_argument("--scenes", type=int, default=80, help="generated scenes")
    parser.add_argument("--first", type=int, default=0, help="skip scenes before this one")
    parser.add_argument(
        "--real", type=Path, action="append", default=[], help="folder of pictures without text"
    )
    parser.add_argument("--real-scenes", type=int, default=20, help="real scenes a folder")
    parser.add_argument("--tool", choices=("usds", "tesseract"), default="usds")
    parser.add_argument("--misses", action="store_true", help="list the strings that survived")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.tool == "tesseract" and not Tesseract.available():
        parser.error("tesseract is not on the path: install it, or leave --tool out")
    tool: Tool = Usds() if options.tool == "usds" else Tesseract()
    tally = run(tool, _scenes(options))
    report = {"tool": tool.name, "split": options.split, **tally.report()}
    report["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if options.misses:
        report["missed"] = tally.missed
    print(json.dumps(report) if options.json else text(report))
    return 0


def _scenes(options: argparse.Namespace) -> Iterator[Scene]:
    split: Split = options.split
    for number, scene in enumerate(generated(split, options.scenes)):
        if number >= options.first:
            yield scene
    for folder in options.real:
        if not folder.is_dir():
            sys.exit(f"{folder} is not a folder: --real wants a folder of PNG pictures")
        yield from real(split, folder, options.real_scenes)


def run(tool: Tool, scenes: Iterator[Scene]) -> Tally:
    """Score a tool on scenes."""
    tally = Tally()
    for scene in scenes:
        start = _cpu_seconds()
        outcome, frames = tool.run(scene)
        kind = "clip" if len(scene.frames) > 1 else "still"
        tally.seconds[kind].append(_cpu_seconds() - start)
        group = "clean" if scene.kind.endswith("clean") else "text"
        tally.outcomes[group][{"ok": 0, "review": 1}.get(outcome, 2)] += 1
        tally.add_frames(scene, frames)
    return tally


def _cpu_seconds() -> float:
    """Processor time of this process and its finished children: what a quiet core would need."""
    return sum(os.times()[:4])


def text(report: dict[str, Any]) -> str:
    """A table for people."""
    lines = [
        f"{report['tool']} on the {report['split']} scenes",
        "",
        f"{'strings':<18}{'removed':>10}  95 % interval",
    ]
    for name, row in report["recall"].items():
        lines.append(
            f"{name:<18}{row['hits']:>5}/{row['n']:<5}{row['share']:.3f}  "
            f"[{row['low']:.3f}, {row['high']:.3f}]"
        )
    for name in ("false_redaction", "area_iou"):
        row = report[name]
        if row["n"]:
            lines.append(
                f"{name}: mean {row['mean']:.4f}, median {row['median']:.4f}, "
                f"5-95 % {row['p05']:.4f}-{row['p95']:.4f}, "
                f"range {row['least']:.4f}-{row['worst']:.4f} (n={row['n']})"
            )
    for name, row in report["outcomes"].items():
        lines.append(f"{name} scenes: {row}")
    for name, row in report["seconds"].items():
        lines.append(f"{name}: mean {row['mean']:.2f} CPU s, p95 {row['p95']:.2f} CPU s (n={row['n']})")
    lines.append(f"peak memory {report['peak_memory_mb']:.0f} MB")
    lines.extend(report.get("missed", []))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
