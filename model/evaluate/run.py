"""Evaluate a run: leakage gate, retrieval, zero-shot attributes, probes; JSON, pictures, one HTML page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from usds.model.cache import FrameCache, open_cache
from usds.model.checkpoint import find_checkpoint, load_model
from usds.model.evaluate import attributes, retrieval
from usds.model.evaluate.attributes import AttributeResult, evaluate_attributes, summarise
from usds.model.evaluate.leakage import check_leakage
from usds.model.evaluate.retrieval import Pairs, evaluate_retrieval
from usds.model.evaluate.settings import EvaluateSettings
from usds.model.evaluate.sides import Sides, choose_sides, strangers, trained_on
from usds.model.evaluate.tables import verdict
from usds.model.evaluate.transfer import Transfer
from usds.model.labels import LabelTensors
from usds.model.network import UltrasoundCLIP
from usds.model.records import Records, take_labels
from usds.model.run import Run
from usds.model.stream import encode_frames, encode_texts, finite
from usds.model.targets import scale_rows, target_rows
from usds.model.validate import prompt_vectors
from usds.schemas.dataset import Dataset
from usds.schemas.errors import UsageError

__all__ = ["EvaluateSettings", "Evaluation", "evaluate"]

Floats = npt.NDArray[np.float32]
Note = Callable[[str], None]
_DEFINITIONS: Final = {
    "retrieval": retrieval.__doc__,
    "attributes": attributes.__doc__,
    "intervals": "95 % percentile intervals; whole cases are resampled. A case is a subject.",
    "protocols": "text only: captions alone. text + tags: captions with the records' gold labels; the two "
    "are different tasks and not comparable.",
}


def _definitions(prompt_weight: float, doubt: str | None) -> dict[str, str | None]:
    """What the figures mean, and what the training had seen of the questions asked here."""
    found: dict[str, str | None] = {**_DEFINITIONS}
    if prompt_weight:
        found["label prompts"] = (
            f"The loss held label prompts with weight {prompt_weight:g}: the attribute scores rest on the "
            "labels of the training side, and are zero-shot only in that no test record was seen."
        )
    if doubt:
        found["training data"] = doubt
    return found


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The outcome: ``report`` as plain JSON values, and what the pictures are made of."""

    report: dict[str, Any]
    attributes: list[AttributeResult]
    image: Floats
    text: Floats
    records: Records
    cache: FrameCache


def evaluate(
    run: Run,
    dataset: Dataset,
    settings: EvaluateSettings,
    *,
    note: Note = lambda _: None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate the best checkpoint of a run.

    Parameters
    ----------
    run : Run
        Its settings and taxonomy are used, not those of today.
    dataset : Dataset
        Usually the one it was trained on.
    settings : EvaluateSettings
        Side, galleries, probes.
    note, progress : callable
        Take lines for people, and (frames encoded, frames in all).

    Raises
    ------
    ContentError
        The split leaks, the side is empty, or the dataset's labels are not of the run's taxonomy.
    UsageError
        A dimension to fine-tune does not exist.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(run.folder, average=settings.average, device=device)
    _check_dimensions(model, settings)
    trained = run.settings()
    spec = model.image_transform(False)
    cache = open_cache(dataset, trained.data.image_size or spec.size, trained.data.cache, progress)
    sides = choose_sides(run, dataset, model, settings, cache=cache, note=note)
    split = settings.split or trained.data.split
    leakage = check_leakage(trained_on(run, dataset, model, sides), sides.test, split)
    doubt = strangers(run, dataset)
    if doubt:
        note(doubt)
    image = encode_frames(model.encode_image, sides.test, cache, spec, device, progress=progress)
    text = encode_texts(model.encode_text, model.tokenize, sides.test.texts, device)
    found = _attributes(model, sides, image, device, settings)
    transfer = Transfer(model, sides, cache, device, settings)
    report: dict[str, Any] = {
        **_what(run, dataset, sides, settings),
        "split": split,
        "leakage": leakage,
        "retrieval": _retrieval(model, sides.test, image, text, device=device, settings=settings),
        "attributes": {r.dimension: r.to_json() for r in found},
        "attribute_summary": summarise(found),
        "probes": transfer.probes(image, progress) if settings.probe else {},
        "fine_tune": transfer.fine_tunes(),
        "definitions": _definitions(trained.model.loss.prompt_weight, doubt),
        "verdict": verdict(found, sides.test.n_subjects, run),
    }
    return Evaluation(report, found, image, text, sides.test, cache)


def _check_dimensions(model: UltrasoundCLIP, settings: EvaluateSettings) -> None:
    unknown = sorted(set(settings.fine_tune) - set(model.taxonomy.dimension_names))
    if unknown:
        raise UsageError(
            f"no dimension {unknown[0]!r} to fine-tune on: {', '.join(model.taxonomy.dimension_names)}"
        )


def _what(run: Run, dataset: Dataset, sides: Sides, settings: EvaluateSettings) -> dict[str, Any]:
    """Which weights were judged on which records."""
    return {
        "run": run.folder.name,
        "checkpoint": find_checkpoint(run.folder).name,
        "dataset_id": dataset.info.dataset_id,
        "side": settings.side,
        "n": len(sides.test),
        "cases": sides.test.n_subjects,
        "label_set": sides.label_set,
    }


def _retrieval(
    model: UltrasoundCLIP,
    records: Records,
    image: Floats,
    text: Floats,
    *,
    device: torch.device,
    settings: EvaluateSettings,
) -> dict[str, Any]:
    """Both protocols; a model without a label path has one."""
    relevance = _relevance(model, records)

    def judge(vectors: Floats) -> list[dict[str, Any]]:
        pairs = Pairs(image, vectors, records.captions, records.subjects, relevance)
        return evaluate_retrieval(
            pairs, galleries=settings.galleries, draws=settings.draws, seed=settings.seed
        )

    result: dict[str, Any] = {"text only": judge(text)}
    if model.graph is not None:
        result["text + tags"] = judge(_tagged(model, records, device))
    return result


@torch.inference_mode()
def _tagged(model: UltrasoundCLIP, records: Records, device: torch.device) -> Floats:
    parts: list[Floats] = []
    for start in range(0, len(records), 64):
        rows = np.arange(start, min(start + 64, len(records)))
        tokens = model.tokenize([records.texts[i] for i in rows]).to(device)
        labels = LabelTensors.from_batch(take_labels(records.labels, rows)).to(device)
        parts.append(model.encode_text(tokens, labels).float().cpu().numpy())
    return finite(np.concatenate(parts))


def _relevance(model: UltrasoundCLIP, records: Records) -> Any:
    """Masked semantic similarity between records, the graded relevance of nDCG."""
    s = torch.from_numpy(model.prior.block())
    x, filled = torch.from_numpy(records.labels.x), torch.from_numpy(records.labels.filled)
    rows = scale_rows(x, s, filled, "masked", model.taxonomy.widths)

    def block(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> Floats:
        values = target_rows(
            rows[a],
            rows[b],
            s,
            filled_rows=filled[a],
            filled_columns=filled[b],
            mode="masked",
            weights=None,
            widths=model.taxonomy.widths,
        ).numpy()
        values[a[:, None] == b[None, :]] = 1.0
        return values

    return block


def _attributes(
    model: UltrasoundCLIP, sides: Sides, image: Floats, device: torch.device, settings: EvaluateSettings
) -> list[AttributeResult]:
    names = model.taxonomy.dimension_names
    prompts = {name: prompt_vectors(model, model.taxonomy, name, device) for name in names}
    return evaluate_attributes(
        image,
        prompts,
        {name: model.taxonomy.vocabulary(name) for name in names},
        sides.test.labels.x > 0,
        cases=sides.test.subjects,
        train_counts=(sides.train.labels.x > 0).sum(axis=0).astype(np.int64),
        draws=settings.bootstrap,
    )
