"""The short look at the validation side while training: it decides which checkpoint is the best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from usds.model.cache import FrameCache
from usds.model.evaluate.attributes import attribute_metrics
from usds.model.evaluate.retrieval import best_ranks
from usds.model.network import UltrasoundCLIP
from usds.model.records import Records
from usds.model.stream import encode_frames, encode_texts
from usds.taxonomy.udt import Taxonomy

__all__ = ["prompt_vectors", "validate_run"]


def prompt_vectors(
    model: UltrasoundCLIP, taxonomy: Taxonomy, dimension: str, device: torch.device
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Unit vectors (V_k, E) of a dimension's labels: the mean over each label's prompts."""
    vocabulary = taxonomy.vocabulary(dimension)
    prompts: list[Sequence[str]] = [taxonomy.prompts(dimension, label) or (label,) for label in vocabulary]
    flat = [text for group in prompts for text in group]
    vectors = encode_texts(model.encode_text, model.tokenize, flat, device)
    at = np.cumsum([0, *[len(group) for group in prompts]])
    means = np.stack([vectors[at[i] : at[i + 1]].mean(axis=0) for i in range(len(vocabulary))])
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)


@torch.no_grad()
def validate_run(
    model: UltrasoundCLIP, records: Records, cache: FrameCache, device: torch.device
) -> dict[str, float]:
    """Text-only retrieval and zero-shot accuracy on the validation side.

    Returns
    -------
    dict
        ``mrr`` (mean reciprocal rank of the same caption, both directions), ``AvgAcc`` (mean over the
        dimensions
        that records carry, absent where none does) and ``score``, their mean, by which checkpoints are
        compared.
    """
    was_training = model.training
    model.eval()
    image = encode_frames(model.encode_image, records, cache, model.image_transform(False), device)
    text = encode_texts(model.encode_text, model.tokenize, records.texts, device)
    same = records.captions[:, None] == records.captions[None, :]
    scores = image @ text.T
    ranks = np.concatenate([best_ranks(scores, same), best_ranks(scores.T, same)])
    found = {"mrr": float((1.0 / ranks).mean())}
    accuracy = _accuracy(model, records, image, device)
    if accuracy is not None:
        found["AvgAcc"] = accuracy
    model.train(was_training)
    return {**found, "score": float(np.mean(list(found.values())))}


def _accuracy(
    model: UltrasoundCLIP,
    records: Records,
    image: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    device: torch.device,
) -> float | None:
    values: list[float] = []
    start = 0
    for dimension in model.taxonomy.dimensions:
        stop = start + len(dimension.labels)
        gold = records.labels.x[:, start:stop] > 0
        carried = gold.any(axis=1)
        if carried.any():
            prompts = prompt_vectors(model, model.taxonomy, dimension.name, device)
            scores = (image[carried] @ prompts.T).astype(np.float64)
            values.append(attribute_metrics(scores, gold[carried], np.ones(int(carried.sum())))["accuracy"])
        start = stop
    return float(np.mean(values)) if values else None
