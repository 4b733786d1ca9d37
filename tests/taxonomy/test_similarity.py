"""Similarity priors: their values, their contract, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.similarity import Similarity, load_similarity, similarity
from usds.taxonomy.udt import Taxonomy, load_taxonomy

TAXONOMY = """\
id: small
version: "1"
title: Small
dimensions:
  - name: body_system
    title: System
    role: system
    prompts: ["{label}"]
    labels: [{name: Abdomen}, {name: Neck}]
  - name: organ
    title: Organ
    role: site
    parent_dimension: body_system
    prompts: ["{label}"]
    labels:
      - {name: Liver, parent: Abdomen}
      - {name: Spleen, parent: Abdomen}
      - {name: Thyroid, parent: Neck}
  - name: diagnosis
    title: Diagnosis
    role: finding
    prompts: ["{label}"]
    labels: [{name: cyst}, {name: mass}]
  - name: echogenicity
    title: Echogenicity
    ordinal: true
    prompts: ["{label}"]
    labels:
      - {name: anechoic, rank: 0}
      - {name: hypoechoic, rank: 1}
      - {name: hyperechoic, rank: 4}
      - {name: mixed}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Taxonomy:
    path = tmp_path_factory.mktemp("taxonomy") / "small.yaml"
    path.write_text(TAXONOMY, encoding="utf-8")
    return load_taxonomy(path)


def keeps_contract(prior: Similarity, taxonomy: Taxonomy) -> None:
    assert tuple(prior.matrices) == taxonomy.dimension_names
    for name, matrix in prior.matrices.items():
        assert matrix.shape == (len(taxonomy.vocabulary(name)),) * 2
        assert matrix.dtype == np.float32
        assert np.array_equal(matrix, matrix.T)
        assert np.array_equal(np.diag(matrix), np.ones(len(matrix)))
        assert matrix.min() >= 0
        assert matrix.max() <= 1


def test_tree_distance_and_ranks(small: Taxonomy) -> None:
    prior = similarity(small, "taxonomy")
    keeps_contract(prior, small)
    assert prior.matrices["organ"].tolist() == [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]
    assert np.array_equal(prior.matrices["body_system"], np.eye(2))
    assert np.array_equal(prior.matrices["diagnosis"], np.eye(2))
    expected = [[1, 0.75, 0, 0], [0.75, 1, 0.25, 0], [0, 0.25, 1, 0], [0, 0, 0, 1]]
    assert prior.matrices["echogenicity"].tolist() == expected


def test_identity_is_the_unit_matrix(small: Taxonomy) -> None:
    assert np.array_equal(similarity(small, "identity").block(), np.eye(11))


def test_block_follows_the_order_of_the_taxonomy(small: Taxonomy) -> None:
    prior = similarity(small)
    block = prior.block()
    assert block.shape == (11, 11)
    index = small.label_index
    assert block[index["organ", "Liver"], index["organ", "Spleen"]] == 0.5
    assert block[index["organ", "Liver"], index["body_system", "Abdomen"]] == 0


def test_jaccard_and_npmi_of_a_small_count(small: Taxonomy) -> None:
    records = [{"organ": ["Liver", "Spleen"]}, {"organ": ["Liver"]}, {"organ": ["Liver", "Spleen"]}, {}]
    jaccard = similarity(small, "cooccurrence", records).matrices["organ"]
    assert jaccard[0, 1] == pytest.approx(2 / 3)
    assert jaccard[0, 2] == 0
    npmi = similarity(small, "cooccurrence", records, measure="npmi").matrices["organ"]
    assert npmi[0, 1] == pytest.approx(np.log(0.5 / (0.75 * 0.5)) / -np.log(0.5))


@settings(max_examples=50, deadline=None)
@given(data=st.data(), measure=st.sampled_from(["jaccard", "npmi"]))
def test_cooccurrence_keeps_the_contract(small: Taxonomy, data: st.DataObject, measure: str) -> None:
    def record() -> st.SearchStrategy[dict[str, list[str]]]:
        parts = {name: st.lists(st.sampled_from(small.vocabulary(name))) for name in small.dimension_names}
        return st.fixed_dictionaries({}, optional=parts)

    records = data.draw(st.lists(record(), min_size=1, max_size=8))
    keeps_contract(similarity(small, "cooccurrence", records, measure=measure), small)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["identity", "taxonomy"])
def test_bundled_taxonomy_keeps_the_contract(mode: str) -> None:
    taxonomy = load_taxonomy("udt")
    keeps_contract(similarity(taxonomy, mode), taxonomy)  # type: ignore[arg-type]


def test_file_keeps_values_and_hash(small: Taxonomy, tmp_path: Path) -> None:
    prior = similarity(small)
    prior.save(tmp_path / "prior.npz")
    loaded = similarity(small, "file", path=tmp_path / "prior.npz")
    assert loaded.hash == prior.hash
    assert np.array_equal(loaded.block(), prior.block())
    assert loaded.mode == "taxonomy"
    assert prior.hash != similarity(small, "identity").hash


def test_file_over_other_labels_is_refused(small: Taxonomy, tmp_path: Path) -> None:
    similarity(load_taxonomy("udt")).save(tmp_path / "prior.npz")
    with pytest.raises(ContentError, match="dimension 'body_system': labels differ from the taxonomy"):
        similarity(small, "file", path=tmp_path / "prior.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m * 2, r"values must lie in \[0, 1\]"),
        (lambda m: m - 0.2 * np.tri(*m.shape, -1).astype(np.float32) * m, "not symmetric"),
        (lambda m: m * 0.5, "diagonal is not 1"),
        (lambda m: m[:-1], "not a square matrix"),
    ],
)
def test_matrices_outside_the_contract_are_refused(
    change: object, message: str, small: Taxonomy, tmp_path: Path
) -> None:
    prior = similarity(small)
    broken = Similarity({**prior.matrices, "organ": change(prior.matrices["organ"])}, prior.labels, "file")  # type: ignore[operator]
    broken.save(tmp_path / "prior.npz")
    with pytest.raises(ContentError, match=f"dimension 'organ': .*{message}"):
        load_similarity(tmp_path / "prior.npz")


def test_wrong_requests_are_named(small: Taxonomy, tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UsageError, match="unknown similarity mode 'cosine'"):
        similarity(small, "cosine")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="needs label records"):
        similarity(small, "cooccurrence")
    with pytest.raises(ContentError, match="there are no label records"):
        similarity(small, "cooccurrence", [])
    with pytest.raises(UsageError, match="needs the path"):
        similarity(small, "file")
    with pytest.raises(UsageError, match="does not exist"):
        load_similarity(tmp_path / "absent.npz")
    with pytest.raises(ContentError, match="not a saved similarity prior"):
        load_similarity(tmp_path / "text.npz")
