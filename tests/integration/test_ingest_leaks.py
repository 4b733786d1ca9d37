"""No identifier of a seeded export in any byte of the dataset, of stdout or of stderr."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

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
