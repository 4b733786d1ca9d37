"""Which tasks have to be annotated: those whose captions, frames, taxonomy or corrections changed.

A study's captions may lie in another task than its frames; the plan finds those, holding eight bytes a study.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from usds.curation.annotate_task import TaskJob
from usds.curation.corrections import Correction, CorrectionIndex, read_corrections
from usds.schemas.dataset import Dataset
from usds.schemas.files import canonical_json
from usds.schemas.shards import Manifest
from usds.taxonomy.udt import Taxonomy

__all__ = ["plan_jobs"]

RULES: Final = 1
"""Version of the scope rules; raising it annotates every task again."""

Entries = Mapping[str, Mapping[str, Any]]
Hashes = NDArray[np.int64]


def plan_jobs(
    dataset: Dataset, taxonomy: Taxonomy, set_name: str, done: Entries, salts: Mapping[str, str]
) -> tuple[list[TaskJob], dict[str, str]]:
    """Jobs of the tasks that changed.

    Parameters
    ----------
    dataset : Dataset
    taxonomy : Taxonomy
    set_name : str
    done : mapping
        Manifest entries of the tasks that need no work unless their basis changed.
    salts : mapping
        Task -> fingerprint of its files on disk; new files get other names, so readers keep the old ones.

    Returns
    -------
    jobs : list of TaskJob
    bases : dict
        Task -> hash of everything its labels depend on.
    """
    manifests = dataset.manifests()
    foreign = _foreign_study_captions(dataset, manifests)
    corrections = read_corrections(dataset)
    jobs: list[TaskJob] = []
    bases: dict[str, str] = {}
    for task, manifest in manifests.items():
        others = [manifests[other] for other in foreign.get(task, ())]
        own = _corrections_of(dataset.root, manifest, corrections)
        bases[task] = _digest(
            [
                taxonomy.content_hash, RULES, metadata.version("usds"), [c.row() for c in own],
                *(m.files["captions"].sha256 for m in (manifest, *others)), manifest.files["frames"].sha256,
            ]
        )  # fmt: skip
        if done.get(task, {}).get("basis") != bases[task]:
            fingerprint = _digest(bases[task] + salts.get(task, ""))
            files = [dataset.root / m.files["captions"].path for m in (manifest, *others)]
            frames = dataset.root / manifest.files["frames"].path
            jobs.append(
                TaskJob(
                    dataset.root, set_name, task, fingerprint, frames, files[0], tuple(files[1:]), tuple(own)
                )
            )
    return jobs, bases


def _digest(value: Any) -> str:
    return sha256(canonical_json(value)).hexdigest()


def _corrections_of(root: Path, manifest: Manifest, corrections: Sequence[Correction]) -> list[Correction]:
    """Corrections about the frames, clips and studies of a task, and about its own captions' targets."""
    if not corrections:
        return []
    frames = pq.read_table(root / manifest.files["frames"].path, columns=["frame_id", "clip_id", "study_id"])
    targets = pq.read_table(root / manifest.files["captions"].path, columns=["target_id"])
    wanted = {c.target_id for c in corrections}
    held = frozenset[str]().union(
        *(wanted.intersection(column.to_pylist()) for column in (*frames.columns, *targets.columns))
    )
    return CorrectionIndex.build(corrections).about(held)


# -- studies over several tasks -------------------------------------------------------------------------


def _foreign_study_captions(dataset: Dataset, manifests: Mapping[str, Manifest]) -> dict[str, list[str]]:
    """Task -> other tasks with captions of its studies (a hash collision names one too many, no harm)."""
    names = list(manifests)
    hashes: list[Hashes] = []
    owners: list[NDArray[np.int32]] = []
    for number, manifest in enumerate(manifests.values()):
        captions = pq.read_table(
            dataset.root / manifest.files["captions"].path,
            columns=["target_id"],
            filters=pc.field("scope") == "study",
        )
        found = _hashes(captions["target_id"].unique().to_pylist())
        hashes.append(found)
        owners.append(np.full(len(found), number, np.int32))
    if not hashes or not sum(map(len, hashes)):
        return {}
    order = np.argsort(np.concatenate(hashes), kind="stable")
    sorted_hashes, sorted_owners = np.concatenate(hashes)[order], np.concatenate(owners)[order]
    result: dict[str, list[str]] = {}
    for number, (task, manifest) in enumerate(manifests.items()):
        frames = pq.read_table(dataset.root / manifest.files["frames"].path, columns=["study_id"])
        studies = _hashes(frames["study_id"].unique().to_pylist())
        left = np.searchsorted(sorted_hashes, studies, "left")
        right = np.searchsorted(sorted_hashes, studies, "right")
        holders = {int(o) for a, b in zip(left, right, strict=True) for o in sorted_owners[a:b]} - {number}
        if holders:
            result[task] = [names[holder] for holder in sorted(holders)]
    return result


def _hashes(ids: Iterable[str]) -> Hashes:
    return np.fromiter((hash(one) for one in ids), np.int64)
