"""Ingest, correct by hand, ingest again, forget a subject, audit: what must stay stays, what must go is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.dicom_factory import Planted, make_us_dicom, phantom
from support.in_process import ingest_here

from usds.curation.annotate import annotate_dataset
from usds.curation.audit.run import audit
from usds.curation.corrections import Correction, append_corrections, read_corrections
from usds.curation.deid.harvest import IdentifierIndex
from usds.curation.forget import forget, subject_of_file
from usds.curation.settings import IngestSettings
from usds.schemas.dataset import Dataset
from usds.schemas.state import State
from usds.taxonomy.udt import load_taxonomy

UDT = load_taxonomy("udt")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two patients; identifiers of the first stand everywhere that a file can hold them."""
    phi = Planted()
    folder = tmp_path / "raw" / "QUILLFEATHER_ORSOLA"
    folder.mkdir(parents=True)
    preamble = phi.preamble.encode().ljust(128, b"\0")
    (folder / "MRN-7741902.dcm").write_bytes(
        make_us_dicom(phantom(1, 240, 320, seed=3), phi=phi, preamble=preamble)
    )
    (folder / "MRN-7741902.txt").write_text(
        "Orsola Quillfeather (MRN-7741902), born 17.04.1953. Hypoechoic mass in the liver.", "utf-8"
    )
    other = tmp_path / "raw" / "other"
    other.mkdir()
    facts = {"PatientID": "P0042", "PatientName": "Brecht^Bert", "StudyInstanceUID": "1.2.3.4"}
    (other / "scan.dcm").write_bytes(make_us_dicom(phantom(1, 240, 320, seed=9), header=facts))
    (other / "scan.txt").write_text("Anechoic cyst in the liver.", "utf-8")
    return tmp_path / "raw"


def organs(dataset: Dataset) -> dict[str, list[str]]:
    rows = dataset.connect().execute("SELECT frame_id, organ FROM annotations").fetchall()
    return {frame: sorted(labels) for frame, labels in rows}


def test_a_persons_labels_survive_and_a_withdrawn_subject_leaves_no_byte(raw: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    ingest_here(raw, root)
    dataset = Dataset.open(root)
    state = State.open(dataset.info.dataset_id, dataset.info.key_fingerprint)
    annotate_dataset(dataset, UDT)
    gone = subject_of_file(state, raw / "QUILLFEATHER_ORSOLA" / "MRN-7741902.dcm")
    subject_of = dict(dataset.connect().execute("SELECT frame_id, subject_id FROM frames").fetchall())
    assert len(set(subject_of.values())) == 2
    corrected = [("add", "Spleen"), ("remove", "Liver")]
    append_corrections(
        dataset, [Correction(frame, None, "organ", label, action, "present") for frame in subject_of for action, label in corrected]  # type: ignore[arg-type]
    )  # fmt: skip
    dataset.write_split(
        "default", [{"subject_id": one, "split": "train"} for one in set(subject_of.values())]
    )

    # Other settings rewrite every file: ids, and so a person's decisions, hold.
    ingest_here(raw, root, IngestSettings.model_validate({"pixels": {"quality": 90}}), redo=True)
    annotate_dataset(Dataset.open(root), UDT)
    dataset = Dataset.open(root)
    assert organs(dataset) == {frame: ["Spleen"] for frame in subject_of}
    images = dict(dataset.iter_images())

    report = forget(dataset, state, gone)
    kept = [frame for frame, subject in subject_of.items() if subject != gone]
    assert {one.target_id for one in read_corrections(dataset)} == set(kept)
    assert list(report.copies) == kept  # the same picture under another patient's id
    assert organs(dataset) == {frame: ["Spleen"] for frame in kept}
    files = [path for folder in (root, state.folder) for path in folder.rglob("*") if path.is_file()]
    everything = {path: path.read_bytes() for path in files}
    for frame, image in images.items():
        assert any(image in data for data in everything.values()) == (frame in kept)
    lost = [frame for frame in subject_of if frame not in kept]
    for word in ("QUILLFEATHER", "Quillfeather", "7741902", "19530417", "17.04.1953", *lost):
        for form in (word.encode(), word.encode("utf-16-le")):
            assert [path.name for path, data in everything.items() if form in data] == []

    audited = audit(dataset, IdentifierIndex.load(state), state=state)
    assert audited.findings == []
    assert audited.images == len(kept)
    before = {path: path.read_bytes() for path in root.rglob("*.parquet")}
    ingest_here(raw, root, IngestSettings.model_validate({"pixels": {"quality": 90}}))
    assert {path: path.read_bytes() for path in root.rglob("*.parquet")} == before  # and never comes back
