"""Raw exports for whole commands, and the command run as a person runs it: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.dicom_factory import Planted, make_us_dicom, phantom

Runner = Callable[..., "subprocess.CompletedProcess[str]"]


def still(seed: int, **header: Any) -> bytes:
    """A DICOM still of one patient; another seed is another picture."""
    facts = {"PatientID": f"P{seed:03d}", "StudyInstanceUID": f"1.2.3.{seed}", **header}
    return make_us_dicom(phantom(1, 240, 320, seed=seed), header=facts)


def picture(seed: int) -> bytes:
    """A PNG still."""
    return cv2.imencode(".png", phantom(1, 240, 320, seed=seed)[0])[1].tobytes()


@pytest.fixture
def make_still() -> Callable[..., bytes]:
    """The builder of DICOM stills."""
    return still


@pytest.fixture
def make_picture() -> Callable[[int], bytes]:
    """The builder of PNG stills."""
    return picture


@pytest.fixture
def small_export(tmp_path: Path) -> Path:
    """Six stills of six patients."""
    raw = tmp_path / "raw"
    for seed in range(6):
        path = raw / f"patient{seed}" / "scan.dcm"
        path.parent.mkdir(parents=True)
        path.write_bytes(still(seed))
    return raw


@pytest.fixture
def seeded_export(tmp_path: Path) -> tuple[Path, Planted]:
    """One patient whose identifiers stand everywhere an export can hold them."""
    phi = Planted()
    raw = tmp_path / "raw"
    folder = raw / "QUILLFEATHER_ORSOLA" / "20210903"
    folder.mkdir(parents=True)
    preamble = phi.preamble.encode().ljust(128, b"\0")
    scan = make_us_dicom(
        phantom(1, 240, 320, seed=3), phi=phi, preamble=preamble,
        header={"ImageComments": "Liver of Orsola Quillfeather, hypoechoic mass, Dr. Vanterpool 2021-09-03"},
    )  # fmt: skip
    (folder / "MRN-7741902.dcm").write_bytes(scan)
    (folder / "MRN-7741902_b.png").write_bytes(_written_on(picture(4), "QUILLFEATHER ORSOLA"))
    (folder / "MRN-7741902_b.txt").write_text(
        "Orsola Quillfeather (MRN-7741902), born 17.04.1953, phone +1 555 010 7788. Hypoechoic mass in the "
        "liver. Reported by Dr Desmond Vanterpool, Saint Brannock Infirmary.", "utf-8",
    )  # fmt: skip
    (folder / "QUILLFEATHER_broken.dcm").write_bytes(scan[:700])
    return raw, phi


def _written_on(data: bytes, text: str) -> bytes:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    cv2.putText(image, text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture
def command_line() -> Callable[..., list[str]]:
    """The command line of ``usds`` in this interpreter."""

    def line(*arguments: object) -> list[str]:
        return [sys.executable, "-m", "usds.cli.main", *map(str, arguments)]

    return line


@pytest.fixture
def usds(tmp_path: Path, command_line: Callable[..., list[str]]) -> Runner:
    """Run ``usds`` to its end."""

    def run(*arguments: object, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command_line(*arguments), capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ),
            timeout=900, check=False,
        )  # fmt: skip
        if expect is not None:
            assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
        return done

    return run


def rows(root: Path, table: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Sorted rows of a table of a dataset."""
    from usds.schemas.dataset import Dataset

    found = Dataset.open(root).arrow(table).to_table(columns=list(columns)).to_pylist()
    return sorted(tuple(row[name] for name in columns) for row in found)


@pytest.fixture
def table_rows() -> Callable[[Path, str, Sequence[str]], list[tuple[Any, ...]]]:
    """Read rows of a dataset's table."""
    return rows


@pytest.fixture
def demo_key() -> Path:
    """The public key, so that two datasets have the same ids."""
    return Path(__file__).parents[2] / "examples" / "demo.key"
