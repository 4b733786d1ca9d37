"""Ablation on simulated B-mode: which part of the model helps, with seeds and intervals.

Run ``python -m benchmarks.phantom [--arms A,B] [--seeds N] [--out DIR]``. Settings and budget are in
``phantom.yaml``. Every arm trains on the same dataset with the same towers, batches and steps; subjects of
the test side are never seen and carry all labels. One line a finished run goes to ``DIR/results.jsonl``; a
run that is there is not repeated, so the ablation can be stopped and continued, and several processes with
different ``--arms`` may share a folder. ``--steps``, ``--subjects`` and ``--data-seed`` change the fixed
settings for a look beside the ablation; what they change is written into each line.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from benchmarks.phantom_data import PhantomSettings, write_dataset
from usds.model.cache import open_cache
from usds.model.evaluate.run import EvaluateSettings, evaluate
from usds.model.records import dataset_taxonomy
from usds.model.settings import build_settings, merge
from usds.model.train import train
from usds.schemas.dataset import Dataset, is_dataset

SETTINGS = Path(__file__).with_name("phantom.yaml")
TOWERS = Path(__file__).with_name("phantom_towers.json")
MEASURES = ("AvgAcc", "AvgRecall", "R@10 image to text", "R@10 text to image", "nDCG@10")
RIVALS = ("clip", "full_paper")
DIRECTIONS = ("image to text", "text to image")


def main() -> None:
    """Run what is missing, then print the table."""
    fixed: dict[str, Any] = yaml.safe_load(SETTINGS.read_text("utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arms", default=",".join(fixed["arms"]))
    parser.add_argument("--seeds", type=int, default=len(fixed["seeds"]))
    parser.add_argument("--steps", type=int, default=fixed["steps"])
    parser.add_argument("--subjects", type=int, default=PhantomSettings(**fixed["phantoms"]).subjects)
    parser.add_argument("--data-seed", type=int, default=fixed["phantoms"]["seed"])
    parser.add_argument("--out", type=Path, default=Path("runs/phantom"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    spec = replace(PhantomSettings(**fixed["phantoms"]), subjects=options.subjects, seed=options.data_seed)
    table = summarise(run_missing(fixed, options, spec))
    if options.json:
        print(json.dumps(table, indent=1))
        return
    print_table(table)


def run_missing(
    fixed: dict[str, Any], options: argparse.Namespace, spec: PhantomSettings
) -> list[dict[str, Any]]:
    """Train and evaluate every arm and seed that has no line yet."""
    options.out.mkdir(parents=True, exist_ok=True)
    dataset = prepare(options.out, spec)
    size = {"subjects": spec.subjects, "steps": options.steps, "data_seed": spec.seed}
    results = options.out / "results.jsonl"
    for seed in [*fixed["seeds"], *fixed["more_seeds"]][: options.seeds]:
        for arm in options.arms.split(","):
            if any((row["arm"], row["seed"]) == (arm, seed) for row in read_rows(results, size)):
                continue
            row = {**size, **one_run(dataset, fixed, arm, seed, options)}
            with results.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
    return read_rows(results, size)


def prepare(out: Path, spec: PhantomSettings) -> Dataset:
    """The dataset and its pixel cache, made once by whichever process comes first."""
    place = out / f"dataset-{spec.subjects}-{spec.seed}"
    with (out / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        there = is_dataset(place) and Dataset.open(place).splits().num_rows
        dataset = Dataset.open(place) if there else write_dataset(place, spec)
        open_cache(dataset, json.loads(TOWERS.read_text())["vision_cfg"]["image_size"], out / "cache", None)
    return dataset


def read_rows(results: Path, size: dict[str, int]) -> list[dict[str, Any]]:
    """The finished runs of this size."""
    if not results.exists():
        return []
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    return [row for row in rows if all(row[key] == value for key, value in size.items())]


def one_run(
    dataset: Dataset, fixed: dict[str, Any], arm: str, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Train one arm and measure it on the test side, text only."""
    shared = {
        "model": {"towers": {"name": str(TOWERS)}},
        "data": {"cache": str(options.out / "cache")},
        # Far more epochs than steps: the steps end the run.
        "schedule": {"epochs": 1000, "max_steps": options.steps},
        "run": {"seed": seed},
    }
    changes = {**fixed["arms"], **fixed["tried"]}[arm]
    settings = build_settings(merge(merge(fixed["base"], changes), shared))
    start = time.process_time()
    result = train(dataset, dataset_taxonomy(dataset), settings, options.out / "runs" / f"{arm}-{seed}")
    seconds = time.process_time() - start
    if result.interrupted:
        raise SystemExit(
            f"{arm}, seed {seed}: stopped at step {result.steps} of {result.planned}; an "
            "unfinished run is no result. Run the same command again: finished runs are kept"
        )
    report = evaluate(
        result.run,
        dataset,
        EvaluateSettings(probe=False, bootstrap=10, examples=0, galleries=(500,), draws=5),
    ).report
    gallery = report["retrieval"]["text only"][0]
    tagged = report["retrieval"].get("text + tags", [{}])[0]
    both = [gallery[d]["semantic"]["nDCG@10"] for d in DIRECTIONS]
    return {
        "arm": arm,
        "seed": seed,
        "cpu_seconds": seconds,
        "gallery": gallery["gallery"],
        "AvgAcc": report["attribute_summary"]["AvgAcc"],
        "AvgRecall": report["attribute_summary"]["AvgRecall"],
        "majority": report["attribute_summary"]["majority"],
        "R@10 image to text": gallery["image to text"]["same caption"]["R@10"],
        "R@10 text to image": gallery["text to image"]["same caption"]["R@10"],
        "nDCG@10": float(np.mean(both)),
        # Another task, for it is told the labels: never compared with the text alone.
        "text + tags": {d: tagged[d]["same caption"]["R@10"] for d in DIRECTIONS if tagged},
        "accuracy": {k: v["accuracy"]["value"] for k, v in report["attributes"].items() if v["n"]},
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over seeds with a 95 % Student interval (none with one seed), and paired differences by seed."""
    by_arm: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        by_arm[row["arm"]][row["seed"]] = row
    table: dict[str, Any] = {}
    for arm, found in by_arm.items():
        one = next(iter(found.values()))
        entry: dict[str, Any] = {"seeds": len(found), "majority": one["majority"], "gallery": one["gallery"]}
        for measure in MEASURES:
            entry[measure] = interval([row[measure] for row in found.values()])
            for rival in RIVALS:
                other = by_arm.get(rival, {})
                paired = [row[measure] - other[seed][measure] for seed, row in found.items() if seed in other]
                entry[f"{measure} - {rival}"] = interval(paired) if arm != rival and paired else None
        names = one["accuracy"]
        entry["accuracy"] = {k: float(np.mean([r["accuracy"][k] for r in found.values()])) for k in names}
        tagged = [row["text + tags"] for row in found.values() if row["text + tags"]]
        entry["text + tags"] = {d: float(np.mean([t[d] for t in tagged])) for d in DIRECTIONS if tagged}
        table[arm] = entry
    return table


def interval(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and half-width of the 95 % interval of the mean over seeds."""
    from scipy.stats import t

    n = len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else None
    return {"mean": float(np.mean(values)), "half_width": half}


def print_table(table: dict[str, Any]) -> None:
    """Means, differences to the rivals, accuracy of each attribute; one line an arm each."""

    def text(value: dict[str, float | None] | None, form: str) -> str:
        if value is None:
            return "-"
        half = value["half_width"]
        return f"{value['mean']:{form}}" + (f" ± {half:.3f}" if half is not None else "")

    for suffix in ("", *(f" - {rival}" for rival in RIVALS)):
        head = "arm" + (suffix and f"{suffix}, paired by seed")
        print(f"| {head} | seeds | " + " | ".join(MEASURES) + " |\n|" + "---|" * (len(MEASURES) + 2))
        for arm, entry in table.items():
            cells = [text(entry[m + suffix], "+.3f" if suffix else ".3f") for m in MEASURES]
            print(f"| {arm} | {entry['seeds']} | " + " | ".join(cells) + " |")
        print()
    for arm, entry in table.items():
        print(f"{arm}: " + ", ".join(f"{k} {v:.2f}" for k, v in entry["accuracy"].items()))
        if entry["text + tags"]:
            print(
                f"{arm}, text + tags: "
                + ", ".join(f"R@10 {k} {v:.3f}" for k, v in entry["text + tags"].items())
            )
    first = next(iter(table.values()), None)
    if first:
        print(
            f"\nmajority label {first['majority']:.3f}; retrieval: same caption, gallery {first['gallery']}"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    main()
