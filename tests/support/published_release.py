"""A folder in the shape of the published US-365K: ten cases of two pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIDES = ("train", "train", "train", "valid", "test")
FACTS = (("Liver", "Abdomen and retroperitoneum", "anechoic"), ("Breast", "Breast and Axilla", "hypoechoic"))


def picture(seed: int) -> np.ndarray[Any, Any]:
    """Speckle with a disc, different for each seed."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.gamma(2.0, 40.0, (96, 120)), (0, 0), 1 + seed % 5)
    cv2.circle(
        image, (int(rng.integers(30, 90)), int(rng.integers(30, 66))), 20, float(rng.integers(255)), -1
    )
    return np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def write_release(folder: Path) -> list[str]:
    """Write the release; return the names of its pictures, in order."""
    (folder / "images").mkdir(parents=True)
    names: list[str] = []
    lines: dict[str, list[str]] = {side: [] for side in SIDES}
    records: list[dict[str, Any]] = []
    for case in range(10):
        organ, system, echo = FACTS[case % 2]
        caption = f"Ultrasound of the {organ.lower()} shows an {echo} nodule number {case}."
        if case == 3:
            caption = "No specific ultrasound findings are provided for a detailed description of the lesion."
        for _ in range(2):
            number = len(names)
            name = f"{number:06d}_{case + 100:06d}_6f0d2610-3c26-45c2-a34b-{case:012d}.jpg"
            names.append(name)
            cv2.imwrite(str(folder / "images" / name), picture(number), [cv2.IMWRITE_JPEG_QUALITY, 95])
            lines[SIDES[case % 5]].append(json.dumps({"image": name, "caption": caption}))
            records.append(
                {
                    "media_name": name, "Organ_level": [organ], "Body_system_level": [system],
                    "Diagnosis": ["nodule"], "Echogenicity": [echo], "Shape": [], "Margins": [],
                    "InternalCharacteristics": [], "PosteriorAcoustics": [], "Vascularity": [],
                }
            )  # fmt: skip
    for side, rows in lines.items():
        (folder / f"{side}.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    (folder / "full_data.json").write_text(json.dumps(records), "utf-8")
    return names
