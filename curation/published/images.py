"""Pictures of a published release: found by file name, stored as released, without their metadata."""

from __future__ import annotations

import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from usds.curation.picture_bytes import image_metadata, picture_alone
from usds.curation.readers.base import RGB
from usds.schemas.errors import ContentError, UsageError

__all__ = ["ReleasedImages", "publishable"]

_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_MOST_BYTES: Final = 64 << 20
_MOST_PIXELS: Final = 1 << 26
_JPEG_QUALITY: Final = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]


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
    kept = picture_alone(data)
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
