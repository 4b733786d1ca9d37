"""Ablation on simulated B-mode: which part of the model helps, with seeds and intervals.

Run ``python -m benchmarks.phantom [--arms A,B] [--seeds N] [--subjects N] [--epochs N] [--out DIR]``.
Settings and budget are in ``phantom.yaml``. Every arm trains on the same dataset with the same towers,
batches and steps; subjects of the test side are never seen and carry all labels. One line a finished run
goes to ``DIR/results.jsonl``; a run that is there is not repeated, so the ablation can be stopped and
continued. What an option changes against the fixed settings is written into each line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.phantom_data import PhantomSettings, write_dataset
from usds.model.evaluate.run import EvaluateSettings, evaluate
from usds.model.records import dataset_taxonomy
from usds.model.settings import build_settings, merge
from usds.model.train import train
from usds.schemas.dataset import Dataset, is_dataset

SETTINGS = Path(__file__).with_name("phantom.yaml")
MEASURES = ("AvgAcc", "AvgRecall", "R@10 image to text", "R@10 text to image", "nDCG@10")


def main() -> None:
    """Run what is missing, then print the table."""
    fixed: dict[str, Any] = yaml.safe_load(SETTINGS.read_text("utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arms", default=",".join(fixed["arms"]))
    parser.add_argument("--seeds", type=int, default=len(fixed["seeds"]))
    parser.add_argument("--subjects", type=int, default=fixed["phantoms"]["subjects"])
    parser.add_argument("--epochs", type=int, default=fixed["epochs"])
    parser.add_argument("--coverage", type=float, default=fixed["phantoms"]["coverage_scale"])
    parser.add_argument("--out", type=Path, default=Path("runs/phantom"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    spec = PhantomSettings(
        **{**fixed["phantoms"], "subjects": options.subjects, "coverage_scale": options.coverage}
    )
    rows = run_missing(fixed, options, spec)
    table = summarise(rows)
    if options.json:
        print(json.dumps(table, indent=1))
        return
    print_table(table)


def run_missing(
    fixed: dict[str, Any], options: argparse.Namespace, spec: PhantomSettings
) -> list[dict[str, Any]]:
    """Train and evaluate every arm and seed that has no line yet."""
    options.out.mkdir(parents=True, exist_ok=True)
    place = options.out / f"dataset-{spec.subjects}-{spec.coverage_scale:g}"
    dataset = (
        Dataset.open(place)
        if is_dataset(place) and Dataset.open(place).splits().num_rows
        else write_dataset(place, spec, 0)
    )
    results = options.out / "results.jsonl"
    size = {"subjects": spec.subjects, "epochs": options.epochs, "coverage_scale": spec.coverage_scale}
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    rows = [row for row in rows if all(row[key] == value for key, value in size.items())]
    done = {(row["arm"], row["seed"]) for row in rows}
    for seed in fixed["seeds"][: options.seeds]:
        for arm in options.arms.split(","):
            if (arm, seed) in done:
                continue
            row = {**size, **one_run(dataset, fixed, arm, seed, options)}
            with results.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            rows.append(row)
    return rows


def one_run(
    dataset: Dataset, fixed: dict[str, Any], arm: str, seed: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Train one arm and measure it on the test side, text only."""
    shared = {
        "data": {"batch_size": fixed["batch_size"], "cache": str(options.out / "cache")},
        "schedule": {"epochs": options.epochs},
        "run": {"seed": seed},
    }
    settings = build_settings(merge(merge(fixed["base"], fixed["arms"][arm]), shared))
    start = time.process_time()
    result = train(dataset, dataset_taxonomy(dataset), settings, options.out / "runs")
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
    both = [gallery[d]["semantic"]["nDCG@10"] for d in ("image to text", "text to image")]
    return {
        "arm": arm,
        "seed": seed,
        "steps": result.steps,
        "cpu_seconds": seconds,
        "gallery": gallery["gallery"],
        "AvgAcc": report["attribute_summary"]["AvgAcc"],
        "AvgRecall": report["attribute_summary"]["AvgRecall"],
        "majority": report["attribute_summary"]["majority"],
        "R@10 image to text": gallery["image to text"]["same caption"]["R@10"],
        "R@10 text to image": gallery["text to image"]["same caption"]["R@10"],
        "nDCG@10": float(np.mean(both)),
        "accuracy": {k: v["accuracy"]["value"] for k, v in report["attributes"].items() if v["n"]},
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over seeds with a 95 % Student interval (none with one seed), and the difference to plain CLIP."""
    by_arm: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_arm[row["arm"]].append(row)
    plain = {row["seed"]: row for row in by_arm.get("clip", [])}
    table: dict[str, Any] = {}
    for arm, found in by_arm.items():
        entry: dict[str, Any] = {"seeds": len(found), **{k: found[0][k] for k in ("majority", "gallery")}}
        for measure in MEASURES:
            entry[measure] = interval([row[measure] for row in found])
            paired = [row[measure] - plain[row["seed"]][measure] for row in found if row["seed"] in plain]
            entry[f"{measure} - clip"] = interval(paired) if arm != "clip" and paired else None
        table[arm] = entry
    return table


def interval(values: list[float]) -> dict[str, float | None]:
    """Mean and half-width of the 95 % interval of the mean over seeds."""
    from scipy.stats import t

    n = len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else None
    return {"mean": float(np.mean(values)), "half_width": half}


def print_table(table: dict[str, Any]) -> None:
    """One line an arm."""

    def text(value: dict[str, float | None]) -> str:
        half = value["half_width"]
        return f"{value['mean']:.3f}" + (f" ± {half:.3f}" if half is not None else "")

    print("| arm | seeds | " + " | ".join(MEASURES) + " |\n|" + "---|" * (len(MEASURES) + 2))
    for arm, entry in table.items():
        print(f"| {arm} | {entry['seeds']} | " + " | ".join(text(entry[m]) for m in MEASURES) + " |")
    first = next(iter(table.values()), None)
    if first:
        print(
            f"\nmajority label {first['majority']:.3f}; retrieval: same caption, gallery {first['gallery']}"
        )


if __name__ == "__main__":
    main()
