"""The steps of ingest in this process: who is first, what is done again, what is refused."""

from __future__ import annotations

import io
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import pytest
from support.dicom_factory import make_us_dicom, phantom
from support.in_process import InProcess

from usds.curation.ingest import IngestOptions, IngestReport, ingest, preview
from usds.curation.linking import LinkOptions
from usds.curation.settings import RULES, IngestSettings
from usds.schemas.dataset import Dataset
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.state import State

Ingest = Callable[..., IngestReport]


class Raw:
    """A raw folder that tests fill."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, data: bytes | str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def picture(self, name: str, seed: int) -> Path:
        image = phantom(1, 160, 220, seed=seed)[0]
        return self.put(name, cv2.imencode(".png", image)[1].tobytes())

    def dicom(self, name: str, seed: int, **header: Any) -> Path:
        return self.put(name, make_us_dicom(phantom(1, 160, 220, seed=seed), header=header))


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    (tmp_path / "raw").mkdir()
    return Raw(tmp_path / "raw")


@pytest.fixture
def calls() -> Counter[str]:
    return Counter()


@pytest.fixture
def run(tmp_path: Path, raw: Raw, calls: Counter[str]) -> Ingest:
    """Ingest the raw folder into ``d``."""
    key = Path(__file__).parents[2] / "examples" / "demo.key"

    def go(root: str = "d", source: Path | None = None, **options: Any) -> IngestReport:
        settings = options.pop("settings", None)
        fresh = not (tmp_path / root / "dataset.json").exists()
        return ingest(
            [source or raw.root], tmp_path / root, settings,
            IngestOptions(key_file=key if fresh else None, **options),
            executor=lambda setup, _: InProcess(setup, calls),
        )  # fmt: skip

    return go


@pytest.fixture
def sources(tmp_path: Path) -> Callable[[], dict[str, Mapping[str, Any]]]:
    """Rows of the table sources by the file's name."""

    def read(root: str = "d") -> dict[str, Mapping[str, Any]]:
        dataset = Dataset.open(tmp_path / root)
        state = State.open(dataset.info.dataset_id, dataset.info.key_fingerprint)
        found = dataset.arrow("sources").to_table().to_pylist()
        assert len({row["source_key"] for row in found}) == len(found), "a file has two rows"
        named: dict[str, Mapping[str, Any]] = {}
        for row in found:
            for place in state.locate(row["source_key"]):
                named[Path(place["path"]).name] = row
        return named

    return read


def table(tmp_path: Path, name: str, *columns: str, root: str = "d") -> list[tuple[Any, ...]]:
    found = Dataset.open(tmp_path / root).arrow(name).to_table(columns=list(columns)).to_pylist()
    return sorted(tuple(row.values()) for row in found)


def test_every_file_has_one_row_with_its_reason(raw: Raw, run: Ingest, sources: Any) -> None:
    raw.picture("p/good.png", 1)
    raw.put("p/copy.png", (raw.root / "p/good.png").read_bytes())
    raw.put("empty.dcm", b"")
    raw.put("noise.bin", bytes(range(256)) * 9)
    raw.put("p/cut.png", (raw.root / "p/good.png").read_bytes()[:200])
    raw.put(".DS_Store", b"x")
    raw.dicom("ct.dcm", 2, Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    raw.put("q/orphan.csv", "image,caption\nnowhere.png,Liver\n")
    (raw.root / "loop").symlink_to(raw.root)
    report = run()
    found = {name: (row["outcome"], row["reason"]) for name, row in sources().items()}
    first = "good.png" if found["good.png"][0] == "ingested" else "copy.png"
    assert found.pop(first) == ("ingested", "ok")
    assert found.pop({"good.png", "copy.png"}.difference({first}).pop()) == ("rejected", "duplicate")
    cut = found.pop("cut.png")
    assert cut[0] == "rejected"
    assert cut[1] in ("truncated", "unreadable", "no_image_area")
    assert found == {
        "empty.dcm": ("rejected", "empty"), "noise.bin": ("rejected", "unsupported"),
        ".DS_Store": ("rejected", "ignored"), "ct.dcm": ("rejected", "wrong_modality"),
        "orphan.csv": ("rejected", "unmatched_sidecar"), "loop": ("rejected", "symlink"),
    }  # fmt: skip
    assert report.exit_code == 3
    assert report.files == 9


def test_a_text_whose_picture_gave_no_frame_says_so_and_counts_once(
    raw: Raw, run: Ingest, sources: Any
) -> None:
    raw.picture("p/whole.png", 1)
    raw.put("p/cut.png", (raw.root / "p/whole.png").read_bytes()[:200])
    raw.put("p/cut.txt", "Hypoechoic mass in the liver.")
    report = run()
    found = {name: (row["outcome"], row["reason"]) for name, row in sources().items()}
    assert found["cut.txt"] == ("rejected", "media_unused")
    assert found["cut.png"][0] == "rejected"
    assert report.refused == 1


def test_the_text_of_a_refused_picture_passes_to_no_other(
    raw: Raw, run: Ingest, sources: Any, tmp_path: Path
) -> None:
    raw.picture("b/one.png", 1)
    raw.put("a/one.png", (raw.root / "b/one.png").read_bytes()[:200])
    raw.put("a/list.csv", "file,caption\none.png,Anechoic cyst in the left kidney.\n")
    raw.picture("c/two.png", 2)
    raw.put("c/gone.png", b"")
    raw.put("c/gone.txt", "Hypoechoic mass in the liver.")
    run()
    found = {name: row["reason"] for name, row in sources().items()}
    assert (found["list.csv"], found["gone.txt"]) == ("media_unused", "media_unused")
    assert table(tmp_path, "captions", "text") == []


def test_a_duplicate_names_its_original(raw: Raw, run: Ingest, sources: Any) -> None:
    raw.picture("a.png", 1)
    raw.put("b.png", (raw.root / "a.png").read_bytes())
    assert run().exit_code == 0
    rows = {row["reason"]: row for row in sources().values()}
    assert rows["duplicate"]["duplicate_of"] == rows["ok"]["source_key"]


def test_the_copy_with_a_caption_is_the_original(raw: Raw, run: Ingest, sources: Any, tmp_path: Path) -> None:
    for name in ("x/a.png", "y/b.png", "z/c.png"):
        raw.picture(name, 1)
    raw.put("y/b.txt", "Hypoechoic mass in the liver.")
    run()
    assert sources()["b.png"]["reason"] == "ok"
    assert table(tmp_path, "captions", "text") == [("Hypoechoic mass in the liver.",)]


def test_a_second_run_does_nothing_and_reads_nothing(raw: Raw, run: Ingest, calls: Counter[str]) -> None:
    raw.picture("a.png", 1)
    raw.put("a.txt", "Normal liver.")
    assert run().done == 2
    calls.clear()
    assert run().done == 0
    assert calls == {}


def test_a_moved_folder_changes_nothing(raw: Raw, run: Ingest, tmp_path: Path, calls: Counter[str]) -> None:
    raw.picture("p/a.png", 1)
    run()
    before = table(tmp_path, "frames", "frame_id", "subject_id", "source_key", "shard")
    raw.root.rename(tmp_path / "elsewhere")
    calls.clear()
    assert run(source=tmp_path / "elsewhere").done == 0
    assert calls["curator"] == 0
    assert table(tmp_path, "frames", "frame_id", "subject_id", "source_key", "shard") == before


def test_added_files_leave_finished_tasks_alone(raw: Raw, run: Ingest, tmp_path: Path) -> None:
    raw.picture("a.png", 1)
    run()
    before = Dataset.open(tmp_path / "d").manifests()
    raw.picture("b.png", 2)
    assert run().done == 1
    after = Dataset.open(tmp_path / "d").manifests()
    assert {name: after[name] for name in before} == before
    assert len(table(tmp_path, "frames", "frame_id")) == 2


def test_a_changed_file_supersedes_its_frames(raw: Raw, run: Ingest, tmp_path: Path, sources: Any) -> None:
    raw.picture("a.png", 1)
    raw.picture("b.png", 2)
    run()
    before = set(table(tmp_path, "frames", "frame_id"))
    raw.picture("a.png", 3)
    run()
    after = set(table(tmp_path, "frames", "frame_id"))
    assert len(after) == 2
    assert len(after & before) == 1
    assert set(sources()) == {"a.png", "b.png"}


def test_a_late_caption_is_added_without_touching_pixels(raw: Raw, run: Ingest, tmp_path: Path) -> None:
    raw.picture("a.png", 1)
    run()
    images = Dataset.open(tmp_path / "d").paths("images")
    before = {path: path.read_bytes() for path in images}
    raw.put("a.txt", "Anechoic cyst in the liver.")
    run()
    ((text, target),) = table(tmp_path, "captions", "text", "target_id")
    assert text == "Anechoic cyst in the liver."
    assert [(target,)] == table(tmp_path, "frames", "frame_id")
    assert all(path.read_bytes() == data for path, data in before.items())
    assert run().done == 0


def test_a_changed_sidecar_replaces_its_captions(raw: Raw, run: Ingest, tmp_path: Path) -> None:
    raw.picture("a.png", 1)
    raw.put("a.txt", "Anechoic cyst in the liver.")
    run()
    raw.put("a.txt", "Hyperechoic mass in the spleen.")
    run()
    assert table(tmp_path, "captions", "text") == [("Hyperechoic mass in the spleen.",)]


def test_other_settings_are_refused_by_name_and_redo_rewrites(raw: Raw, run: Ingest, tmp_path: Path) -> None:
    raw.picture("a.png", 1)
    run()
    strict = IngestSettings.model_validate({"pixels": {"quality": 90}})
    with pytest.raises(UsageError, match=r"pixels\.quality: 95 -> 90.*--redo"):
        run(settings=strict)
    before = table(tmp_path, "frames", "frame_id")
    assert run(settings=strict, redo=True).done == 1
    assert table(tmp_path, "frames", "frame_id") == before
    assert run(settings=strict).done == 0


def test_a_dataset_of_older_rules_is_refused_until_it_is_written_again(
    raw: Raw, run: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.picture("a.png", 1)
    with monkeypatch.context() as older:
        older.setattr("usds.curation.settings.RULES", RULES - 1)
        run()
    with pytest.raises(UsageError, match=f"rules: {RULES - 1} -> {RULES}.*--redo"):
        run()
    assert run(redo=True).done == 1
    assert run().done == 0


def test_run_settings_are_not_part_of_the_output(raw: Raw, run: Ingest) -> None:
    raw.picture("a.png", 1)
    run()
    assert run(settings=IngestSettings.model_validate({"run": {"workers": 7}})).done == 0


def test_another_key_shares_no_id(raw: Raw, run: Ingest, tmp_path: Path, calls: Counter[str]) -> None:
    raw.dicom("a.dcm", 1, PatientID="P1", StudyInstanceUID="1.2.3")
    raw.put("a.txt", "Hypoechoic mass in the liver.")
    run()
    ingest([raw.root], tmp_path / "e", executor=lambda setup, _: InProcess(setup, calls))
    columns = ("frame_id", "subject_id", "study_id", "source_key")
    ours = {value for row in table(tmp_path, "frames", *columns) for value in row}
    theirs = {value for row in table(tmp_path, "frames", *columns, root="e") for value in row}
    assert len(ours) == len(theirs) == 4
    assert ours.isdisjoint(theirs)


def test_retry_takes_up_what_was_forbidden(raw: Raw, run: Ingest, sources: Any) -> None:
    if os.geteuid() == 0:
        path = raw.picture("a.png", 1)
        data = path.read_bytes()
        path.unlink()
        path.symlink_to(raw.root.parent / "target.png")
        assert run().exit_code == 3
        path.unlink()
        path.write_bytes(data)
        assert run().exit_code == 0
        assert sources()["a.png"]["reason"] == "ok"
        return
    path = raw.picture("a.png", 1)
    path.chmod(0)
    assert run().exit_code == 3
    assert sources()["a.png"]["reason"] == "permission_denied"
    path.chmod(0o600)
    assert run().done == 0
    assert run(retry=frozenset({"transient"})).exit_code == 0
    assert sources()["a.png"]["reason"] == "ok"


def test_subjects_come_from_the_list_before_anything_else(raw: Raw, run: Ingest, tmp_path: Path) -> None:
    raw.dicom("p1/a.dcm", 1, PatientID="HEADER")
    raw.picture("p2/b.png", 2)
    raw.picture("p3/c.png", 3)
    run(link=LinkOptions({"p1/a.dcm": "S-17", "b.png": "S-17"}))
    rules = Counter(row[0] for row in table(tmp_path, "frames", "subject_rule"))
    assert rules == {"subjects_csv": 2, "folder": 1}
    assert len({row[0] for row in table(tmp_path, "frames", "subject_id")}) == 2


def test_a_subject_with_two_birth_dates_is_marked(raw: Raw, run: Ingest, tmp_path: Path) -> None:
    raw.dicom("a.dcm", 1, PatientID="P1", PatientBirthDate="19500101")
    raw.dicom("b.dcm", 2, PatientID="P1", PatientBirthDate="19600101")
    report = run()
    assert table(tmp_path, "frames", "subject_conflict") == [(True,), (True,)]
    assert any("different birth dates or sexes" in warning for warning in report.warnings)


def test_withdrawn_subjects_do_not_come_back(raw: Raw, run: Ingest, tmp_path: Path, sources: Any) -> None:
    from usds.curation.forget import forget

    raw.dicom("a.dcm", 1, PatientID="P1")
    raw.dicom("b.dcm", 2, PatientID="P2")
    run()
    dataset = Dataset.open(tmp_path / "d")
    state = State.open(dataset.info.dataset_id, dataset.info.key_fingerprint)
    (subject,) = [row["subject_id"] for row in state.locate(sources()["a.dcm"]["source_key"])]
    forget(dataset, state, subject)
    assert run().exit_code == 0
    raw.dicom("later.dcm", 3, PatientID="P1")
    run()
    assert sources()["later.dcm"]["reason"] == "withdrawn"
    assert len(table(tmp_path, "frames", "frame_id")) == 1


def test_zip_members_count_as_files(raw: Raw, run: Ingest, tmp_path: Path) -> None:
    import zipfile

    picture = raw.picture("a.png", 1)
    with zipfile.ZipFile(raw.root / "b.zip", "w") as archive:
        archive.write(picture, "inner/a.png")
        archive.writestr("inner/a.txt", "Anechoic cyst in the liver.")
        archive.writestr("empty.dcm", "")
    picture.unlink()
    report = run()
    assert report.files == 4
    assert report.reasons == {"ok": 3, "empty": 1}
    assert table(tmp_path, "captions", "text") == [("Anechoic cyst in the liver.",)]
    assert run().done == 0


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_run(
    raw: Raw, run: Ingest, sources: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from usds.curation import pipeline

    path = raw.picture("a.png", 1)
    open_media = pipeline.open_media

    def growing(*arguments: Any, **options: Any) -> Any:
        with path.open("ab") as stream:
            stream.write(b"more")
        return open_media(*arguments, **options)

    monkeypatch.setattr(pipeline, "open_media", growing)
    run()
    assert sources()["a.png"]["reason"] == "changed"
    monkeypatch.setattr(pipeline, "open_media", open_media)
    run()
    assert sources()["a.png"]["reason"] == "ok"


def test_old_captions_are_cleaned_when_later_files_name_somebody(
    raw: Raw, run: Ingest, tmp_path: Path
) -> None:
    raw.picture("p/a.png", 1)
    raw.put("p/a.txt", "Hypoechoic mass near the Lindqvister line of the liver, seen well in the right lobe.")
    run()
    raw.dicom("q/b.dcm", 2, PatientID="P9", ReferringPhysicianName="LINDQVISTER^KARL")
    run()
    assert "lindqvister" not in str(table(tmp_path, "captions", "text")).lower()


def test_places_and_emptiness_are_refused_in_one_line(raw: Raw, run: Ingest, tmp_path: Path) -> None:
    with pytest.raises(
        ContentError, match=r"no files below .*raw: name the folder that holds the raw export"
    ):
        run()
    raw.picture("a.png", 1)
    with pytest.raises(UsageError, match="the dataset lies inside"):
        run("raw/d")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("x")
    with pytest.raises(UsageError, match=r"full exists and is no dataset: name an empty or a new folder"):
        run("full")


def test_a_lost_key_is_refused(raw: Raw, run: Ingest, private_state_home: Path) -> None:
    raw.picture("a.png", 1)
    run()
    next(private_state_home.glob("*/key")).unlink()
    with pytest.raises(ContentError, match="the key of this dataset is missing"):
        run()


def test_a_full_disk_in_the_parent_leaves_nothing_half_written(
    raw: Raw, run: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from usds.schemas.shards import TaskWriter

    raw.picture("a.png", 1)
    commit = TaskWriter.commit

    def full(self: TaskWriter) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TaskWriter, "commit", full)
    with pytest.raises((ContentError, OSError), match=r"full|No space"):
        run()
    assert not list((tmp_path / "d").rglob("*.parquet"))
    monkeypatch.setattr(TaskWriter, "commit", commit)
    assert run().frames == 1


def test_a_preview_counts_what_an_ingest_would_work_on(raw: Raw, run: Ingest, tmp_path: Path) -> None:
    def new(root: str = "d", **options: Any) -> int:
        return preview([raw.root], tmp_path / root, IngestSettings(), IngestOptions(**options))["new"]

    first = raw.picture("a/one.png", 1)
    raw.put("a/one.txt", "Anechoic cyst in the liver.")
    (raw.root / "link").symlink_to(first)
    raw.put("pack.zip", zipped({"three.png": first.read_bytes()}))
    assert new() == 4
    assert not (tmp_path / "d").exists()
    run()
    assert (new(), new("other"), new(redo=True)) == (0, 4, 4)
    raw.picture("a/two.png", 2)
    raw.put("a/one.txt", "Anechoic cyst in the spleen.")
    assert new() == 2
    other = IngestSettings.model_validate({"pixels": {"quality": 80}})
    with pytest.raises(UsageError, match=r"was made with other settings .*write it again with --redo"):
        preview([raw.root], tmp_path / "d", other, IngestOptions())


def zipped(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()
