"""Old captions against new identifiers: files that came later may name what a caption still says."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from usds.curation.commit import amend_task
from usds.curation.deid.harvest import IdentifierIndex, Matcher
from usds.schemas import shards
from usds.schemas.dataset import Dataset
from usds.schemas.state import State

__all__ = ["recheck_captions"]

CHECKED: Final = "checked"
_REMOVED: Final = "[REMOVED]"


def recheck_captions(dataset: Dataset, state: State, index_stamp: str) -> int:
    """Search the captions of the dataset for identifiers that were harvested since they were written.

    Parameters
    ----------
    dataset : Dataset
        Its lock is held.
    state : State
    index_stamp : str
        Fingerprint of the index; nothing is done when it is the one of the last check.

    Returns
    -------
    int
        Captions that changed.
    """
    if (state.read(CHECKED) or {}).get("index") == index_stamp:
        return 0
    index = IdentifierIndex.load(state)
    subjects = dataset.subjects()
    matchers: dict[str | None, Matcher] = {}
    changed = 0
    for manifest in dataset.manifests().values():
        table = pq.read_table(
            dataset.root / manifest.files["captions"].path, schema=shards.TABLES["captions"]
        )
        rows = table.to_pylist()
        here = 0
        for row in rows:
            subject = subjects.get(row["target_id"])
            if subject not in matchers:
                matchers[subject] = index.matcher(subject)
            here += _clean(row, matchers[subject])
        if here:
            replaced = pa.Table.from_pylist(rows, schema=shards.TABLES["captions"])
            amend_task(dataset, manifest, {"captions": replaced})
            changed += here
    state.write(CHECKED, {"index": index_stamp})
    return changed


def _clean(row: dict[str, Any], matcher: Matcher) -> bool:
    """Replace what the matcher finds, from the end so that offsets hold."""
    text: str = row["text"]
    matches = [m for m in matcher.find(text) if text[m.start : m.end].strip("[]") != "REMOVED"]
    for match in sorted(matches, key=lambda m: m.start, reverse=True):
        text = text[: match.start] + _REMOVED + text[match.end :]
    if text == row["text"]:
        return False
    row["text"] = text
    row["n_removed"] += len(matches)
    return True
