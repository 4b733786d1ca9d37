"""Read clips (mp4, mov, avi, mpeg, gif and what else FFmpeg demuxes), one frame at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import av.error
import numpy as np

from usds.curation.readers.base import RGB, HeaderFacts, Identifier, Media, MediaError, decoded
from usds.curation.readers.guard import guarded
from usds.curation.readers.limits import ReadLimits
from usds.curation.readers.metadata import metadata_identifiers
from usds.curation.readers.source import ByteSource, SpanReader

# Damaged packets in a row after which a stream counts as ended.
_MAX_BAD_PACKETS = 64


class VideoStream:
    """The first video stream of a seekable file.

    Parameters
    ----------
    file : file-like
        Opened again for every pass, from its start.
    limits : ReadLimits

    Attributes
    ----------
    n_frames, rows, cols : int
        Frames are counted by packets, without decoding; size after rotation.
    frame_time_ms : float or None
    metadata : dict of str to str
        Of container and stream.
    """

    def __init__(self, file: SpanReader, limits: ReadLimits) -> None:
        self._file, self._limits = file, limits
        with guarded("unreadable"), self._open() as container:
            stream = self._stream(container)
            context = stream.codec_context
            if context.width * context.height > limits.max_frame_pixels:
                raise MediaError("decompression_bomb")
            rate = stream.average_rate or stream.guessed_rate
            self.frame_time_ms = 1000.0 / float(rate) if rate else None
            self.metadata: dict[str, str] = {**container.metadata, **stream.metadata}
            self.n_frames, first = self._scan(container, stream)
        if first is None:
            raise MediaError("unreadable")
        self.rows, self.cols = first.shape[:2]

    def _open(self) -> Any:
        self._file.seek(0)
        return av.open(cast(BinaryIO, self._file), metadata_errors="replace")

    @staticmethod
    def _stream(container: Any) -> Any:
        if not container.streams.video:
            raise MediaError("no_pixels")
        stream = container.streams.video[0]
        # One thread: frames arrive in order, memory stays small, and workers already fill the cores.
        stream.codec_context.thread_count = 1
        stream.thread_type = "NONE"
        return stream

    def _scan(self, container: Any, stream: Any) -> tuple[int, RGB | None]:
        """Count packets to the end of the file, and decode until one frame shows its real size."""
        count = 0
        first: RGB | None = None
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError):
                break
            count += packet.size > 0
            first = _first_frame(packet) if first is None else first
            if count > self._limits.max_frames:
                raise MediaError("decompression_bomb")
        if count == 0:
            raise MediaError("truncated")
        return count, first

    def frames(self, indices: Sequence[int], warnings: list[str]) -> Iterator[tuple[int, RGB]]:
        """Yield the wanted frames in order; the codes of damage are appended to `warnings`."""
        for index, rgb in self._decode(indices, warnings):
            if rgb.shape[:2] == (self.rows, self.cols):
                yield index, rgb
            elif "frame_size_changes" not in warnings:
                warnings.append("frame_size_changes")

    def _decode(self, indices: Sequence[int], warnings: list[str]) -> Iterator[tuple[int, RGB]]:
        wanted = set(indices)
        last = max(wanted, default=-1)
        with guarded("unreadable"):
            container = self._open()
        try:
            with guarded("unreadable"):
                stream = self._stream(container)
                pictures = self._pictures(container, stream, warnings)
            for index in range(last + 1):
                with guarded("unreadable"):
                    picture = next(pictures, None)
                    rgb = _to_rgb(picture) if picture is not None and index in wanted else None
                if picture is None:
                    if "truncated" not in warnings:
                        warnings.append("truncated")
                    return
                if rgb is not None:
                    yield index, rgb
        finally:
            container.close()

    def _pictures(self, container: Any, stream: Any, warnings: list[str]) -> Iterator[Any]:
        """Decode packet by packet, so that one damaged packet does not end the clip."""
        bad = 0
        packets = container.demux(stream)
        while bad <= _MAX_BAD_PACKETS:
            try:
                packet = next(packets)
                pictures = packet.decode()
            except StopIteration:
                return
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                bad += 1
                if "packet_unreadable" not in warnings:
                    warnings.append("packet_unreadable")
                continue
            for picture in pictures:
                if picture.width * picture.height > self._limits.max_frame_pixels:
                    raise MediaError("decompression_bomb")
                yield picture


def _first_frame(packet: Any) -> RGB | None:
    """Decode a packet; damaged ones give nothing, a later one may."""
    try:
        return next((_to_rgb(picture) for picture in packet.decode()), None)
    except av.error.FFmpegError:
        return None


def _to_rgb(picture: Any) -> RGB:
    """Convert with the stream's own matrix and range, then turn as the container says."""
    pixels = picture.to_ndarray(format="rgb24")
    turns = round((picture.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def open_video(data: bytes | Path, limits: ReadLimits) -> Media:
    """Open a clip.

    Raises
    ------
    MediaError
        "unreadable", "no_pixels" for sound alone, "decompression_bomb", "truncated", ...
    """
    source = ByteSource(data, limits)
    try:
        return VideoMedia(source, limits)
    except MediaError:
        source.close()
        raise


class VideoMedia(Media):
    """An opened clip; see `Media`."""

    kind = "video"

    def __init__(self, source: ByteSource, limits: ReadLimits) -> None:
        self.warnings: list[str] = []
        self._source, self._limits = source, limits
        self._video = VideoStream(SpanReader(source, [(0, source.size)], limits.max_frame_bytes), limits)
        self.n_frames, self.rows, self.cols = self._video.n_frames, self._video.rows, self._video.cols
        self.header = HeaderFacts(frame_time_ms=self._video.frame_time_ms)

    def identifiers(self) -> list[Identifier]:
        """Return titles, authors, dates, places and every other text of the container."""
        return metadata_identifiers(self._video.metadata.items())

    def frames(self, indices: Sequence[int] | None = None) -> Iterator[tuple[int, RGB]]:
        """Decode frames in order; a clip that is cut gives what decodes and "truncated" in `warnings`."""
        wanted = range(self.n_frames) if indices is None else indices
        yield from decoded(self._video.frames(wanted, self.warnings), len(wanted), self._limits)

    def close(self) -> None:
        """Close the file."""
        self._source.close()
