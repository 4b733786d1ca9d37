"""Fixtures that the tests of several packages share: an isolated private state, and small real datasets."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from usds.schemas import tables
from usds.schemas.dataset import Dataset
from usds.schemas.state import State

# Helpers of tests/support are imported by name; pytest in importlib mode adds no folder by itself.
sys.path.insert(0, str(Path(__file__).parent))

# A shell that starts the tests in its background has them ignore SIGINT, and so would every child.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

DatasetMaker = Callable[..., Dataset]

SOURCE = {
    "kind": "image", "outcome": "ingested", "reason": "ok", "frames_written": 1, "frames_withheld": 0,
    "captions_written": 0, "captions_withheld": 0, "duplicate_of": None, "warnings": [],
}  # fmt: skip


@pytest.fixture(autouse=True)
def private_state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the private state of every test in its own folder, and settings of the person out of it."""
    monkeypatch.setenv("USDS_STATE", str(tmp_path / "private-state"))
    monkeypatch.delenv("USDS_DATASET", raising=False)
    # Handlers that run in this process move it; sockets of later tests would have too long a path there.
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)
    return tmp_path / "private-state"


def speckle(seed: int, rows: int = 48, cols: int = 64) -> bytes:
    """A JPEG of speckle in a sector, different for each seed."""
    rng = np.random.default_rng(seed)
    image = rng.gamma(2.0, 30.0, (rows, cols)).clip(0, 255).astype(np.uint8)
    yy, xx = np.mgrid[:rows, :cols]
    image[np.abs(xx - cols / 2) > 4 + yy * 0.6] = 0
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def frame_row(**values: Any) -> dict[str, Any]:
    """A row of the table frames; what a test does not name has a plain value."""
    row: dict[str, Any] = {
        "clip_id": None, "series_id": None, "subject_rule": "patient_id", "subject_conflict": False,
        "frame_index": 0, "source_frames": 1, "media": "image", "rows": 48, "cols": 64,
        "native_rows": 60, "native_cols": 80, "crop_x0": 0, "crop_y0": 0, "crop_x1": 64, "crop_y1": 48,
        "scale": 1.0, "spacing_row_mm": None, "spacing_col_mm": None, "mode": "b_mode", "vendor": "other",
        "model_family": "other", "transducer": "other", "body_part": "unknown", "sex": "unknown",
        "age_band": "unknown", "header_codes": [], "area": [], "area_method": "shape", "text_boxes": [],
        "redacted_fraction": 0.0, "verified_by": "none", "quality": "good", "blank": 0.0, "saturated": 0.0,
        "blurred": 0.0, "phash": "0" * 16, "duplicate_of": None,
    }  # fmt: skip
    unknown = set(values) - set(tables.FRAMES.names)
    assert not unknown, unknown
    row.update(values)
    row.setdefault("source_key", f"src-{row['frame_id']}")
    return row


def caption_row(target_id: str, text: str, **values: Any) -> dict[str, Any]:
    """A row of the table captions; its id follows from target and text."""
    digest = sha256(f"{target_id}|{text}|{values.get('section')}".encode()).hexdigest()[:26]
    return {
        "caption_id": f"c{digest}", "scope": "frame", "target_id": target_id, "text": text,
        "origin": "sidecar", "section": None, "language": "en", "n_removed": 0,
        "source_key": f"src-{target_id}", **values,
    }  # fmt: skip


def write_task(
    dataset: Dataset,
    task: str,
    frames: Sequence[Mapping[str, Any]] = (),
    captions: Sequence[Mapping[str, Any]] = (),
    sources: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write one task through the dataset's own writer."""
    if sources is None:
        keys = dict.fromkeys(str(frame["source_key"]) for frame in frames)
        sources = [{"source_key": key} for key in keys]
    with dataset.writer(task, inputs=tuple(str(s["source_key"]) for s in sources)) as writer:
        for index, frame in enumerate(frames):
            seed = int(sha256(f"{frame['frame_id']}".encode()).hexdigest()[:8], 16) + index
            writer.add_frame(frame, speckle(seed))
        for caption in captions:
            writer.add_caption(caption)
        for source in sources:
            writer.add_source({**SOURCE, **source})
        writer.commit()


@pytest.fixture
def make_dataset(tmp_path: Path) -> DatasetMaker:
    """Make a dataset with its private state; keyword tasks: name -> (frames, captions[, sources])."""

    def make(name: str = "dataset", tasks: Mapping[str, tuple[Any, ...]] | None = None) -> Dataset:
        key = sha256(b"a key for tests").digest()
        state = State.create(f"test{name}", key)
        from usds.schemas.state import fingerprint

        dataset = Dataset.create(
            tmp_path / name, key_fingerprint=fingerprint(state.key), tool="usds test", detector="none",
            settings={}, settings_hash="0" * 16, dataset_id=f"test{name}",
        )  # fmt: skip
        for task, content in (tasks or {}).items():
            write_task(dataset, task, *content)
        return dataset

    return make


@pytest.fixture
def rows() -> Any:
    """The row builders, for tests that import nothing from here: ``rows.frame``, ``rows.caption``."""

    class Rows:
        frame = staticmethod(frame_row)
        caption = staticmethod(caption_row)
        task = staticmethod(write_task)
        image = staticmethod(speckle)

    return Rows


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright; tests that ask for it are skipped where there is none."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install -y chromium")
    from playwright.sync_api import sync_playwright

    quiet = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--disable-quic")  # fmt: skip
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=list(quiet))
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def dicom_factory() -> ModuleType:
    """The module `support.dicom_factory`: real DICOM and video bytes in every syntax and colour space."""
    return import_module("support.dicom_factory")
