"""A small annotated dataset, made through the dataset's own writers, without ingest.

Every subject is a textured frame with one bright or dark disc or bar; captions and labels say what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from usds.schemas import tables
from usds.schemas.annotations import AnnotationSet
from usds.schemas.dataset import Dataset
from usds.taxonomy.udt import Taxonomy, load_taxonomy

ORGANS = ("Liver", "Breast", "Thyroid gland", "Spleen")
SYSTEMS = {
    "Liver": "Abdomen and retroperitoneum",
    "Breast": "Breast and Axilla",
    "Thyroid gland": "Head and Neck",
    "Spleen": "Abdomen and retroperitoneum",
}
SHADES = {"anechoic": 10, "hypoechoic": 60, "hyperechoic": 235}
SHAPES = ("round", "tubular/linear")


@dataclass(frozen=True)
class Spec:
    """One subject: what its frames show."""

    subject: str
    organ: str
    echo: str
    shape: str
    split: str
    frames: int

    @property
    def caption(self) -> str:
        shape = "round" if self.shape == "round" else "tubular"
        return f"{self.organ}: {shape} {self.echo} nodule."


def specs(n_subjects: int = 12, frames: int = 2, seed: int = 0) -> list[Spec]:
    """Subjects with balanced labels; three fifths train, the rest valid and test."""
    rng = np.random.default_rng(seed)
    sides = ["train", "train", "train", "valid", "test"]
    chosen: list[Spec] = []
    for i in range(n_subjects):
        echo = list(SHADES)[int(rng.integers(len(SHADES)))]
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        chosen.append(Spec(f"subject{i:03d}", ORGANS[i % 4], echo, shape, sides[i % 5], frames))
    return chosen


def draw(spec: Spec, index: int, size: int = 128) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The frame: grey speckle whose grain depends on the organ, and the lesion."""
    seed = int.from_bytes(spec.subject.encode(), "little") % (2**32)
    rng = np.random.default_rng([seed, index])
    grain = 1 + ORGANS.index(spec.organ) * 2
    noise = cv2.GaussianBlur(rng.normal(0, 1, (size, size)), (0, 0), grain)
    image = 130 + 25 * noise / noise.std()
    centre = (int(size * rng.uniform(0.4, 0.6)), int(size * rng.uniform(0.4, 0.6)))
    axes = (size // 5, size // 5) if spec.shape == "round" else (size // 3, size // 14)
    cv2.ellipse(image, centre, axes, 0, 0, 360, float(SHADES[spec.echo]), -1)
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def frame_row(spec: Spec, index: int, caption_id: str) -> dict[str, Any]:
    """A row of the frames table with every column filled."""
    row: dict[str, Any] = {}
    for column in tables.FRAMES:
        if not column.nullable:
            row[column.name] = _blank(column.type)
    number = hash_name(f"{spec.subject}/{index}")
    return {
        **row,
        "frame_id": f"frame{spec.subject[7:]}{index:02d}",
        "study_id": f"study-{spec.subject}",
        "subject_id": spec.subject,
        "subject_rule": "patient_id",
        "source_key": f"source-{spec.subject}",
        "frame_index": index,
        "source_frames": spec.frames,
        "rows": 128,
        "cols": 128,
        "mode": "b_mode",
        "quality": "ok",
        "phash": f"{number:016x}",
    }


def hash_name(text: str) -> int:
    """64 pseudo-random bits of a name."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _blank(kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return []
    if pa.types.is_string(kind):
        return ""
    return False if pa.types.is_boolean(kind) else 0


def labels_of(spec: Spec) -> dict[str, list[str]]:
    """What the annotation says of each frame of a subject."""
    return {
        "body_system": [SYSTEMS[spec.organ]],
        "organ": [spec.organ],
        "diagnosis": ["nodule"],
        "shape": [spec.shape],
        "echogenicity": [spec.echo],
    }


def make_dataset(
    root: Path,
    chosen: Sequence[Spec] | None = None,
    *,
    taxonomy: Taxonomy | None = None,
    corrupt: frozenset[str] = frozenset(),
    labels: Any = labels_of,
    split: bool = True,
) -> Dataset:
    """Write the dataset; frames named in ``corrupt`` get bytes that are no image."""
    chosen = specs() if chosen is None else chosen
    taxonomy = taxonomy or load_taxonomy("udt")
    dataset = Dataset.create(
        root, key_fingerprint="test", tool="test", detector="test", settings={}, settings_hash="test"
    )
    annotations: list[dict[str, Any]] = []
    with dataset.writer("task0", ()) as writer:
        for spec in chosen:
            caption_id = f"caption-{spec.subject}"
            writer.add_caption(
                {
                    "caption_id": caption_id,
                    "scope": "study",
                    "target_id": f"study-{spec.subject}",
                    "text": spec.caption,
                    "origin": "sidecar",
                    "n_removed": 0,
                    "source_key": f"source-{spec.subject}",
                }
            )
            for index in range(spec.frames):
                row = frame_row(spec, index, caption_id)
                data = cv2.imencode(".jpg", draw(spec, index))[1].tobytes()
                writer.add_frame(row, b"no image" if row["frame_id"] in corrupt else data)
                annotations.append(annotation_row(row["frame_id"], caption_id, labels(spec), taxonomy))
        writer.commit()
    write_annotations(dataset, taxonomy, annotations)
    if split:
        dataset.write_split("default", [{"subject_id": s.subject, "split": s.split} for s in chosen])
    return dataset


def annotation_row(
    frame_id: str, caption_id: str | None, labels: dict[str, list[str]], taxonomy: Taxonomy
) -> dict[str, Any]:
    """A row of the annotations table."""
    return {
        "frame_id": frame_id,
        **{name: labels.get(name, []) for name in taxonomy.dimension_names},
        "negated": [],
        "uncertain": [],
        "source_caption_ids": [caption_id] if caption_id else [],
        "caption_id": caption_id,
        "abstained": None,
        "conflict": False,
        "confidence": 1.0,
    }


def write_annotations(
    dataset: Dataset, taxonomy: Taxonomy, rows: Sequence[dict[str, Any]], fingerprint: str = "f" * 12
) -> None:
    """Write the rows as the current annotation set."""
    name = taxonomy.set_name
    schema = tables.annotation_schema(taxonomy.dimension_names)
    dataset.annotations.write_taxonomy(name, taxonomy.source_text)
    entry = dataset.annotations.write_task(
        name,
        "task0",
        fingerprint,
        pa.Table.from_pylist(list(rows), schema=schema),
        tables.EVIDENCE.empty_table(),
    )
    dataset.annotations.commit(
        AnnotationSet(name, taxonomy.id, taxonomy.content_hash, taxonomy.dimension_names, {"task0": entry})
    )
    dataset.annotations.set_current(name)


TOWERS = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def quick_settings(folder: Path, **overrides: Any) -> Any:
    """Settings of preset tiny with towers that take a step in milliseconds; ``overrides`` are nested mappings."""
    import json

    from usds.model.settings import build_settings, merge

    folder.mkdir(parents=True, exist_ok=True)
    towers = folder / "towers.json"
    towers.write_text(json.dumps(TOWERS), "utf-8")
    base = {
        "preset": "tiny",
        "model": {"towers": {"name": str(towers)}, "graph": {"width": 32}},
        "data": {"image_size": 32, "workers": 0, "batch_size": 8, "cache": str(folder / "cache")},
        "schedule": {"epochs": 2},
        "run": {"log_every": 1},
    }
    return build_settings(merge(base, overrides))
