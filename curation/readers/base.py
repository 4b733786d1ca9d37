"""The contract of a reader: an opened medium gives frames, facts and identifiers."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from usds.curation.readers.limits import ReadLimits

MediaReason = Literal[
    "unreadable",
    "unsupported",
    "wrong_modality",
    "decompression_bomb",
    "truncated",
    "empty",
    "timeout",
    "no_pixels",
    "encrypted",
    "too_large",
    "nested_archive",
    "unsafe_archive",
    "permission_denied",
    "disk_error",
]
"""Why a file gives no frames: a subset of `usds.schemas.tables.Reason`, and never a value of the file."""

MediaKind = Literal["dicom", "image", "video"]
RegionKind = Literal["2d", "color", "spectral", "mmode", "ecg", "other"]
CaptionScope = Literal["frame", "clip", "study"]
CaptionOrigin = Literal["sidecar", "header", "report", "overlay", "dataset"]
IdentifierClass = Literal["name", "id", "date", "phone", "address", "institution", "staff", "path", "other"]
RGB = NDArray[np.uint8]
"""A frame: uint8, shape (rows, columns, 3), red first."""

_MESSAGES: dict[str, str] = {
    "unreadable": "the file is damaged or is not what its first bytes claim",
    "unsupported": "the file is well formed but uses an encoding that usds does not read",
    "wrong_modality": "the file is not ultrasound",
    "decompression_bomb": "the file declares more pixels or bytes than the limits allow",
    "truncated": "the file ends before its first whole frame",
    "empty": "the file holds no bytes",
    "timeout": "reading took longer than the limit",
    "no_pixels": "the file holds no pixel data",
    "encrypted": "the file or archive member is encrypted",
    "too_large": "the file is larger than the limit",
    "nested_archive": "an archive inside an archive is not opened",
    "unsafe_archive": "an archive member points outside the archive",
    "permission_denied": "the file may not be read",
    "disk_error": "the file could not be read from its disk",
}


class MediaError(Exception):
    """A file that cannot give frames.

    The message is made from the reason alone: exceptions of decoders quote values of the file
    ("Invalid value for VR DA: 'SMITH1960'") and must not travel further.

    Parameters
    ----------
    reason : MediaReason
        Code that goes into the table `sources`.
    """

    def __init__(self, reason: MediaReason) -> None:
        super().__init__(f"{reason}: {_MESSAGES[reason]}")
        self.reason: MediaReason = reason

    def __reduce__(self) -> tuple[type[MediaError], tuple[MediaReason]]:
        """Travel between processes as the reason only."""
        return type(self), (self.reason,)


@dataclass(frozen=True, slots=True)
class Region:
    """One part of the picture, as the header describes it and as it was checked against Rows/Columns.

    Attributes
    ----------
    kind : RegionKind
    x0, y0, x1, y1 : int
        Half-open pixel box.
    spacing_mm : (row, column) or None
        Millimetres per pixel; None where an axis is not a length (time, velocity).
    """

    kind: RegionKind
    x0: int
    y0: int
    x1: int
    y1: int
    spacing_mm: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class RawCaption:
    """Text about a frame, clip or study as it was found: not cleaned, may hold identifiers."""

    text: str
    section: str | None = None
    scope: CaptionScope = "clip"
    origin: CaptionOrigin = "sidecar"
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Identifier:
    """A value that points at a person, place or time; feeds the private harvest index only.

    Attributes
    ----------
    value : str
        As written in the file, stripped.
    klass : IdentifierClass
    cue : str or None
        Where it stood (DICOM keyword, metadata key); a cue for short values, never a value itself.
    """

    value: str
    klass: IdentifierClass
    cue: str | None = None


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """What a header says.

    The first six fields are raw values: they stay in the worker and in the private state. The others
    went through lookup tables and range checks and may be written.

    Attributes
    ----------
    age_years : float or None
        0 to 120, from PatientAge, else from birth date and study date.
    frame_time_ms : float or None
        Time between two frames.
    spacing_mm : (row, column) or None
        Of the first region that has one, else of the whole frame (PixelSpacing).
    language : str or None
        BCP 47 primary subtag of the caption text, where the file states it.
    """

    patient_id: str | None = None
    patient_birth_date: str | None = None
    patient_sex: str | None = None
    study_uid: str | None = None
    series_uid: str | None = None
    sop_uid: str | None = None
    vendor: str | None = None
    model_family: str | None = None
    transducer: str | None = None
    body_part: str | None = None
    sex: Literal["M", "F", "O"] | None = None
    age_years: float | None = None
    codes: tuple[tuple[str, str, str], ...] = ()
    regions: tuple[Region, ...] = ()
    frame_time_ms: float | None = None
    spacing_mm: tuple[float, float] | None = None
    captions: tuple[RawCaption, ...] = field(default=())


def decoded(found: Iterable[tuple[int, RGB]], n_wanted: int, limits: ReadLimits) -> Iterator[tuple[int, RGB]]:
    """Pass frames on within the time limit.

    Raises
    ------
    MediaError
        "timeout"; "unreadable" when frames are wanted and not one decodes.
    """
    deadline = time.monotonic() + (limits.max_seconds or float("inf"))
    n_yielded = 0
    for index, rgb in found:
        if time.monotonic() > deadline:
            raise MediaError("timeout")
        n_yielded += 1
        yield index, rgb
    if n_yielded == 0 and n_wanted > 0:
        raise MediaError("unreadable")


class Media(ABC):
    """One opened file: geometry and facts at once, pixels as a stream.

    Attributes
    ----------
    kind : MediaKind
    n_frames : int
        Frames that the file can give, at least 1. A damaged clip may give fewer when it is decoded;
        it then adds a code to `warnings`.
    rows, cols : int
        Size of a frame after orientation is applied.
    header : HeaderFacts
    warnings : list of str
        Codes such as "region_outside_frame", "truncated", "photometric_mismatch"; never values.
    """

    kind: MediaKind
    n_frames: int
    rows: int
    cols: int
    header: HeaderFacts
    warnings: list[str]

    @abstractmethod
    def identifiers(self) -> list[Identifier]:
        """Return every identifying value that the file carries outside its pixels, without repeats."""

    @abstractmethod
    def frames(self, indices: Sequence[int] | None = None) -> Iterator[tuple[int, RGB]]:
        """Decode frames one at a time.

        Parameters
        ----------
        indices : sequence of int or None
            Ascending frame numbers; None means all. Numbers outside the clip are not yielded.

        Yields
        ------
        (int, ndarray)
            Frame number and a fresh RGB uint8 array of shape (rows, cols, 3).

        Raises
        ------
        MediaError
            Where no frame of a file decodes, or the time limit is passed.
        """

    def close(self) -> None:  # noqa: B027 - media that hold no file have nothing to release
        """Release the file. Reading on is an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_media(data: bytes | Path, *, kind: str, limits: ReadLimits) -> Media:
    """Open one file whose kind `sniff` has told.

    Parameters
    ----------
    data : bytes or Path
        The file's bytes (a zip member) or its place on disk; from disk, frames are read when asked for.
    kind : {"dicom", "image", "video"}
    limits : ReadLimits

    Returns
    -------
    Media
        Use as a context manager.

    Raises
    ------
    MediaError
        With a reason code; the message never carries a value of the file.
    """
    if kind not in get_args(MediaKind):
        raise MediaError("unsupported")
    # Imported on demand: a worker that reads stills need not load the codecs of clips.
    reader = import_module(f"usds.curation.readers.{kind}")
    return getattr(reader, f"open_{kind}")(data, limits)
