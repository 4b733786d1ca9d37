"""What sites type into columns and headers does not pass, and what is in doubt stays in the private state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.dicom_factory import make_us_dicom, phantom
from support.in_process import ingest_here

from usds.curation.deid.pixels import CleanFrame, CleanResult, PixelCleaner
from usds.curation.linking import LinkOptions
from usds.curation.settings import IngestSettings
from usds.schemas.dataset import Dataset


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", phantom(1, 160, 220, seed=seed)[0])[1].tobytes())


def column(root: Path, table: str, name: str) -> list[Any]:
    return Dataset.open(root).arrow(table).to_table(columns=[name]).column(0).to_pylist()


def test_a_language_is_one_of_a_list_whatever_the_column_holds(raw: Path, tmp_path: Path) -> None:
    languages = ["Heatherington", "kim", "en-GB", "Deutsch", "de-Gwendolen", ""]
    rows = ["image,caption,language"]
    for seed, language in enumerate(languages):
        picture(raw / f"t{seed}.png", seed)
        rows.append(f"t{seed}.png,Simple cyst number {seed} of the left kidney,{language}")
    (raw / "captions.csv").write_text("\n".join(rows))
    code = {"CodeValue": "lee", "CodingSchemeDesignator": "RFC5646", "CodeMeaning": "Lee"}
    from pydicom.dataset import Dataset as Header

    item = Header()
    for keyword, value in code.items():
        setattr(item, keyword, value)
    header = {"ImageComments": "Hypoechoic mass in the liver", "LanguageCodeSequence": [item]}
    (raw / "a.dcm").write_bytes(make_us_dicom(phantom(1, 160, 220, seed=9), header=header))
    ingest_here(raw, tmp_path / "d")
    found = column(tmp_path / "d", "captions", "language")
    assert len(found) == len(languages) + 1
    assert sorted(found, key=str) == [None, None, None, None, "de", "de", "en"]


def test_a_list_of_subjects_means_what_it_says(raw: Path, tmp_path: Path) -> None:
    for seed in range(4):
        picture(raw / "one_folder" / f"s{seed}.png", seed)
    listed = {"s0.png": "X", "s1.png": "N", "s2.png": "TEST", "s3.png": "x"}
    ingest_here(raw, tmp_path / "d", link=LinkOptions(listed))
    assert set(column(tmp_path / "d", "frames", "subject_rule")) == {"subjects_csv"}
    assert len(set(column(tmp_path / "d", "frames", "subject_id"))) == 3


@pytest.mark.parametrize(("mapped", "subjects"), [(True, 2), (False, 1)])
def test_a_mapped_column_means_what_it_says_and_a_guessed_one_does_not(
    raw: Path, tmp_path: Path, mapped: bool, subjects: int
) -> None:
    rows = ["image,caption,subject"]
    for seed, subject in enumerate(("X", "N")):
        picture(raw / "one_folder" / f"s{seed}.png", seed)
        rows.append(f"s{seed}.png,Simple cyst of the left kidney,{subject}")
    (raw / "one_folder" / "t.csv").write_text("\n".join(rows))
    settings = IngestSettings(columns={"subject": "subject"} if mapped else {})
    ingest_here(raw, tmp_path / "d", settings)
    assert len(set(column(tmp_path / "d", "frames", "subject_id"))) == subjects
    assert set(column(tmp_path / "d", "frames", "subject_rule")) == {"sidecar" if mapped else "folder"}


def _frame(index: int) -> CleanFrame:
    image = np.full((64, 64, 3), 40 + index, np.uint8)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    return CleanFrame(index, data, 64, 64, (0, 0, 64, 64), 1.0, (), [], 0.0, "test", None, image)


@pytest.mark.parametrize(
    ("outcome", "written", "held", "kept", "frames"),
    [("review", [0], [1, 2], [0, 1, 2], 0), ("ok", [0, 1], [2], [2], 2), ("ok", [0], [], [], 1)],
)
def test_withheld_frames_lie_in_the_private_state_and_nowhere_else(
    raw: Path, tmp_path: Path, private_state_home: Path, monkeypatch: pytest.MonkeyPatch, *,
    outcome: Any, written: list[int], held: list[int], kept: list[int], frames: int,
) -> None:  # fmt: skip
    reason: Any = "frames_withheld" if outcome == "review" else "ok"
    result = CleanResult(
        outcome, reason, [_frame(i) for i in written], len(held), (), [_frame(i) for i in held]
    )
    monkeypatch.setattr(PixelCleaner, "clean", lambda *_, **__: result)
    (raw / "a.dcm").write_bytes(make_us_dicom(phantom(3, 160, 220, seed=1), n_frames=3))
    ingest_here(raw, tmp_path / "d")
    assert len(column(tmp_path / "d", "frames", "frame_id")) == frames
    (row,) = Dataset.open(tmp_path / "d").arrow("sources").to_table().to_pylist()
    assert row["frames_withheld"] == len(held) + (len(written) if outcome == "review" else 0)
    found = sorted(private_state_home.rglob("*.png"))
    assert [int(path.stem) for path in found] == kept
    images = dict(Dataset.open(tmp_path / "d").iter_images())
    assert all(path.read_bytes() not in images.values() for path in found)
    assert all(path.stat().st_mode & 0o077 == 0 for path in found)
