"""Splits by subject: placed subjects stay, new ones go where their organs are missing most.

Subjects that share a near-duplicate image move as one; a cluster whose members are placed on different sides
already is excluded from then on, because either side would leak into the other.
"""

from __future__ import annotations

import hmac
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import combinations
from typing import Annotated, Final

import networkx as nx
from pydantic import BaseModel, ConfigDict, Field, model_validator

from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError
from usds.schemas.state import State, state_folder

__all__ = ["Leak", "SplitReport", "SplitSettings", "find_leaks", "split_dataset", "split_key"]

SIDES: Final = ("train", "valid", "test")
UNLABELLED: Final = ""
"""Stratum of the frames without an organ."""

Share = Annotated[float, Field(gt=0, lt=1)]


class SplitSettings(BaseModel):
    """Settings of ``usds split``; 60/20/20 as in US-365K."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: Share = 0.6
    valid: Share = 0.2
    test: Share = 0.2

    @model_validator(mode="after")
    def _whole(self) -> SplitSettings:
        if abs(self.train + self.valid + self.test - 1) > 1e-6:
            raise ValueError("train, valid and test must add up to 1")
        return self


@dataclass(frozen=True, slots=True)
class SplitReport:
    """Subjects and frames of each side, and how many subjects were new."""

    name: str
    subjects: Mapping[str, int]
    frames: Mapping[str, int]
    placed_now: int
    kept: int
    clusters: int


@dataclass(frozen=True, slots=True)
class Leak:
    """Two sides that share something they must not share.

    ``kind`` is "subject" (one subject on two sides) or "near_duplicate" (one picture on two sides).
    """

    kind: str
    sides: tuple[str, str]
    ids: tuple[str, str]


@dataclass(slots=True)
class _Cluster:
    """Subjects that move as one, and their frames by organ."""

    subjects: list[str]
    organs: Counter[str] = field(default_factory=Counter[str])
    rank: str = ""


def split_key(dataset: Dataset) -> bytes:
    """What breaks ties: the dataset's key, or its fingerprint for whoever was handed the dataset alone.

    Subject ids are keyed themselves, so an order without the key tells nothing about who they are.

    Raises
    ------
    ContentError
        If the private state here is that of another key.
    """
    info = dataset.info
    if not (state_folder(info.dataset_id) / "key").is_file():
        return info.key_fingerprint.encode()
    return State.open(info.dataset_id, info.key_fingerprint).key


def split_dataset(
    dataset: Dataset,
    key: bytes,
    settings: SplitSettings | None = None,
    *,
    name: str = "default",
    dry_run: bool = False,
) -> SplitReport:
    """Place every subject of the dataset. Needs the dataset's lock unless ``dry_run``.

    Parameters
    ----------
    dataset : Dataset
    key : bytes
        Of :func:`split_key`: breaks ties in an order nobody can choose.
    settings : SplitSettings, optional
    name : str
        Name of the split; what it holds already stays.
    dry_run : bool
        Only compute.

    Raises
    ------
    ContentError
        If the dataset has no frames.
    """
    settings = settings or SplitSettings()
    organs = _organs_of_subjects(dataset)
    if not organs:
        raise ContentError(f"{dataset.root} holds no frames yet: run `usds ingest RAW` first")
    before = _existing(dataset, name)
    placed = {subject: side for subject, side in before.items() if subject in organs}
    clusters = _clusters(dataset, organs, key, name)
    fresh: list[_Cluster] = []
    for cluster in clusters:
        sides = {placed[subject] for subject in cluster.subjects if subject in placed}
        if not sides:
            fresh.append(cluster)
            continue
        side = sides.pop() if len(sides) == 1 else "excluded"
        placed.update(dict.fromkeys(cluster.subjects, side))
    _place(fresh, placed, organs, settings)
    if not dry_run:
        rows = sorted({**before, **placed}.items())
        dataset.write_split(name, [{"subject_id": subject, "split": side} for subject, side in rows])
    frames: Counter[str] = Counter()
    for subject, side in placed.items():
        frames[side] += organs[subject].total()
    return SplitReport(
        name=name,
        subjects=dict(Counter(placed.values())),
        frames=dict(frames),
        placed_now=len(placed.keys() - before.keys()),
        kept=sum(placed[subject] == before.get(subject) for subject in placed),
        clusters=sum(len(cluster.subjects) > 1 for cluster in clusters),
    )


# -- what there is --------------------------------------------------------------------------------------


def _existing(dataset: Dataset, name: str) -> dict[str, str]:
    rows = dataset.splits().to_pylist()
    return {row["subject_id"]: row["split"] for row in rows if row["name"] == name}


def _organs_of_subjects(dataset: Dataset) -> dict[str, Counter[str]]:
    """Subject -> frames by organ; frames without an organ, or before annotation, count as unlabelled."""
    dimension = _stratum(dataset)
    organ = f"coalesce({dimension}[1], '')" if dimension else "''"
    join = "LEFT JOIN annotations USING (frame_id)" if dimension else ""
    with dataset.connect() as connection:
        rows = connection.execute(
            f"SELECT subject_id, {organ} AS organ, count(*) FROM frames {join} GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    organs: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for subject, name, count in rows:
        organs[subject][name] += count
    return dict(organs)


def _stratum(dataset: Dataset) -> str | None:
    """The dimension to stratify by: ``organ``, else the first one; None before annotation."""
    current = dataset.annotations.current()
    if current is None:
        return None
    dimensions = dataset.annotations.read(current).dimensions
    chosen = "organ" if "organ" in dimensions else dimensions[0]
    return f'"{chosen}"'


def _duplicate_pairs(dataset: Dataset) -> list[tuple[str, str]]:
    """Pairs of subjects that share a near-duplicate frame."""
    with dataset.connect() as connection:
        return connection.execute(
            "SELECT DISTINCT a.subject_id, b.subject_id FROM frames a JOIN frames b "
            "ON a.duplicate_of = b.frame_id WHERE a.subject_id <> b.subject_id ORDER BY ALL"
        ).fetchall()


def _clusters(dataset: Dataset, organs: Mapping[str, Counter[str]], key: bytes, name: str) -> list[_Cluster]:
    """Subjects grouped by shared pictures; the largest first, ties in keyed order."""
    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(organs)
    graph.add_edges_from(_duplicate_pairs(dataset))
    clusters: list[_Cluster] = []
    for members in nx.connected_components(graph):
        subjects = sorted(members)
        total: Counter[str] = sum((organs[subject] for subject in subjects), Counter())
        rank = hmac.new(key, f"split {name} {subjects[0]}".encode(), sha256).hexdigest()
        clusters.append(_Cluster(subjects, total, rank))
    return sorted(clusters, key=lambda cluster: (-cluster.organs.total(), cluster.rank))


# -- placing --------------------------------------------------------------------------------------------


def _place(
    fresh: Sequence[_Cluster],
    placed: dict[str, str],
    organs: Mapping[str, Counter[str]],
    settings: SplitSettings,
) -> None:
    """Place new clusters where the frames of their organs are short most."""
    shares = {side: getattr(settings, side) for side in SIDES}
    have: dict[str, Counter[str]] = {side: Counter() for side in SIDES}
    for subject, side in placed.items():
        if side in have:
            have[side].update(organs[subject])
    total: Counter[str] = sum(have.values(), Counter())
    for cluster in fresh:
        total.update(cluster.organs)
    waiting = len(fresh)
    for cluster in fresh:
        empty = [side for side in SIDES if not have[side]]
        # As many clusters left as empty sides: each gets one, whatever the organs say.
        sides = empty if empty and waiting <= len(empty) else SIDES
        side = max(sides, key=lambda one: _deficit(cluster.organs, have[one], total, shares[one]))
        placed.update(dict.fromkeys(cluster.subjects, side))
        have[side].update(cluster.organs)
        waiting -= 1


def _deficit(
    organs: Counter[str], have: Counter[str], total: Counter[str], share: float
) -> tuple[float, float]:
    """How far a side is below its share: of the cluster's organs, weighted by frames; then of all frames.

    Both are relative to the share, so that a small side is not starved by a large one.
    """
    per_organ = sum(
        count * (share * total[organ] - have[organ]) / (share * total[organ])
        for organ, count in organs.items()
    )
    return per_organ / organs.total(), 1 - have.total() / (share * total.total())


# -- leakage --------------------------------------------------------------------------------------------


def find_leaks(dataset: Dataset, name: str = "default") -> list[Leak]:
    """Subjects or near-duplicate pictures that two sides of a split share; empty is what one wants.

    Raises
    ------
    ContentError
        If there is no such split.
    """
    rows = [row for row in dataset.splits().to_pylist() if row["name"] == name]
    if not rows:
        raise ContentError(f"{dataset.root} has no split {name!r}: run `usds split --name {name}`")
    sides: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        sides[row["subject_id"]].add(row["split"])
    leaks = [
        Leak("subject", pair, (subject, subject))
        for subject, on in sorted(sides.items())
        for pair in combinations(sorted(on - {"excluded"}), 2)
    ]
    return leaks + _shared_pictures(dataset, sides)


def _shared_pictures(dataset: Dataset, sides: Mapping[str, Iterable[str]]) -> list[Leak]:
    leaks: list[Leak] = []
    with dataset.connect() as connection:
        rows = connection.execute(
            "SELECT a.frame_id, a.subject_id, b.frame_id, b.subject_id FROM frames a JOIN frames b "
            "ON a.duplicate_of = b.frame_id WHERE a.subject_id <> b.subject_id ORDER BY ALL"
        ).fetchall()
    for frame, subject, other, other_subject in rows:
        for one in sides.get(subject, ()):
            for two in sides.get(other_subject, ()):
                if one != two and "excluded" not in (one, two):
                    leaks.append(Leak("near_duplicate", (one, two), (frame, other)))
    return leaks
