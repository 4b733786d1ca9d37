"""Graphs of the taxonomy and of label records: networkx for people, ragged arrays for the model.

Two kinds of graph meet here. The knowledge graph has one node a label: tree edges from
:func:`taxonomy_graph`, and how often diagnoses and attributes occur together from :func:`label_graph`. The
sample graphs of :func:`pack_labels` hold the labels of each record as ragged arrays;
:mod:`usds.taxonomy.graph_files` writes both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import networkx as nx
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from usds.schemas.errors import ContentError
from usds.taxonomy.udt import Taxonomy

__all__ = [
    "LabelBatch",
    "diagnosis_dimensions",
    "label_graph",
    "pack_columns",
    "pack_labels",
    "taxonomy_graph",
]

# The functions of this module are made at run time, where no checker sees them.
pc: Any = pyarrow.compute

Unknown = Literal["error", "drop"]


@dataclass(frozen=True, eq=False)
class LabelBatch:
    """Labels of B records over a vocabulary of V labels in D dimensions.

    Attributes
    ----------
    nodes : int64 (N,)
        Label ids (columns of ``x``) of all records one after another, ascending within a record.
    offsets : int64 (B + 1,)
        Record i owns ``nodes[offsets[i]:offsets[i + 1]]``.
    x : float32 (B, V)
        Multi-hot rows, each dimension divided by its number of labels in the record.
    filled : bool (B, D)
        Dimensions in which a record has at least one label.
    """

    nodes: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    x: npt.NDArray[np.float32]
    filled: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def record(self, index: int) -> npt.NDArray[np.int64]:
        """Label ids of one record."""
        return self.nodes[self.offsets[index] : self.offsets[index + 1]]


def pack_labels(
    taxonomy: Taxonomy, records: Sequence[Mapping[str, Sequence[str]]], *, unknown: Unknown = "error"
) -> LabelBatch:
    """Pack label records (dimension -> labels) into arrays.

    Parameters
    ----------
    taxonomy : Taxonomy
        Gives the vocabulary; keys of a record that are no dimension are ignored.
    records : sequence of mapping
        A repeated label counts once.
    unknown : {"error", "drop"}
        What to do with a label that the taxonomy lacks.

    Raises
    ------
    ContentError
        A label is not in the taxonomy and ``unknown`` is "error".
    """
    index = taxonomy.label_index
    rows: list[int] = []
    ids: list[int] = []
    for name in taxonomy.dimension_names:
        for row, record in enumerate(records):
            for label in record.get(name) or ():
                column = index.get((name, label))
                if column is None:
                    if unknown == "error":
                        raise _unknown_label(taxonomy, name, label)
                    continue
                rows.append(row)
                ids.append(column)
    return _pack(taxonomy, len(records), np.array(rows, np.int64), np.array(ids, np.int64))


def pack_columns(taxonomy: Taxonomy, table: pa.Table, *, unknown: Unknown = "error") -> LabelBatch:
    """Pack the label columns of an annotation table (one list<string> column a dimension).

    Works column by column in Arrow, for tables of a whole dataset.

    Raises
    ------
    ContentError
        A column is missing, or a label is not in the taxonomy and ``unknown`` is "error".
    """
    rows: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    ids: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    start = 0
    for dimension in taxonomy.dimensions:
        if dimension.name not in table.column_names:
            raise ContentError(
                f"the annotations have no column '{dimension.name}': "
                f"annotate with taxonomy {taxonomy.set_name}"
            )
        column = table.column(dimension.name).combine_chunks()
        words = pc.list_flatten(column)
        owners = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
        found = pc.index_in(words, value_set=pa.array(taxonomy.vocabulary(dimension.name), words.type))
        known = pc.is_valid(found).to_numpy(zero_copy_only=False)
        if unknown == "error" and not known.all():
            raise _unknown_label(taxonomy, dimension.name, words[int(np.argmin(known))].as_py())
        local = pc.fill_null(found, 0).to_numpy(zero_copy_only=False).astype(np.int64)
        rows.append(owners[known])
        ids.append(local[known] + start)
        start += len(dimension.labels)
    return _pack(taxonomy, table.num_rows, np.concatenate(rows), np.concatenate(ids))


def _unknown_label(taxonomy: Taxonomy, dimension: str, label: object) -> ContentError:
    return ContentError(
        f"label {label!r} is not in dimension '{dimension}' of taxonomy {taxonomy.set_name}: "
        "the records come from another taxonomy; label them again with `usds annotate --taxonomy FILE`"
    )


def _pack(taxonomy: Taxonomy, n: int, rows: npt.NDArray[np.int64], ids: npt.NDArray[np.int64]) -> LabelBatch:
    size = sum(taxonomy.widths)
    hot = np.zeros((n, size), dtype=np.float32)
    hot[rows, ids] = 1.0
    starts = np.cumsum((0, *taxonomy.widths[:-1]))
    counts = np.add.reduceat(hot, starts, axis=1) if n else np.zeros((0, len(starts)), np.float32)
    owners, nodes = np.nonzero(hot)
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(owners, minlength=n), out=offsets[1:])
    hot /= np.repeat(np.maximum(counts, 1.0), taxonomy.widths, axis=1)
    return LabelBatch(nodes.astype(np.int64), offsets, hot, counts > 0)


def taxonomy_graph(taxonomy: Taxonomy) -> nx.DiGraph[str]:
    """Return the taxonomy as a directed graph: root -> dimension -> label -> child label.

    Node attributes: ``kind`` (taxonomy, dimension, label), ``dimension``, ``label``, ``index`` (column of the
    label). Edge attribute ``relation``: ``has_dimension``, ``has_label`` or ``part_of``.
    """
    graph: Any = nx.DiGraph(
        taxonomy=taxonomy.id, version=taxonomy.version, content_hash=taxonomy.content_hash
    )
    graph.add_node(taxonomy.id, kind="taxonomy", label=taxonomy.id)
    for dimension in taxonomy.dimensions:
        graph.add_node(dimension.name, kind="dimension", dimension=dimension.name, label=dimension.title)
        graph.add_edge(taxonomy.id, dimension.name, relation="has_dimension")
    for (dimension_name, label), index in taxonomy.label_index.items():
        node = node_name(dimension_name, label)
        graph.add_node(node, kind="label", dimension=dimension_name, label=label, index=index)
    for dimension_name, label in taxonomy.label_index:
        node = node_name(dimension_name, label)
        parent = taxonomy.parent_of(dimension_name, label)
        if parent is None:
            graph.add_edge(dimension_name, node, relation="has_label")
        else:
            graph.add_edge(node_name(*parent), node, relation="part_of")
    return cast("nx.DiGraph[str]", graph)


def node_name(dimension: str, label: str) -> str:
    """Name of a label's node; the dimension makes it unique."""
    return f"{dimension}::{label}"


def diagnosis_dimensions(taxonomy: Taxonomy) -> tuple[str, ...]:
    """Dimensions on the diagnosis side of the bipartite graph: those with the role ``finding``."""
    return tuple(dimension.name for dimension in taxonomy.dimensions if dimension.role == "finding")


def label_graph(
    taxonomy: Taxonomy, records: Iterable[Mapping[str, Sequence[str]]], *, unknown: Unknown = "error"
) -> nx.DiGraph[str]:
    """Return the lesion-attribute knowledge graph: the taxonomy tree plus what the records say.

    Each label node gains ``count``. A pair of diagnosis and attribute that occurs in a record gains an edge
    ``described_by`` with ``count``, ``probability`` (of the attribute given the diagnosis) and ``npmi``.
    """
    batch = pack_labels(taxonomy, list(records), unknown=unknown)
    present = (batch.x > 0).astype(np.float64)
    joint = present.T @ present
    graph: Any = taxonomy_graph(taxonomy)
    names = [node_name(*key) for key in taxonomy.label_index]
    side = diagnosis_dimensions(taxonomy)
    is_diagnosis = np.array([dimension in side for dimension, _ in taxonomy.label_index])
    for index, name in enumerate(names):
        graph.nodes[name]["count"] = int(joint[index, index])
    for i, j in zip(*np.nonzero(joint * np.outer(is_diagnosis, ~is_diagnosis)), strict=True):
        graph.add_edge(
            names[i],
            names[j],
            relation="described_by",
            count=int(joint[i, j]),
            probability=float(joint[i, j] / joint[i, i]),
            npmi=_npmi(float(joint[i, j]), float(joint[i, i]), float(joint[j, j]), len(batch)),
        )
    return cast("nx.DiGraph[str]", graph)


def _npmi(both: float, left: float, right: float, total: int) -> float:
    if both == total:
        return 1.0
    return float(np.log(both * total / (left * right)) / -np.log(both / total))
