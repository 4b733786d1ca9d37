"""The review table: what is in it, and how it comes back."""

import csv

import pytest

from usds.curation.annotate import annotate_dataset
from usds.curation.corrections import read_corrections
from usds.curation.review import read_review, write_review
from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.udt import load_taxonomy

UDT = load_taxonomy("udt")
TEXTS = {
    "plain": "Ultrasound of the liver shows a simple anechoic cyst.",
    "homeless": "Ultrasound shows a well-defined oval nodule.",
    "garbage": "lorem ipsum dolor sit amet consectetur",
    "formula": "=Ultrasound shows a round mass.",
}


@pytest.fixture
def dataset(make_dataset, rows):
    frames = [rows.frame(frame_id=name, study_id=name, subject_id=name) for name in (*TEXTS, "torn")]
    captions = [rows.caption(name, text) for name, text in TEXTS.items()]
    captions += [
        rows.caption("torn", "Ultrasound of the liver shows a cyst."),
        rows.caption("torn", "Ultrasound of the spleen shows a cyst.", section="second"),
    ]
    made = make_dataset(tasks={"t1": (frames, captions)})
    annotate_dataset(made, UDT)
    return made


def read(path):
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def write(path, table):
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, table[0])
        writer.writeheader()
        writer.writerows(table)


def labels(dataset):
    with dataset.connect() as connection:
        rows = connection.execute("SELECT frame_id, organ, body_system, diagnosis, conflict FROM annotations")
        return {row[0]: row[1:] for row in rows.fetchall()}


def row_of(table, part):
    return next(row for row in table if part in row["text"])


def test_the_table_holds_what_needs_a_look_and_why(dataset, tmp_path):
    report = write_review(dataset, tmp_path / "r.csv")
    table = read(tmp_path / "r.csv")
    why = {row["text"]: row["why"].split("; ") for row in table}
    assert report.rows == len(table)
    assert "conflict" in why["Ultrasound of the liver shows a cyst."]
    assert "conflict" in why["Ultrasound of the spleen shows a cyst."]
    assert "abstained" in why[TEXTS["garbage"]]
    assert "finding without organ" in why[TEXTS["homeless"]]
    assert why.get(TEXTS["plain"], ["random"]) == ["random"]
    assert report.reasons["conflict"] == 2


def test_a_taxonomy_without_sites_has_no_homeless_findings(make_dataset, rows, tmp_path):
    text = """
id: texture
version: "1"
title: Texture
dimensions:
  - name: state
    title: State
    role: finding
    labels: [{name: mass}, {name: cyst}]
"""
    (tmp_path / "t.yaml").write_text(text)
    caption = rows.caption("f", "Ultrasound of the liver shows a round mass.")
    dataset = make_dataset(
        tasks={"t1": ([rows.frame(frame_id="f", study_id="st", subject_id="s")], [caption])}
    )
    annotate_dataset(dataset, load_taxonomy(tmp_path / "t.yaml"))
    with dataset.connect() as connection:
        assert connection.execute("SELECT state FROM annotations").fetchall() == [(["mass"],)]
    assert "finding without organ" not in write_review(dataset, tmp_path / "r.csv").reasons


def test_a_caption_cannot_run_as_a_formula(dataset, tmp_path):
    write_review(dataset, tmp_path / "r.csv")
    assert row_of(read(tmp_path / "r.csv"), "round mass")["text"].startswith("'=")


def test_corrected_rows_win_and_survive(dataset, tmp_path):
    path = tmp_path / "r.csv"
    write_review(dataset, path)
    table = read(path)
    row_of(table, "oval nodule")["organ"] = "thyroid gland"
    row = row_of(table, "of the spleen")
    row.update(organ="", body_system="", diagnosis="", uncertain="organ: Spleen; diagnosis: cyst")
    write(path, table)
    made = read_review(dataset, path)
    assert len(made) == len(read_corrections(dataset)) == 7
    for redo in (False, True):
        annotate_dataset(dataset, UDT, redo=redo)
        found = labels(dataset)
        assert found["homeless"] == (["Thyroid gland"], ["Head and Neck"], ["nodule"], False)
        assert found["torn"] == (["Liver"], ["Abdomen and retroperitoneum"], ["cyst"], False)
    write_review(dataset, path)
    assert "of the spleen" not in path.read_text("utf-8-sig")
    assert read_review(dataset, path) == []


def test_untouched_rows_correct_nothing(dataset, tmp_path):
    write_review(dataset, tmp_path / "r.csv")
    assert read_review(dataset, tmp_path / "r.csv") == []
    assert not (dataset.root / "corrections").exists()


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("organ", "Livr", r"line \d+, column organ: no label 'Livr'; did you mean 'Liver'\?"),
        ("margins", "xyz", "no label 'xyz'; the labels are well-defined"),
        ("negated", "cyst", "'cyst' must be `dimension: label`"),
        ("negated", "diagnosis: cist", "did you mean 'cyst'"),
    ],
)
def test_a_cell_that_cannot_be_read_writes_nothing(dataset, tmp_path, column, cell, message):
    path = tmp_path / "r.csv"
    write_review(dataset, path)
    table = read(path)
    table[0]["shape"] = "round"
    table[-1][column] = cell
    write(path, table)
    with pytest.raises(UsageError, match=message):
        read_review(dataset, path)
    assert read_corrections(dataset) == []


def test_a_strange_file_or_caption_is_refused(dataset, tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="column 'caption_id' is missing: write a table with `usds annotate"):
        read_review(dataset, path)
    with pytest.raises(UsageError, match="No such file"):
        read_review(dataset, tmp_path / "none.csv")
    write_review(dataset, path)
    table = read(path)
    table[0].update(caption_id="nobody", shape="round")
    write(path, table)
    with pytest.raises(ContentError, match="caption nobody is not in"):
        read_review(dataset, path)


def test_without_labels_there_is_nothing_to_review(make_dataset, tmp_path):
    with pytest.raises(ContentError, match="has no labels yet: run `usds annotate` first"):
        write_review(make_dataset(), tmp_path / "r.csv")
