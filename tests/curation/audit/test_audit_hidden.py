"""Leaks that no reader of rows shows: each is planted in a clean dataset, and the audit must see it."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.audited import FRAME, IDS, SUBJECT, index, make

from usds.curation.audit.run import audit
from usds.curation.croissant import write_croissant
from usds.curation.readers.base import Identifier
from usds.schemas import tables
from usds.schemas.dataset import Dataset
from usds.schemas.files import file_sha256, read_json, write_json
from usds.schemas.shards import write_parquet
from usds.schemas.state import State
from usds.taxonomy.udt import load_taxonomy

NAME = "Winterbottom"


@pytest.fixture(autouse=True)
def quick_reader(monkeypatch):
    """These leaks are not in pixels: one speckled picture need not be read each time."""
    monkeypatch.setattr(
        "usds.curation.audit.images.tesseract_pages", lambda pictures, _: [[] for _ in pictures]
    )


@pytest.fixture
def dataset(tmp_path):
    dataset = make(tmp_path / "d")
    dataset.write_split("default", [{"subject_id": SUBJECT, "split": "train"}])
    assert audit(dataset, index()).findings == []
    return dataset


def found(dataset: Dataset) -> set[str]:
    report = audit(dataset, index())
    assert NAME.lower() not in json.dumps(report.to_json()).lower()
    return set(report.counts())


def shard(dataset: Dataset, table: str) -> Path:
    return dataset.paths(table)[0]


def replace(dataset: Dataset, table: str, data: bytes) -> None:
    """Put other bytes in place of a shard, with a manifest that agrees: no hash gives it away."""
    path = shard(dataset, table)
    path.write_bytes(data)
    manifest = dataset.root / "manifests" / f"{path.stem}.json"
    value = read_json(manifest)
    value["files"][table]["sha256"] = file_sha256(path)
    write_json(manifest, value)
    assert dataset.damaged() == []


def moved(data: bytes, words: bytes) -> bytes:
    """A table with ``words`` between its last column and its footer: the footer's offsets still hold."""
    length = int.from_bytes(data[-8:-4], "little")
    return data[: -8 - length] + words + data[-8 - length :]


@pytest.mark.parametrize("table", ["images", "frames", "captions", "sources"])
def test_bytes_that_belong_to_no_column_are_found(dataset, table):
    replace(dataset, table, moved(shard(dataset, table).read_bytes(), bytes(12)))
    assert found(dataset) == {"hidden_bytes"}


def test_a_file_before_or_behind_a_table_is_found(dataset):
    data = shard(dataset, "captions").read_bytes()
    replace(dataset, "captions", data + b"PK\x05\x06" + bytes(18))
    assert "damaged_file" in found(dataset)


@pytest.mark.parametrize(
    "words", [NAME.encode(), NAME.encode("utf-16-le"), NAME.encode("utf-16-be"), base64.b64encode(b"Agatha Winterbottom")],
    ids=["plain", "UTF-16LE", "UTF-16BE", "Base64"],
)  # fmt: skip
@pytest.mark.parametrize("table", ["frames", "images"])
def test_a_name_in_raw_bytes_is_found_in_every_writing(dataset, words, table):
    replace(dataset, table, moved(shard(dataset, table).read_bytes(), b"\x00" + words + b"\x00"))
    assert found(dataset) == {"hidden_bytes", "name"}


def test_a_dictionary_entry_that_no_row_uses_is_found(dataset):
    table = pq.read_table(shard(dataset, "captions"))
    at = table.schema.get_field_index("origin")
    entries = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array(["sidecar", NAME]))
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.set_column(at, "origin", entries).replace_schema_metadata(None), sink, compression="zstd", store_schema=False
    )  # fmt: skip
    replace(dataset, "captions", sink.getvalue().to_pybytes())
    report = audit(dataset, index())
    assert ("hidden_bytes", "dictionary of origin") in {(one.klass, one.masked) for one in report.findings}


def test_statistics_that_no_row_holds_are_found(dataset):
    """Statistics of the rows as they were before a name was taken out."""
    table = pq.read_table(shard(dataset, "captions"))
    at = table.schema.get_field_index("section")
    written: list[bytes] = []
    for value in ("Winterbottoms", "findings12345"):
        sink = pa.BufferOutputStream()
        column = pa.array([value])
        pq.write_table(
            table.set_column(at, "section", column), sink, compression="none", use_dictionary=False
        )
        written.append(sink.getvalue().to_pybytes())
    named, clean = written
    assert len(named) == len(clean)
    footer = len(clean) - 8 - int.from_bytes(clean[-8:-4], "little")
    replace(dataset, "captions", clean[:footer] + named[footer:])
    report = audit(dataset, index())
    assert ("hidden_bytes", "statistics of section") in {(one.klass, one.masked) for one in report.findings}
    assert "name" in report.counts()


def test_notes_on_columns_files_and_in_the_footer_are_found(dataset):
    table = pq.read_table(shard(dataset, "sources"))
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({"by": NAME}), sink)
    replace(dataset, "sources", sink.getvalue().to_pybytes())
    assert found(dataset) >= {"file_metadata", "name"}


def test_a_picture_that_no_frame_names_is_found(dataset):
    sink = pa.BufferOutputStream()
    rows = pq.read_table(shard(dataset, "images")).to_pylist()
    more = [*rows, {"frame_id": "a" * 26, "image": rows[0]["image"]}]
    pq.write_table(
        pa.Table.from_pylist(more, schema=tables.IMAGES), sink, compression="none", use_dictionary=False,
        write_statistics=False,
    )  # fmt: skip
    replace(dataset, "images", sink.getvalue().to_pybytes())
    assert found(dataset) == {"unknown_row"}


FILES = {
    "hidden file": lambda root: (root / ".DS_Store").write_bytes(b"\x00"),
    "file in a nested folder": lambda root: _write(root / "images" / "old" / "x.jpg"),
    "empty folder": lambda root: (root / "frames" / NAME).mkdir(),
    "empty folder of no name": lambda root: (root / "Okonkwo").mkdir(),
    "link to a file outside": lambda root: (root / "images" / "x.parquet").symlink_to("/etc/hostname"),
    "link to a folder outside": lambda root: (root / "raw").symlink_to("/etc"),
    "table of corrections of another name": lambda root: _write(root / "corrections" / "Okonkwo.parquet"),
    "archive": lambda root: _write(root / "backup.zip"),
    "database": lambda root: _write(root / "scratch.duckdb"),
    "write-ahead log": lambda root: _write(root / "x.duckdb.wal"),
    "sidecar": lambda root: _write(root / "captions" / "captions.csv"),
    "editor's copy": lambda root: _write(root / "dataset.json~"),
    "table of no manifest": lambda root: _write(root / "frames" / "old.parquet"),
    "leftover of a killed writer": lambda root: _write(root / "images" / ".partial-12-x.parquet"),
    "manifest's copy": lambda root: _write(root / "manifests" / "x.json.bak"),
    "named pipe": lambda root: os.mkfifo(root / "manifests" / "x.pipe"),
}


def _write(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")


@pytest.mark.parametrize("what", FILES)
def test_what_lies_in_the_folder_and_belongs_to_nothing_is_found(dataset, what):
    FILES[what](dataset.root)
    assert "unknown_file" in found(dataset)


def test_a_table_that_is_a_link_out_of_the_dataset_is_found(dataset, tmp_path):
    path = shard(dataset, "captions")
    path.rename(tmp_path / "elsewhere.parquet")
    path.symlink_to(tmp_path / "elsewhere.parquet")
    assert found(dataset) == {"unknown_file"}


@pytest.mark.parametrize("where", ["images", "dataset.json"])
def test_words_attached_to_a_file_are_found(dataset, where):
    try:
        os.setxattr(dataset.root / where, "user.xdg.comment", NAME.encode())
    except OSError:
        pytest.skip("this file system keeps no attributes")
    assert found(dataset) == {"hidden_bytes"}


@pytest.mark.parametrize("name", ["Winterbottom_Agatha", "mrn0048213", "1957-03-11", "from 123456789012"])
def test_a_file_name_is_read_where_the_file_itself_is_known(dataset, name):
    dataset.write_split(name, [{"subject_id": SUBJECT, "split": "train"}])
    report = audit(dataset, index())
    assert report.findings
    assert name.lower() not in json.dumps(report.to_json()).lower()


DOCUMENTS = {
    "value": lambda value: {**value, "tool": "usds of Agatha Winterbottom"},
    "key": lambda value: {**value, "settings": {"Winterbottom": 1}},
    "list": lambda value: {**value, "settings": {"raw": [["/data/WINTERBOTTOM^AGATHA"]]}},
}


@pytest.mark.parametrize("where", DOCUMENTS)
def test_a_name_in_a_document_is_found(dataset, where):
    path = dataset.root / "dataset.json"
    write_json(path, DOCUMENTS[where](read_json(path)))
    assert "name" in found(dataset)


def test_a_value_whose_key_stands_twice_is_found(dataset):
    path = dataset.root / "dataset.json"
    path.write_text(
        path.read_text().replace('"tool":', '"tool": "W1nterb0ttom+", "tool": "Winterbottom",\n "tool":', 1)
    )
    assert "name" in found(dataset)


def test_a_name_in_a_manifest_is_found(dataset):
    path = next((dataset.root / "manifests").glob("*.json"))
    write_json(path, {**read_json(path), "inputs": ["WINTERBOTTOM_AGATHA.dcm"]})
    assert "name" in found(dataset)


def test_a_comment_in_the_taxonomy_beside_the_labels_is_found(dataset):
    from support.tiny_dataset import annotation_row, write_annotations

    taxonomy = load_taxonomy("udt")
    write_annotations(dataset, taxonomy, [annotation_row(FRAME, None, {}, taxonomy)])
    assert found(dataset) == set()
    path = dataset.annotations.taxonomy_path(taxonomy.set_name)
    path.write_text(path.read_text("utf-8") + "# as asked by Agatha Winterbottom, 2021-04-12\n", "utf-8")
    assert found(dataset) == {"name", "pattern:date"}


def test_what_was_typed_behind_a_command_is_found_in_the_lock(dataset):
    lock = dataset.root / ".lock"
    lock.write_text(json.dumps({"command": "usds ingest", "pid": 12}))
    assert found(dataset) == set()
    lock.write_text(json.dumps({"command": "usds ingest /raw/Okonkwo", "pid": 12}))
    assert found(dataset) == {"hidden_bytes"}


@pytest.mark.parametrize(("label", "klass"), [(NAME, "name"), ("Okonkwo", "open_vocabulary")])
def test_a_label_that_is_none_is_found(dataset, label, klass):
    from support.tiny_dataset import annotation_row, write_annotations

    taxonomy = load_taxonomy("udt")
    row = annotation_row(FRAME, None, {"organ": ["Liver", label]}, taxonomy)
    row["negated"] = [{"dimension": "shape", "label": label}]
    write_annotations(dataset, taxonomy, [row])
    assert klass in found(dataset)
    places = {one.place.split(".")[-1] for one in audit(dataset, index()).findings}
    assert {"organ", "negated"} <= places


TERMS = "Hashimoto thyroiditis and Graves' disease; a Baker cyst; fluid in the pouch of Douglas."


@pytest.mark.parametrize(
    "name", ["Hashimoto^Yuki", "Graves^Ann", "Baker^Tom", "Douglas^Ian", "Crohn^Bo", "Udt^Usds"]
)
def test_a_patient_who_is_called_like_a_disease_does_not_fail_the_words_of_others(tmp_path, name):
    from support.tiny_dataset import annotation_row, write_annotations

    dataset = make(tmp_path / "d", caption=TERMS)
    taxonomy = load_taxonomy("udt")
    row = annotation_row(FRAME, None, {"diagnosis": ["nodule"]}, taxonomy)
    write_annotations(dataset, taxonomy, [row])
    known = index()
    known.add(IDS.subject("id", "4712"), Identifier(name, "name"))
    assert audit(dataset, known).findings == []


@pytest.mark.parametrize(
    "text", ["A cyst, as in Baker before.", "Douglas was seen with an effusion.", "Cyst of Tom Baker."]
)
def test_the_same_name_without_its_noun_is_found(tmp_path, text):
    dataset = make(tmp_path / "d", caption=text)
    known = index()
    for name in ("Baker^Tom", "Douglas^Ian"):
        known.add(IDS.subject("id", name), Identifier(name, "name"))
    assert "name" in audit(dataset, known).counts()


def test_a_name_in_corrections_is_found(dataset):
    row = dict.fromkeys(tables.CORRECTIONS.names) | {
        "target_id": FRAME, "dimension": "organ", "label": "of Winterbottom", "action": "add", "assertion": "present",
    }  # fmt: skip
    table = pa.Table.from_pylist([row], schema=tables.CORRECTIONS)
    write_parquet(dataset.root / "corrections" / "labels-000001.parquet", table)
    assert found(dataset) == {"name"}


def test_a_subject_that_withdrew_and_is_still_there_is_found(dataset):
    state = State.create(dataset.info.dataset_id, b"k" * 32)
    state.withdraw([SUBJECT])
    report = audit(dataset, index(), state=state)
    assert set(report.counts()) == {"withdrawn_subject"}
    assert {one.place for one in report.findings} == {"frames.subject_id", "splits.subject_id"}


def test_a_licence_with_an_address_is_no_finding(dataset):
    write_croissant(dataset, licence="https://creativecommons.org/licenses/by/4.0/")
    assert found(dataset) == set()
