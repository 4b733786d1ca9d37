"""No identifier of a seeded export in any byte of the dataset, of stdout or of stderr."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin
from support.dicom_factory import make_us_dicom, make_video, phantom

from usds.schemas.dataset import Dataset

pytestmark = pytest.mark.slow


def needles(phi: Any) -> list[str]:
    """Every planted value, and the parts of it that would identify by themselves."""
    values = {value for text in phi.values() for value in (text, *re.split(r"[\^\s_-]+", text))}
    common = {"note", "tech", "bed", "overlay", "by", "preamble", "private", "trailing", "infirmary", "saint",
              "crescent", "555", "mrn", "mae", "sn"}  # fmt: skip
    return sorted(
        v.lower() for v in values if len(v) >= 4 and v.lower() not in common and v.lower() != "1953"
    )


def texts(root: Path) -> Iterator[tuple[str, str]]:
    """Every string of the dataset: file names, JSON, and string columns of Parquet after decompression."""
    for path in sorted(root.rglob("*")):
        yield "file name", path.name
        if path.suffix == ".parquet":
            for row in (
                pq.read_table(path).drop_columns(["image"] if "images" in path.parts else []).to_pylist()
            ):
                yield path.name, repr(row)
            yield path.name, repr(pq.read_metadata(path).metadata)
        if path.is_file():
            yield path.name, path.read_bytes().decode("latin-1")


def test_nothing_of_a_seeded_export_leaves_the_private_state(
    tmp_path: Path, seeded_export: tuple[Path, Any], usds: Any, private_state_home: Path
) -> None:
    raw, phi = seeded_export
    done = usds("ingest", raw, "--dataset", "d", expect=None)
    assert done.returncode in (0, 3), done.stderr
    dataset = Dataset.open(tmp_path / "d")
    frames = dataset.arrow("frames").to_table().to_pylist()
    assert len(frames) == 2, done.stdout
    assert len({frame["subject_id"] for frame in frames}) == 2  # the PNG has no header: folder rule

    found = [
        (where, needle)
        for needle in needles(phi)
        for where, text in [*texts(tmp_path / "d"), ("stdout", done.stdout), ("stderr", done.stderr)]
        if needle in text.lower()
    ]
    assert found == []
    # Not for want of text: what is harmless was kept, and the identifiers are where they belong.
    captions = " ".join(row["text"] for row in dataset.arrow("captions").to_table().to_pylist())
    withheld = b"".join(path.read_bytes() for path in private_state_home.rglob("ledger.sqlite*"))
    assert "ypoechoic mass" in captions or b"ypoechoic mass" in withheld
    state = b"".join(path.read_bytes() for path in private_state_home.rglob("*") if path.is_file())
    assert b"QUILLFEATHER" in state


def test_private_files_are_for_the_owner_alone(
    small_export: Path, usds: Any, private_state_home: Path
) -> None:
    usds("ingest", small_export / "patient0", "--dataset", "d")
    for path in private_state_home.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


SENTENCE = (
    "Simple cyst of the left kidney, anechoic with thin wall and posterior enhancement, seen in {} and "
    "unchanged in size since the last examination of the abdomen."
)


def _odd_places(raw: Path) -> list[str]:
    """An export with identifiers where few look; returns them."""
    pixels = [Image.fromarray(picture).convert("RGB") for picture in phantom(6, 240, 320, seed=11)]
    raw.mkdir()

    def save(name: str, kind: str, number: int, **options: Any) -> None:
        (raw / name).parent.mkdir(exist_ok=True)
        pixels[number].rotate(3 * number).save(raw / name, kind, **options)

    info = PngImagePlugin.PngInfo()
    info.add_text("PatientName", "Oglethorpe, Cressida")
    info.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta><dc:creator>Pemberton</dc:creator></x:xmpmeta>")
    save("meta/a.png", "PNG", 0, pnginfo=info)
    (raw / "meta/a.txt").write_text(SENTENCE.format("Cressida Oglethorpe by Pemberton"), "utf-16")
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = "Patient Hawthornthwaite", "Dr Quartermaine"
    save("meta/b.jpg", "JPEG", 1, exif=exif, comment=b"Heatherington was here", quality=97)
    about = {"caption": SENTENCE.format("Hawthornthwaite by Quartermaine"), "language": "Heatherington"}
    (raw / "meta/b.json").write_text(json.dumps({**about, "section": "Satterthwaite"}))
    save("table/t.png", "PNG", 2)
    (raw / "table/x.csv").write_text(
        'image,caption,patient,language\nt.png,"' + SENTENCE.format("Wilhelmina\nBottomley") + '",'
        '"=HYPERLINK(""Bottomley, Wilhelmina"")",Bottomley\n', "utf-8-sig",
    )  # fmt: skip
    clip = make_video(
        phantom(8, 240, 320, seed=12), metadata={"title": "Ploughwright", "artist": "Ironmonger"}
    )
    (raw / "meta/d.mp4").write_bytes(clip)
    (raw / "meta/d.txt").write_text(SENTENCE.format("Ploughwright by Ironmonger"))
    dicom = make_us_dicom(
        phantom(1, 240, 320, seed=13),
        header={
            "PatientName": "WHITE^ROSE", "PatientID": "HX4410137", "StudyDescription": "ABDOMEN WHITE",
            "SeriesDescription": "ROSE liver", "ImageComments": SENTENCE.format("R. White on 14 V 2019"),
            "Manufacturer": "Cadwallader", "ManufacturerModelName": "Penhaligon", "BodyPartExamined": "PENHAL",
        },
    )  # fmt: skip
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.comment = b"for Sacheverell"
        archive.writestr("SACHEVERELL_LUCRETIA/scan.dcm", dicom)
    (raw / "SACHEVERELL.zip").write_bytes(packed.getvalue())
    folder = os.fsencode(raw) + b"/VILLENEUVE\xff\xfe"
    os.mkdir(folder)
    with open(folder + b"/LAFAYETTE\n\xe9.png", "wb") as stream:
        pixels[4].rotate(9).save(stream, "PNG")
    return [
        "oglethorpe", "cressida", "pemberton", "hawthornthwaite", "quartermaine", "heatherington",
        "satterthwaite", "wilhelmina", "bottomley", "ploughwright", "ironmonger", "hx4410137", "cadwallader",
        "penhal", "sacheverell", "lucretia", "villeneuve", "lafayette", "abdomen white", "rose liver",
        "r. white", "v 2019",
    ]  # fmt: skip


def test_nothing_leaves_from_where_few_look(tmp_path: Path, usds: Any) -> None:
    planted = _odd_places(tmp_path / "raw")
    done = usds("ingest", tmp_path / "raw", "--dataset", "d", expect=None)
    assert done.returncode in (0, 3), done.stderr
    usds("annotate", "--dataset", "d")
    report = usds("stats", "--dataset", "d", "--html", "r.html")
    html = ("report", (tmp_path / "r.html").read_text("utf-8"))
    said = [("stdout", done.stdout + report.stdout), ("stderr", done.stderr + report.stderr), html]
    found = [
        (where, one)
        for one in planted
        for where, text in [*texts(tmp_path / "d"), *said]
        if one in text.lower()
    ]
    assert found == []
    captions = Dataset.open(tmp_path / "d").arrow("captions").to_table().column("text").to_pylist()
    assert sum("Simple cyst of the left kidney" in text for text in captions) == 5, done.stdout


def test_a_structured_report_gives_findings_and_nobody(tmp_path: Path, usds: Any) -> None:
    """PS3.3 A.35: names, dates and observers of an SR stay private, also where a finding repeats them."""
    from pydicom import dcmread
    from pydicom.dataset import Dataset as Elements
    from pydicom.dataset import FileMetaDataset
    from pydicom.sequence import Sequence
    from pydicom.uid import ExplicitVRLittleEndian

    def concept(value: str, meaning: str) -> Sequence:
        coded = Elements()
        coded.CodeValue, coded.CodingSchemeDesignator, coded.CodeMeaning = value, "DCM", meaning
        return Sequence([coded])

    def item(kind: str, value: str, meaning: str, **values: Any) -> Elements:
        made = Elements()
        made.ValueType, made.RelationshipType = kind, "CONTAINS"
        made.ConceptNameCodeSequence = concept(value, meaning)
        for keyword, content in values.items():
            setattr(made, keyword, content)
        return made

    still = make_us_dicom(phantom(1, 240, 320))
    picture = dcmread(io.BytesIO(still))
    report = Elements()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID = "1.2.3.4.5"
    report.Modality, report.ValueType = "SR", "CONTAINER"
    report.PatientName, report.PatientID = "Zornbruck^Adalind", "ZX-991288"
    report.StudyInstanceUID = picture.StudyInstanceUID
    finding = (
        "Hypoechoic mass in the left lobe of the liver with smooth margins and posterior enhancement. No ascites, "
        "no calcification. Normal flow in the portal vein. Shown to Dr Quillfeather; A. Zornbruck, zx991288."
    )
    report.ContentSequence = Sequence([
        item("PNAME", "121008", "Person Observer Name", PersonName="Quillfeather^Bert"),
        item("TEXT", "121071", "Finding", TextValue=finding),
    ])  # fmt: skip
    stream = io.BytesIO()
    report.save_as(stream, enforce_file_format=True)
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "IM1").write_bytes(still)
    (raw / "SR1").write_bytes(stream.getvalue())
    result = usds("ingest", raw, "--dataset", "d", expect=None)
    found = [text for _, text in texts(tmp_path / "d")]
    written = " ".join(found).lower() + result.stdout.lower() + result.stderr.lower()
    assert "hypoechoic mass in the left lobe of the liver" in written
    for word in ("zornbruck", "adalind", "quillfeather", "991288"):
        assert word not in written
