"""Pictures in doubt: what a person is shown, what may be decided, and what becomes of it; in a real browser too."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.dicom_factory import make_us_dicom
from support.in_process import ingest_here
from support.pixel_scenes import linear_area, screen
from support.tiny_dataset import make_dataset, specs

from usds.curation.audit.run import audit
from usds.curation.deid.burned_text import TextBox, TextDetector
from usds.curation.deid.decision import Decision, Mark
from usds.curation.deid.encode import decode
from usds.curation.deid.harvest import IdentifierIndex
from usds.curation.deid.identity import Ids
from usds.curation.deid.verify import Finding, Verifier
from usds.curation.executor import Job
from usds.curation.forget import forget
from usds.curation.picture_corrections import append_decision, read_decisions
from usds.curation.review_pictures import PictureSession
from usds.curation.review_queue import Candidate, files_in_doubt, files_named, most_redacted
from usds.curation.review_server import Malformed, ReviewServer
from usds.curation.settings import IngestSettings
from usds.curation.settle import SettleReport, settle
from usds.curation.stats import collect_stats
from usds.curation.worker import WorkerSetup
from usds.schemas.dataset import Dataset, DatasetLocked
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.state import State

SMALL = TextBox(200, 180, 240, 196, 1.0, "native")
WIDE = TextBox(160, 200, 480, 300, 1.0, "native")
EVERY_FRAME = IngestSettings.model_validate({"key_frames": {"method": "count", "max_frames": 3}})


class House:
    """A raw folder, its dataset, and what the detector of these tests finds."""

    def __init__(self, tmp_path: Path) -> None:
        self.raw, self.root = tmp_path / "raw", tmp_path / "d"
        self.raw.mkdir()
        self.found: list[TextBox] = [SMALL]
        self.hits: list[Finding] = []

    def put(self, name: str, seed: int, frames: int = 1, **header: Any) -> Path:
        path = self.raw / name
        path.parent.mkdir(exist_ok=True)
        pixels = np.stack([screen(linear_area(), seed + i) for i in range(frames)])
        options = {"n_frames": frames} if frames > 1 else {}
        path.write_bytes(make_us_dicom(pixels, photometric="RGB", header=header, **options))
        return path

    def ingest(self, **options: Any) -> Any:
        return ingest_here(self.raw, self.root, **options)

    @property
    def dataset(self) -> Dataset:
        return Dataset.open(self.root)

    @property
    def state(self) -> State:
        info = self.dataset.info
        return State.open(info.dataset_id, info.key_fingerprint)

    def rows(self, table: str = "sources") -> list[dict[str, Any]]:
        return self.dataset.arrow(table).to_table().to_pylist()

    def row(self) -> dict[str, Any]:
        (row,) = self.rows()
        return row

    def black(self, box: Any, frame: int = 0) -> float:
        """Share of a native box that is black in the dataset."""
        (row,) = [row for row in self.rows("frames") if row["frame_index"] == frame]
        image = decode(self.dataset.read_pixels([row["frame_id"]])[row["frame_id"]])
        x0, y0 = row["crop_x0"], row["crop_y0"]
        return float((image[box.y0 - y0 : box.y1 - y0, box.x0 - x0 : box.x1 - x0].max(axis=2) <= 12).mean())

    def session(self, found: list[Candidate] | None = None) -> PictureSession:
        if found is None:
            found = files_in_doubt(self.dataset, self.state, 100)
        return PictureSession(self.dataset, self.state, found)

    def named(self, *names: str) -> PictureSession:
        return self.session(files_named(self.dataset, self.state, names, here))

    def settle(self) -> SettleReport:
        return settle(self.dataset, self.state, executor=here)

    @property
    def key(self) -> str:
        return self.row()["source_key"]


def here(setup: WorkerSetup, _: IngestSettings) -> Any:
    """An executor without processes."""
    from importlib import import_module

    from usds.curation.executor import Done
    from usds.curation.worker import _handle

    module, _, name = setup.handler.partition(":")
    handler = getattr(import_module(module), name)(setup)

    class Here:
        def map(self, jobs: Any) -> Iterator[Done]:
            for job in jobs:
                for item in job.items:
                    yield Done(item, _handle(handler, item))

        def __enter__(self) -> Here:
            return self

        def __exit__(self, *error: object) -> None:
            return

    return Here()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """Detection and verification find what a test says, in native and in written pixels; all else is real."""
    made = House(tmp_path)
    monkeypatch.setattr(TextBox, "moved", lambda box, dx, dy: box)
    monkeypatch.setattr(TextDetector, "detect", lambda *_, **__: list(made.found))
    monkeypatch.setattr(TextDetector, "recognise", lambda _, __, boxes: [("", 0.0)] * len(boxes))
    monkeypatch.setattr(Verifier, "check", lambda *_: list(made.hits))
    return made


def posted(shown: dict[str, Any], outcome: str = "accept", **changes: Any) -> dict[str, Any]:
    """What the page sends for a file it was shown."""
    return {
        "outcome": outcome, "area": [], "added": shown["added"], "opened": shown["opened"],
        "number": shown["number"], **changes,
    }  # fmt: skip


def mark(x0: int, y0: int, x1: int, y1: int, frame: int | None = None) -> dict[str, Any]:
    return {"frame": frame, "x0": x0, "y0": y0, "x1": x1, "y1": y1}


def shown_box(shown: dict[str, Any], frame: int = 0) -> dict[str, Any]:
    box = shown["frames"][frame]["boxes"][0]
    return {name: box[name] for name in ("frame", "x0", "y0", "x1", "y1")}


# -- from doubt to dataset ------------------------------------------------------------------------------


def test_a_file_in_doubt_is_shown_as_it_came_with_its_boxes(house: House) -> None:
    house.found = [WIDE]
    house.put("a.dcm", 1)
    house.ingest()
    session = house.session()
    shown = session.file(house.key)
    assert (shown["reason"], shown["native"], shown["reachable"]) == ("redaction_large", True, True)
    assert (shown["rows"], shown["cols"]) == (480, 640)
    box = shown_box(shown)
    assert (box["x0"], box["y0"]) <= (WIDE.x0, WIDE.y0)
    assert (box["x1"], box["y1"]) >= (WIDE.x1, WIDE.y1)
    picture = cv2.imdecode(np.frombuffer(session.picture(f"{house.key}/0"), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(picture[..., ::-1], screen(linear_area(), 1))


def test_accepting_brings_the_file_in_at_the_end_of_the_review(house: House) -> None:
    house.found = [WIDE]
    house.put("a.dcm", 1)
    house.ingest()
    session = house.session()
    kept = session.save(house.key, posted(session.file(house.key)))
    assert kept["accepted"] == ["redaction_large"]
    assert house.row()["reason"] == "redaction_large"
    assert house.settle() == SettleReport({"ok": 1})
    assert (house.row()["outcome"], house.row()["warnings"]) == ("ingested", ["settled_by_person"])
    assert house.black(WIDE) == 1.0
    assert not (house.state.folder / "review" / house.key).exists()
    assert house.settle() == SettleReport()
    assert house.ingest().done == 0


def test_the_next_ingest_applies_decisions_as_well_and_redoes_these_files_alone(house: House) -> None:
    house.put("a.dcm", 1)
    house.put("b.dcm", 5)
    house.ingest()
    before = {row["source_key"]: row["frame_id"] for row in house.rows("frames")}
    key = sorted(before)[0]
    session = house.named(before[key])
    session.save(key, posted(session.file(key), added=[mark(300, 300, 340, 330)]))
    assert house.ingest().done == 1
    drawn = {row["source_key"]: [b["method"] for b in row["text_boxes"]] for row in house.rows("frames")}
    assert [("person" in methods) for _, methods in sorted(drawn.items())] == [True, False]
    assert {row["source_key"]: row["frame_id"] for row in house.rows("frames")} == before


def test_a_removed_box_is_open_and_a_later_decision_closes_it_again(house: House) -> None:
    house.put("a.dcm", 1)
    house.ingest()
    assert house.black(SMALL) == 1.0
    frame = house.rows("frames")[0]["frame_id"]
    session = house.named(frame[:12])
    shown = session.file(house.key)
    session.save(house.key, posted(shown, opened=[shown_box(shown)]))
    house.settle()
    assert house.black(SMALL) < 0.2
    assert house.rows("frames")[0]["verified_by"].endswith("+person")
    house.ingest(redo=True)
    assert house.black(SMALL) < 0.2
    session = house.named(frame)
    session.save(house.key, posted(session.file(house.key), opened=[]))
    house.settle()
    assert house.black(SMALL) == 1.0


def test_a_box_that_stays_although_it_was_removed_says_why(
    house: House, serve: Any, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.put("a.dcm", 1)
    house.ingest()
    monkeypatch.setattr(TextDetector, "recognise", lambda _, __, boxes: [("LIVER", 0.99)] * len(boxes))
    frame = house.rows("frames")[0]["frame_id"]
    session = house.named(frame)
    shown = session.file(house.key)
    session.save(house.key, posted(shown, opened=[shown_box(shown)]))
    assert session.file(house.key)["applied"] is False
    assert house.settle() == SettleReport({"ok": 1}, refused=1)
    assert house.black(SMALL) == 1.0
    session = house.named(frame)
    assert session.file(house.key)["applied"] is True
    page.goto(serve(session).address)
    page.wait_for_selector("#panel li:has-text('text can be read here: stays black')")
    assert page.locator("#panel li button").count() == 0


def test_a_clip_takes_boxes_for_one_frame_or_for_all(house: House) -> None:
    house.put("c.dcm", 1, frames=3)
    house.ingest(settings=EVERY_FRAME)
    session = house.named(house.rows("frames")[1]["frame_id"])
    shown = session.file(house.key)
    assert (shown["focus"], len(shown["frames"]), shown["source_frames"]) == (
        house.rows("frames")[1]["frame_index"], 3, 3,
    )  # fmt: skip
    one, every = mark(200, 320, 240, 340, 1), mark(400, 320, 440, 340)
    session.save(house.key, posted(shown, added=[one, every]))
    house.settle()
    here_one, here_all = Mark(**one), Mark(**every)
    assert [round(house.black(here_one, i)) for i in range(3)] == [0, 1, 0]
    assert [house.black(here_all, i) for i in range(3)] == [1.0, 1.0, 1.0]


def test_what_is_still_legible_takes_a_box_or_a_word_and_a_known_identifier_only_a_box(house: House) -> None:
    place = TextBox(80, 80, 120, 96, 1.0, "strokes")
    house.hits = [Finding(place, "identifier", harvested=True)]
    house.put("a.dcm", 1)
    house.ingest()
    session = house.session()
    shown = session.file(house.key)
    assert (shown["reason"], shown["acceptable"]) == ("text_survived", False)
    (hit,) = shown["frames"][0]["hits"]
    place_of_hit = {name: hit[name] for name in ("frame", "x0", "y0", "x1", "y1")}
    with pytest.raises(UsageError, match="an identifier is still legible: draw a box over it"):
        session.save(house.key, posted(shown))
    with pytest.raises(UsageError, match="one over a known identifier stays"):
        session.save(house.key, posted(shown, opened=[place_of_hit]))
    session.save(house.key, posted(shown, added=[place_of_hit]))
    assert house.settle().outcomes == {"text_survived": 1}
    house.hits = []
    session = house.session()
    shown = session.file(house.key)
    with pytest.raises(UsageError, match="an identifier is still legible"):
        session.save(house.key, posted(shown))
    session.save(house.key, posted(shown, added=[*shown["added"], mark(300, 100, 340, 120)]))
    assert house.settle().outcomes == {"ok": 1}


def doubt_every_area(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have areas found as they are, but never surely."""
    from usds.curation.deid import pixels

    sure = pixels.find_area
    monkeypatch.setattr(
        pixels, "find_area", lambda *a, **k: pixels.AreaResult(sure(*a, **k).area, "area_uncertain")
    )


def test_an_unsure_area_is_confirmed_or_drawn(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    doubt_every_area(monkeypatch)
    house.put("a.dcm", 1)
    house.ingest()
    session = house.session()
    shown = session.file(house.key)
    assert shown["reason"] == "area_uncertain"
    with pytest.raises(UsageError, match="draw the image area, or confirm the one that was found"):
        session.save(house.key, posted(shown))
    corners = [[160, 100], [479, 100], [479, 399], [160, 399]]
    for wrong in ([[0, 0], [640, 0], [640, 479]], [[0, 0], [4, 0], [4, 4]], [[1], [2], [3]]):
        with pytest.raises(UsageError, match="the image area lies outside the picture of 640 x 480"):
            session.save(house.key, posted(shown, area=[{"kind": "2d", "points": wrong}]))
    session.save(house.key, posted(shown, area=[{"kind": "2d", "points": corners}]))
    assert house.settle().outcomes == {"ok": 1}
    (row,) = house.rows("frames")
    assert [row[f"crop_{side}"] for side in ("x0", "y0", "x1", "y1")] == [160, 100, 480, 400]
    assert row["area_method"] == "person"


def test_what_is_kept_out_leaves_at_once_without_its_raw_file_and_can_come_back(house: House) -> None:
    path = house.put("a.dcm", 1)
    house.ingest()
    data = path.read_bytes()
    path.unlink()
    session = house.named(house.rows("frames")[0]["frame_id"])
    shown = session.file(house.key)
    assert (shown["native"], shown["reachable"]) == (False, False)
    assert session.picture(f"{house.key}/0")[:2] == b"\xff\xd8"
    session.save(house.key, posted(shown, "keep_out"))
    assert house.settle() == SettleReport({"kept_out": 1})
    assert (house.rows("frames"), house.row()["outcome"]) == ([], "rejected")
    path.write_bytes(data)
    house.put("b.dcm", 7)
    report = house.ingest()
    assert (report.reasons["kept_out"], report.exit_code) == (1, 0)
    (key,) = [row["source_key"] for row in house.rows() if row["reason"] == "kept_out"]
    session = house.named(key)
    shown = session.file(key)
    assert (shown["reason"], len(shown["frames"])) == ("kept_out", 1)
    session.save(key, posted(shown))
    assert house.settle() == SettleReport({"ok": 1})
    assert len(house.rows("frames")) == 2


def test_a_file_that_left_keeps_its_decision_waiting(house: House) -> None:
    house.found = [WIDE]
    path = house.put("a.dcm", 1)
    house.put("b.txt", 2).write_text("Liver.")
    house.ingest()
    (key,) = [row["source_key"] for row in house.rows() if row["outcome"] == "review"]
    data = path.read_bytes()
    path.unlink()
    session = house.session()
    shown = session.file(key)
    assert (shown["native"], shown["reachable"]) == (True, False)
    session.save(key, posted(shown))
    assert house.settle() == SettleReport({}, waiting=1)
    path.write_bytes(data)
    assert house.settle().outcomes == {"ok": 1}


def test_settings_that_changed_are_named_and_the_decision_waits(house: House) -> None:
    house.found = [WIDE]
    house.put("a.dcm", 1)
    house.ingest()
    session = house.session()
    session.save(house.key, posted(session.file(house.key)))
    dataset = house.dataset
    dataset.save_info(detector="rapidocr 0.0", settings_hash="0" * 16)
    report = house.settle()
    assert (report.outcomes, report.waiting) == ({}, 1)
    assert "was made with other settings or by another version (detector: rapidocr 0.0" in report.problems[0]
    house.ingest(redo=True)
    assert house.row()["outcome"] == "ingested"


def test_what_was_replaced_leaves_no_native_picture_and_is_forgotten_with_its_subject(house: House) -> None:
    house.found = [WIDE]
    header = {"PatientID": "A1234567", "PatientName": "Kowalska^Maria"}
    house.put("p/a.dcm", 1, **header)
    house.ingest()
    session, old = house.session(), house.key
    session.save(old, posted(session.file(old), added=[mark(300, 300, 340, 330)]))
    house.put("p/a.dcm", 9, **header)
    assert not any("decisions of a person wait" in warning for warning in house.ingest().warnings)
    review = house.state.folder / "review"
    assert [folder.name for folder in review.iterdir()] == [house.key] != [old]
    with pytest.raises(UsageError, match="this file was replaced or its subject withdrew since"):
        session.save(old, posted(session.file(old)))
    assert len(read_decisions(house.dataset)) == 1
    (review / old).mkdir()
    (subject,) = {row["subject_id"] for row in house.state.locate(house.key)}
    with house.dataset.lock("usds forget"):
        forget(house.dataset, house.state, subject, runs=house.root / "none")
    assert read_decisions(house.dataset) == {}
    assert list(review.iterdir()) == []
    assert house.state.read("decided_for") == {}


def test_decisions_wait_where_the_file_of_subjects_of_the_earlier_run_is_gone(house: House) -> None:
    house.found = [WIDE]
    house.put("a.dcm", 1)
    house.ingest()
    session = house.session()
    session.save(house.key, posted(session.file(house.key)))
    runs = house.state.read("ingests")
    runs[0]["subjects"] = "/nowhere/Kowalska.csv"
    house.state.write("ingests", runs)
    report = house.settle()
    assert report.waiting == 1
    (problem,) = report.problems
    assert "run `usds ingest RAW --subjects FILE` again" in problem
    assert "Kowalska" not in problem


def test_a_dataset_that_was_moved_during_the_review_is_not_begun_anew(house: House) -> None:
    house.found = [WIDE]
    house.put("a.dcm", 1)
    house.ingest()
    session, key = house.session(), house.key
    shown = session.file(key)
    house.root.rename(house.root.with_name("moved"))
    with pytest.raises(ContentError, match="was moved or removed: put it back, nothing was written"):
        session.save(key, posted(shown))
    assert not house.root.exists()


def test_no_native_picture_of_withheld_frames_stays_once_they_are_settled(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    legible = Finding(TextBox(80, 80, 120, 96, 1.0, "strokes"), "identifier", harvested=True)
    pictures: list[int] = []

    def check(_: Verifier, picture: Any, __: Any) -> list[Finding]:
        tissue = int(picture[200:240, 200:300].sum())
        pictures.extend([tissue] if tissue not in pictures else [])
        return [legible] if pictures.index(tissue) == 0 else []

    monkeypatch.setattr(Verifier, "check", check)
    house.found = []
    house.put("c.dcm", 1, frames=3)
    house.ingest(settings=EVERY_FRAME)
    assert house.row()["reason"] == "frames_withheld"
    session = house.session()
    shown = session.file(house.key)
    assert [frame["passed"] for frame in shown["frames"]] == [False, True, True]
    session.save(house.key, posted(shown))
    assert house.settle().outcomes == {"ok": 1}
    assert (len(house.rows("frames")), house.row()["frames_withheld"]) == (2, 1)
    assert list((house.state.folder / "review").iterdir()) == []


# -- what may not be decided ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"added": [mark(600, 10, 641, 20)]}, "a box lies outside the picture of 640 x 480 pixels"),
        ({"added": [mark(-1, 10, 20, 20)]}, "a box lies outside the picture"),
        ({"added": [mark(10, 10, 10, 20)]}, "or has no size: draw it again"),
        ({"added": [mark(10, 10, 20, 20, 7)]}, "the file has 1 frames: there is no frame 7"),
        ({"opened": [mark(10, 10, 20, 20, 0)]}, "only a box that was shown can be removed"),
        ({"opened": [mark(0, 0, 640, 480, None)]}, "only a box that was shown can be removed"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    house: House, changes: dict[str, Any], message: str
) -> None:
    house.found = [WIDE]
    house.put("a.dcm", 1)
    house.ingest()
    session = house.session()
    with pytest.raises(UsageError, match=message):
        session.save(house.key, posted(session.file(house.key), **changes))
    assert read_decisions(house.dataset) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "publish"}, {"added": [{"x0": 1}]}, {"added": [mark(1, 1, 9, 9) | {"x0": 1.5}]},
        {"area": [{"kind": "name", "points": [[0, 0], [1, 1], [2, 2]]}]}, {"number": None}, {"more": 1},
        {"added": [mark(1, 1, 9, 9)] * 501}, {"added": [mark(1, 1, 9, 9) | {"x1": "9"}]},
    ],
)  # fmt: skip
def test_another_form_is_refused(house: House, changes: dict[str, Any]) -> None:
    house.found = [WIDE]
    house.put("a.dcm", 1)
    house.ingest()
    session = house.session()
    with pytest.raises(Malformed, match="a decision is outcome, area, added, opened and number, as JSON"):
        session.save(house.key, {**posted(session.file(house.key)), **changes})
    assert read_decisions(house.dataset) == {}


def test_of_two_reviews_the_second_is_told_and_a_writer_is_named(house: House) -> None:
    house.found = [WIDE]
    house.put("a.dcm", 1)
    house.ingest()
    first, second = house.session(), house.session()
    shown = second.file(house.key)
    first.save(house.key, posted(first.file(house.key), "keep_out"))
    with pytest.raises(UsageError, match="somebody else decided about this file meanwhile: open it again"):
        second.save(house.key, posted(shown))
    with (
        house.dataset.lock("usds ingest raw/"),
        pytest.raises(
            DatasetLocked, match=r"written by `usds ingest` .*: stay here and decide again when it has ended"
        ),
    ):
        second.save(house.key, posted(second.file(house.key)))
    second.save(house.key, posted(second.file(house.key)))
    (decided,) = read_decisions(house.dataset).values()
    assert (decided.decision.outcome, decided.number) == ("accept", 2)


def test_a_file_of_which_no_picture_is_kept_can_only_be_kept_out(house: House, serve: Any, page: Any) -> None:
    house.found = [WIDE]
    house.put("a.dcm", 1)
    house.ingest()
    (house.state.folder / "review" / house.key / "pictures.json").unlink()
    session = house.session()
    with pytest.raises(
        UsageError, match="no picture of this file is kept: run `usds ingest RAW --retry-review`"
    ):
        session.save(house.key, posted(session.file(house.key)))
    page.goto(serve(session).address)
    page.wait_for_selector("#stage:has-text('--retry-review')")
    assert page.is_disabled("#accept")
    page.keyboard.press("x")
    page.wait_for_selector("nav li[data-saved=keep_out]")
    assert house.settle().outcomes == {"kept_out": 1}


def test_damaged_decisions_stop_the_ingest_for_boxes_may_stand_in_them(house: House) -> None:
    house.put("a.dcm", 1)
    house.ingest()
    append_decision(house.dataset, "x" * 26, Decision("keep_out"))
    path = house.root / "corrections" / "pictures-000001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ContentError, match=r"pictures-000001\.parquet is damaged: restore it from a copy"):
        house.ingest()


BOX = {"frame": None, "action": "added", "x0": 1, "y0": 1, "x1": 9, "y1": 9}
CORNERS = [{"x": 160, "y": 100}, {"x": 400, "y": 100}, {"x": 400, "y": 300}]


@pytest.mark.parametrize(
    "changes",
    [
        {"decision": "acept"}, {"decision": None}, {"accepted": ["text_survived"]}, {"accepted": "none"},
        {"boxes": None}, {"boxes": [1.5]}, {"boxes": [BOX | {"action": "ad"}]}, {"boxes": [BOX | {"x1": -5}]},
        {"boxes": [BOX | {"x0": None}]}, {"boxes": [BOX | {"action": "opened"}]},
        {"area": [{"kind": "Maria", "points": CORNERS}]}, {"area": [{"kind": "2d", "points": CORNERS[:2]}]},
        {"area": [{"kind": "2d", "points": [*CORNERS, {"x": -1, "y": 4}]}]}, {"file_id": None},
    ],
)  # fmt: skip
def test_decisions_that_nobody_can_have_made_count_as_damaged(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    tiny = make_dataset(tmp_path / "d", specs(2))
    row = {"file_id": "x" * 26, "decision": "accept", "accepted": [], "area": [], "boxes": [BOX], **changes}
    (tiny.root / "corrections").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), tiny.root / "corrections" / "pictures-000001.parquet")
    with pytest.raises(ContentError, match=r"pictures-000001\.parquet is damaged: restore it from a copy"):
        read_decisions(tiny)


def test_a_folder_is_no_file_of_decisions(tmp_path: Path) -> None:
    tiny = make_dataset(tmp_path / "d", specs(2))
    (tiny.root / "corrections" / "pictures-000001.parquet").mkdir(parents=True)
    with pytest.raises(ContentError, match="is damaged"):
        read_decisions(tiny)


def test_a_box_that_a_person_drew_removes_nothing_beneath_it(house: House) -> None:
    house.put("a.dcm", 1)
    house.ingest()
    frame = house.rows("frames")[0]["frame_id"]
    session = house.named(frame)
    session.save(house.key, posted(session.file(house.key), added=[mark(160, 100, 480, 400)]))
    house.settle()
    session = house.named(frame)
    shown = session.file(house.key)
    (drawn,) = [box for box in shown["frames"][0]["boxes"] if box["method"] == "person"]
    drawn = {name: drawn[name] for name in ("frame", "x0", "y0", "x1", "y1")}
    with pytest.raises(UsageError, match="only a box that was shown can be removed"):
        session.save(house.key, posted(shown, added=[], opened=[drawn]))


def test_no_box_is_removed_from_a_picture_that_another_command_took_away(house: House) -> None:
    house.put("a.dcm", 1)
    house.ingest()
    frame = house.rows("frames")[0]["frame_id"]
    session = house.named(frame)
    shown = session.file(house.key)
    house.named(frame).close()
    with pytest.raises(UsageError, match="another command removed the picture meanwhile"):
        session.save(house.key, posted(shown, opened=[shown_box(shown)]))


def test_more_boxes_can_be_removed_than_drawn(house: House) -> None:
    house.found = [
        TextBox(x, y, x + 8, y + 8, 1.0, "native") for x in range(90, 600, 12) for y in range(60, 440, 12)
    ]
    house.put("a.dcm", 1)
    house.ingest()
    session = house.session()
    shown = session.file(house.key)
    boxes = [{name: box[name] for name in BOX if name != "action"} for box in shown["frames"][0]["boxes"]]
    assert len(boxes) > 500
    session.save(house.key, posted(shown, opened=boxes))


def test_pictures_laid_out_for_a_review_that_never_began_are_removed(house: House) -> None:
    house.put("a.dcm", 1)
    house.ingest()

    @contextmanager
    def interrupted(setup: WorkerSetup, settings: IngestSettings) -> Iterator[Any]:
        with here(setup, settings) as workers:
            list(workers.map([Job((house.key,))]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files_named(house.dataset, house.state, [house.key], interrupted)
    assert list((house.state.folder / "viewed").iterdir()) == []


def test_names_that_fit_nothing_are_refused(house: House) -> None:
    house.put("a.dcm", 1)
    house.put("b.dcm", 2)
    house.ingest()
    with pytest.raises(UsageError, match="no frame 'zzz'"):
        house.named("zzz")
    with pytest.raises(UsageError, match="is the beginning of several frame ids"):
        house.named("")
    session = house.named(house.rows("frames")[0]["frame_id"])
    with pytest.raises(UsageError, match="is not among those to look at"):
        session.file("nobody")
    key = house.rows("frames")[0]["source_key"]
    for name in (f"{key}/7", f"{key}/..", f"{key}/", key):
        with pytest.raises(ContentError):
            session.picture(name)


# -- what else must know --------------------------------------------------------------------------------


def test_most_black_comes_first_and_the_frames_laid_out_are_removed(house: House) -> None:
    house.put("a.dcm", 1)
    house.ingest()
    house.found = [SMALL, TextBox(300, 300, 360, 330, 1.0, "native")]
    house.put("b.dcm", 2)
    house.ingest()
    session = house.session(most_redacted(house.dataset, house.state, 10, here))
    shares = [one["redacted"] for one in session.overview()["files"]]
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) == 2
    viewed = house.state.folder / "viewed"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (viewed, *viewed.rglob("*")))
    assert len(list(viewed.rglob("*.png"))) == 2
    session.close()
    assert list(viewed.iterdir()) == []


def test_forgetting_a_subject_forgets_its_decisions_and_no_others(house: House) -> None:
    house.put("p/a.dcm", 1, PatientID="A1234567", PatientName="Kowalska^Maria")
    house.put("q/b.dcm", 5, PatientID="B7654321", PatientName="Nowak^Jan")
    house.ingest()
    session = house.session(most_redacted(house.dataset, house.state, 10, here))
    for row in house.rows("frames"):
        key = row["source_key"]
        session.save(key, posted(session.file(key), added=[mark(300, 300, 340, 330)]))
    house.settle()
    first, second = house.rows("frames")
    with house.dataset.lock("usds forget"):
        forget(house.dataset, house.state, first["subject_id"], runs=house.root / "none")
    ids = Ids(house.state.key)
    (left,) = read_decisions(house.dataset)
    known = {ids.clip(row["content"]) for row in house.state.locate(second["source_key"])}
    assert {left} == known
    assert set(house.state.read("decisions_applied")) == known
    with house.dataset.lock("usds forget"):
        forget(house.dataset, house.state, second["subject_id"], runs=house.root / "none")
    assert read_decisions(house.dataset) == {}
    assert house.state.read("ingests") == []


def test_boxes_stay_where_another_subject_has_the_very_same_file(house: House) -> None:
    data = house.put("p/a.dcm", 1, PatientID="").read_bytes()
    (house.raw / "q").mkdir()
    (house.raw / "q" / "a.dcm").write_bytes(data)
    house.ingest()
    (frame,) = house.rows("frames")
    session = house.named(frame["frame_id"])
    session.save(
        frame["source_key"], posted(session.file(frame["source_key"]), added=[mark(300, 300, 340, 330)])
    )
    with house.dataset.lock("usds forget"):
        forget(house.dataset, house.state, frame["subject_id"], runs=house.root / "none")
    assert len(read_decisions(house.dataset)) == 1


def test_the_audit_knows_decisions_counts_them_and_finds_a_leak_in_them(house: House) -> None:
    house.put("a.dcm", 1, PatientName="Winterbottom^Agatha")
    house.ingest()
    session = house.named(house.rows("frames")[0]["frame_id"])
    shown = session.file(house.key)
    session.save(house.key, posted(shown, added=[mark(300, 300, 340, 330)], opened=[shown_box(shown)]))
    house.settle()
    index = IdentifierIndex.load(house.state)
    report = audit(house.dataset, index, state=house.state)
    assert report.findings == []
    assert report.summary()["settled_by_person"] == {
        "files_settled_by_a_person": 1, "frames_with_boxes_of_a_person": 1,
        "frames_where_a_person_removed_boxes": 1,
    }  # fmt: skip
    append_decision(house.dataset, "Winterbottom", Decision(accepted=("Agatha Winterbottom",)))
    classes = {finding.klass for finding in audit(house.dataset, index, state=house.state).findings}
    assert {"not_a_keyed_id", "open_vocabulary", "name"} <= classes


def test_the_figures_say_how_many_files_wait_and_how_many_are_settled(house: House) -> None:
    house.found = [WIDE]
    house.put("a.dcm", 1)
    house.put("b.dcm", 5)
    house.ingest()
    session = house.session()
    key = session.overview()["files"][0]["key"]
    session.save(key, posted(session.file(key)))
    house.settle()
    deid = collect_stats(house.dataset).deid
    assert (deid["files_waiting_for_review"], deid["files_settled_by_a_person"]) == (1, 1)


# -- the page -------------------------------------------------------------------------------------------


@pytest.fixture
def serve() -> Iterator[Callable[[PictureSession], ReviewServer]]:
    running: list[tuple[ReviewServer, threading.Thread]] = []

    def start(session: PictureSession) -> ReviewServer:
        server = ReviewServer(session)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(url: str, body: bytes | None = None) -> tuple[int, Any, dict[str, str]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body)) as response:
            return response.status, response.read(), dict(response.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), dict(error.headers)


def test_pictures_leave_through_the_secret_address_alone(house: House, serve: Any) -> None:
    house.found = [WIDE]
    house.put("a.dcm", 1)
    house.ingest()
    server = serve(house.session())
    status, data, headers = ask(f"{server.address}image/{house.key}/0")
    assert (status, data[:4], headers["Content-Type"]) == (200, b"\x89PNG", "image/png")
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    root = f"http://127.0.0.1:{server.server_port}/"
    assert ask(f"{root}image/{house.key}/0")[0] == 404
    assert ask(f"{server.address}image/{house.key}/9")[0] == 404
    assert ask(f"{server.address}image/..%2f..%2fkey/0")[0] == 404
    assert ask(f"{server.address}caption/x")[0] == 404
    for body in (b"{", b"[]", b"{}", b'{"outcome": 1}', b"[" * 99_999):
        assert ask(f"{server.address}file/{house.key}", body)[0] == 400
    assert read_decisions(house.dataset) == {}


def drag(page: Any, *box: int) -> None:
    """Draw over native places of the picture with the mouse."""
    picture = page.locator("#picture").bounding_box()
    scale = min(picture["width"] / 640, picture["height"] / 480)
    left = picture["x"] + (picture["width"] - 640 * scale) / 2
    top = picture["y"] + (picture["height"] - 480 * scale) / 2
    page.mouse.move(left + box[0] * scale, top + box[1] * scale)
    page.mouse.down()
    page.mouse.move(left + box[2] * scale, top + box[3] * scale, steps=4)
    page.mouse.up()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that must not complain."""
    opened = browser.new_page(viewport={"width": 1300, "height": 800})
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    yield opened
    opened.close()
    assert problems == []


def test_a_person_settles_pictures_in_the_browser(house: House, serve: Any, page: Any) -> None:
    house.found = [WIDE, SMALL]
    house.put("c.dcm", 1, frames=2)
    house.put("d.dcm", 9)
    house.ingest(settings=EVERY_FRAME)
    page.goto(serve(house.session()).address)
    page.click("nav li:has-text('2 frames')")
    page.click("#strip button >> nth=1")
    page.wait_for_selector("#panel:has-text('frame 2 of 2')")
    page.uncheck("#every")
    drag(page, 200, 320, 260, 350)
    page.wait_for_selector("#panel li:has-text('drawn by a person')")
    page.check("#every")
    page.locator("#every").blur()
    for key in ("n", "ArrowDown", "Shift+ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_selector("#panel li:has-text('drawn, every frame')")
    page.click("#panel li:has-text('found as text') >> nth=1 >> button:has-text('Remove')")
    page.wait_for_selector("#panel li:has-text('removed')")
    page.keyboard.press("v")
    page.wait_for_selector("svg.final")
    page.click("#accept")
    page.wait_for_selector("nav li[data-saved=accept]")
    page.click("nav li:has-text('1 frame ')")
    page.wait_for_selector("nav li[aria-current=true]:has-text('1 frame ')")
    page.keyboard.press("x")
    page.wait_for_selector("nav li[data-saved=keep_out]")
    page.click("#finish")
    page.wait_for_selector("#done")
    decisions = [decided.decision for decided in read_decisions(house.dataset).values()]
    (accepted,) = [decision for decision in decisions if decision.outcome == "accept"]
    drawn, typed = accepted.added
    assert drawn.frame == 1
    assert np.abs(np.subtract((drawn.x0, drawn.y0, drawn.x1, drawn.y1), (200, 320, 260, 350))).max() <= 2
    assert typed == Mark(None, 280, 229, 364, 259)
    assert [mark.frame for mark in accepted.opened] == [1]
    assert house.settle().outcomes == {"ok": 1, "kept_out": 1}
    assert house.black(typed, 1) == 1.0


def test_a_person_draws_the_area_in_the_browser(
    house: House, serve: Any, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubt_every_area(monkeypatch)
    house.put("a.dcm", 1)
    house.ingest()
    page.goto(serve(house.session()).address)
    page.wait_for_selector("#tool-area[aria-pressed=true]")
    drag(page, 160, 100, 480, 400)
    page.wait_for_selector("[role=status]:has-text('not saved yet')")
    page.fill("#area-bottom", "390")
    page.locator("#area-bottom").press("Tab")
    page.click("#accept")
    page.wait_for_selector("nav li[data-saved=accept]")
    (decided,) = read_decisions(house.dataset).values()
    (part,) = decided.decision.area
    assert part.points[2][1] == 389
    assert np.abs(np.subtract(part.points[0], (160, 100))).max() <= 2


def test_keys_decide_once_and_the_keyboard_keeps_its_place(house: House, serve: Any, page: Any) -> None:
    house.found = [WIDE, SMALL]
    for name, seed in (("a.dcm", 1), ("b.dcm", 5), ("c.dcm", 9)):
        house.put(name, seed)
    house.ingest()
    page.goto(serve(house.session()).address)
    page.wait_for_selector("#panel li >> nth=1")
    removes = page.locator("#panel li button")
    removes.nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#panel li:has-text('removed')")
    assert page.evaluate("document.activeElement.textContent") == "Put back"
    page.locator("svg .place").first.focus()
    page.keyboard.press(" ")
    assert page.locator("#panel li:has-text('removed')").count() == 2
    assert page.evaluate("document.activeElement.classList.contains('place')")
    for _ in range(6):
        page.keyboard.down("y")  # held down: the browser repeats it
    page.keyboard.up("y")
    page.wait_for_selector("nav li[data-saved=accept]")
    page.wait_for_selector("nav li:nth-child(2)[aria-current=true]")
    assert len(read_decisions(house.dataset)) == 1
    page.evaluate("decide('accept'); decide('accept'); decide('accept')")
    page.wait_for_selector("nav li:nth-child(3)[aria-current=true]")
    assert [decided.number for decided in read_decisions(house.dataset).values()] == [1, 2]
    page.locator("nav li button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("nav li:nth-child(1)[aria-current=true]")
    assert page.evaluate("document.activeElement.closest('nav') !== null")


def test_a_side_of_the_area_that_was_emptied_moves_nothing(house: House, serve: Any, page: Any) -> None:
    house.put("a.dcm", 1)
    house.ingest()
    session = house.named(house.rows("frames")[0]["frame_id"])
    page.goto(serve(session).address)
    page.wait_for_selector("#picture")
    page.keyboard.press("r")
    page.fill("#area-left", "200")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=status]:has-text('not saved yet')")
    assert page.evaluate("document.activeElement.id") == "area-left"
    page.fill("#area-left", "")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=alert]:has-text('type all four sides of the area as numbers')")
    page.click("#accept")
    page.wait_for_selector("nav li[data-saved=accept]")
    (decided,) = read_decisions(house.dataset).values()
    assert min(x for x, _ in decided.decision.area[0].points) == 200


def test_a_picture_that_is_gone_is_said(house: House, serve: Any, browser: Any) -> None:
    house.found = [WIDE]
    house.put("a.dcm", 1)
    house.ingest()
    session = house.session()
    (house.state.folder / "review" / house.key / "000000.png").unlink()
    page = browser.new_page()
    page.goto(serve(session).address)
    page.wait_for_selector("[role=alert]:has-text('another command removed it')")
    page.close()
