"""Similarity priors: one matrix a dimension that says how alike two labels are.

Every matrix is symmetric, has ones on its diagonal and values in [0, 1]. The soft targets of the
training compare label sets through them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from usds.schemas.errors import ContentError, UsageError
from usds.schemas.files import atomic_path
from usds.taxonomy.udt import Dimension, Taxonomy

__all__ = ["Measure", "Mode", "Similarity", "load_similarity", "similarity"]

Mode = Literal["identity", "taxonomy", "cooccurrence", "file"]
Measure = Literal["jaccard", "npmi"]
Matrix = npt.NDArray[np.float32]
Record = Mapping[str, Sequence[str]]

_FORMAT = "usds-similarity-1"
_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Similarity:
    """Label similarity of each dimension of a taxonomy.

    Attributes
    ----------
    matrices : dict
        Dimension name -> (n, n) float32, rows and columns in the order of the vocabulary.
    labels : dict
        Dimension name -> vocabulary that the rows stand for.
    mode : str
        How the matrices were made.
    """

    matrices: Mapping[str, Matrix]
    labels: Mapping[str, tuple[str, ...]]
    mode: str

    def block(self) -> Matrix:
        """Return all dimensions as one block-diagonal (V, V) matrix, in the order of the taxonomy."""
        size = sum(len(matrix) for matrix in self.matrices.values())
        whole = np.zeros((size, size), dtype=np.float32)
        start = 0
        for matrix in self.matrices.values():
            end = start + len(matrix)
            whole[start:end, start:end] = matrix
            start = end
        return whole

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) over vocabularies and values; equal priors have equal hashes."""
        digest = hashlib.sha256()
        for name, matrix in self.matrices.items():
            digest.update(json.dumps([name, self.labels[name]], ensure_ascii=False).encode())
            digest.update(np.ascontiguousarray(matrix, dtype="<f4").tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the matrices to ``path`` (npz, read by :func:`load_similarity` and by mode ``file``)."""
        header = {"format": _FORMAT, "mode": self.mode, "hash": self.hash, "labels": dict(self.labels)}
        arrays: dict[str, Any] = {f"matrix.{name}": matrix for name, matrix in self.matrices.items()}
        arrays["header"] = np.array(json.dumps(header, ensure_ascii=False))
        with atomic_path(path) as partial, partial.open("wb") as stream:
            cast(Any, np.savez)(stream, **arrays)


def similarity(
    taxonomy: Taxonomy,
    mode: Mode = "taxonomy",
    records: Iterable[Record] | None = None,
    path: Path | None = None,
    *,
    measure: Measure = "jaccard",
) -> Similarity:
    """Return the similarity prior of a taxonomy.

    Parameters
    ----------
    taxonomy : Taxonomy
        Gives dimensions, vocabularies, parents and ranks.
    mode : str
        ``identity``: different labels have nothing in common. ``taxonomy``: 1 - d / d_max on the label tree,
        1 - |rank difference| / range where labels are ranked, identity where a dimension is flat.
        ``cooccurrence``: from label records. ``file``: as saved earlier.
    records : iterable of mapping, optional
        Dimension -> labels, one mapping a record; use the training side of a split only.
    path : Path, optional
        File of mode ``file``.
    measure : str
        ``jaccard``, or ``npmi`` (normalised pointwise mutual information, negative values set to 0).

    Raises
    ------
    UsageError
        Unknown mode, or a mode without the input it needs.
    ContentError
        The file is not a prior of this taxonomy, or records carry labels that the taxonomy lacks.
    """
    if mode == "file":
        if path is None:
            raise UsageError("similarity mode 'file' needs the path of a saved prior (--similarity-file)")
        return _for_taxonomy(load_similarity(path), taxonomy, path)
    if mode == "cooccurrence":
        if records is None:
            raise UsageError(
                "similarity mode 'cooccurrence' needs label records: annotate and split the dataset first"
            )
        matrices = _cooccurrence(taxonomy, records, measure)
    elif mode == "taxonomy":
        matrices = {
            dimension.name: _tree_similarity(taxonomy, dimension) for dimension in taxonomy.dimensions
        }
    elif mode == "identity":
        matrices = {d.name: np.eye(len(d.labels), dtype=np.float32) for d in taxonomy.dimensions}
    else:
        raise UsageError(
            f"unknown similarity mode {mode!r}; the modes are identity, taxonomy, cooccurrence, file"
        )
    return Similarity(
        matrices, _vocabularies(taxonomy), f"{mode}-{measure}" if mode == "cooccurrence" else mode
    )


def _vocabularies(taxonomy: Taxonomy) -> dict[str, tuple[str, ...]]:
    return {dimension.name: taxonomy.vocabulary(dimension.name) for dimension in taxonomy.dimensions}


def _tree_similarity(taxonomy: Taxonomy, dimension: Dimension) -> Matrix:
    if dimension.ordinal:
        return _rank_similarity(dimension)
    chains = [_ancestors(taxonomy, dimension.name, label.name) for label in dimension.labels]
    distances = np.array([[_distance(a, b) for b in chains] for a in chains], dtype=np.float64)
    furthest = distances.max()
    if furthest == 0:
        return np.eye(len(chains), dtype=np.float32)
    return (1.0 - distances / furthest).astype(np.float32)


def _ancestors(taxonomy: Taxonomy, dimension: str, label: str) -> list[tuple[str, str]]:
    """Chain from a label up to its root; the loader has refused cycles."""
    chain = [(dimension, label)]
    while (parent := taxonomy.parent_of(*chain[-1])) is not None:
        chain.append(parent)
    return chain


def _distance(left: Sequence[tuple[str, str]], right: Sequence[tuple[str, str]]) -> int:
    """Edges between two labels; roots hang on one common top node."""
    above = {node: depth for depth, node in enumerate(right)}
    for depth, node in enumerate(left):
        if node in above:
            return depth + above[node]
    return len(left) + len(right)


def _rank_similarity(dimension: Dimension) -> Matrix:
    """Linear in the rank difference; an unranked label ("mixed") is like itself only."""
    ranks = [label.rank for label in dimension.labels]
    known = [rank for rank in ranks if rank is not None]
    matrix = np.eye(len(ranks), dtype=np.float32)
    span = max(known, default=0) - min(known, default=0)
    for i, left in enumerate(ranks):
        for j, right in enumerate(ranks):
            if left is not None and right is not None and i != j and span > 0:
                matrix[i, j] = 1.0 - abs(left - right) / span
    return matrix


def _cooccurrence(taxonomy: Taxonomy, records: Iterable[Record], measure: Measure) -> dict[str, Matrix]:
    from usds.taxonomy.graph import pack_labels

    batch = pack_labels(taxonomy, list(records))
    if len(batch) == 0:
        raise ContentError("co-occurrence similarity: there are no label records; annotate the dataset first")
    present = (batch.x > 0).astype(np.float64)
    counts = present.T @ present
    matrices: dict[str, Matrix] = {}
    start = 0
    for dimension in taxonomy.dimensions:
        end = start + len(dimension.labels)
        matrices[dimension.name] = _association(counts[start:end, start:end], len(batch), measure)
        start = end
    return matrices


def _association(joint: npt.NDArray[np.float64], total: int, measure: Measure) -> Matrix:
    """Jaccard or clipped NPMI of label pairs; a label never seen is like itself only."""
    single = np.diag(joint)
    product = np.outer(single, single)
    if measure == "jaccard":
        union = single[:, None] + single[None, :] - joint
        values = np.divide(joint, union, out=np.zeros_like(joint), where=union > 0)
    else:
        ratio = np.divide(joint * total, product, out=np.ones_like(joint), where=(product > 0) & (joint > 0))
        surprise = -np.log(np.where(joint > 0, joint, total) / total)
        npmi = np.divide(np.log(ratio), surprise, out=np.zeros_like(joint), where=surprise > 0)
        # Two labels on every record have no surprise to normalise by: they always go together.
        values = np.clip(np.where((joint == total) & (total > 0), 1.0, npmi), 0.0, 1.0)
    np.fill_diagonal(values, 1.0)
    return values.astype(np.float32)


def load_similarity(path: Path) -> Similarity:
    """Read a prior written by :meth:`Similarity.save`.

    Raises
    ------
    ContentError
        Missing or damaged file, matrices outside the contract, or a hash that differs from the content.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"]))
            matrices = {name: archive[f"matrix.{name}"].astype(np.float32) for name in header["labels"]}
    except FileNotFoundError:
        raise UsageError(f"similarity file {path} does not exist") from None
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise ContentError(f"{path} is not a saved similarity prior ({type(error).__name__})") from None
    labels = {name: tuple(words) for name, words in header["labels"].items()}
    for name, matrix in matrices.items():
        _check(name, matrix, len(labels[name]), path)
    loaded = Similarity(matrices, labels, str(header["mode"]))
    if loaded.hash != header["hash"]:
        raise ContentError(
            f"{path}: the matrices do not match the stored hash; the file was changed or damaged"
        )
    return loaded


def _check(name: str, matrix: Matrix, size: int, path: Path) -> None:
    where = f"{path}, dimension '{name}'"
    if matrix.shape != (size, size):
        raise ContentError(f"{where}: {matrix.shape} is not a square matrix over {size} labels")
    if not np.isfinite(matrix).all() or matrix.min() < 0 or matrix.max() > 1 + _TOLERANCE:
        raise ContentError(f"{where}: values must lie in [0, 1]")
    if np.abs(matrix - matrix.T).max() > _TOLERANCE:
        raise ContentError(f"{where}: the matrix is not symmetric")
    if np.abs(np.diag(matrix) - 1).max() > _TOLERANCE:
        raise ContentError(f"{where}: the diagonal is not 1")


def _for_taxonomy(loaded: Similarity, taxonomy: Taxonomy, path: Path) -> Similarity:
    """Bring rows into the order of the taxonomy; refuse a prior over other labels."""
    matrices: dict[str, Matrix] = {}
    for dimension in taxonomy.dimensions:
        words = taxonomy.vocabulary(dimension.name)
        stored = loaded.labels.get(dimension.name)
        if stored is None:
            raise ContentError(f"{path} has no dimension '{dimension.name}' of taxonomy {taxonomy.id}")
        missing = sorted(set(words) ^ set(stored))
        if missing:
            raise ContentError(
                f"{path}, dimension '{dimension.name}': labels differ from the taxonomy: {missing[:5]}"
            )
        order = [stored.index(word) for word in words]
        matrices[dimension.name] = loaded.matrices[dimension.name][np.ix_(order, order)]
    return Similarity(matrices, _vocabularies(taxonomy), loaded.mode)
