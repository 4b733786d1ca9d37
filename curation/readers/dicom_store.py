"""Where the frames of a DICOM file lie and how each becomes RGB: native, compressed, or one video stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from usds.curation.readers.base import RGB, MediaError
from usds.curation.readers.codestream import parse_codestream
from usds.curation.readers.dicom_color import ColorMap
from usds.curation.readers.dicom_fragments import Encapsulated, find_frames
from usds.curation.readers.dicom_header import UNDEFINED, ParsedFile, PixelElement
from usds.curation.readers.dicom_pixels import Layout, decode_encapsulated, read_layout, shape_native
from usds.curation.readers.guard import guarded
from usds.curation.readers.limits import ReadLimits
from usds.curation.readers.source import SpanReader
from usds.curation.readers.video import VideoStream

_VIDEO_ROOT = "1.2.840.10008.1.2.4.10"  # MPEG2 (.100, .101), MPEG-4 (.102 to .106), HEVC (.107, .108)
_ITEM = b"\xfe\xff\x00\xe0"


class FrameStore(Protocol):
    """Frames of one file.

    Attributes
    ----------
    n_frames, rows, cols : int
    end : int
        Offset behind the pixel data element.
    """

    n_frames: int
    rows: int
    cols: int
    end: int

    def frames(self, indices: Sequence[int], warnings: list[str]) -> Iterator[tuple[int, RGB]]:
        """Yield the wanted frames as RGB; codes of damage are appended to `warnings`."""
        ...


def open_store(
    parsed: ParsedFile, pixels: PixelElement, stated: int, limits: ReadLimits, warnings: list[str]
) -> FrameStore:
    """Choose the store by what the pixel data begins with, not by the stated syntax alone.

    Raises
    ------
    MediaError
        "truncated" without one whole frame; "decompression_bomb", "unsupported", "no_pixels".
    """
    if stated > limits.max_frames:
        raise MediaError("decompression_bomb")
    is_coded = pixels.length == UNDEFINED or parsed.syntax.is_encapsulated
    if is_coded and parsed.source.read(pixels.offset, 4) == _ITEM:
        is_video = str(parsed.syntax).startswith(_VIDEO_ROOT)
        extended = _extended_offsets(parsed.ds)
        found = find_frames(parsed.source, pixels.offset, stated, extended=extended, one_stream=is_video)
        if found.truncated:
            warnings.append("truncated")
        if is_video:
            return _VideoStore(parsed, found, limits)
        return _CodedStore(parsed, found, limits, warnings)
    return _NativeStore(parsed, pixels, stated, limits, warnings)


def _extended_offsets(ds: Dataset) -> list[int]:
    raw = ds.get("ExtendedOffsetTable")
    return np.frombuffer(raw[: len(raw) // 8 * 8], "<u8").tolist() if isinstance(raw, bytes) else []


class _NativeStore:
    """Uncompressed frames, one after another."""

    def __init__(
        self, parsed: ParsedFile, pixels: PixelElement, stated: int, limits: ReadLimits, warnings: list[str]
    ) -> None:
        layout = read_layout(parsed.ds, limits)
        available = parsed.source.size - pixels.offset
        stated_bytes = available if pixels.length == UNDEFINED else pixels.length
        # Writers exist that state 422 and store three full samples.
        if layout.subsampled and stated_bytes >= stated * layout.rows * layout.cols * 3:
            layout = _without_subsampling(layout)
        size = layout.frame_bytes()
        if size > limits.max_frame_bytes:
            raise MediaError("decompression_bomb")
        self.n_frames = min(stated, min(available, stated_bytes) // size)
        if self.n_frames < 1:
            raise MediaError("truncated")
        if self.n_frames < stated:
            warnings.append("truncated")
        self.rows, self.cols, self.end = (
            layout.rows,
            layout.cols,
            pixels.offset + min(available, stated_bytes),
        )
        self._source, self._little = parsed.source, parsed.little_endian
        self._layout, self._size, self._start = layout, size, pixels.offset
        # PS3.5 Annex D: bytes inside words of OW are swapped in big endian, also where a sample is a byte.
        self._swapped = layout.allocated == 8 and not self._little and pixels.vr == "OW"
        self._colors = ColorMap(parsed.ds, layout)

    def frames(self, indices: Sequence[int], warnings: list[str]) -> Iterator[tuple[int, RGB]]:
        for index in indices:
            with guarded("unreadable"):
                data = self._read(self._start + index * self._size)
                stored = shape_native(data, self._layout, little_endian=self._little)
                rgb = self._colors.native(stored)
            yield index, rgb

    def _read(self, offset: int) -> NDArray[np.uint8]:
        if not self._swapped:
            return self._source.read_array(offset, self._size)
        shift = (offset - self._start) % 2
        words = self._source.read(offset - shift, self._size + 2)
        words = words[: len(words) // 2 * 2]
        return np.frombuffer(words, "<u2").byteswap().view(np.uint8)[shift : shift + self._size]


def _without_subsampling(layout: Layout) -> Layout:
    return replace(layout, photometric="YBR_FULL")


class _CodedStore:
    """Compressed frames, each its own codestream."""

    def __init__(
        self, parsed: ParsedFile, found: Encapsulated, limits: ReadLimits, warnings: list[str]
    ) -> None:
        layout = read_layout(parsed.ds, limits)
        self.n_frames, self.end = len(found.frames), found.end
        self._source, self._syntax, self._limits = parsed.source, parsed.syntax, limits
        self._frames = found.frames
        self._layout = _conform(layout, self._head(), limits, warnings)
        self.rows, self.cols = self._layout.rows, self._layout.cols
        self._colors = ColorMap(parsed.ds, self._layout)

    def _head(self) -> bytes:
        offset, length = self._frames[0][0]
        return self._source.read(offset, min(length, 1 << 16))

    def frames(self, indices: Sequence[int], warnings: list[str]) -> Iterator[tuple[int, RGB]]:
        for index in indices:
            try:
                with guarded("unreadable"):
                    rgb = self._decode(index)
            except MediaError as error:
                if error.reason not in ("unreadable", "truncated"):
                    raise
                if "frame_unreadable" not in warnings:
                    warnings.append("frame_unreadable")
                continue
            yield index, rgb

    def _decode(self, index: int) -> RGB:
        spans = self._frames[index]
        if sum(length for _, length in spans) > self._limits.max_frame_bytes:
            raise MediaError("decompression_bomb")
        data = b"".join(self._source.read(offset, length) for offset, length in spans)
        decoded = decode_encapsulated(data, self._layout, self._syntax)
        rgb = self._colors.rgb(decoded.values, decoded.photometric, decoded.stored)
        return rgb if rgb.flags.writeable else rgb.copy()


def _conform(layout: Layout, head: bytes, limits: ReadLimits, warnings: list[str]) -> Layout:
    """Where the first codestream contradicts the header, believe the codestream and say so."""
    stream = parse_codestream(head)
    if stream is None:
        return layout
    if stream.rows * stream.cols > limits.max_frame_pixels or stream.rows * stream.cols < 1:
        raise MediaError("decompression_bomb" if stream.rows * stream.cols else "unreadable")
    if (stream.rows, stream.cols) != (layout.rows, layout.cols):
        warnings.append("size_mismatch")
        layout = replace(layout, rows=stream.rows, cols=stream.cols)
    if stream.components != layout.samples and stream.components in (1, 3):
        warnings.append("samples_mismatch")
        photometric = "RGB" if stream.components == 3 else "MONOCHROME2"
        layout = replace(layout, samples=stream.components, photometric=photometric)
    is_ybr = layout.photometric.startswith("YBR")
    if stream.components == 3 and stream.family == "dct" and stream.ycc not in (None, is_ybr):
        warnings.append("photometric_mismatch")
    return layout


class _VideoStore:
    """MPEG-2, MPEG-4 and HEVC: all fragments are one stream (PS3.5 A.4.5 and on)."""

    def __init__(self, parsed: ParsedFile, found: Encapsulated, limits: ReadLimits) -> None:
        reader = SpanReader(parsed.source, found.frames[0], limits.max_frame_bytes)
        self._video = VideoStream(reader, limits)
        self.n_frames, self.rows, self.cols = self._video.n_frames, self._video.rows, self._video.cols
        self.end = found.end

    def frames(self, indices: Sequence[int], warnings: list[str]) -> Iterator[tuple[int, RGB]]:
        yield from self._video.frames(indices, warnings)
