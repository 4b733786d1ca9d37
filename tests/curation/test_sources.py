"""The scan names every file once and follows nothing."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from usds.curation.sources import decode_path, encode_path, refuse_overlap, scan, split_member
from usds.schemas.errors import UsageError


def fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content of " + name.encode())


def reasons(raw: Path) -> dict[str, str | None]:
    return {file.relative: file.reason for file in scan([raw]).files}


def test_files_are_found_at_any_depth_by_their_relative_name(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    fill(raw, "b.png", "a/deep/er/c.dcm", "a/x y.txt")
    assert reasons(raw) == {"a/deep/er/c.dcm": None, "a/x y.txt": None, "b.png": None}


def test_what_systems_leave_behind_is_ignored_but_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    fill(
        raw,
        ".DS_Store",
        "p/Thumbs.db",
        "p/.hidden/inner.png",
        "__MACOSX/._a.png",
        "p/~$report.docx",
        "DICOMDIR",
    )
    assert set(reasons(raw).values()) == {"ignored"}
    assert len(reasons(raw)) == 6


def test_links_are_named_and_not_followed_even_in_a_loop(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    fill(raw, "a/one.png")
    (tmp_path / "outside.png").write_bytes(b"outside")
    (raw / "a" / "loop").symlink_to(raw)
    (raw / "link.png").symlink_to(tmp_path / "outside.png")
    (raw / "dangling").symlink_to(tmp_path / "nowhere")
    found = reasons(raw)
    assert found == {"a/one.png": None, "a/loop": "symlink", "link.png": "symlink", "dangling": "symlink"}


def test_empty_files_and_pipes_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "empty.dcm").touch()
    os.mkfifo(raw / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(raw)
        server.bind("socket")
        assert reasons(raw) == {"empty.dcm": "empty", "pipe": "unsupported", "socket": "unsupported"}


def test_a_dataset_below_the_raw_folder_is_passed_over(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    fill(raw, "a.png", "old/dataset.json", "old/images/t.parquet")
    result = scan([raw])
    assert [file.relative for file in result.files] == ["a.png"]
    assert result.datasets_skipped == 1


def test_overlapping_arguments_name_a_file_once(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    fill(raw, "sub/a.png", "b.png")
    assert [f.relative for f in scan([raw, raw / "sub", raw / "b.png"]).files] == ["b.png", "sub/a.png"]


def test_a_moved_folder_gives_the_same_relative_names(tmp_path: Path) -> None:
    fill(tmp_path / "one", "s/a.png")
    before = [f.relative for f in scan([tmp_path / "one"]).files]
    (tmp_path / "one").rename(tmp_path / "two")
    assert [f.relative for f in scan([tmp_path / "two"]).files] == before


def test_a_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no folder or file .*nowhere: name the folder"):
        scan([tmp_path / "nowhere"])


@pytest.mark.parametrize("inside", ["dataset", "private state"])
def test_dataset_and_state_stay_out_of_the_raw_folder(tmp_path: Path, inside: str) -> None:
    raw, elsewhere = tmp_path / "raw", tmp_path / "elsewhere"
    raw.mkdir()
    places = {"dataset": elsewhere / "d", "private state": elsewhere / "s", inside: raw / "below"}
    with pytest.raises(UsageError, match=f"the {inside} lies inside .*raw: choose a place outside"):
        refuse_overlap([raw], places["dataset"], places["private state"])


def test_raw_inside_the_dataset_and_state_inside_the_dataset_are_refused(tmp_path: Path) -> None:
    raw = tmp_path / "d" / "raw"
    raw.mkdir(parents=True)
    with pytest.raises(UsageError, match="lies inside the dataset: keep raw files outside it"):
        refuse_overlap([raw], tmp_path / "d", tmp_path / "s")
    with pytest.raises(UsageError, match="private state lies inside the dataset: set USDS_STATE"):
        refuse_overlap([tmp_path / "r"], tmp_path / "d", tmp_path / "d" / "s")


def test_names_that_are_no_unicode_survive_the_database(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path / "raw")
    os.mkdir(raw)
    with open(raw + b"/caf\xe9.png", "wb") as stream:
        stream.write(b"x")
    (file,) = scan([Path(os.fsdecode(raw))]).files
    encode_path(file.path).encode("utf-8")
    assert decode_path(encode_path(file.path)) == file.path
    assert encode_path("plain/ü.png") == "plain/ü.png"


def test_a_folder_that_cannot_be_looked_into_is_one_row(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    fill(raw, "good.png")
    folder = os.open(raw, os.O_RDONLY)
    for _ in range(120):  # deeper than a path may be long
        os.mkdir("d" * 40, dir_fd=folder)
        below = os.open("d" * 40, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("lost.png", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    found = reasons(raw)
    assert found.pop("good.png") is None
    assert list(found.values()) == ["unreadable"]


def test_a_folder_without_the_right_to_enter_is_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    fill(raw, "good.png", "closed/inner.png")
    stat = os.stat

    def denied(path: object, *arguments: object, **options: object) -> os.stat_result:
        if str(path).endswith("closed/dataset.json"):  # what the system says to all but root
            raise PermissionError(13, "Permission denied")
        return stat(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", denied)
    assert reasons(raw) == {"closed": "permission_denied", "good.png": None}


def test_a_member_is_told_from_a_file_in_a_folder_whose_name_ends_in_the_mark(tmp_path: Path) -> None:
    folder = tmp_path / "Urgent!"
    folder.mkdir()
    plain, archive = folder / "scan.dcm", folder / "pack.zip"
    plain.write_bytes(b"x")
    archive.write_bytes(b"x")
    assert split_member(str(plain)) == (plain, None)
    assert split_member(f"{archive}!/a!/b.png") == (archive, "a!/b.png")
    archive.unlink()
    assert not split_member(f"{archive}!/a.png")[0].exists()
