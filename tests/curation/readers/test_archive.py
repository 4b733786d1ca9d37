"""Zip archives: nothing slips out, nothing blows up."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest

from usds.curation.readers.archive import Archive
from usds.curation.readers.base import MediaError, ReadLimits
from usds.curation.readers.sniff import sniff


def make_zip(members: Mapping[str, bytes], **options: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_members_are_read_in_memory() -> None:
    data = make_zip({"a/one.dcm": b"1" * 500, "b/two.png": b"2" * 5000, "c/": b""})
    assert sniff(data) == "zip"
    with Archive(data, ReadLimits()) as archive:
        members = list(archive.members())
        assert [(m.name, m.size, m.reason) for m in members] == [
            ("a/one.dcm", 500, None), ("b/two.png", 5000, None),
        ]  # fmt: skip
        assert archive.read("b/two.png") == b"2" * 5000


@pytest.mark.parametrize("name", ["../../etc/x", "/abs/x", "a/../../x", "C:/x", "..\\..\\x"])
def test_paths_that_point_outside_are_refused(name: str) -> None:
    with Archive(make_zip({name: b"data"}), ReadLimits()) as archive:
        (member,) = archive.members()
        assert member.reason == "unsafe_archive"
        with pytest.raises(MediaError, match="unsafe_archive: an archive member points outside"):
            archive.read(member.name)


def test_links_are_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with Archive(out.getvalue(), ReadLimits()) as archive:
        assert [member.reason for member in archive.members()] == ["unsafe_archive"]


def test_nested_archives_are_not_opened() -> None:
    data = make_zip({"inner": make_zip({"x": b"y"})})
    with Archive(data, ReadLimits()) as archive, pytest.raises(MediaError, match="nested_archive"):
        archive.read("inner")


def test_high_ratio_is_a_bomb_but_other_members_are_read() -> None:
    data = make_zip({"bomb": b"\0" * (8 << 20), "good": b"fine"})
    with Archive(data, ReadLimits()) as archive:
        assert {m.name: m.reason for m in archive.members()} == {"bomb": "decompression_bomb", "good": None}
        assert archive.read("good") == b"fine"


def test_totals_are_limited() -> None:
    many = make_zip({f"f{i}": b"x" for i in range(20)})
    for limits in (ReadLimits(max_archive_members=10), ReadLimits(max_archive_bytes=10)):
        with pytest.raises(MediaError, match="decompression_bomb"):
            Archive(many, limits)


def test_stated_size_that_lies_is_caught() -> None:
    data = bytearray(make_zip({"x": b"A" * 3000}))
    for marker, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(marker) + offset
        data[at : at + 4] = (10).to_bytes(4, "little")
    with Archive(bytes(data), ReadLimits()) as archive, pytest.raises(MediaError):
        archive.read("x")


def test_overlapping_members_are_refused() -> None:
    data = bytearray(make_zip({"aa": b"A" * 3000, "bb": b"B" * 3000}))
    second = data.rindex(b"PK\x01\x02")
    first = data.index(b"PK\x01\x02")
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    with pytest.raises(MediaError, match="decompression_bomb"):
        Archive(bytes(data), ReadLimits())


def test_encrypted_member_and_damaged_archive() -> None:
    data = bytearray(make_zip({"x": b"secret"}))
    for marker, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(marker) + offset] |= 1
    with Archive(bytes(data), ReadLimits()) as archive:
        assert [m.reason for m in archive.members()] == ["encrypted"]
    with pytest.raises(MediaError, match="unreadable"):
        Archive(make_zip({"x": b"secret"})[:30], ReadLimits())
