"""Read DICOM ultrasound: every common transfer syntax and colour space, one frame at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from usds.curation.readers.base import RGB, HeaderFacts, Identifier, Media, MediaError, decoded
from usds.curation.readers.dicom_header import ParsedFile, parse_file, parse_rest
from usds.curation.readers.dicom_identifiers import dicom_identifiers
from usds.curation.readers.dicom_store import open_store
from usds.curation.readers.guard import guarded
from usds.curation.readers.header import header_facts, number, text
from usds.curation.readers.limits import ReadLimits
from usds.curation.readers.source import ByteSource

# PS3.4 B.5: ultrasound image storage, its multi-frame twin, and the classes that PS3.4 retired.
_ULTRASOUND_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.6.1",
    "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.6.2",
    "1.2.840.10008.5.1.4.1.1.6.3",
    "1.2.840.10008.5.1.4.1.1.6",
    "1.2.840.10008.5.1.4.1.1.3",
}
_ULTRASOUND_MODALITIES = {"US", "IVUS"}


def open_dicom(data: bytes | Path, limits: ReadLimits) -> Media:
    """Open a DICOM file.

    Parameters
    ----------
    data : bytes or Path
    limits : ReadLimits

    Returns
    -------
    DicomMedia

    Raises
    ------
    MediaError
        "wrong_modality" for what is not ultrasound, "no_pixels" for documents, and the reasons of
        damaged or oversized files.
    """
    source = ByteSource(data, limits)
    try:
        return DicomMedia(parse_file(source, limits), limits)
    except MediaError:
        source.close()
        raise


class DicomMedia(Media):
    """An opened DICOM file; see `Media`.

    Frames are read from disk when they are asked for, so memory does not grow with the clip.
    """

    kind = "dicom"

    def __init__(self, parsed: ParsedFile, limits: ReadLimits) -> None:
        self.warnings: list[str] = []
        self._parsed, self._limits = parsed, limits
        with guarded("unreadable"):
            _check_modality(parsed.ds)
            if parsed.pixels is None:
                raise MediaError("no_pixels")
            stated = int(number(parsed.ds, "NumberOfFrames", 1, 2**31) or 1)
            self._store = open_store(parsed, parsed.pixels, stated, limits, self.warnings)
            self.n_frames, self.rows, self.cols = self._store.n_frames, self._store.rows, self._store.cols
            self.header: HeaderFacts = header_facts(
                parsed.ds, self.rows, self.cols, self.n_frames, self.warnings
            )

    def identifiers(self) -> list[Identifier]:
        """Return every identifying value: nested, private, meta, preamble, and after the pixels."""
        with guarded("unreadable"):
            rest = parse_rest(self._parsed, self._store.end, self._limits)
            return dicom_identifiers([self._parsed.meta, self._parsed.ds, rest], self._parsed.preamble)

    def frames(self, indices: Sequence[int] | None = None) -> Iterator[tuple[int, RGB]]:
        """Decode frames one at a time; damaged ones are left out and reported as "frame_unreadable"."""
        wanted = range(self.n_frames) if indices is None else indices
        yield from decoded(
            self._store.frames([i for i in wanted if 0 <= i < self.n_frames], self.warnings),
            len(wanted),
            self._limits,
        )

    def close(self) -> None:
        """Close the file."""
        self._parsed.source.close()


def _check_modality(ds: Dataset) -> None:
    """Accept ultrasound classes, and other image classes only with Modality US (PS3.3 C.7.3.1.1.1)."""
    modality = (text(ds, "Modality") or "").upper()
    is_class = (text(ds, "SOPClassUID") or "") in _ULTRASOUND_CLASSES
    if modality in _ULTRASOUND_MODALITIES or (is_class and modality in ("", "OT")):
        return
    raise MediaError("wrong_modality")
