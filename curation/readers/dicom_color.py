"""Turn stored values into RGB of 8 bits: palettes, windows, colour spaces (PS3.3 C.7.6.3, C.11)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi

from usds.curation.readers.base import RGB
from usds.curation.readers.dicom_pixels import Layout, Values, stored_values
from usds.curation.readers.header import number, text

_YBR = {"YBR_FULL", "YBR_FULL_422"}
_Table = NDArray[np.uint8]
_IDENTITY: _Table = np.arange(256, dtype=np.uint8)


class ColorMap:
    """Maps the frames of one file to RGB, with tables that are made once.

    Grey values of more than 8 bits go through the modality LUT or rescale, then the VOI LUT or window;
    without either, the range of BitsStored maps to 0 to 255. The range never depends on a frame's own
    minimum and maximum: frames of a cine must keep their relative brightness.

    Parameters
    ----------
    ds : Dataset
    layout : Layout
    """

    def __init__(self, ds: Dataset, layout: Layout) -> None:
        self._ds, self._layout = ds, layout
        self._inverted = layout.photometric == "MONOCHROME1" or text(ds, "PresentationLUTShape") == "INVERSE"
        self._tables: dict[int, _Table] = {}
        self._native: _Table | None = None

    def native(self, values: Values) -> RGB:
        """Convert an uncompressed frame; bits outside BitsStored are dropped by the same table look-up.

        Parameters
        ----------
        values : ndarray
            Unsigned samples as allocated, (rows, cols) or (rows, cols, 3).

        Returns
        -------
        ndarray
            uint8, (rows, cols, 3), contiguous and writeable.
        """
        layout = self._layout
        if layout.samples == 3:
            if layout.stored == layout.allocated == 8 and not layout.signed:
                return self.rgb(values, layout.photometric, 8)
            return self.rgb(stored_values(values, layout), layout.photometric, layout.stored)
        if self._native is None:
            every = np.arange(1 << layout.allocated, dtype=np.uint8 if layout.allocated == 8 else np.uint16)
            stored = stored_values(every, layout).astype(np.int32)
            stored = stored + (1 << (layout.stored - 1) if layout.signed else 0)
            table = self._table(layout.stored)
            self._native = np.ascontiguousarray(table[np.minimum(stored, len(table) - 1)])
        return _look_up(values, self._native)

    def rgb(self, values: Values, photometric: str, stored: int) -> RGB:
        """Convert a frame of stored values.

        Parameters
        ----------
        values : ndarray
            Stored values, (rows, cols) or (rows, cols, 3).
        photometric : str
            Colour space after decoding.
        stored : int
            Significant bits of `values`.

        Returns
        -------
        ndarray
            uint8, (rows, cols, 3), contiguous and writeable.
        """
        if values.ndim == 3:
            pixels = _interleave(_to_eight(values, stored, signed=self._layout.signed))
            return _ybr_to_rgb(pixels) if photometric in _YBR else pixels
        low = 1 << (stored - 1) if self._layout.signed else 0
        index = values.astype(np.int32) + low if low else values
        return _look_up(index, self._table(stored))

    def _table(self, stored: int) -> _Table:
        """RGB, or grey, of every stored value, lowest first."""
        if stored not in self._tables:
            if self._layout.photometric == "PALETTE COLOR":
                table = palette_table(self._ds)
            else:
                table = grey_table(self._ds, stored, signed=self._layout.signed, inverted=self._inverted)
            self._tables[stored] = table
        return self._tables[stored]


def _look_up(index: Values, table: _Table) -> RGB:
    if table.ndim == 2 and index.dtype == np.uint8:
        grey = np.ascontiguousarray(index)
        return np.asarray(cv2.LUT(cv2.merge([grey, grey, grey]), table[None, :256]), dtype=np.uint8)
    if table.ndim == 1 and index.dtype == np.uint8 and np.array_equal(table, _IDENTITY):
        found = np.ascontiguousarray(index)
    else:
        found = np.take(table, index, axis=0, mode="clip")
    return found if found.ndim == 3 else np.asarray(cv2.merge([found, found, found]), dtype=np.uint8)


def _interleave(pixels: _Table) -> RGB:
    """Make colour-by-plane data colour-by-pixel; data that is so already is passed on."""
    if pixels.flags.c_contiguous:
        return pixels if pixels.flags.writeable else pixels.copy()
    planes = [np.ascontiguousarray(pixels[..., channel]) for channel in range(3)]
    return np.asarray(cv2.merge(planes), dtype=np.uint8)


def _to_eight(values: Values, stored: int, *, signed: bool) -> _Table:
    """Scale the range of BitsStored to 0 to 255."""
    if values.dtype == np.uint8 and stored == 8:
        return values
    wide = values.astype(np.int32) + ((1 << (stored - 1)) if signed else 0)
    if stored > 8:
        return np.clip(wide >> (stored - 8), 0, 255).astype(np.uint8)
    return np.clip(wide * 255 // ((1 << stored) - 1), 0, 255).astype(np.uint8)


def _ybr_to_rgb(pixels: _Table) -> RGB:
    """Full-range BT.601 (PS3.3 C.7.6.3.1.2); OpenCV wants Cr before Cb."""
    return cv2.cvtColor(pixels[..., (0, 2, 1)], cv2.COLOR_YCrCb2RGB)  # type: ignore[return-value]


def palette_table(ds: Dataset) -> _Table:
    """Return the palette for every index that BitsAllocated allows, as (n, 3) of 8 bits.

    Entries of 16 bits keep their high byte (PS3.3 C.7.6.3.1.6). Some writers state 16 bits and fill only
    the low byte: where no entry exceeds 255, it is taken as it is.
    """
    bits = int(number(ds, "BitsAllocated", 8, 16) or 8)
    indices = np.arange(1 << bits, dtype=np.uint16 if bits > 8 else np.uint8)
    table: NDArray[Any] = apply_color_lut(indices, ds)
    return (table >> 8 if table.dtype.itemsize > 1 and table.max() > 255 else table).astype(np.uint8)


def grey_table(ds: Dataset, stored: int, *, signed: bool, inverted: bool) -> _Table:
    """Return 8-bit grey for every stored value, lowest first.

    Parameters
    ----------
    ds : Dataset
        Modality LUT / rescale and VOI LUT / window are taken from it.
    stored : int
        Bits stored, 1 to 16.
    signed, inverted : bool

    Returns
    -------
    ndarray
        uint8, 2**stored entries.
    """
    if stored <= 8:
        # Grey of 8 bits is shown as stored: windows of ultrasound machines merely repeat the full range.
        ramp = (np.arange(1 << stored) * 255 // ((1 << stored) - 1)).astype(np.uint8)
        return 255 - ramp if inverted else ramp
    low = -(1 << (stored - 1)) if signed else 0
    raw = np.arange(low, low + (1 << stored), dtype=np.int32)
    modality: NDArray[Any] = np.asarray(apply_modality_lut(raw, ds), dtype=np.float64)
    unit = _voi(modality, ds)
    if unit is None:
        first, last = float(modality.min()), float(modality.max())
        unit = (modality - first) / max(last - first, 1e-9)
    if inverted:
        unit = 1.0 - unit
    return np.clip(unit * 256.0, 0, 255).astype(np.uint8)


def _voi(values: NDArray[np.float64], ds: Dataset) -> NDArray[np.float64] | None:
    """Apply the first VOI LUT or window; 0 to 1, or None where the header has neither."""
    sequence: Any = ds.get("VOILUTSequence")
    if sequence:
        bits = int(sequence[0].LUTDescriptor[2])
        mapped: NDArray[Any] = apply_voi(values.astype(np.int32), ds, 0)
        return np.asarray(mapped, dtype=np.float64) / ((1 << bits) - 1)
    center, width = number(ds, "WindowCenter", -1e9, 1e9), number(ds, "WindowWidth", 1e-6, 1e9)
    if center is None or width is None:
        return None
    return window(values, center, width, text(ds, "VOILUTFunction") or "LINEAR")


def window(values: NDArray[np.float64], center: float, width: float, function: str) -> NDArray[np.float64]:
    """Window values into 0 to 1 (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -60, 60)))
    if function != "LINEAR_EXACT" and width > 1:
        center, width = center - 0.5, width - 1.0
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)
