"""Real breast lesions, five folds by patient: does training on captions teach the tower what it must see?

Run ``python -m benchmarks.breast --data FOLDER [--view lesion|frame] [--tower conv|vit] [--seeds N]``. FOLDER
holds BrEaST-Lesions-USG (CC BY 4.0, doi 10.7937/9WKK-Q141) as ``breast_usg.jsonl`` (image, caption, labels,
mask, patient_or_case_id) and the pictures it names; the file may stand in ``pairs/``. The four normal cases
have no descriptors and are left out.

On four folds a small Ultrasound-CLIP is trained from scratch with the captions, on the fifth it is asked for
six descriptors. Measured on the same cases: the majority label of the training folds, a linear probe on
16 x 16 grey pixels, a probe on the untrained tower, a probe on the trained tower, and the trained model asked
by label prompts. Probes are balanced logistic regressions whose C is chosen inside the training folds. The
captions were verbalised from the descriptors, so no text is scored against them: only pictures.
``--view lesion`` shows the tower a square around the lesion's mask, ``frame`` the whole frame.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.breast_data import FOLDS, read_cases, write_dataset
from usds.model.cache import FrameCache, open_cache
from usds.model.checkpoint import load_model
from usds.model.evaluate.intervals import Interval, case_bootstrap
from usds.model.network import UltrasoundCLIP
from usds.model.records import Records, load_records
from usds.model.settings import TrainSettings, build_settings
from usds.model.stream import encode_frames
from usds.model.train import train
from usds.model.validate import prompt_vectors
from usds.schemas.dataset import Dataset, is_dataset
from usds.taxonomy.udt import Taxonomy, load_taxonomy

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TAXONOMY = Path(__file__).with_name("breast.yaml")
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
CPU = torch.device("cpu")
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 96, "heads": 4, "layers": 2}
TOWERS: dict[str, dict[str, Any]] = {
    "conv": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 32, "head_width": 32},
    "vit": {
        "image_size": 96,
        "patch_size": 16,
        "width": 192,
        "layers": 4,
        "head_width": 32,
        "pool_type": "avg",
    },
}
# Fixed before the first whole run. Loss and label path are those of the preset.
SETTINGS: dict[str, Any] = {
    "preset": "tiny",
    "data": {"batch_size": 50, "image_size": 96, "workers": 0},
    "augment": {"crop_scale": [0.7, 1.0], "flip": 0.5, "speckle": 0.05},
    "optimizer": {"learning_rate": 1.0e-3, "weight_decay": 0.1},
    "schedule": {"epochs": 24, "warmup_steps": 20},
    "run": {"log_every": 50, "keep_last": 1},
}


# -- training and asking --------------------------------------------------------------------------------


def settings_of(folder: Path, tower: str, fold: int, seed: int) -> TrainSettings:
    """The fixed settings with this tower, fold and seed."""
    config = folder / f"{tower}.json"
    config.write_text(json.dumps({"embed_dim": 128, "vision_cfg": TOWERS[tower], "text_cfg": TEXT}), "utf-8")
    values: dict[str, Any] = json.loads(json.dumps(SETTINGS))
    values["model"] = {"towers": {"name": str(config)}}
    values["data"] |= {"split": f"fold{fold}", "cache": str(folder / "cache")}
    values["run"] |= {"seed": seed}
    return build_settings(values)


def predictions(
    dataset: Dataset, taxonomy: Taxonomy, folder: Path, tower: str, seed: int
) -> dict[str, dict[str, Floats]]:
    """Scores of all cases by the models that did not see them: what was asked -> dimension -> (N, labels)."""
    settings = settings_of(folder, tower, 0, seed)
    cache = open_cache(dataset, 96, folder / "cache")
    everything = load_records(dataset, taxonomy, "fold0")
    torch.manual_seed(seed)
    untrained = UltrasoundCLIP(settings.model, taxonomy).eval()
    fixed = {
        "probe on pixels": _pixels(everything, cache),
        "probe on the untrained tower": _vectors(untrained, everything, cache),
    }
    found: dict[str, dict[str, Floats]] = {}
    for fold in range(FOLDS):
        records = load_records(dataset, taxonomy, f"fold{fold}")
        test = np.array([side == "test" for side in records.sides])
        model = _trained(dataset, taxonomy, folder, tower, fold=fold, seed=seed)
        vectors = _vectors(model, records, cache)
        for name in taxonomy.dimension_names:
            y = _classes(records, taxonomy, name)
            answers = {
                "majority of the training folds": _majority(y, test),
                **{what: _probe(x, y, test) for what, x in fixed.items()},
                "probe on the trained tower": _probe(vectors, y, test),
                "label prompts": vectors[test] @ prompt_vectors(model, taxonomy, name, CPU).T,
            }
            for what, scores in answers.items():
                place = found.setdefault(what, {}).setdefault(name, np.zeros((len(y), scores.shape[1])))
                place[test] = scores
    return found


def _trained(
    dataset: Dataset, taxonomy: Taxonomy, folder: Path, tower: str, *, fold: int, seed: int
) -> UltrasoundCLIP:
    """The model of four folds; a run that ended in an earlier call is not repeated."""
    place = folder / f"{tower}-fold{fold}-seed{seed}"
    if not (place / "ended").is_file():
        shutil.rmtree(place, ignore_errors=True)
        settings = settings_of(folder, tower, fold, seed)
        start = time.process_time()
        result = train(dataset, taxonomy, settings, place, exact=True)
        if result.interrupted:
            raise SystemExit("stopped: run the same command again, finished runs are kept")
        (place / "ended").write_text(f"{time.process_time() - start:.0f}", "utf-8")
        print(f"{place.name}: loss {result.first_loss:.2f} -> {result.last_loss:.2f}", file=sys.stderr)
    return load_model(place, average=False)


def _vectors(model: UltrasoundCLIP, records: Records, cache: FrameCache) -> Floats:
    spec = model.image_transform(False)
    return encode_frames(model.encode_image, records, cache, spec, CPU).astype(np.float64)


def _pixels(records: Records, cache: FrameCache) -> Floats:
    small = [
        cv2.resize(cache.image(f)[..., 0], (16, 16), interpolation=cv2.INTER_AREA) for f in records.frame_ids
    ]
    return np.stack(small).reshape(len(small), -1).astype(np.float64)


def _classes(records: Records, taxonomy: Taxonomy, dimension: str) -> Ints:
    names = list(taxonomy.dimension_names)
    start = sum(taxonomy.widths[: names.index(dimension)])
    width = taxonomy.widths[names.index(dimension)]
    return records.labels.x[:, start : start + width].argmax(axis=1).astype(np.int64)


def _majority(y: Ints, test: npt.NDArray[np.bool_]) -> Floats:
    counts = np.bincount(y[~test], minlength=int(y.max()) + 1).astype(np.float64)
    return np.repeat(counts[None], int(test.sum()), axis=0)


def _probe(x: Floats, y: Ints, test: npt.NDArray[np.bool_]) -> Floats:
    """Probabilities (n, labels) of the test cases; C by balanced accuracy in three inner folds."""
    train_x, train_y = x[~test], y[~test]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rare labels miss from inner folds; large C does not converge
        inner = list(StratifiedKFold(3, shuffle=True, random_state=0).split(train_x, train_y))

        def inside(strength: float) -> float:
            scores = [
                balanced_accuracy_score(
                    train_y[b], _fit(train_x[a], train_y[a], strength).predict(train_x[b])
                )
                for a, b in inner
            ]
            return float(np.mean(scores))

        chosen = _fit(train_x, train_y, max(STRENGTHS, key=inside))
    scores = np.zeros((int(test.sum()), int(y.max()) + 1))
    scores[:, chosen.classes_] = chosen.predict_proba(x[test])
    return scores


def _fit(x: Floats, y: Ints, strength: float) -> Any:
    probe = LogisticRegression(C=strength, max_iter=500, class_weight="balanced")
    return make_pipeline(StandardScaler(), probe).fit(x, y)


# -- figures --------------------------------------------------------------------------------------------


def statistics(y: Ints, scores: Sequence[Floats]) -> Callable[[Floats], dict[str, float]]:
    """Weighted accuracy, mean recall and AUROC (two labels only), each averaged over the seeds."""
    labels = np.unique(y)

    def measure(weights: Floats) -> dict[str, float]:
        rows: list[tuple[float, float, float]] = []
        for one in scores:
            hit = (one.argmax(axis=1) == y).astype(np.float64)
            recalls = [
                weights[y == c] @ hit[y == c] / weights[y == c].sum() for c in labels if weights[y == c].sum()
            ]
            two = len(labels) == 2 and all(weights[y == c].sum() for c in labels)
            area = (
                roc_auc_score(y == labels[1], one[:, labels[1]] - one[:, labels[0]], sample_weight=weights)
                if two
                else np.nan
            )
            rows.append((float(weights @ hit / weights.sum()), float(np.mean(recalls)), float(area)))
        return dict(zip(("accuracy", "balanced", "auroc"), np.mean(rows, axis=0).tolist(), strict=True))

    return measure


def figures(
    y: Mapping[str, Ints], runs: Sequence[Mapping[str, Mapping[str, Floats]]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Dimension -> what was asked -> figures with 95 % intervals by case; last the gain of training."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for name, classes in y.items():
        cases = np.arange(len(classes))
        measures = {what: statistics(classes, [run[what][name] for run in runs]) for what in runs[0]}
        table[name] = {what: _plain(case_bootstrap(measure, cases)) for what, measure in measures.items()}
        table[name]["majority of the training folds"].pop("auroc", None)  # a constant answer ranks nothing
        after, before = measures["probe on the trained tower"], measures["probe on the untrained tower"]

        def gain(weights: Floats, after: Any = after, before: Any = before) -> dict[str, float]:
            late, early = after(weights), before(weights)
            return {key: late[key] - early[key] for key in late}

        table[name]["trained - untrained probe"] = _plain(case_bootstrap(gain, cases))
    return table


def _plain(values: Mapping[str, Interval]) -> dict[str, Any]:
    return {key: [v.value, v.low, v.high] for key, v in values.items() if v.value is not None}


def print_table(report: Mapping[str, Any]) -> None:
    """One block a dimension."""
    print(
        f"{report['cases']} cases, {FOLDS} folds by patient, view {report['view']}, tower {report['tower']}, "
        f"{report['seeds']} seed(s), {report['training_cpu_seconds']} CPU s of training"
    )
    for name, rows in report["figures"].items():
        print(
            f"\n{name} {report['labels'][name]}\n| asked | accuracy | balanced | AUROC |\n|---|---|---|---|"
        )
        for what, values in rows.items():
            cells = [
                f"{values[k][0]:.3f} ({values[k][1]:.3f}-{values[k][2]:.3f})" if k in values else ""
                for k in ("accuracy", "balanced", "auroc")
            ]
            print(f"| {what} | " + " | ".join(cells) + " |")


def main() -> None:
    """Train on each four folds, ask the fifth, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--view", choices=("lesion", "frame"), default="lesion")
    parser.add_argument("--tower", choices=tuple(TOWERS), default="conv")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/breast"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    taxonomy, cases = load_taxonomy(TAXONOMY), read_cases(options.data)
    folder: Path = options.out / options.view
    root = folder / "dataset"
    dataset = Dataset.open(root) if is_dataset(root) else write_dataset(cases, root, options.view, taxonomy)
    runs = [predictions(dataset, taxonomy, folder, options.tower, seed) for seed in range(options.seeds)]
    records = load_records(dataset, taxonomy, "fold0")
    ended = folder.glob(f"{options.tower}-fold*-seed*/ended")
    y = {name: _classes(records, taxonomy, name) for name in taxonomy.dimension_names}
    counts = {n: {v: int((y[n] == i).sum()) for i, v in enumerate(taxonomy.vocabulary(n))} for n in y}
    report = {
        "cases": len(cases), "view": options.view, "tower": options.tower, "seeds": options.seeds,
        "labels": counts, "figures": figures(y, runs),
        "training_cpu_seconds": sum(int(path.read_text("utf-8")) for path in ended),
    }  # fmt: skip
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print_table(report)


if __name__ == "__main__":
    main()
