"""Pictures of a published release: found by file name, stored as released, without their metadata."""

from __future__ import annotations

import io
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from usds.curation.audit_files import image_metadata
from usds.curation.readers.base import RGB
from usds.schemas.errors import ContentError, UsageError

__all__ = ["ReleasedImages", "publishable"]

_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_MOST_BYTES: Final = 64 << 20
_MOST_PIXELS: Final = 1 << 26
_JPEG_QUALITY: Final = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
# ITU-T T.81 table B.1: APP1 to APP13, APP15 and comments carry words; APP0 and APP14 say how to decode.
_JPEG_WORDS: Final = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
_JPEG_END: Final = b"\xff\xd9"
# Section B.1.1.5: within a scan FF stands only before 00, or as a restart marker or a fill byte.
_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_PNG_PICTURE: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"})
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"


class ReleasedImages:
    """The pictures below a folder and inside the ZIP archives that lie in it, by file name.

    A picture that is there twice is taken from the folder first, then from the first archive.

    Parameters
    ----------
    folder : Path
        The release.

    Raises
    ------
    UsageError
        There is no picture.
    ContentError
        An archive is damaged or encrypted.
    """

    def __init__(self, folder: Path) -> None:
        self.repeated = 0
        self._files: dict[str, str] = {}
        self._members: dict[str, tuple[int, str]] = {}
        self._archives: list[zipfile.ZipFile] = []
        for name, path in _walk(folder):
            if self._files.setdefault(name, path) != path:
                self.repeated += 1
        for path in sorted(folder.glob("*.zip")):
            self._open(path)
        if not self._files and not self._members:
            raise UsageError(f"{folder} holds no picture: put images/ or images.zip beside the .jsonl files")

    def __len__(self) -> int:
        return len(self._files.keys() | self._members.keys())

    def __contains__(self, name: object) -> bool:
        return name in self._files or name in self._members

    def place(self, name: str) -> str:
        """Where a picture lies, for the private ledger."""
        if name in self._files:
            return self._files[name]
        archive, member = self._members[name]
        return f"{self._archives[archive].filename}!{member}"

    def read(self, name: str) -> bytes | None:
        """Bytes of a picture; None where they cannot be read. Safe to call from several threads."""
        try:
            if name in self._files:
                path = self._files[name]
                return Path(path).read_bytes() if os.path.getsize(path) <= _MOST_BYTES else None
            archive, member = self._members[name]
            return self._archives[archive].read(member)
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError):
            return None

    def close(self) -> None:
        """Close the archives."""
        for archive in self._archives:
            archive.close()

    def _open(self, path: Path) -> None:
        try:
            archive = zipfile.ZipFile(path)
            members = [info for info in archive.infolist() if _is_picture(info.filename)]
        except (OSError, zipfile.BadZipFile) as error:
            raise ContentError(f"{path} is no whole ZIP archive: download it again") from error
        if any(info.flag_bits & 1 for info in members):
            raise ContentError(f"{path} is encrypted: unpack it into images/ first")
        number = len(self._archives)
        self._archives.append(archive)
        for info in members:
            if info.file_size <= _MOST_BYTES:
                place = (number, info.filename)
                self.repeated += self._members.setdefault(_base(info.filename), place) != place


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Pictures below a folder, also behind links to folders: images/ is often one, to a larger disk."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            if _is_picture(name):
                yield name, os.path.join(place, name)


def _base(member: str) -> str:
    return member.replace("\\", "/").rsplit("/", 1)[-1]


def _is_picture(name: str) -> bool:
    base = _base(name)
    return os.path.splitext(base)[1].lower() in _SUFFIXES and not base.startswith("._")


# -- one picture ----------------------------------------------------------------------------------------


def publishable(data: bytes) -> tuple[bytes, RGB] | str:
    """Bytes to store and the decoded picture, or the reason why there is none.

    JPEG and PNG keep their compressed pixels bit by bit; segments and chunks that can carry words (EXIF, XMP,
    comments, text) are cut out. Anything else, and a JPEG that EXIF turns, is encoded anew.

    Parameters
    ----------
    data : bytes
        The file as released.

    Returns
    -------
    tuple of (bytes, uint8 (rows, cols, 3)) or str
        A reason is one of ``usds.schemas.tables.REASONS``: empty, truncated, unreadable, too_large.
    """
    if not data:
        return "empty"
    kept = _without_words(data)
    if kept is None:
        return "truncated"
    if _pixels(data) > _MOST_PIXELS:
        return "too_large"
    picture = _decode(data)
    if isinstance(picture, str):
        return picture
    if kept and image_metadata(kept) is None:
        own = _decode(kept)
        if not isinstance(own, str) and own.shape == picture.shape and np.array_equal(own, picture):
            return kept, own
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), _JPEG_QUALITY)
    return (encoded.tobytes(), picture) if done else "unreadable"


def _pixels(data: bytes) -> int:
    """What the header promises, so that no bomb is unpacked; 0 where only the decoder can tell."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.width * image.height
    except Image.DecompressionBombError:
        return _MOST_PIXELS + 1
    except Exception:  # noqa: BLE001 - Pillow's readers raise what they like at a damaged header
        return 0


def _decode(data: bytes) -> RGB | str:
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return "unreadable"
    if bgr is None or min(bgr.shape[:2]) == 0:
        return "unreadable"
    if bgr.shape[0] * bgr.shape[1] > _MOST_PIXELS:
        return "too_large"
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _without_words(data: bytes) -> bytes | None:
    """JPEG or PNG less what is no picture; empty bytes for other formats; None where the end is missing."""
    if data.startswith(b"\xff\xd8"):
        return _plain_jpeg(data)
    if data.startswith(_PNG_MAGIC):
        return _plain_png(data)
    return b""


def _plain_jpeg(data: bytes) -> bytes | None:
    parts, at, scan = [data[:2]], 2, 0
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xD9:
            return b"".join([*parts, _JPEG_END])
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            # A progressive picture has several scans, and words may stand between them.
            scan, behind = at, _JPEG_MARKER.search(data, end)
            end = behind.start() if behind else len(data)
        if marker not in _JPEG_WORDS:
            parts.append(data[at:end])
        at = end
    # With an end behind its pixels it may be damaged but is not cut off: the decoder decides.
    return b"" if scan and _JPEG_END in data[scan:] else None


def _plain_png(data: bytes) -> bytes | None:
    parts, at = [_PNG_MAGIC], 8
    while at + 12 <= len(data):
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if kind in _PNG_PICTURE:
            parts.append(data[at:end])
        if kind == b"IEND":
            return b"".join(parts)
        at = end
    return None
