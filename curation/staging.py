"""Finished files wait here, in the private state, until their task is whole.

A worker hands over one source file at a time: rows and encoded images that were verified. A kill then loses
the file in work and nothing else, and a crash never spoils its neighbours.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["Staged", "Staging", "Withheld"]

_DIGEST: Final = 32
_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class Withheld:
    """A caption that must stay in the state."""

    caption_id: str
    source_key: str
    text: str
    reason: str


@dataclass(slots=True)
class Staged:
    """What one source file gives to the dataset.

    Attributes
    ----------
    source : dict
        Its row of the table ``sources``.
    frames : list of dict
        Rows of the table ``frames`` without locator, one for each of ``images``.
    images : list of bytes
        Encoded and verified.
    captions : list of dict
        Rows of the table ``captions``; their ``source_key`` may be a sidecar's.
    withheld : list of Withheld
    """

    source: dict[str, Any]
    frames: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    images: list[bytes] = field(default_factory=list[bytes])
    captions: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    withheld: list[Withheld] = field(default_factory=list[Withheld])


class Staging:
    """Folder of staged files; each is whole or not there.

    Parameters
    ----------
    folder : Path
        In the private state.
    stamp : str
        What the content depends on besides the file (settings, harvest index); files of another stamp do
        not exist for this object.
    """

    def __init__(self, folder: Path, stamp: str) -> None:
        self._folder = folder
        self._stamp = stamp
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, source_key: str) -> Path:
        """Where a file's result lies."""
        return self._folder / f"{source_key}-{self._stamp[:12]}.staged"

    def write(self, source_key: str, staged: Staged) -> None:
        """Keep a result, atomically; power cuts are caught by the digest, so nothing waits for the disk."""
        header = json.dumps(
            {
                "source": staged.source,
                "frames": staged.frames,
                "captions": staged.captions,
                "withheld": [[w.caption_id, w.source_key, w.text, w.reason] for w in staged.withheld],
                "images": [len(image) for image in staged.images],
            }
        ).encode("utf-8")
        parts = [len(header).to_bytes(_LENGTH, "little"), header, *staged.images]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        target = self.path(source_key)
        partial = target.with_suffix(f".partial-{os.getpid()}")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.writelines([digest.digest(), *parts])
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def read(self, source_key: str) -> Staged | None:
        """Take a result; None where there is none or it is damaged."""
        try:
            data = self.path(source_key).read_bytes()
        except FileNotFoundError:
            return None
        body = data[_DIGEST:]
        if len(body) < _LENGTH or hashlib.sha256(body).digest() != data[:_DIGEST]:
            return None
        at = _LENGTH + int.from_bytes(body[:_LENGTH], "little")
        header: dict[str, Any] = json.loads(body[_LENGTH:at])
        images: list[bytes] = []
        for length in header["images"]:
            images.append(body[at : at + length])
            at += length
        withheld = [Withheld(*row) for row in header["withheld"]]
        return Staged(header["source"], header["frames"], images, header["captions"], withheld)

    def has(self, source_key: str) -> bool:
        """Whether a result waits."""
        return self.path(source_key).exists()

    def drop(self, source_keys: Iterable[str]) -> None:
        """Remove results that are in the dataset now."""
        for source_key in source_keys:
            self.path(source_key).unlink(missing_ok=True)

    def clear(self, *, keep_stamp: bool = False) -> None:
        """Remove what is left: everything, or only what another stamp or a killed writer left."""
        for path in self._folder.iterdir():
            if not (keep_stamp and path.name.endswith(f"-{self._stamp[:12]}.staged")):
                path.unlink(missing_ok=True)
