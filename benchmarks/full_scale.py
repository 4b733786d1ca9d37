"""Every command on a made release of the size and layout of US-365K: seconds, CPU seconds, memory.

    python -m benchmarks.full_scale --folder FOLDER [--pairs 364365] [--steps 30] [--only NAME ...] [--json]

The release is that of ``python -m benchmarks.release``. Its pictures are small, so reading and decoding cost
less than with the real ones; everything that grows with the number of pairs is there. A release that lies in
the folder already is used again, and so is a dataset: ``--only`` repeats single commands. Memory is the
largest of the command and each of its workers, as the kernel counts it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=364_365)
    parser.add_argument("--steps", type=int, default=30, help="steps of the short training")
    parser.add_argument("--only", nargs="*", help="names of commands to run")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    release = options.folder / "release"
    if not (release / "full_data.json").is_file():
        # In a process of its own: the kernel counts what this one ever held as memory of its children.
        command = [sys.executable, "-m", "benchmarks.release", "--folder", str(release)]
        subprocess.run([*command, "--pairs", str(options.pairs)], check=True)
    found: dict[str, dict[str, Any]] = {}
    for name, words in commands(options.folder, options.steps).items():
        if not options.only or name in options.only:
            found[name] = measure(options.folder, name, words)
            print(f"{name:10} {found[name]}", file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps(found, indent=1))


def commands(folder: Path, steps: int) -> dict[str, list[str]]:
    """The commands in the order in which a person types them."""
    dataset, run = str(folder / "dataset"), str(folder / "run")
    short = ["--set", f"schedule.max_steps={steps}", "--set", f"data.cache={folder / 'cache'}"]
    return {
        "import": ["import", "us365k", str(folder / "release"), "--dataset", dataset],
        "annotate": ["annotate", "--dataset", dataset, "--set", "extracted"],
        "split": ["split", "--dataset", dataset, "--name", "again"],
        "stats": ["stats", "--dataset", dataset, "--html", str(folder / "stats.html")],
        "audit": ["audit", dataset],
        "dry run": ["train", "--dataset", dataset, "--preset", "tiny", "--dry-run", *short],
        "train": ["train", "--dataset", dataset, "--preset", "tiny", "--out", run, *short],
        "evaluate": ["evaluate", run, "--dataset", dataset],
        "search": ["search", "hypoechoic nodule of the thyroid", "--dataset", dataset, "--run", run],
    }


def measure(folder: Path, name: str, words: Sequence[str]) -> dict[str, Any]:
    """Run one command; its words go to a file beside the dataset."""
    start = time.monotonic()
    with (folder / f"{name.replace(' ', '_')}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "usds.cli.main", *words], stdout=log, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
    return {
        "exit code": os.waitstatus_to_exitcode(status),
        "seconds": round(time.monotonic() - start, 1),
        "cpu seconds": round(used.ru_utime + used.ru_stime, 1),
        "MiB": used.ru_maxrss >> 10,
    }


if __name__ == "__main__":
    main()
