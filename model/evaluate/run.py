"""Evaluate a run: leakage gate, retrieval, zero-shot attributes, probes; JSON, pictures, one HTML page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from usds.model.cache import FrameCache, describe_unreadable, open_cache
from usds.model.checkpoint import find_checkpoint, load_model
from usds.model.evaluate import attributes, retrieval
from usds.model.evaluate.attributes import AttributeResult, evaluate_attributes, summarise
from usds.model.evaluate.leakage import check_leakage
from usds.model.evaluate.probe import Features, Pictures, few_shot, fine_tune, linear_probe
from usds.model.evaluate.retrieval import Pairs, evaluate_retrieval
from usds.model.evaluate.tables import verdict
from usds.model.labels import LabelTensors
from usds.model.network import UltrasoundCLIP
from usds.model.records import Records, load_records, require_side, take_labels
from usds.model.run import Run
from usds.model.settings import Settings
from usds.model.stream import encode_frames, encode_texts, eval_batches
from usds.model.targets import scale_rows, target_rows
from usds.model.validate import prompt_vectors
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError

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


def _definitions(prompt_weight: float) -> dict[str, str | None]:
    """What the figures mean, and what the training had seen of the questions asked here."""
    if not prompt_weight:
        return _DEFINITIONS
    seen = (
        f"The loss held label prompts with weight {prompt_weight:g}: the attribute scores rest on the labels "
        "of the training side, and are zero-shot only in that no test record was seen."
    )
    return {**_DEFINITIONS, "label prompts": seen}


class EvaluateSettings(Settings):
    """What an evaluation looks at."""

    side: Literal["test", "valid"] = "test"
    split: str | None = Field(None, description="name of the split; default: the run's")
    labels: str | None = Field(
        None, description="label set to judge by; default: the run's, else the current"
    )
    average: bool = Field(True, description="take the averaged weights where the run kept them")
    galleries: tuple[Annotated[int, Field(ge=2)], ...] = retrieval.GALLERIES
    draws: Annotated[int, Field(ge=1)] = retrieval.DRAWS
    bootstrap: Annotated[int, Field(ge=10)] = 1000
    probe: bool = Field(True, description="linear probe and few-shot on frozen vectors")
    fine_tune: tuple[str, ...] = Field((), description="dimensions to fine-tune the image tower on (slow)")
    fine_tune_epochs: Annotated[int, Field(ge=1)] = 10
    examples: Annotated[int, Field(ge=0)] = 4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The outcome: ``report`` as plain JSON values, and what the pictures are made of."""

    report: dict[str, Any]
    attributes: list[AttributeResult]
    image: Floats
    text: Floats
    records: Records
    cache: FrameCache


@dataclass(frozen=True, eq=False)
class _Sides:
    train: Records
    valid: Records
    test: Records
    label_set: str


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
    unknown = sorted(set(settings.fine_tune) - set(model.taxonomy.dimension_names))
    if unknown:
        raise UsageError(
            f"no dimension {unknown[0]!r} to fine-tune on: {', '.join(model.taxonomy.dimension_names)}"
        )
    trained = run.settings()
    spec = model.image_transform(False)
    size = trained.data.image_size or spec.size
    cache = open_cache(dataset, size, trained.data.cache, progress)
    sides = _sides(run, dataset, model, settings, cache=cache, note=note)
    leakage = check_leakage(
        _trained_on(run, dataset, model, sides), sides.test, settings.split or trained.data.split
    )
    strangers = _strangers(run, dataset)
    if strangers:
        note(strangers)
    image = encode_frames(model.encode_image, sides.test, cache, spec, device, progress=progress)
    text = encode_texts(model.encode_text, model.tokenize, sides.test.texts, device)
    found = _attributes(model, sides, image, device, settings)
    report: dict[str, Any] = {
        "run": run.folder.name,
        "checkpoint": find_checkpoint(run.folder).name,
        "dataset_id": dataset.info.dataset_id,
        "split": settings.split or trained.data.split,
        "side": settings.side,
        "n": len(sides.test),
        "cases": sides.test.n_subjects,
        "leakage": leakage,
        "retrieval": _retrieval(model, sides.test, image, text, device=device, settings=settings),
        "attributes": {r.dimension: r.to_json() for r in found},
        "attribute_summary": summarise(found),
        "probes": _probes(model, sides, cache, device=device, settings=settings, test=image)
        if settings.probe
        else {},
        "fine_tune": _fine_tunes(model, sides, cache, device, settings),
        "label_set": sides.label_set,
        "definitions": _definitions(trained.model.loss.prompt_weight)
        | ({"training data": strangers} if strangers else {}),
    }
    report["verdict"] = verdict(found, sides.test.n_subjects, run)
    return Evaluation(report, found, image, text, sides.test, cache)


def _sides(
    run: Run,
    dataset: Dataset,
    model: UltrasoundCLIP,
    settings: EvaluateSettings,
    *,
    cache: FrameCache,
    note: Note,
) -> _Sides:
    trained = run.settings().data
    split = settings.split or trained.split
    label_set = settings.labels or _set_name(dataset, model, run)
    records = load_records(dataset, model.taxonomy, split, modes=trained.modes, set_name=label_set)
    lost = [frame for frame in records.frame_ids if frame in cache.unreadable]
    if lost:
        note(describe_unreadable(lost))
    records = records.without(cache.unreadable)
    test = require_side(records, settings.side, split)
    return _Sides(records.side("train"), records.side("valid"), test, label_set)


def _set_name(dataset: Dataset, model: UltrasoundCLIP, run: Run) -> str:
    """The label set to judge by: the run's, the current one, or that of the taxonomy, in this order.

    Labels of another taxonomy would be judged by the wrong words.
    """
    sets = dataset.annotations
    own = run.data()["annotation_set"] if _same(run, dataset) else None
    for name in (own, sets.current(), model.taxonomy.set_name):
        if name in sets.names() and sets.read(name).taxonomy_hash == model.taxonomy.content_hash:
            return name
    raise ContentError(
        f"the run was trained with taxonomy {model.taxonomy.set_name}, {dataset.root} has labels of "
        f"{', '.join(sets.names()) or 'none'}: annotate it with "
        f"`usds annotate --taxonomy {run.folder / 'taxonomy.yaml'}`"
    )


def _strangers(run: Run, dataset: Dataset) -> str | None:
    """What to say where the gate cannot know what the model has seen."""
    if _same(run, dataset):
        return None
    whence = "its weights come from elsewhere" if run.imported else "it was trained on another dataset"
    return (
        f"the model may have seen these frames: {whence}, and only a training recorded on this dataset can "
        "be compared with the tested side"
    )


def _trained_on(run: Run, dataset: Dataset, model: UltrasoundCLIP, sides: _Sides) -> Records:
    """Every record that the run saw: of the subjects it recorded, whatever the split says today."""
    recorded: dict[str, list[str]] = run.data()["subjects"]
    seen = (
        {s for side in ("train", "valid") for s in recorded.get(side, [])}
        if _same(run, dataset)
        else set[str]()
    )
    if sides.test.sides[0] == "valid":
        seen -= set(recorded.get("valid", []))
    everything = load_records(dataset, model.taxonomy, run.settings().data.split, set_name=sides.label_set)
    rows = [i for i, subject in enumerate(everything.subject_ids) if subject in seen]
    return everything.take(np.array(rows, np.int64))


def _same(run: Run, dataset: Dataset) -> bool:
    return run.data()["dataset_id"] == dataset.info.dataset_id


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
    return np.concatenate(parts)


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
    model: UltrasoundCLIP, sides: _Sides, image: Floats, device: torch.device, settings: EvaluateSettings
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


def _single(
    model: UltrasoundCLIP, records: Records, dimension: str
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Rows with exactly one label of a dimension, and that label."""
    names = list(model.taxonomy.dimension_names)
    start = sum(model.taxonomy.widths[: names.index(dimension)])
    part = records.labels.x[:, start : start + model.taxonomy.widths[names.index(dimension)]] > 0
    rows = np.flatnonzero(part.sum(axis=1) == 1)
    return rows, part[rows].argmax(axis=1).astype(np.int64)


def _probes(
    model: UltrasoundCLIP,
    sides: _Sides,
    cache: FrameCache,
    *,
    device: torch.device,
    settings: EvaluateSettings,
    test: Floats,
) -> dict[str, Any]:
    spec = model.image_transform(False)
    vectors = {
        "train": encode_frames(model.encode_image, sides.train, cache, spec, device),
        "valid": encode_frames(model.encode_image, sides.valid, cache, spec, device),
        "test": test,
    }
    linear: dict[str, Any] = {}
    shots: list[dict[str, Any]] = []
    for name in model.taxonomy.dimension_names:
        parts: dict[str, Features] = {}
        for side, records in (("train", sides.train), ("valid", sides.valid), ("test", sides.test)):
            rows, classes = _single(model, records, name)
            x = vectors[side][rows] if len(records) else np.zeros((0, model.width), np.float32)
            parts[side] = Features(x, classes, records.subjects[rows])
        valid = (
            parts["valid"]
            if settings.side == "test"
            else Features(parts["valid"].x[:0], parts["valid"].y[:0], parts["valid"].cases[:0])
        )
        found = linear_probe(name, parts["train"], valid, parts["test"])
        if found is not None:
            linear[name] = found.to_json()
            shots += few_shot(name, parts["train"], parts["test"])
    return {"linear": linear, "few_shot": shots}


def _fine_tunes(
    model: UltrasoundCLIP, sides: _Sides, cache: FrameCache, device: torch.device, settings: EvaluateSettings
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in settings.fine_tune:
        parts: list[Pictures] = []
        for records in (sides.train, sides.test):
            rows, classes = _single(model, records, name)
            chosen = records.take(rows)
            pixels = [p for p, _ in eval_batches(chosen, cache, model.image_transform(False).size)]
            stacked = torch.cat(pixels) if pixels else torch.zeros(0, 3, 1, 1, dtype=torch.uint8)
            parts.append(Pictures(stacked, classes, chosen.subjects))
        found = fine_tune(model, name, parts[0], parts[1], device, epochs=settings.fine_tune_epochs)
        result[name] = (
            found.to_json() if found is not None else {"skipped": "fewer than two classes, or no test record"}
        )
    return result
