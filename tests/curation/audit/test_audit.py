"""A leak of every kind is planted, and the audit must see each; and must be silent where there is none."""

import json

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SOURCE, frame_row, speckle
from support.audited import FRAME, IDS, SUBJECT, index, make, put
from support.dicom_factory import phantom
from support.tiny_dataset import annotation_row, write_annotations

from usds.curation.audit.patterns import patterns_in
from usds.curation.audit.run import AUDIT_FILE, audit, passes
from usds.curation.audit.types import mask
from usds.curation.croissant import write_croissant
from usds.curation.picture_bytes import image_metadata
from usds.curation.readers.base import Identifier
from usds.curation.readers.lookup import known_code
from usds.curation.settings import IngestSettings
from usds.taxonomy.udt import load_taxonomy


def classes(dataset):
    return set(audit(dataset, index()).counts())


def lettered(text):
    image = np.full((240, 480, 3), 12, np.uint8)
    cv2.putText(image, text, (20, 120), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (235, 235, 235), 2, cv2.LINE_AA)
    return cv2.imencode(".png", image)[1].tobytes()


def test_a_clean_dataset_has_no_finding_and_says_what_was_read(tmp_path):
    report = audit(make(tmp_path / "d"), index())
    assert report.findings == []
    assert (report.images, report.identifiers) == (1, 4)
    assert report.strings > 10
    assert report.passed == report.independent


@pytest.mark.parametrize(
    ("caption", "klass"),
    [
        ("Nodule in the breast, seen by Winterbottom.", "name"),
        ("Cyst. ID mrn 0048213.", "id"),
        ("Cyst, born 11 March 1957.", "date"),
        ("Cyst. Kestrel Infirmary.", "institution"),
        ("Cyst; answer to x.y@example.org.", "pattern:mail"),
        ("Cyst seen 2021-04-12.", "pattern:date"),
        ("Cyst, number 99120457.", "pattern:number"),
        ("Cyst, asked by Dr. Okonkwo.", "pattern:titled_name"),
    ],
)
def test_an_identifier_in_a_caption_is_found(tmp_path, caption, klass):
    assert klass in classes(make(tmp_path / "d", caption=caption))


def test_marks_of_the_scrubber_are_no_findings(tmp_path):
    assert classes(make(tmp_path / "d", caption="Cyst seen by [REMOVED] on [DATE].")) == set()


def test_an_id_that_is_not_keyed_is_found(tmp_path):
    dataset = make(tmp_path / "d", frame={"study_id": "WINTERBOTTOM-1957"})
    assert "not_a_keyed_id" in classes(dataset)


def test_free_text_in_a_coded_column_is_found(tmp_path):
    assert "open_vocabulary" in classes(make(tmp_path / "d", frame={"vendor": "Röntgenpraxis @ Ulm"}))


@pytest.mark.parametrize("column", ["vendor", "transducer", "sex", "mode", "age_band", "subject_rule"])
def test_a_name_in_a_column_of_closed_values_is_found(tmp_path, column):
    assert "open_vocabulary" in classes(make(tmp_path / "d", frame={column: "Winterbottom"}))


@pytest.mark.parametrize("column", ["quality", "verified_by", "media", "area_method"])
def test_a_harvested_name_in_a_column_of_code_words_is_found(tmp_path, column):
    assert "name" in classes(make(tmp_path / "d", frame={column: "winterbottom"}))


def test_a_code_with_words_of_its_own_is_found(tmp_path):
    codes = [{"scheme": "DCM", "value": "113100", "meaning": "seen by Winterbottom"}]
    assert "open_vocabulary" in classes(make(tmp_path / "d", frame={"header_codes": codes}))
    known = [dict(zip(("scheme", "value", "meaning"), known_code("SCT", "10200004"), strict=True))]
    assert classes(make(tmp_path / "e", frame={"header_codes": known})) == set()


def test_a_name_among_text_boxes_and_components_is_found(tmp_path):
    box = {"x0": 0, "y0": 0, "x1": 8, "y1": 8, "score": 0.5, "method": "winterbottom"}
    assert "name" in classes(make(tmp_path / "d", frame={"text_boxes": [box]}))
    area = {"kind": "agatha_winterbottom", "confidence": 1.0, "points": [{"x": 0, "y": 0}]}
    assert "name" in classes(make(tmp_path / "e", frame={"area": [area]}))


def test_the_name_of_a_split_is_read_and_not_printed(tmp_path):
    dataset = make(tmp_path / "d")
    dataset.write_split("winterbottom", [{"subject_id": SUBJECT, "split": "train"}])
    report = audit(dataset, index())
    assert set(report.counts()) == {"name"}
    assert "winterbottom" not in json.dumps(report.to_json()).lower()
    dataset.write_split("second", [{"subject_id": SUBJECT, "split": "Agatha"}])
    assert "open_vocabulary" in classes(dataset)


def test_a_column_that_no_reader_asks_for_and_notes_on_a_column_are_found(tmp_path):
    dataset = make(tmp_path / "d")
    folder = dataset.root / "corrections"
    folder.mkdir()
    noted = pa.field("target_id", pa.string(), metadata={"from": "Winterbottom"})
    table = pa.table({"target_id": [FRAME], "winterbottom": ["x"]})
    pq.write_table(table.cast(pa.schema([noted, table.schema.field(1)])), folder / "labels-000001.parquet")
    report = audit(dataset, index())
    assert {"unknown_column", "file_metadata"} <= set(report.counts())
    assert "winterbottom" not in json.dumps(report.to_json()).lower()


def test_an_unknown_file_is_found_and_its_name_is_not_printed(tmp_path):
    dataset = make(tmp_path / "d")
    (dataset.root / "images" / "winterbottom.txt").write_text("x")
    report = audit(dataset, index())
    assert "unknown_file" in report.counts()
    assert "winterbottom" not in json.dumps(report.to_json()).lower()


def test_what_usds_itself_writes_is_no_finding_whatever_folders_are_called(tmp_path):
    harvest = index()
    for part in ("jpeg", "frames", "4", "usds"):
        harvest.add(SUBJECT, Identifier(part, "path"))
    dataset = make(tmp_path / "d")
    dataset.save_info(settings=IngestSettings().model_dump(mode="json"))
    write_croissant(dataset, licence="cc-by-4.0")
    put(dataset, "u" * 14 + "234567654323", _second_frame(), speckle(2))  # a task's name may hold many digits
    report = audit(dataset, harvest)
    assert report.findings == []


def test_a_task_that_wrote_nothing_is_no_finding(tmp_path):
    dataset = make(tmp_path / "d")
    with dataset.writer("u" * 26, ()) as writer:
        writer.add_source({**SOURCE, "source_key": IDS.source("two")})
        writer.commit()
    taxonomy = load_taxonomy("udt")
    write_annotations(dataset, taxonomy, [])
    assert audit(dataset, index()).findings == []


def _second_frame():
    key = IDS.source("two")
    ids = {"frame_id": IDS.frame("b" * 64, 0), "study_id": IDS.study("s"), "subject_id": SUBJECT}
    return frame_row(**ids, source_key=key)


def test_the_digits_of_a_fingerprint_are_no_number_of_a_person(tmp_path):
    dataset = make(tmp_path / "d")
    taxonomy = load_taxonomy("udt")
    row = annotation_row(FRAME, None, {}, taxonomy)
    write_annotations(dataset, taxonomy, [row], fingerprint="312345678a9f" + "0" * 52)
    assert audit(dataset, index()).findings == []


def test_a_name_typed_as_the_title_of_the_metadata_is_found(tmp_path):
    dataset = make(tmp_path / "d")
    write_croissant(dataset, title="Scans of Agatha Winterbottom")
    assert classes(dataset) == {"name"}


def test_a_changed_shard_is_found(tmp_path):
    dataset = make(tmp_path / "d")
    path = dataset.paths("captions")[0]
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"author": "Winterbottom"}), path)
    assert {"damaged_file", "file_metadata"} <= classes(dataset)


def test_words_in_the_metadata_of_an_image_are_found(tmp_path):
    plain = speckle(2)
    comment = b"\xff\xfe" + (2 + 12).to_bytes(2, "big") + b"Winterbottom"
    assert image_metadata(plain) is None
    assert "image_metadata" in classes(make(tmp_path / "d", image=plain[:2] + comment + plain[2:]))
    assert image_metadata(plain + b"tail") == "bytes after the image"


@pytest.mark.parametrize(
    ("words", "klass"),
    [
        ("WINTERBOTTOM", "name"),
        ("MRN0048213", "id"),
        ("11.03.1957", "date"),
        ("PATIENT REPORT", "text_in_image"),
    ],
)
def test_words_in_the_pixels_are_read(tmp_path, words, klass):
    assert klass in classes(make(tmp_path / "d", image=lettered(words)))


def test_no_value_is_printed_whole(tmp_path):
    report = audit(make(tmp_path / "d", caption="Agatha Winterbottom, cyst."), index())
    assert "winterbottom" not in json.dumps(report.to_json()).lower()
    assert mask("Winterbottom") == "W" + "*" * 11


def test_audit_json_holds_counts_and_goes_stale_when_the_dataset_changes(tmp_path):
    dataset = make(tmp_path / "d")
    assert not passes(dataset)
    report = audit(dataset, index())
    written = json.loads((dataset.root / AUDIT_FILE).read_text())
    assert written == report.summary()
    assert "findings" not in written
    assert passes(dataset) == report.passed
    row = frame_row(
        frame_id=IDS.frame("b" * 64, 0),
        study_id=IDS.study("s"),
        subject_id=SUBJECT,
        source_key=IDS.source("2"),
    )
    put(dataset, "u" * 26, row, speckle(3))
    assert not passes(dataset)


def test_small_combinations_are_listed_apart(tmp_path):
    report = audit(make(tmp_path / "d", frame={"sex": "F", "age_band": "40-44"}), index())
    assert [(cohort.sex, cohort.age_band, cohort.subjects) for cohort in report.cohorts] == [
        ("F", "40-44", 1)
    ]


def test_measures_are_no_patterns():
    for text in (
        "2.3 x 1.4 x 0.9 cm",
        "BI-RADS 4a",
        "5-12 MHz",
        "12/05 mmHg",
        "Figure 3.2",
        "ratio 1.2345678",
    ):
        assert list(patterns_in(text)) == [], text


def test_corrections_are_read(tmp_path):
    dataset = make(tmp_path / "d")
    folder = dataset.root / "corrections"
    folder.mkdir()
    table = pa.table({"target_id": ["Agatha 1957-03-11"]})
    pq.write_table(table, folder / "labels-000001.parquet")
    assert "not_a_keyed_id" in classes(dataset)


def test_without_tesseract_pixels_are_still_read_and_the_report_says_by_whom(tmp_path, monkeypatch):
    monkeypatch.setattr("usds.curation.audit.images.shutil.which", lambda _: None)
    report = audit(make(tmp_path / "d", image=lettered("WINTERBOTTOM")), index())
    assert "name" in report.counts()
    clean = audit(make(tmp_path / "e"), index())
    assert (clean.findings, clean.independent, clean.passed) == ([], False, False)
    assert "not independent" in clean.reader


@pytest.mark.parametrize(
    "text", ["A cyst as in Featherstonehaugh.", "Seen before: HX 4410137", "WHITE, ROSE: cyst"]
)
def test_another_patient_than_the_one_of_the_picture_is_found(tmp_path, text):
    known = index()
    other = IDS.subject("id", "4712")
    for value, klass in [("Featherstonehaugh^Ida", "name"), ("HX4410137", "id"), ("White^Rose", "name")]:
        known.add(other, Identifier(value, klass))
    assert audit(make(tmp_path / "d", caption=text), known).counts()
    harmless = make(tmp_path / "e", caption="A white line and a rose shape along the long axis.")
    assert audit(harmless, known).findings == []


def test_another_patient_in_the_pixels_is_found(tmp_path):
    known = index()
    known.add(IDS.subject("id", "4712"), Identifier("Featherstonehaugh^Ida", "name"))
    dataset = make(tmp_path / "d", image=lettered("FEATHERSTONEHAUGH"))
    assert set(audit(dataset, known).counts()) == {"name"}


def test_letters_over_speckle_are_read(tmp_path):
    image = cv2.cvtColor(phantom(1, 228, 283, seed=1000)[0], cv2.COLOR_GRAY2BGR)
    cv2.putText(image, "WINTERBOTTOM", (5, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
    dataset = make(
        tmp_path / "d", image=cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    )
    assert "name" in classes(dataset)
