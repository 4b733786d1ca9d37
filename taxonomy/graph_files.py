"""Graphs as files: GraphML, JSON and a picture of the taxonomy; Parquet and GraphML of the sample graphs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from usds.schemas.errors import UsageError
from usds.schemas.files import atomic_path
from usds.taxonomy.graph import LabelBatch, diagnosis_dimensions, node_name
from usds.taxonomy.udt import Taxonomy

__all__ = ["draw_graph", "sample_graph", "sample_tables", "write_graph", "write_sample_graphs"]

NODES = pa.schema(
    [("frame_id", pa.string()), ("node", pa.int32()), ("dimension", pa.string()), ("label", pa.string())]
)
EDGES = pa.schema(
    [("frame_id", pa.string()), ("source", pa.int32()), ("target", pa.int32()), ("relation", pa.string())]
)


def write_graph(graph: nx.DiGraph[str], path: Path) -> None:
    """Write a graph; the suffix decides: ``.graphml``, ``.json`` (node-link), ``.png``, ``.svg`` or ``.pdf``.

    Raises
    ------
    UsageError
        Another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in (".graphml", ".json", ".png", ".svg", ".pdf"):
        raise UsageError(f"{path}: a graph is written as .graphml, .json, .png, .svg or .pdf")
    with atomic_path(path) as partial:
        if suffix == ".graphml":
            nx.write_graphml(graph, partial)
        elif suffix == ".json":
            data: Any = nx.node_link_data(graph, edges="edges")
            partial.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        else:
            draw_graph(graph, partial, suffix.lstrip("."))


def draw_graph(graph: nx.DiGraph[str], path: Path, kind: str = "png") -> None:
    """Draw a graph as a radial picture: the tree, one colour a dimension; where the graph holds labels of a
    dataset, a node grows with its count and a line joins what occurs together.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    nodes = cast(Mapping[str, Mapping[str, Any]], graph.nodes)
    tree: Any = nx.DiGraph()
    tree.add_nodes_from(graph.nodes)
    tree.add_edges_from((a, b) for a, b, r in cast(Any, graph.edges(data="relation")) if r != "described_by")
    positions = _radial(tree)
    figure = Figure(figsize=(14, 14))
    FigureCanvasAgg(figure)
    axes: Any = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    dimensions = [name for name in nodes if nodes[name]["kind"] == "dimension"]
    colours = {name: f"C{i % 10}" for i, name in enumerate(dimensions)}
    shades = [colours.get(str(nodes[n].get("dimension")), "black") for n in tree.nodes]
    nx.draw_networkx_edges(tree, positions, ax=axes, edge_color="#bbbbbb", arrows=False)
    _draw_pairs(graph, positions, axes)
    sizes = [30 + 40 * float(np.sqrt(nodes[name].get("count", 0))) for name in tree.nodes]
    nx.draw_networkx_nodes(tree, positions, ax=axes, node_size=sizes, node_color=shades)
    _write_names(tree, positions, {n: str(nodes[n]["label"]) for n in tree.nodes}, axes)
    figure.savefig(path, dpi=110, format=kind, bbox_inches="tight")


def _write_names(
    tree: Any, positions: Mapping[str, tuple[float, float]], names: Mapping[str, str], axes: Any
) -> None:
    """Names of inner nodes in boxes, those of leaves along the radius, never upside down."""
    for node, (x, y) in positions.items():
        if tree.out_degree(node):
            box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
            axes.text(x, y, names[node], fontsize=7, ha="center", va="bottom", weight="bold", bbox=box)
            continue
        angle = float(np.degrees(np.arctan2(y, x)))
        left = abs(angle) > 90
        axes.text(
            x * 1.02,
            y * 1.02,
            names[node],
            fontsize=7,
            rotation=angle + 180 if left else angle,
            rotation_mode="anchor",
            ha="right" if left else "left",
            va="center",
        )


def _draw_pairs(graph: nx.DiGraph[str], positions: Mapping[str, tuple[float, float]], axes: Any) -> None:
    """Lines between diagnosis and attribute, the stronger the more often both are said of one frame."""
    pairs = [pair for pair in cast(Any, graph.edges(data=True)) if pair[2].get("relation") == "described_by"]
    most = max((float(facts["count"]) for _, _, facts in pairs), default=1.0)
    for source, target, facts in pairs:
        ends = np.array([positions[source], positions[target]])
        share = float(facts["count"]) / most
        axes.plot(*ends.T, color="C3", linewidth=0.5 + 2.5 * share, alpha=0.15 + 0.5 * share, zorder=0)


def _radial(tree: Any) -> dict[str, tuple[float, float]]:
    """Place leaves evenly on circles, inner nodes at the middle of their leaves."""
    order = list(nx.dfs_preorder_nodes(tree))
    root = order[0]
    depths: dict[str, int] = nx.shortest_path_length(tree, root)
    leaves = [node for node in order if tree.out_degree(node) == 0]
    angles = {node: 2 * np.pi * i / len(leaves) for i, node in enumerate(leaves)}
    for node in reversed(order):
        if node not in angles:
            angles[node] = float(np.mean([angles[child] for child in tree.successors(node)]))
    deepest = max(depths.values())
    radii = {node: depths[node] / deepest for node in order}
    return {node: (radii[node] * np.cos(angles[node]), radii[node] * np.sin(angles[node])) for node in order}


def sample_tables(
    taxonomy: Taxonomy, batch: LabelBatch, frame_ids: Sequence[str]
) -> tuple[pa.Table, pa.Table]:
    """Return the per-sample heterogeneous graphs as two tables.

    Parameters
    ----------
    batch : LabelBatch
        Labels of the frames.
    frame_ids : sequence of str
        One id a record.

    Returns
    -------
    nodes : pa.Table
        One row a label of a frame: ``frame_id``, ``node`` (label id), ``dimension``, ``label``.
    edges : pa.Table
        Per frame every (diagnosis, attribute) pair as ``described_by`` and every present child of a present
        parent as ``part_of``; ``source`` and ``target`` are label ids.
    """
    keys = list(taxonomy.label_index)
    ids = np.asarray(frame_ids, dtype=object)
    owners = np.repeat(np.arange(len(batch)), np.diff(batch.offsets))
    names = np.array([key[0] for key in keys], dtype=object)
    words = np.array([key[1] for key in keys], dtype=object)
    nodes = pa.table(
        [ids[owners], batch.nodes.astype(np.int32), names[batch.nodes], words[batch.nodes]], schema=NODES
    )
    edge_owner, source, target, relation = _edges(taxonomy, batch)
    edges = pa.table(
        [ids[edge_owner], source.astype(np.int32), target.astype(np.int32), relation], schema=EDGES
    )
    return nodes, edges


def _edges(taxonomy: Taxonomy, batch: LabelBatch) -> tuple[Any, Any, Any, Any]:
    """(record, source, target, relation) of all sample edges, by one pass over each kind of label pair."""
    side = diagnosis_dimensions(taxonomy)
    index = taxonomy.label_index
    is_diagnosis = np.array([dimension in side for dimension, _ in index])
    present = batch.x > 0
    none = np.empty(0, dtype=np.int64)
    parts: list[tuple[Any, Any, Any, str]] = [(none, none, none, "described_by")]
    attributes = present & ~is_diagnosis
    for label in np.flatnonzero(is_diagnosis):
        rows = np.flatnonzero(present[:, label])
        owner, target = np.nonzero(attributes[rows])
        parts.append((rows[owner], np.full(len(owner), label), target, "described_by"))
    for (dimension, label), child in index.items():
        parent = taxonomy.parent_of(dimension, label)
        if parent is not None:
            rows = np.flatnonzero(present[:, child] & present[:, index[parent]])
            parts.append((rows, np.full(len(rows), child), np.full(len(rows), index[parent]), "part_of"))
    owner = np.concatenate([part[0] for part in parts]).astype(np.int64)
    source = np.concatenate([part[1] for part in parts])
    target = np.concatenate([part[2] for part in parts])
    relation = np.concatenate([np.full(len(part[0]), part[3], dtype=object) for part in parts])
    order = np.lexsort((target, source, owner))
    return owner[order], source[order], target[order], relation[order]


def sample_graph(taxonomy: Taxonomy, batch: LabelBatch, index: int) -> nx.DiGraph[str]:
    """Return the heterogeneous graph of one record with typed nodes and edges."""
    one = LabelBatch(
        batch.record(index),
        np.array([0, len(batch.record(index))]),
        batch.x[index : index + 1],
        batch.filled[index : index + 1],
    )
    keys = list(taxonomy.label_index)
    side = diagnosis_dimensions(taxonomy)
    graph: Any = nx.DiGraph()
    for node in one.nodes:
        dimension, label = keys[node]
        kind = "diagnosis" if dimension in side else "attribute"
        graph.add_node(
            node_name(dimension, label), kind=kind, dimension=dimension, label=label, index=int(node)
        )
    _, sources, targets, relations = _edges(taxonomy, one)
    for source, target, relation in zip(sources, targets, relations, strict=True):
        graph.add_edge(node_name(*keys[source]), node_name(*keys[target]), relation=str(relation))
    return cast("nx.DiGraph[str]", graph)


def write_sample_graphs(
    taxonomy: Taxonomy,
    parts: Iterable[tuple[LabelBatch, Sequence[str]]],
    folder: Path,
    *,
    graphml: int = 0,
) -> tuple[int, int]:
    """Write ``nodes.parquet`` and ``edges.parquet``, and the first ``graphml`` records as GraphML files.

    Parameters
    ----------
    taxonomy : Taxonomy
    parts : iterable of (LabelBatch, frame ids)
        The records, a shard at a time: no more than one is held.
    folder : Path
        Made when it is missing.
    graphml : int
        How many records are written as GraphML too, named after their frame.

    Returns
    -------
    nodes, edges : int
        Rows written.
    """
    counts = [0, 0]
    with (
        atomic_path(folder / "nodes.parquet") as nodes,
        atomic_path(folder / "edges.parquet") as edges,
        pq.ParquetWriter(nodes, NODES, compression="zstd") as first,
        pq.ParquetWriter(edges, EDGES, compression="zstd") as second,
    ):
        for batch, frame_ids in parts:
            for i, (writer, table) in enumerate(
                zip((first, second), sample_tables(taxonomy, batch, frame_ids), strict=True)
            ):
                writer.write_table(table)
                counts[i] += table.num_rows
            for index in range(min(graphml, len(batch))):
                write_graph(sample_graph(taxonomy, batch, index), folder / f"{frame_ids[index]}.graphml")
            graphml -= min(graphml, len(batch))
    return counts[0], counts[1]
