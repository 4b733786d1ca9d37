"""Graphs: packing of label records, the knowledge graph, files."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.graph import label_graph, pack_columns, pack_labels, taxonomy_graph
from usds.taxonomy.graph_files import sample_graph, sample_tables, write_graph, write_sample_graphs
from usds.taxonomy.udt import Taxonomy, load_taxonomy

TAXONOMY = load_taxonomy("udt")
RECORDS = [
    {"organ": ["Liver"], "body_system": ["Abdomen and retroperitoneum"], "diagnosis": ["cyst"]},
    {"diagnosis": ["mass", "cyst"], "shape": ["oval", "round", "oval"], "margins": None},
    {"echogenicity": ["hypoechoic"]},
    {},
]


def records() -> st.SearchStrategy[list[dict[str, list[str]]]]:
    parts = {
        n: st.lists(st.sampled_from(TAXONOMY.vocabulary(n)), max_size=4) for n in TAXONOMY.dimension_names
    }
    return st.lists(st.fixed_dictionaries({}, optional=parts), max_size=6)


@settings(max_examples=60, deadline=None)
@given(records())
def test_packing_keeps_every_label_once(rows: list[dict[str, list[str]]]) -> None:
    batch = pack_labels(TAXONOMY, rows)
    keys = list(TAXONOMY.label_index)
    assert len(batch) == len(rows)
    for index, row in enumerate(rows):
        expected = {(name, label) for name, labels in row.items() for label in labels}
        nodes = batch.record(index)
        assert {keys[node] for node in nodes} == expected
        assert len(nodes) == len(expected)
        assert sorted(nodes) == list(nodes)
        filled = [bool(row.get(name)) for name in TAXONOMY.dimension_names]
        assert batch.filled[index].tolist() == filled
        assert batch.x[index].sum() == pytest.approx(sum(filled))


@settings(max_examples=40, deadline=None)
@given(records())
def test_arrow_columns_pack_like_records(rows: list[dict[str, list[str]]]) -> None:
    kind = pa.list_(pa.string())
    columns = {n: pa.array([row.get(n, []) for row in rows], kind) for n in TAXONOMY.dimension_names}
    left, right = pack_columns(TAXONOMY, pa.table(columns)), pack_labels(TAXONOMY, rows)
    for name in ("nodes", "offsets", "x", "filled"):
        assert np.array_equal(getattr(left, name), getattr(right, name))
        assert getattr(left, name).dtype == getattr(right, name).dtype


def test_repeated_and_missing_labels() -> None:
    batch = pack_labels(TAXONOMY, RECORDS)
    index = TAXONOMY.label_index
    assert batch.x[1, index["shape", "oval"]] == 0.5
    assert batch.offsets.tolist() == [0, 3, 7, 8, 8]
    assert not batch.filled[3].any()


def test_labels_of_another_taxonomy_are_refused_or_dropped() -> None:
    rows = [{"shape": ["banana", "oval"]}]
    with pytest.raises(ContentError, match="label 'banana' is not in dimension 'shape' of taxonomy udt-"):
        pack_labels(TAXONOMY, rows)
    assert len(pack_labels(TAXONOMY, rows, unknown="drop").nodes) == 1
    columns = {n: pa.array([["banana"] if n == "shape" else []]) for n in TAXONOMY.dimension_names}
    table = pa.table({n: c.cast(pa.list_(pa.string())) for n, c in columns.items()})
    with pytest.raises(ContentError, match="label 'banana'"):
        pack_columns(TAXONOMY, table)
    assert len(pack_columns(TAXONOMY, table, unknown="drop").nodes) == 0
    with pytest.raises(ContentError, match="no column 'organ'"):
        pack_columns(TAXONOMY, table.drop_columns(["organ"]))


def test_taxonomy_graph_is_a_tree_over_all_labels() -> None:
    graph = taxonomy_graph(TAXONOMY)
    assert nx.is_arborescence(graph)
    labels = [n for n, data in graph.nodes(data=True) if data["kind"] == "label"]
    assert len(labels) == len(TAXONOMY.label_index)
    parent = "body_system::Abdomen and retroperitoneum"
    assert graph.edges[parent, "organ::Liver"]["relation"] == "part_of"


def test_label_graph_counts_pairs_of_diagnosis_and_attribute() -> None:
    graph = label_graph(TAXONOMY, RECORDS)
    edge = graph.edges["diagnosis::cyst", "shape::oval"]
    assert edge["relation"] == "described_by"
    assert edge["count"] == 1
    assert edge["probability"] == 0.5
    assert edge["npmi"] == pytest.approx(np.log(1 * 4 / (2 * 1)) / -np.log(1 / 4))
    assert graph.nodes["diagnosis::cyst"]["count"] == 2
    assert not graph.has_edge("shape::oval", "diagnosis::cyst")


@pytest.mark.parametrize("suffix", [".graphml", ".json", ".png", ".svg"])
def test_graph_files(suffix: str, tmp_path: Path) -> None:
    graph = label_graph(TAXONOMY, RECORDS)
    path = tmp_path / f"graph{suffix}"
    write_graph(graph, path)
    if suffix == ".graphml":
        back = nx.read_graphml(path)
        assert back.number_of_edges() == graph.number_of_edges()
    elif suffix == ".json":
        back = nx.node_link_graph(json.loads(path.read_text(encoding="utf-8")), edges="edges")
        assert set(back.edges) == set(graph.edges)
    else:
        start = path.read_bytes()[:100]
        assert start.startswith(b"\x89PNG") or b"<?xml" in start
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [path.name]


def test_unknown_graph_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"written as .graphml, .json, .png"):
        write_graph(taxonomy_graph(TAXONOMY), tmp_path / "graph.gif")


@settings(max_examples=40, deadline=None)
@given(records())
def test_sample_tables_hold_all_pairs(rows: list[dict[str, list[str]]]) -> None:
    batch = pack_labels(TAXONOMY, rows)
    ids = [f"f{i}" for i in range(len(rows))]
    nodes, edges = sample_tables(TAXONOMY, batch, ids)
    got = {(e["frame_id"], e["source"], e["target"], e["relation"]) for e in edges.to_pylist()}
    expected = set()
    for frame, row in zip(ids, rows, strict=True):
        present = {(n, label) for n, labels in row.items() for label in labels}
        for key in present:
            parent = TAXONOMY.parent_of(*key)
            if parent in present:
                expected.add((frame, TAXONOMY.label_index[key], TAXONOMY.label_index[parent], "part_of"))
            if key[0] == "diagnosis":
                expected |= {
                    (frame, TAXONOMY.label_index[key], TAXONOMY.label_index[other], "described_by")
                    for other in present
                    if other[0] != "diagnosis"
                }
    assert got == expected
    assert edges.num_rows == len(expected)
    assert nodes.num_rows == len(batch.nodes)


def test_sample_graph_has_typed_nodes_and_edges() -> None:
    graph = sample_graph(TAXONOMY, pack_labels(TAXONOMY, RECORDS), 0)
    assert graph.nodes["diagnosis::cyst"]["kind"] == "diagnosis"
    assert graph.edges["diagnosis::cyst", "organ::Liver"]["relation"] == "described_by"
    assert graph.edges["organ::Liver", "body_system::Abdomen and retroperitoneum"]["relation"] == "part_of"


def test_sample_graphs_as_files(tmp_path: Path) -> None:
    ids = ["a", "b", "c", "d"]
    halves = [(pack_labels(TAXONOMY, RECORDS[:1]), ids[:1]), (pack_labels(TAXONOMY, RECORDS[1:]), ids[1:])]
    nodes, edges = write_sample_graphs(TAXONOMY, halves, tmp_path, graphml=2)
    whole = sample_tables(TAXONOMY, pack_labels(TAXONOMY, RECORDS), ids)
    assert (nodes, edges) == (whole[0].num_rows, whole[1].num_rows)
    assert pq.read_table(tmp_path / "edges.parquet").to_pylist() == whole[1].to_pylist()
    names = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert names == ["a.graphml", "b.graphml", "edges.parquet", "nodes.parquet"]
    assert pq.read_table(tmp_path / "nodes.parquet").column("label").to_pylist()[2] == "cyst"
    assert nx.read_graphml(tmp_path / "a.graphml").number_of_nodes() == 3


def test_taxonomy_without_a_finding_still_has_graphs(tmp_path: Path) -> None:
    path = tmp_path / "flat.yaml"
    path.write_text(
        'id: flat\nversion: "1"\ntitle: Flat\ndimensions:\n'
        '  - {name: shape, title: Shape, prompts: ["{label}"], labels: [{name: round}, {name: oval}]}\n',
        encoding="utf-8",
    )
    taxonomy: Taxonomy = load_taxonomy(path)
    rows = [{"shape": ["round"]}]
    nodes, edges = sample_tables(taxonomy, pack_labels(taxonomy, rows), ["f"])
    assert (nodes.num_rows, edges.num_rows) == (1, 0)
    assert label_graph(taxonomy, rows).number_of_edges() == 3
