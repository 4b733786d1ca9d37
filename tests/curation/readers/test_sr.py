"""Structured reports: what was found becomes captions, who found it does not."""

from __future__ import annotations

import io
from collections.abc import Sequence as Seq
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from usds.curation.readers.base import MediaError
from usds.curation.readers.sr import read_report

Concept = tuple[str, str, str]
FINDINGS, FINDING = ("121070", "DCM", "Findings"), ("121071", "DCM", "Finding")


def code(concept: Concept) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = concept
    return Sequence([item])


def item(
    kind: str, concept: Concept | None, relation: str = "CONTAINS", children: Seq[Dataset] = (), **values: Any
) -> Dataset:
    made = Dataset()
    made.ValueType, made.RelationshipType = kind, relation
    if concept is not None:
        made.ConceptNameCodeSequence = code(concept)
    for keyword, value in values.items():
        setattr(made, keyword, value)
    if children:
        made.ContentSequence = Sequence(list(children))
    return made


def image(uid: str) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    reference.ReferencedSOPInstanceUID = uid
    return item("IMAGE", None, "SELECTED FROM", ReferencedSOPSequence=Sequence([reference]))


def number(concept: Concept, value: str, unit: str) -> Dataset:
    measured = Dataset()
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = code((unit, "UCUM", unit))
    return item("NUM", concept, MeasuredValueSequence=Sequence([measured]))


def report(content: Seq[Dataset]) -> bytes:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3.4"
    ds.Modality, ds.ValueType = "SR", "CONTAINER"
    ds.PatientName, ds.PatientID, ds.StudyInstanceUID = "Zorn^Ada", "ZX-9912", "1.2.3"
    ds.ContentSequence = Sequence(list(content))
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


CONTENT = (
    item("PNAME", ("121008", "DCM", "Person Observer Name"), "HAS OBS CONTEXT", PersonName="Quill^Bert"),
    item("PNAME", ("121029", "DCM", "Subject Name"), "HAS OBS CONTEXT", PersonName="Zorn^Ada"),
    item("TEXT", ("121013", "DCM", "Device Observer Name"), "HAS OBS CONTEXT", TextValue="SCANNER-77"),
    item("DATE", ("121125", "DCM", "Date"), Date="20200103"),
    item("CONTAINER", FINDINGS, children=[
        item("TEXT", FINDING, TextValue="Hypoechoic mass in the left lobe.", children=[image("1.9.1")]),
        item("TEXT", FINDING, TextValue="No ascites."),
        item("TEXT", FINDING, TextValue="No findings provided"),
        item("CODE", ("300842002", "SCT", "Shape"), ConceptCodeSequence=code(("84360004", "SCT", "Bert Quill"))),
        item("CODE", ("121005", "DCM", "Observer Type"), ConceptCodeSequence=code(("121006", "DCM", "Person"))),
        number(("103355008", "SCT", "Ada"), "12.50", "mm"),
        number(("X1", "99LOCAL", "Zorn width"), "1", "mm"),
        number(("103355008", "SCT", "Width"), "3", "furlong"),
    ]),
    item("TEXT", ("121073", "DCM", "Impression"), TextValue="Benign nodule."),
    item("TEXT", ("999", "99X", "Secret"), TextValue="Call Frau Zorn"),
)  # fmt: skip


def test_findings_go_to_their_picture_and_the_rest_to_the_study() -> None:
    picture, study = read_report(report(CONTENT)).rows
    assert (picture.instances, picture.study) == (("1.9.1",), "1.2.3")
    assert [(c.text, c.section, c.scope, c.origin) for c in picture.captions] == [
        ("Hypoechoic mass in the left lobe.", "findings", "clip", "report")
    ]
    assert [(c.text, c.section, c.scope) for c in study.captions] == [
        ("No ascites.", "findings", "study"),
        ("Shape: Ovoid shape.", "findings", "study"),
        ("Benign nodule.", "impression", "study"),
        ("Width: 12.5 mm.", "measurements", "study"),
    ]


def test_nobody_and_no_date_becomes_text_but_all_are_harvested() -> None:
    table = read_report(report(CONTENT))
    said = " ".join(caption.text for row in table.rows for caption in row.captions)
    for word in ("Quill", "Zorn", "SCANNER", "2020", "Call", "ZX"):
        assert word not in said
    harvested = {(one.value, one.klass) for one in table.rows[-1].identifiers}
    assert harvested >= {
        ("Quill^Bert", "staff"), ("Zorn^Ada", "name"), ("ZX-9912", "id"), ("20200103", "date"),
        ("SCANNER-77", "other"), ("Call Frau Zorn", "other"), ("1.2.3.4", "id"),
    }  # fmt: skip


def test_a_report_without_text_still_gives_its_identifiers() -> None:
    (study,) = read_report(report([])).rows
    assert study.captions == ()
    assert ("Zorn^Ada", "name") in {(one.value, one.klass) for one in study.identifiers}


def test_a_deep_tree_ends() -> None:
    deepest = item("TEXT", FINDING, TextValue="Deep.")
    for _ in range(60):
        deepest = item("CONTAINER", FINDINGS, children=[deepest])
    assert read_report(report([deepest])).rows[-1].captions == ()


def test_damage_gives_a_reason_and_no_value() -> None:
    with pytest.raises(MediaError, match="unreadable") as caught:
        read_report(b"Zorn Ada was here")
    assert "Zorn" not in str(caught.value)


@pytest.mark.parametrize("cut", range(200, 2600, 197))
def test_a_cut_report_is_read_or_refused_without_a_value(cut: int) -> None:
    try:
        read_report(report(CONTENT)[:cut])
    except MediaError as error:
        told = str(error)
    else:
        told = ""
    assert "Zorn" not in told
