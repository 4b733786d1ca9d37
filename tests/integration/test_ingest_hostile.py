"""Exports that are broken, lying or changing: one outcome each, no hang, and the run goes on."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest
from support.dicom_factory import deflate_bomb, make_us_dicom, phantom

from usds.schemas.dataset import Dataset
from usds.schemas.state import State

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def located(root: Path) -> dict[str, tuple[str, str]]:
    """Outcome and reason by file name; every file has exactly one row."""
    dataset = Dataset.open(root)
    state = State.open(dataset.info.dataset_id, dataset.info.key_fingerprint)
    rows = dataset.arrow("sources").to_table().to_pylist()
    assert len({row["source_key"] for row in rows}) == len(rows)
    found: dict[str, tuple[str, str]] = {}
    for row in rows:
        (place,) = state.locate(row["source_key"])
        assert place["path"] not in found
        found[place["path"]] = (row["outcome"], row["reason"])
    return found


def content(root: Path) -> dict[str, str]:
    """Frame ids and a hash of the decoded pixels."""
    import cv2

    found = list(Dataset.open(root).iter_images())
    assert len({name for name, _ in found}) == len(found), "a frame stands in the dataset twice"
    pixels = {name: cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR) for name, image in found}
    return {name: sha256(picture.tobytes()).hexdigest() for name, picture in pixels.items()}


@pytest.fixture
def mutations() -> ModuleType:
    """The module that damages files, shared with the benchmark of 10,000 of them."""
    spec = util.spec_from_file_location("mutate_for_tests", ROOT / "benchmarks" / "mutate.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_three_hundred_damaged_files_have_one_outcome_each(
    tmp_path: Path, usds: Any, mutations: ModuleType, make_picture: Callable[[int], bytes]
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    corpus = [data for data in mutations.corpus() if len(data) < 60_000]
    for number in range(300):
        (raw / f"m{number:03d}").write_bytes(mutations.mutate(corpus, number))
    (raw / "whole.png").write_bytes(make_picture(5))
    (tmp_path / "c.yaml").write_text("ingest:\n  run:\n    timeout_s: 60\n")
    done = usds(
        "ingest",
        raw,
        "--dataset",
        "d",
        "--workers",
        2,
        "--config",
        tmp_path / "c.yaml",
        "--json",
        expect=None,
    )
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert report["peak_worker_bytes"] < 1_500_000_000
    found = located(tmp_path / "d")
    own = {path: outcome for path, outcome in found.items() if "!/" not in path}
    assert len(own) == 301
    assert own[str(raw / "whole.png")] == ("ingested", "ok")
    reasons = Counter(reason for _, reason in own.values())
    assert reasons["timeout"] == reasons["memory"] == 0, reasons
    assert {outcome for outcome, _ in own.values()} <= {"ingested", "rejected", "quarantined", "review"}
    assert len(reasons) > 5, reasons
    assert "Traceback" not in done.stderr


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_bomb() -> bytes:
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(bytes(9_000_000)))


def _zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def hostile_files() -> dict[str, tuple[bytes, set[str]]]:
    """Files by name, with the reasons that are right for them."""
    tiny = phantom(1, 64, 80, seed=1)
    good = make_us_dicom(tiny)
    broken = {"unreadable", "truncated", "no_pixels", "unsupported", "wrong_modality"}
    bomb = {"decompression_bomb", "too_large"}
    return {
        "empty.dcm": (b"", {"empty"}),
        "magic_noise.dcm": (bytes(128) + b"DICM" + bytes(range(1, 256)) * 20, broken),
        "magic_only.dcm": (bytes(128) + b"DICM", broken),
        "cut.dcm": (good[: len(good) // 2], broken),
        "frames.dcm": (make_us_dicom(tiny, n_frames=2_000_000_000), broken | bomb),
        "minus.dcm": (make_us_dicom(tiny, header={"NumberOfFrames": "-5"}), broken | {"ok", "no_image_area"}),
        "giant.dcm": (make_us_dicom(tiny, header={"Rows": 65_535, "Columns": 65_535}), broken | bomb),
        "nothing.dcm": (make_us_dicom(tiny, header={"Rows": 0}), broken),
        "bits.dcm": (make_us_dicom(tiny, header={"BitsAllocated": 64, "BitsStored": 63}), broken),
        "deflated.dcm": (deflate_bomb(700), bomb),
        "bomb.png": (_png_bomb(), bomb),
        "nested.zip": (_zip({"inner.zip": _zip({"a.dcm": good})}), {"unsupported"}),
        "slip.zip": (_zip({"../../slipped.dcm": good, "/slipped.dcm": good}), {"unsupported"}),
        "bomb.zip": (_zip({"zeros.bin": bytes(60_000_000)}), {"unsupported"} | bomb),
        "cut.zip": (_zip({"a.dcm": good})[:-30], broken),
        "deep.json": (b"[" * 200_000, {"malformed_sidecar"}),
        "quote.csv": (b"image,caption\n" + b'"' * 2_000_000, {"malformed_sidecar", "no_caption"}),
        "backtrack.txt": (
            (b"a" * 50_000 + b"@") * 4 + b" " * 90_000,
            {"ok", "unmatched_sidecar", "no_caption"},
        ),
    }


def test_lies_bombs_and_odd_files_cost_nobody_else_anything(
    tmp_path: Path, usds: Any, make_picture: Callable[[int], bytes]
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    files = hostile_files()
    for name, (data, _) in files.items():
        (raw / name).write_bytes(data)
    (raw / "whole.png").write_bytes(make_picture(5))
    (raw / "loop").symlink_to(raw)
    (raw / "dead").symlink_to(raw / "nowhere")
    os.mkfifo(raw / "pipe.dcm")
    done = usds("ingest", raw, "--dataset", "d", "--workers", 1, "--json", expect=3)
    found = {path.removeprefix(f"{raw}/"): reason for path, (_, reason) in located(tmp_path / "d").items()}
    assert found.pop("whole.png") == "ok"
    assert (found.pop("loop"), found.pop("dead"), found.pop("pipe.dcm")) == (
        "symlink",
        "symlink",
        "unsupported",
    )
    members = {name: reason for name, reason in found.items() if "!/" in name}
    wrong = {name: found[name] for name, (_, right) in files.items() if found[name] not in right}
    assert wrong == {}
    assert set(members.values()) <= {"nested_archive", "unsafe_archive", "decompression_bomb"}
    assert members["slip.zip!/../../slipped.dcm"] == "unsafe_archive"
    assert not list(tmp_path.rglob("slipped*"))
    assert not (tmp_path.parent / "slipped.dcm").exists()
    assert json.loads(done.stdout)["peak_worker_bytes"] < 1_500_000_000
    again = json.loads(usds("ingest", raw, "--dataset", "d", "--json", expect=3).stdout)
    assert again["done"] == 0


def test_a_kill_at_any_moment_costs_nothing(
    tmp_path: Path, small_export: Path, demo_key: Path, usds: Any, command_line: Callable[..., list[str]],
    private_state_home: Path,
) -> None:  # fmt: skip
    usds("ingest", small_export, "--dataset", "whole", "--key", demo_key, "--workers", 1)
    reference = content(tmp_path / "whole")
    shutil.rmtree(private_state_home)
    for delay in (1.0, 1.6, 2.4, 3.4, 4.6, 6.0):
        fresh = not (tmp_path / "d" / "dataset.json").exists()
        extra = ("--key", demo_key) if fresh else ()
        line = command_line("ingest", small_export, "--dataset", "d", "--workers", 1, *extra)
        process = subprocess.Popen(
            line, cwd=tmp_path, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        time.sleep(delay)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        _, message = process.communicate(timeout=300)
        assert b"Traceback" not in message
        _, alive = psutil.wait_procs(workers, timeout=300)  # they notice that their parent is gone
        assert not alive
    fresh = not (tmp_path / "d" / "dataset.json").exists()
    usds("ingest", small_export, "--dataset", "d", "--workers", 1, *(("--key", demo_key) if fresh else ()))
    assert content(tmp_path / "d") == reference
    assert Dataset.open(tmp_path / "d").damaged() == []
    assert len(located(tmp_path / "d")) == 6


def test_a_full_disk_is_said_in_one_line_and_the_next_run_goes_on(
    tmp_path: Path, small_export: Path, usds: Any, command_line: Callable[..., list[str]]
) -> None:
    usds("ingest", small_export / "patient0", "--dataset", "d", "--workers", 1)
    before = content(tmp_path / "d")

    def small_files() -> None:  # what a full disk does, for one process and its children
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        command_line("ingest", small_export, "--dataset", "d", "--workers", 1), cwd=tmp_path, timeout=120,
        env=dict(os.environ), capture_output=True, text=True, preexec_fn=small_files, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 3), (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert content(tmp_path / "d") == before
    assert Dataset.open(tmp_path / "d").damaged() == []
    usds("ingest", small_export, "--dataset", "d", "--workers", 1, "--retry")
    assert len(content(tmp_path / "d")) == 6


# -- real files ---------------------------------------------------------------------------------------


def real_files() -> list[Path]:
    """A dozen small real files: DICOM of several syntaxes and colours, stills."""
    dicom = sorted((ROOT / "tests" / "data" / "dicom").glob("*.dcm"))
    stills = [ROOT / "examples" / "raw" / "hip_screening" / f"hip_0{n}.png" for n in range(1, 6)]
    others = [
        ROOT / "examples" / "raw" / "lung_pat220" / "still.jpg",
        ROOT / "examples" / "raw" / "lung_pat88" / "still.png",
    ]
    return [*dicom, *stills, *others]


def test_workers_and_places_change_nothing_and_a_key_changes_every_id(
    tmp_path: Path, usds: Any, demo_key: Path, table_rows: Any, private_state_home: Path
) -> None:
    raw = tmp_path / "raw"
    for number, path in enumerate(real_files()):
        folder = raw / f"p{number % 5}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.name)
    moved = tmp_path / "else" / "where"
    shutil.copytree(raw, moved)
    usds("ingest", raw, "--dataset", "one", "--key", demo_key, "--workers", 1, expect=None)
    usds("ingest", moved, "--dataset", "two", "--key", demo_key, "--workers", 2, expect=None)
    usds("ingest", raw, "--dataset", "other", "--workers", 2, expect=None)
    columns = (
        "frame_id",
        "clip_id",
        "study_id",
        "series_id",
        "subject_id",
        "source_key",
        "duplicate_of",
        "phash",
    )
    first = table_rows(tmp_path / "one", "frames", columns)
    assert len(first) >= 8
    assert table_rows(tmp_path / "two", "frames", columns) == first
    sources = ("source_key", "outcome", "reason", "duplicate_of")
    assert table_rows(tmp_path / "two", "sources", sources) == table_rows(
        tmp_path / "one", "sources", sources
    )
    pixels = content(tmp_path / "one")
    assert content(tmp_path / "two") == pixels
    other = content(tmp_path / "other")
    assert sorted(other.values()) == sorted(pixels.values())
    ours = {value for row in first for value in row[:7] if value}
    theirs = {
        value for row in table_rows(tmp_path / "other", "frames", columns) for value in row[:7] if value
    }
    assert ours.isdisjoint(theirs)
    shutil.rmtree(raw)
    shutil.move(moved, raw)
    again = usds("ingest", raw, "--dataset", "two", "--json", expect=None)
    assert json.loads(again.stdout)["done"] == 0


def test_every_real_file_ends_as_the_table_says(tmp_path: Path, usds: Any) -> None:
    table = json.loads((ROOT / "tests" / "data" / "dicom_outcomes.json").read_text("utf-8"))["files"]
    folders = (ROOT / "examples" / "raw", ROOT / "tests" / "data" / "dicom")
    shipped = {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert shipped == set(table), "name the outcomes of a new file in tests/data/dicom_outcomes.json"
    wanted = [name for name in table if name.endswith((".dcm", ".j2c", ".dicom")) or "/pacs/" in name]
    raw = tmp_path / "raw"
    for name in wanted:
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, raw / name)
    usds("ingest", raw, "--dataset", "d", "--workers", 1, expect=None)
    found = {
        Path(path).relative_to(raw).as_posix(): "/".join(row) for path, row in located(tmp_path / "d").items()
    }
    assert {name: how for name, how in found.items() if how not in table[name]} == {}
    assert set(found) == set(wanted)


def test_a_list_of_subjects_that_is_no_table_is_refused_without_its_names(
    tmp_path: Path, small_export: Path, usds: Any
) -> None:
    (tmp_path / "list.csv").write_text("a.dcm," + "BOTTOMLEY" * 20_000)
    done = usds("ingest", small_export, "--dataset", "d", "--subjects", tmp_path / "list.csv", expect=2)
    assert "cannot be read as a UTF-8 CSV file" in done.stderr
    assert "BOTTOMLEY" not in done.stdout + done.stderr
