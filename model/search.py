"""Find frames by text or by picture, and labels for a picture, with the vectors of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from usds.model.augment import centre
from usds.model.cache import decode_rgb, open_cache
from usds.model.checkpoint import find_checkpoint, load_model
from usds.model.network import UltrasoundCLIP
from usds.model.records import Records, load_records
from usds.model.run import Run
from usds.model.stream import encode_frames, encode_texts
from usds.model.validate import prompt_vectors
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.files import atomic_path, canonical_json

__all__ = ["Hit", "Index", "LabelHit", "embed_dataset", "open_index", "read_picture"]

Floats = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Hit:
    """A frame that was found: its cosine to the query, its caption ("" where it has none) and its subject."""

    frame_id: str
    score: float
    caption: str
    subject_id: str


@dataclass(frozen=True)
class LabelHit:
    """A label of a dimension and its share among the dimension's labels (softmax at exp(theta))."""

    dimension: str
    label: str
    share: float


@dataclass(frozen=True, eq=False)
class Index:
    """All frames of a dataset as vectors of one run; searching is one matrix product.

    Attributes
    ----------
    model : UltrasoundCLIP
        In evaluation mode.
    frame_ids, captions, subjects : tuple of str
        Row by row.
    vectors : float32 (N, E)
        Unit vectors.
    unlearned : frozenset of str
        Dimensions that no training record of the run carried.
    """

    model: UltrasoundCLIP
    frame_ids: tuple[str, ...]
    captions: tuple[str, ...]
    subjects: tuple[str, ...]
    vectors: Floats
    device: torch.device
    unlearned: frozenset[str] = frozenset()

    def by_text(self, text: str, top: int = 10) -> list[Hit]:
        """Frames nearest to a text.

        Raises
        ------
        UsageError
            The text is empty.
        """
        if not text.strip():
            raise UsageError("the search text is empty: write what to look for")
        return self._nearest(
            encode_texts(self.model.encode_text, self.model.tokenize, [text], self.device)[0], top
        )

    def by_picture(self, rgb: npt.NDArray[np.uint8], top: int = 10) -> list[Hit]:
        """Frames nearest to a picture (H, W, 3)."""
        return self._nearest(self._picture(rgb), top)

    def labels_of(self, rgb: npt.NDArray[np.uint8], top: int = 3) -> list[LabelHit]:
        """The best labels of each dimension that the run could learn, for a picture (H, W, 3)."""
        vector = self._picture(rgb)
        scale = float(self.model.logit_scale.detach())
        found: list[LabelHit] = []
        for dimension in self.model.taxonomy.dimensions:
            if dimension.name in self.unlearned:
                continue
            prompts = prompt_vectors(self.model, self.model.taxonomy, dimension.name, self.device)
            logits = scale * (prompts @ vector)
            share = np.exp(logits - logits.max())
            share /= share.sum()
            for i in np.argsort(-share, kind="stable")[:top]:
                found.append(LabelHit(dimension.name, dimension.labels[int(i)].name, float(share[i])))
        return found

    def _picture(self, rgb: npt.NDArray[np.uint8]) -> Floats:
        spec = self.model.image_transform(False)
        pixels = torch.from_numpy(centre(rgb, spec.size)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            vector = self.model.encode_image(spec.normalise(pixels.to(self.device)))
        return vector[0].float().cpu().numpy()

    def _nearest(self, query: Floats, top: int) -> list[Hit]:
        scores = self.vectors @ query
        best = np.argsort(-scores, kind="stable")[:top]
        return [
            Hit(self.frame_ids[i], float(scores[i]), self.captions[i], self.subjects[i])
            for i in map(int, best)
        ]


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """Read a PNG or JPEG as RGB.

    Raises
    ------
    UsageError
        There is no such file, or it is no picture of these kinds.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}: name a PNG or JPEG with --image")
    rgb = decode_rgb(path.read_bytes())
    if rgb is None:
        raise UsageError(f"{path} is no PNG or JPEG: convert it, or ingest it and search by its text")
    return rgb


def open_index(run: Run, dataset: Dataset, *, progress: Progress | None = None) -> Index:
    """The index of a dataset under a run; vectors are kept beside the run and made once.

    Raises
    ------
    ContentError
        The dataset has no readable frame.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(run.folder, device=device)
    table = pq.read_table(embed_dataset(run, dataset, model, device, progress=progress))
    flat = table.column("vector").combine_chunks().flatten().to_numpy()
    return Index(
        model,
        tuple(table.column("frame_id").to_pylist()),
        tuple(table.column("caption").to_pylist()),
        tuple(table.column("subject_id").to_pylist()),
        np.asarray(flat, np.float32).reshape(len(table), -1),
        device,
        frozenset(name for name, count in run.data().get("labelled", {}).items() if not count),
    )


def embed_dataset(
    run: Run,
    dataset: Dataset,
    model: UltrasoundCLIP,
    device: torch.device,
    *,
    progress: Progress | None = None,
) -> Path:
    """Write the image vectors of all frames as Parquet beside the run, unless they are there.

    Columns: frame_id, subject_id, caption, vector (fixed-size list of float32). The file's metadata names
    run, checkpoint and dataset. The name hashes checkpoint and shards, so a changed dataset is embedded anew.

    Returns
    -------
    Path
        The file.
    """
    path = _vectors_path(run, dataset)
    if path.is_file():
        return path
    settings = run.settings()
    spec = model.image_transform(False)
    cache = open_cache(dataset, settings.data.image_size or spec.size, settings.data.cache, progress)
    records = load_records(dataset, model.taxonomy, settings.data.split, captioned=False).without(
        cache.unreadable
    )
    if not len(records):
        raise ContentError(f"{dataset.root} has no readable frame to search")
    vectors = encode_frames(model.encode_image, records, cache, spec, device, progress=progress)
    facts = {
        "run": run.folder.name,
        "checkpoint": find_checkpoint(run.folder).name,
        "dataset": dataset.info.dataset_id,
    }
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as partial:
        pq.write_table(_vectors_table(records, vectors, facts), partial, compression="zstd")
    return path


def _vectors_path(run: Run, dataset: Dataset) -> Path:
    images = {task: m.files["images"].sha256 for task, m in dataset.manifests().items()}
    captions = {task: m.files["captions"].sha256 for task, m in dataset.manifests().items()}
    content = [find_checkpoint(run.folder).name, images, captions, dataset.annotations.current()]
    code = hashlib.sha256(canonical_json(content)).hexdigest()[:12]
    return run.folder / "embeddings" / f"{dataset.info.dataset_id}-{code}.parquet"


def _vectors_table(records: Records, vectors: Floats, facts: Mapping[str, str]) -> pa.Table:
    flat = pa.array(vectors.ravel(), pa.float32())
    columns: dict[str, Any] = {
        "frame_id": list(records.frame_ids),
        "subject_id": list(records.subject_ids),
        "caption": list(records.texts),
        "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    }
    return pa.table(columns).replace_schema_metadata(dict(facts))
