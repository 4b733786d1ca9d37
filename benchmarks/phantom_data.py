"""Simulated B-mode frames whose pixels carry their labels, and the dataset made of them.

A reflectivity map (background and one lesion) is multiplied with random scatterers, convolved with a point
spread function, enveloped and log-compressed: the convolution model of speckle (Bamber and Dickinson
1980). Every attribute moves pixels by an amount that survives 96 x 96: a lesion is a third to nearly half as
wide as the frame, its shape differs by axis ratio or lobes, its margin by a blur of a third of its radius,
its echogenicity by 10 dB and more from the background, posterior acoustics by a band of 9 dB and more,
calcifications and septations are bright inside it, the organ is the grain of the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from usds.schemas import tables
from usds.schemas.annotations import AnnotationSet
from usds.schemas.dataset import Dataset
from usds.taxonomy.udt import Taxonomy, load_taxonomy

Image = npt.NDArray[np.uint8]

# Share of subjects whose caption and labels name a dimension; US-365K's coverage of the training side.
COVERAGE = {
    "organ": 0.997,
    "diagnosis": 0.500,
    "shape": 0.075,
    "margins": 0.019,
    "echogenicity": 0.173,
    "internal_characteristics": 0.164,
    "posterior_acoustics": 0.024,
}
ORGANS = {
    "Liver": (1.2, 0),
    "Breast": (2.4, 3),
    "Thyroid gland": (0.8, 0),
    "Spleen": (2.0, 0),
    "Uterus": (1.5, 6),
}
SHAPES = ("round", "oval", "lobulated", "irregular")
MARGINS = ("well-defined", "ill-defined/indistinct")
ECHO = {"anechoic": -30.0, "hypoechoic": -11.0, "hyperechoic": 10.0}
POSTERIOR = {"enhancement": 9.0, "shadowing": -14.0, None: 0.0}
INTERNAL = ("calcifications", "septations", None)


@dataclass(frozen=True)
class PhantomSettings:
    """Size of a phantom dataset."""

    subjects: int = 600
    frames_per_subject: int = 6
    side: int = 112
    coverage_scale: float = 1.0
    train_share: float = 0.6


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


def _mask(
    lesion: Lesion, side: int, rng: np.random.Generator
) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    """Soft lesion mask in [0, 1] and its centre and radius in pixels."""
    radius = side * rng.uniform(0.17, 0.23)
    cx, cy = side * rng.uniform(0.4, 0.6), side * rng.uniform(0.35, 0.5)
    yy, xx = np.mgrid[:side, :side].astype(np.float32)
    ratio = 1.9 if lesion.shape == "oval" else 1.0
    angle = np.arctan2(yy - cy, xx - cx)
    distance = np.hypot((xx - cx) / np.sqrt(ratio), (yy - cy) * np.sqrt(ratio))
    edge = np.full_like(distance, radius)
    if lesion.shape == "lobulated":
        edge *= 1 + 0.22 * np.cos(4 * angle + rng.uniform(0, 6))
    elif lesion.shape == "irregular":
        for k in (3, 5, 8, 11):
            edge *= 1 + 0.16 * np.cos(k * angle + rng.uniform(0, 6))
    soft = radius * (0.03 if lesion.margin == "well-defined" else 0.35)
    return 1 / (1 + np.exp(np.clip((distance - edge) / soft, -30, 30))), (cx, cy, radius)


def render(lesion: Lesion, side: int, rng: np.random.Generator) -> Image:
    """One frame (side, side, 3)."""
    mask, (cx, cy, radius) = _mask(lesion, side, rng)
    grain, layers = ORGANS[lesion.organ]
    unit = side / 112
    yy, xx = np.mgrid[:side, :side].astype(np.float32)
    level = 4 * np.sin(2 * np.pi * layers * yy / side) if layers else np.zeros((side, side), np.float32)
    level = level * (1 - mask) + ECHO[lesion.echo] * mask
    below = (yy > cy + 0.6 * radius) & (np.abs(xx - cx) < 0.75 * radius)
    level += POSTERIOR[lesion.posterior] * (below & (mask < 0.5))
    if lesion.internal == "septations":
        for offset in (-0.35, 0.35):
            level[(np.abs(yy - cy - offset * radius) < 1.6 * unit) & (mask > 0.5)] = 14
    elif lesion.internal == "calcifications":
        for _ in range(5):
            x, y = cx + radius * rng.uniform(-0.5, 0.5), cy + radius * rng.uniform(-0.5, 0.5)
            level[np.hypot(xx - x, yy - y) < 2.6 * unit] = 20
    scatter = rng.normal(size=(side, side)) + 1j * rng.normal(size=(side, side))
    scatter *= 10 ** (level / 20)
    sigma = (grain * unit, 0.7 * unit)
    blurred = [
        cv2.GaussianBlur(part, (0, 0), sigma[0], sigmaY=sigma[1]) for part in (scatter.real, scatter.imag)
    ]
    envelope = np.hypot(*blurred)
    decibel = 20 * np.log10(envelope / np.median(envelope) + 1e-4)
    grey = np.clip((decibel + 35) / 60 * 255, 0, 255).astype(np.uint8)
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


def write_dataset(root: Path, settings: PhantomSettings, seed: int) -> Dataset:
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
                rng = np.random.default_rng([seed, subject])
                side = _side(subject, settings)
                _write_subject(writer, rows, taxonomy, settings, subject=subject, side=side, rng=rng)
                sides.append({"subject_id": f"s{subject:06d}", "split": side})
            writer.commit()
    _annotate(dataset, taxonomy, rows)
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
    scale = settings.coverage_scale
    keep = {k for k, share in COVERAGE.items() if side == "test" or rng.random() < min(1.0, share * scale)}
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
    blank = {column.name: _blank(column.type) for column in tables.FRAMES if not column.nullable}
    return {
        **blank,
        "frame_id": frame,
        "study_id": f"t{name}",
        "subject_id": name,
        "source_key": f"k{name}",
        "frame_index": index,
        "rows": settings.side,
        "cols": settings.side,
        "mode": "b_mode",
        "phash": f"{int(rng.integers(1, 2**63)):016x}",
    }


def _blank(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return []
    if pa.types.is_string(kind):
        return ""
    return False if pa.types.is_boolean(kind) else 0


def _annotate(dataset: Dataset, taxonomy: Taxonomy, rows: list[dict[str, Any]]) -> None:
    sets, name = dataset.annotations, taxonomy.set_name
    sets.write_taxonomy(name, taxonomy.source_text)
    table = pa.Table.from_pylist(rows, schema=tables.annotation_schema(taxonomy.dimension_names))
    entry = sets.write_task(name, "all", "0" * 12, table, tables.EVIDENCE.empty_table())
    sets.commit(
        AnnotationSet(name, taxonomy.id, taxonomy.content_hash, taxonomy.dimension_names, {"all": entry})
    )
    sets.set_current(name)
