"""The published labels as an annotation set, and the published split as two splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from usds.curation.near_duplicates import MAX_DISTANCE
from usds.curation.published.frames import NO_FINDINGS, ReleaseIds
from usds.curation.published.release import Labels, Pair
from usds.schemas import tables
from usds.schemas.annotations import AnnotationSet
from usds.schemas.dataset import Dataset
from usds.schemas.files import canonical_json
from usds.schemas.near_hashes import near_pairs
from usds.taxonomy.udt import Taxonomy

__all__ = ["PUBLISHED", "write_label_set", "write_splits"]

PUBLISHED: Final = "published"
"""Split that is exactly the released one."""
_ORDER: Final = ("train", "valid", "test")


def write_label_set(
    dataset: Dataset,
    taxonomy: Taxonomy,
    name: str,
    ids: ReleaseIds,
    pairs: Iterable[Pair],
    labels: Labels,
    silent: frozenset[str],
) -> None:
    """Write the published labels of every frame as set ``name`` and make it the current one."""
    by_frame = {ids.frame(pair.image): pair for pair in pairs}
    keys = list(taxonomy.label_index)
    sets = dataset.annotations
    sets.write_taxonomy(name, taxonomy.source_text)
    entries: dict[str, dict[str, Any]] = {}
    for task, manifest in dataset.manifests().items():
        path = dataset.root / manifest.files["frames"].path
        frames: list[str] = pq.read_table(path, columns=["frame_id"]).column(0).to_pylist()
        rows = [_row(f, by_frame[f], taxonomy, keys, labels, ids, silent) for f in frames]
        table = pa.Table.from_pylist(rows, schema=tables.annotation_schema(taxonomy.dimension_names))
        fingerprint = sha256(canonical_json([taxonomy.content_hash, rows])).hexdigest()
        counts = {
            "frames": len(rows),
            "labelled": sum(bool(labels.of.get(by_frame[f].image)) for f in frames),
        }
        entry = sets.write_task(name, task, fingerprint, table, tables.EVIDENCE.empty_table())
        entries[task] = {**entry, "counts": counts}
    sets.commit(AnnotationSet(name, taxonomy.id, taxonomy.content_hash, taxonomy.dimension_names, entries))
    sets.set_current(name)


def _row(
    frame: str,
    pair: Pair,
    taxonomy: Taxonomy,
    keys: Sequence[tuple[str, str]],
    labels: Labels,
    ids: ReleaseIds,
    silent: frozenset[str],
) -> dict[str, Any]:
    found: dict[str, list[str]] = {name: [] for name in taxonomy.dimension_names}
    for column in labels.of.get(pair.image, ()):
        dimension, label = keys[column]
        found[dimension].append(label)
    quiet = pair.caption in silent
    caption = None if quiet else ids.caption(pair)
    return {
        "frame_id": frame, **found, "negated": [], "uncertain": [],
        "source_caption_ids": [caption] if caption else [], "caption_id": caption,
        "abstained": NO_FINDINGS if quiet else None, "conflict": False, "confidence": 1.0,
    }  # fmt: skip


# -- splits ---------------------------------------------------------------------------------------------


def write_splits(
    dataset: Dataset, ids: ReleaseIds, pairs: Iterable[Pair]
) -> tuple[dict[str, int], dict[str, int]]:
    """Write ``published`` and ``default``.

    A case that the release puts on two sides is excluded from both. ``default`` also excludes training and
    validation cases that share a near-duplicate picture with a later side (train < valid < test), so the test
    side stays as published and nothing of it was trained on.

    Returns
    -------
    sides : dict
        Cases on each side of ``default``.
    excluded : dict
        Published side -> cases that ``default`` leaves out.
    """
    sides: defaultdict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        sides[ids.subject(pair)].add(pair.side)
    published = {s: found.copy().pop() if len(found) == 1 else "excluded" for s, found in sides.items()}
    frames = dataset.arrow("frames").to_table(columns=["subject_id", "phash"])
    there = set(frames.column("subject_id").to_pylist())
    published = {subject: side for subject, side in sorted(published.items()) if subject in there}
    leaking = _leaking(frames, published)
    default = {s: "excluded" if s in leaking else side for s, side in published.items()}
    for name, placed in ((PUBLISHED, published), ("default", default)):
        dataset.write_split(name, [{"subject_id": s, "split": side} for s, side in placed.items()])
    excluded = Counter(published[s] for s, side in default.items() if side == "excluded")
    straddling = excluded.pop("excluded", 0)
    left = {**excluded, **({"two sides": straddling} if straddling else {})}
    return dict(Counter(default.values())), left


def _leaking(frames: pa.Table, sides: Mapping[str, str]) -> set[str]:
    """Cases that share a picture with a case of a later side."""
    hashes = np.array([int(value, 16) for value in frames.column("phash").to_pylist()], np.uint64)
    subjects = np.array(frames.column("subject_id").to_pylist(), object)
    place = {side: i for i, side in enumerate(_ORDER)}
    at = np.array([place.get(sides.get(subject, ""), -1) for subject in subjects], np.int64)
    unique, inverse = np.unique(hashes, return_inverse=True)
    # The latest side on which a hash lies, then the latest on which it or a near one lies.
    latest = np.full(len(unique), -1, np.int64)
    np.maximum.at(latest, inverse, at)
    reached = latest.copy()
    first, second = near_pairs(unique, MAX_DISTANCE).T
    np.maximum.at(reached, first, latest[second])
    np.maximum.at(reached, second, latest[first])
    return set(subjects[(at >= 0) & (at < reached[inverse])].tolist())
