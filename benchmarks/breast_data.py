"""BrEaST-Lesions-USG as a dataset: a frame a patient, the radiologists' words as labels, a split a fold."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedKFold

from benchmarks.datasets import frame_row, write_labels
from usds.schemas.dataset import Dataset
from usds.taxonomy.udt import Taxonomy

Image = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

FOLDS = 5
SIDE = 128  # pixels kept of a view; the towers see 96


@dataclass(frozen=True)
class Case:
    """One patient: a frame, the mask of the lesion, the caption, one label a dimension."""

    name: str
    image: Path
    mask: Path
    caption: str
    labels: dict[str, str]


def read_cases(data: Path) -> list[Case]:
    """The cases with a described lesion, in the order of the file."""
    listing = next(
        (p for p in (data / "breast_usg.jsonl", data / "pairs" / "breast_usg.jsonl") if p.is_file()), None
    )
    if listing is None:
        raise SystemExit(f"{data} holds no breast_usg.jsonl: name the folder with --data")
    rows = [json.loads(line) for line in listing.read_text("utf-8").splitlines() if line.strip()]
    return [
        Case(
            row["patient_or_case_id"],
            data / row["image"],
            data / row["mask"][0],
            row["caption"],
            _labels(row["labels"]),
        )
        for row in rows
        if row["labels"]["Shape"] != "not applicable"
    ]


def _labels(raw: Mapping[str, str]) -> dict[str, str]:
    margin = raw["Margin"]
    return {
        "pathology": raw["Classification"],
        "shape": raw["Shape"],
        "margin": "circumscribed" if margin == "circumscribed" else "not circumscribed",
        "echogenicity": raw["Echogenicity"],
        "posterior_features": "no features"
        if raw["Posterior_features"] == "no"
        else raw["Posterior_features"],
        "calcifications": "no calcifications" if raw["Calcifications"] == "no" else "calcifications",
    }


def read_view(case: Case, view: str) -> Image:
    """The grey picture that the tower sees (SIDE, SIDE, 3)."""
    picture = cv2.imread(str(case.image), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise SystemExit(f"{case.image} cannot be read")
    if view == "lesion":
        mask = cv2.imread(str(case.mask), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise SystemExit(f"{case.mask} cannot be read")
        picture = _around(picture, mask > 0)
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.repeat(np.asarray(small, np.uint8)[..., None], 3, axis=2)


def _around(picture: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """A square twice as wide as the lesion, moved down: what lies behind it tells posterior features."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    half = max(rows[-1] - rows[0], cols[-1] - cols[0], 24)
    middle = ((rows[0] + rows[-1]) // 2 + int(0.2 * half), (cols[0] + cols[-1]) // 2)
    padded = np.pad(picture, half)
    return padded[middle[0] : middle[0] + 2 * half, middle[1] : middle[1] + 2 * half]


def write_dataset(cases: Sequence[Case], root: Path, view: str, taxonomy: Taxonomy) -> Dataset:
    """The cases as a dataset with one split a fold: subjects of the fold are its test side."""
    dataset = Dataset.create(
        root, key_fingerprint="breast", tool="breast", detector="none", settings={}, settings_hash="breast"
    )
    rows: list[dict[str, Any]] = []
    with dataset.writer("cases", ()) as writer:
        for case in cases:
            caption = {"caption_id": f"c{case.name}", "scope": "study", "target_id": f"t{case.name}"}
            writer.add_caption(
                {
                    **caption,
                    "text": case.caption,
                    "origin": "dataset",
                    "n_removed": 0,
                    "source_key": case.name,
                }
            )
            encoded = cv2.imencode(".png", read_view(case, view))[1].tobytes()
            writer.add_frame(_frame_row(case.name), encoded)
            rows.append(_annotation_row(case, taxonomy))
        writer.commit()
    write_labels(dataset, taxonomy, rows)
    for fold, test in enumerate(folds(cases)):
        names = {cases[i].name for i in test}
        sides = [{"subject_id": c.name, "split": "test" if c.name in names else "train"} for c in cases]
        dataset.write_split(f"fold{fold}", sides)
    return dataset


def folds(cases: Sequence[Case]) -> list[Ints]:
    """Test cases of each fold, stratified by pathology and shape; the same in every run."""
    strata = [f"{case.labels['pathology']} {case.labels['shape']}" for case in cases]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # round malignant lesions are fewer than folds
        splits = StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(np.zeros(len(cases)), strata)
        return [np.asarray(test, np.int64) for _, test in splits]


def _frame_row(name: str) -> dict[str, Any]:
    place = {"frame_id": f"f{name}", "study_id": f"t{name}", "subject_id": name, "source_key": name}
    return frame_row(**place, mode="b_mode", rows=SIDE, cols=SIDE)


def _annotation_row(case: Case, taxonomy: Taxonomy) -> dict[str, Any]:
    fixed = {"negated": [], "uncertain": [], "abstained": None, "conflict": False, "confidence": 1.0}
    own = {
        "frame_id": f"f{case.name}",
        "caption_id": f"c{case.name}",
        "source_caption_ids": [f"c{case.name}"],
    }
    return {**fixed, **own, **{name: [case.labels[name]] for name in taxonomy.dimension_names}}
