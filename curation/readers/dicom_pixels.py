"""Decode one frame of DICOM pixel data into stored values."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from usds.curation.readers.base import MediaError
from usds.curation.readers.codestream import Codestream, has_tables, parse_codestream, with_adobe_marker
from usds.curation.readers.guard import guarded, stderr_closed
from usds.curation.readers.header import number, text
from usds.curation.readers.limits import ReadLimits

Values = NDArray[Any]
"""Stored values: (rows, cols) or (rows, cols, 3), integers."""

_HIGH_THROUGHPUT = (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
# Codecs in the order they are tried. CharLS of pyjpegls loops forever on damaged streams, GDCM's does not.
_PLUGINS = {"jpeg2000": ("pylibjpeg", "gdcm"), "jpegls": ("gdcm",), "lossless": ("gdcm",)}
_DECODERS = {"jpeg2000": JPEG2000, "jpegls": JPEGLSLossless, "lossless": JPEGLosslessSV1}


@dataclass(frozen=True, slots=True)
class Layout:
    """Image Pixel module (PS3.3 C.7.6.3), checked."""

    rows: int
    cols: int
    samples: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    planar: int
    photometric: str

    @property
    def subsampled(self) -> bool:
        """Whether native pixels share chroma in pairs (YBR_FULL_422, PS3.3 C.7.6.3.1.2)."""
        return self.photometric == "YBR_FULL_422" and self.samples == 3

    def frame_bytes(self) -> int:
        """Size of a native frame in bytes."""
        if self.subsampled:
            return self.rows * (self.cols + self.cols % 2) * 2 * (self.allocated // 8)
        return self.rows * self.cols * self.samples * (self.allocated // 8)


def read_layout(ds: Dataset, limits: ReadLimits) -> Layout:
    """Read and check the Image Pixel module.

    Raises
    ------
    MediaError
        "no_pixels" without Rows and Columns, "decompression_bomb" above the limit of pixels,
        "unsupported" for sample counts and depths that no ultrasound class allows.
    """
    rows, cols = _whole(ds, "Rows", 0), _whole(ds, "Columns", 0)
    if rows < 1 or cols < 1:
        raise MediaError("no_pixels")
    if rows * cols > limits.max_frame_pixels:
        raise MediaError("decompression_bomb")
    samples = _whole(ds, "SamplesPerPixel", 1)
    allocated = _whole(ds, "BitsAllocated", 8)
    if samples not in (1, 3) or allocated not in (8, 16):
        raise MediaError("unsupported")
    stored = _whole(ds, "BitsStored", allocated)
    stored = stored if 1 <= stored <= allocated else allocated
    high = _whole(ds, "HighBit", stored - 1)
    return Layout(
        rows=rows,
        cols=cols,
        samples=samples,
        allocated=allocated,
        stored=stored,
        high_bit=high if stored - 1 <= high < allocated else stored - 1,
        signed=_whole(ds, "PixelRepresentation", 0) == 1,
        planar=_whole(ds, "PlanarConfiguration", 0),
        photometric=(text(ds, "PhotometricInterpretation") or "").upper(),
    )


def _whole(ds: Dataset, keyword: str, default: int) -> int:
    found = number(ds, keyword, 0, 2**31)
    return default if found is None else int(found)


def shape_native(data: NDArray[np.uint8], layout: Layout, *, little_endian: bool) -> Values:
    """Shape the bytes of an uncompressed frame (PS3.5 8.1, 8.2; Annex D).

    Parameters
    ----------
    data : ndarray of uint8
        One frame, `Layout.frame_bytes` long.
    layout : Layout
    little_endian : bool

    Returns
    -------
    ndarray
        Unsigned samples as allocated, (rows, cols) or (rows, cols, 3); see `stored_values`.
    """
    flat = data if layout.allocated == 8 else data.view("<u2" if little_endian else ">u2")
    if layout.subsampled:
        return _expand_422(flat, layout)
    if layout.samples == 1:
        return flat.reshape(layout.rows, layout.cols)
    if layout.planar == 1:
        return flat.reshape(3, layout.rows, layout.cols).transpose(1, 2, 0)
    return flat.reshape(layout.rows, layout.cols, 3)


def _expand_422(flat: Values, layout: Layout) -> Values:
    """Y0 Y1 Cb Cr for every two pixels; the pair shares its chroma (PS3.3 C.7.6.3.1.2)."""
    cols = layout.cols + layout.cols % 2
    quads = flat.reshape(layout.rows, cols // 2, 4)
    full = np.empty((layout.rows, cols, 3), flat.dtype)
    full[:, 0::2, 0], full[:, 1::2, 0] = quads[..., 0], quads[..., 1]
    full[:, 0::2, 1:] = full[:, 1::2, 1:] = quads[..., 2:]
    return full[:, : layout.cols]


def stored_values(pixels: Values, layout: Layout) -> Values:
    """Drop bits outside BitsStored, where old files keep overlays, and extend the sign."""
    shift = layout.high_bit + 1 - layout.stored
    if shift == 0 and layout.stored == layout.allocated and not layout.signed:
        return pixels
    wide = (pixels.astype(np.int32) >> shift) & ((1 << layout.stored) - 1)
    if layout.signed:
        wide -= (wide >> (layout.stored - 1)) << layout.stored
    return wide


@dataclass(frozen=True, slots=True)
class Decoded:
    """Stored values of an encoded frame and the colour space that they are in."""

    values: Values
    photometric: str
    stored: int


def decode_encapsulated(data: bytes, layout: Layout, syntax: UID) -> Decoded:
    """Decode a compressed frame; the codestream tells the codec, the transfer syntax only helps.

    Parameters
    ----------
    data : bytes
        All fragments of one frame.
    layout : Layout
    syntax : UID
        As stated; decides for run-length data and high-throughput JPEG 2000.

    Returns
    -------
    Decoded

    Raises
    ------
    MediaError
        "unreadable" where the codestream has another size than the file, "unsupported" for codecs that
        no installed library reads.
    """
    stream = parse_codestream(data)
    if stream is None:
        if syntax != RLELossless:
            raise MediaError("unreadable")
        values = _with_pydicom(data, layout, RLELossless, "", layout.stored)
        return Decoded(stored_values(values, layout), layout.photometric, layout.stored)
    if (stream.rows, stream.cols) != (layout.rows, layout.cols) or stream.components not in (1, 3):
        raise MediaError("unreadable")
    if stream.family == "dct" and stream.bits == 8:
        return _decode_dct(data, stream, layout)
    return _decode_other(data, stream, layout, syntax)


def _decode_dct(data: bytes, stream: Codestream, layout: Layout) -> Decoded:
    """JPEG baseline, extended and progressive of 8 bits.

    Markers of the codestream beat the header: a decoder obeys JFIF and Adobe by itself. Without them
    the header's colour space is written into the stream as an Adobe segment.
    """
    if stream.components == 3 and not stream.has_marker and stream.ycc is None:
        data = with_adobe_marker(data, ycc=layout.photometric.startswith("YBR"))
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    if image.mode not in ("L", "RGB"):
        raise MediaError("unsupported")
    photometric = layout.photometric if image.mode == "L" else "RGB"
    return Decoded(np.asarray(image), photometric, 8)


def _decode_other(data: bytes, stream: Codestream, layout: Layout, syntax: UID) -> Decoded:
    decoder = _DECODERS.get(stream.family)
    if decoder is None:
        raise MediaError("unsupported")  # 12-bit DCT: only a GPL library reads it
    if stream.family == "lossless" and not has_tables(data):
        raise MediaError("unreadable")
    if syntax in _HIGH_THROUGHPUT:
        decoder = HTJ2KLossless
    plugins = _PLUGINS[stream.family][: 1 if decoder == HTJ2KLossless else None]
    values = _first_success(data, layout, decoder, plugins, stream.bits)
    photometric = "RGB" if stream.ycc is False and stream.components == 3 else layout.photometric
    return Decoded(values, photometric, stream.bits)


def _first_success(data: bytes, layout: Layout, syntax: UID, plugins: tuple[str, ...], bits: int) -> Values:
    for plugin in plugins:
        try:
            with guarded("unreadable"), stderr_closed():
                return _with_pydicom(data, layout, syntax, plugin, bits)
        except MediaError:
            continue  # another codec may read what this one refuses
    raise MediaError("unreadable")


def _with_pydicom(data: bytes, layout: Layout, syntax: UID, plugin: str, bits: int) -> Values:
    """Run one of pydicom's decoder plugins over a single frame and return raw values."""
    allocated = 8 if bits <= 8 and syntax != RLELossless else layout.allocated
    options: Any = {
        "rows": layout.rows,
        "columns": layout.cols,
        "samples_per_pixel": layout.samples,
        "photometric_interpretation": layout.photometric or "MONOCHROME2",
        "bits_allocated": max(allocated, 8 if bits <= 8 else 16),
        "bits_stored": bits,
        "pixel_representation": int(layout.signed),
        "planar_configuration": layout.planar,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }
    frame = encapsulate([data], has_bot=False)
    return get_decoder(syntax).as_array(frame, raw=True, decoding_plugin=plugin, **options)[0]
