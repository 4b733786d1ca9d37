"""Simulated B-mode frames whose pixels carry their labels, and the dataset made of them.

A reflectivity map (background and one lesion) is multiplied with random scatterers, convolved with a point
spread function, enveloped and log-compressed: the convolution model of speckle (Bamber and Dickinson
1980). Every attribute moves pixels by an amount that survives 48 x 48: a lesion is half as wide as the frame,
its shape differs by axis ratio, lobes or spikes, its margin by a bright rim or an edge that spreads over half
its radius, its echogenicity by 11 dB and more from the background, posterior acoustics by a band of 12 dB and
more, calcifications and septations are bright inside it, the organ is the texture of the background. How well
a classifier reads them off held-out subjects is measured by ``python -m benchmarks.phantom_ceiling``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.datasets import frame_row, write_labels
from usds.schemas.dataset import Dataset
from usds.taxonomy.udt import Taxonomy, load_taxonomy

Image = npt.NDArray[np.uint8]

# Share of training subjects whose caption and labels name a dimension: US-365K's coverage.
COVERAGE = {
    "organ": 0.997,
    "diagnosis": 0.500,
    "shape": 0.075,
    "margins": 0.019,
    "echogenicity": 0.173,
    "internal_characteristics": 0.164,
    "posterior_acoustics": 0.024,
}
# Layers of the background: cycles over the frame, direction in degrees, and the grain of the speckle.
ORGANS = {
    "Liver": (0.0, 0.0, 0.8),
    "Breast": (3.0, 90.0, 0.8),
    "Thyroid gland": (6.0, 0.0, 0.8),
    "Spleen": (0.0, 0.0, 2.2),
    "Uterus": (5.0, 45.0, 0.8),
}
_LAYER_DB = 6.0
SHAPES = ("round", "oval", "lobulated", "irregular")
MARGINS = ("well-defined", "ill-defined/indistinct")
ECHO = {"anechoic": -30.0, "hypoechoic": -11.0, "hyperechoic": 13.0}
POSTERIOR = {"enhancement": 12.0, "shadowing": -16.0, None: 0.0}
INTERNAL = ("calcifications", "septations", None)
# A third of the lesions has nothing to name there; the others are named so much more often.
_NAMEABLE = {"internal_characteristics": 2 / 3, "posterior_acoustics": 2 / 3}


@dataclass(frozen=True)
class PhantomSettings:
    """Size of a phantom dataset."""

    subjects: int = 3600
    frames_per_subject: int = 6
    side: int = 60
    coverage_scale: float = 1.0
    train_share: float = 0.85
    seed: int = 0


@dataclass(frozen=True)
class Lesion:
    """What one subject's frames show."""

    organ: str
    shape: str
    margin: str
    echo: str
    posterior: str | None
    internal: str | None

    @property
    def truth(self) -> dict[str, list[str]]:
        """All labels that the pixels carry."""
        found = {
            "organ": [self.organ],
            "diagnosis": ["cyst" if self.echo == "anechoic" else "nodule"],
            "shape": [self.shape],
            "margins": [self.margin],
            "echogenicity": [self.echo],
            "internal_characteristics": [self.internal] if self.internal else [],
            "posterior_acoustics": [self.posterior] if self.posterior else [],
        }
        return {name: labels for name, labels in found.items() if labels}


def draw_lesion(rng: np.random.Generator) -> Lesion:
    """A lesion with independent attributes."""
    return Lesion(
        str(rng.choice(list(ORGANS))),
        str(rng.choice(SHAPES)),
        str(rng.choice(MARGINS)),
        str(rng.choice(list(ECHO))),
        (None, "enhancement", "shadowing")[int(rng.integers(3))],
        (None, "calcifications", "septations")[int(rng.integers(3))],
    )


def _distance(
    lesion: Lesion, side: int, rng: np.random.Generator
) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    """Distance from the lesion's edge in radii, negative inside, and its centre and radius in pixels."""
    radius = side * rng.uniform(0.22, 0.26)
    cx, cy = side * rng.uniform(0.44, 0.56), side * rng.uniform(0.36, 0.46)
    yy, xx = np.mgrid[:side, :side].astype(np.float32)
    ratio = 2.2 if lesion.shape == "oval" else 1.0
    angle = np.arctan2(yy - cy, xx - cx)
    distance = np.hypot((xx - cx) / np.sqrt(ratio), (yy - cy) * np.sqrt(ratio)) / radius
    turn = rng.uniform(0, 2 * np.pi)
    if lesion.shape == "lobulated":
        distance /= 1 + 0.28 * np.cos(3 * angle + turn)
    elif lesion.shape == "irregular":
        # A star of narrow spikes: a triangle wave of the angle.
        wave = np.abs(((7 * angle + turn) / np.pi) % 2 - 1)
        distance /= 0.75 + 0.6 * wave
    return distance - 1, (cx, cy, radius)


def _levels(lesion: Lesion, side: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Echo level of every pixel in dB."""
    distance, (cx, cy, radius) = _distance(lesion, side, rng)
    yy, xx = np.mgrid[:side, :side].astype(np.float32)
    cycles, degrees, _ = ORGANS[lesion.organ]
    across = (xx * np.cos(np.radians(degrees)) + yy * np.sin(np.radians(degrees))) / side
    layers = _LAYER_DB * np.sin(2 * np.pi * (cycles * across + rng.uniform())) * (cycles > 0)
    sharp = lesion.margin == "well-defined"
    mask = 1 / (1 + np.exp(np.clip(distance / (0.03 if sharp else 0.14), -30, 30)))
    level = layers * (1 - mask) + ECHO[lesion.echo] * mask
    below = (yy > cy + 0.5 * radius) & (np.abs(xx - cx) < 0.8 * radius) & (distance > 0.1)
    level += POSTERIOR[lesion.posterior] * below
    if sharp:
        level[np.abs(distance) < 0.09] = 20
    if lesion.internal == "septations":
        for offset in (-0.3, 0.3):
            level[(np.abs(yy - cy - offset * radius) < 0.07 * radius) & (distance < -0.1)] = 26
    elif lesion.internal == "calcifications":
        for _ in range(4):
            reach, turn = radius * rng.uniform(0, 0.45), rng.uniform(0, 2 * np.pi)
            x, y = cx + reach * np.cos(turn), cy + reach * np.sin(turn)
            level[np.hypot(xx - x, yy - y) < 0.14 * radius] = 28
    return level


def render(lesion: Lesion, side: int, rng: np.random.Generator) -> Image:
    """One frame (side, side, 3)."""
    level = _levels(lesion, side, rng)
    grain = ORGANS[lesion.organ][2] * side / 112
    scatter = rng.normal(size=(side, side)) + 1j * rng.normal(size=(side, side))
    scatter *= 10 ** (level / 20)
    blurred = [
        cv2.GaussianBlur(part, (0, 0), grain, sigmaY=0.7 * side / 112)
        for part in (scatter.real, scatter.imag)
    ]
    envelope = np.hypot(*blurred)
    decibel = 20 * np.log10(envelope / np.median(envelope) + 1e-4)
    grey = np.clip((decibel + 35) / 65 * 255, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def describe(labels: dict[str, list[str]], rng: np.random.Generator) -> str:
    """A caption that names the given labels, as reports do: same words, few phrasings."""
    organ = labels.get("organ", ["Soft tissues"])[0].lower()
    words = [labels[k][0].split("/")[0] for k in ("echogenicity", "shape") if k in labels]
    finding = labels.get("diagnosis", ["lesion"])[0]
    text = f"{' '.join([*words, finding])} of the {organ}"
    if "margins" in labels:
        text += f" with {labels['margins'][0].split('/')[0]} margins"
    extra = [labels[k][0] for k in ("internal_characteristics", "posterior_acoustics") if k in labels]
    if extra:
        text += ", " + " and ".join(f"posterior {x}" if x in POSTERIOR else x for x in extra)
    return (f"{text}.", f"Ultrasound shows a {text}.", f"{organ.capitalize()} ultrasound: {text}.")[
        int(rng.integers(3))
    ]


def write_dataset(root: Path, settings: PhantomSettings) -> Dataset:
    """Write frames, captions, labels at partial coverage, and a split by subject.

    Test subjects carry all labels (they are what is measured); training and validation subjects carry a
    dimension with the probability of its coverage, and their caption names what they carry.
    """
    taxonomy = load_taxonomy("udt")
    dataset = Dataset.create(
        root, key_fingerprint="phantom", tool="phantom", detector="none", settings={}, settings_hash="phantom"
    )
    rows: list[dict[str, Any]] = []
    sides: list[dict[str, str]] = []
    for start in range(0, settings.subjects, 200):
        with dataset.writer(f"task{start:06d}", ()) as writer:
            for subject in range(start, min(start + 200, settings.subjects)):
                rng = np.random.default_rng([settings.seed, subject])
                side = _side(subject, settings)
                _write_subject(writer, rows, taxonomy, settings, subject=subject, side=side, rng=rng)
                sides.append({"subject_id": f"s{subject:06d}", "split": side})
            writer.commit()
    write_labels(dataset, taxonomy, rows)
    dataset.write_split("default", sides)
    return dataset


def _side(subject: int, settings: PhantomSettings) -> str:
    place = (subject % 20) / 20
    if place < settings.train_share:
        return "train"
    return "valid" if place < settings.train_share + (1 - settings.train_share) / 4 else "test"


def _write_subject(
    writer: Any,
    rows: list[dict[str, Any]],
    taxonomy: Taxonomy,
    settings: PhantomSettings,
    *,
    subject: int,
    side: str,
    rng: np.random.Generator,
) -> None:
    lesion = draw_lesion(rng)
    share = {k: v * settings.coverage_scale / _NAMEABLE.get(k, 1.0) for k, v in COVERAGE.items()}
    keep = {k for k, part in share.items() if side == "test" or rng.random() < part}
    labels = {k: v for k, v in lesion.truth.items() if k in keep}
    if "organ" in labels:
        parent = taxonomy.parent_of("organ", lesion.organ)
        labels["body_system"] = [parent[1]] if parent else []
    name = f"s{subject:06d}"
    caption = {
        "caption_id": f"c{name}",
        "scope": "study",
        "target_id": f"t{name}",
        "text": describe(labels, rng),
        "origin": "dataset",
        "n_removed": 0,
        "source_key": f"k{name}",
    }
    writer.add_caption(caption)
    for index in range(settings.frames_per_subject):
        frame = f"f{name}{index:02d}"
        data = cv2.imencode(".jpg", render(lesion, settings.side, rng), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        writer.add_frame(_frame_row(frame, name, index, settings, rng), data.tobytes())
        rows.append(
            {
                "frame_id": frame,
                **{d: labels.get(d, []) for d in taxonomy.dimension_names},
                "negated": [],
                "uncertain": [],
                "source_caption_ids": [f"c{name}"],
                "caption_id": f"c{name}",
                "abstained": None,
                "conflict": False,
                "confidence": 1.0,
            }
        )


def _frame_row(
    frame: str, name: str, index: int, settings: PhantomSettings, rng: np.random.Generator
) -> dict[str, Any]:
    return frame_row(
        frame_id=frame,
        study_id=f"t{name}",
        subject_id=name,
        source_key=f"k{name}",
        frame_index=index,
        rows=settings.side,
        cols=settings.side,
        mode="b_mode",
        phash=f"{int(rng.integers(1, 2**63)):016x}",
    )
