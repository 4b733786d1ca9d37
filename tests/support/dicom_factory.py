"""Real DICOM bytes for tests: any syntax and colour space, with identifiers planted where they hide."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import gdcm
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended, fragment_frame, itemize_fragment
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
ULTRASOUND_MULTIFRAME = "1.2.840.10008.5.1.4.1.1.3.1"

SYNTAXES: dict[str, str] = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "deflated": "1.2.840.10008.1.2.1.99",
    "big_endian": "1.2.840.10008.1.2.2",
    "rle": "1.2.840.10008.1.2.5",
    "jpeg": "1.2.840.10008.1.2.4.50",
    "jpeg_extended": "1.2.840.10008.1.2.4.51",
    "jpeg_lossless": "1.2.840.10008.1.2.4.70",
    "jpeg_ls": "1.2.840.10008.1.2.4.80",
    "jpeg2000_lossless": "1.2.840.10008.1.2.4.90",
    "jpeg2000": "1.2.840.10008.1.2.4.91",
    "mpeg2": "1.2.840.10008.1.2.4.100",
    "mpeg4": "1.2.840.10008.1.2.4.102",
    "hevc": "1.2.840.10008.1.2.4.107",
    "htj2k": "1.2.840.10008.1.2.4.201",
}
VIDEO = {"mpeg2": ("mpeg2video", "mpeg"), "mpeg4": ("libx264", "mp4"), "hevc": ("libx265", "mp4")}

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Planted:
    """One invented identifier for each hiding place; all of them must be found, none may be written."""

    name: str = "QUILLFEATHER^ORSOLA^MAE"
    patient_id: str = "MRN-7741902"
    accession: str = "ACC5529013"
    birth_date: str = "19530417"
    study_date: str = "20210903"
    phone: str = "+1 555 010 7788"
    address: str = "17 Larkspur Crescent"
    institution: str = "Saint Brannock Infirmary"
    station: str = "USROOM9-BRN"
    physician: str = "VANTERPOOL^DESMOND"
    operator: str = "OYELARAN^TEMI"
    serial: str = "SN-AX93-00417"
    ae_title: str = "BRANNOCK_AE1"
    private_text: str = "Tech note Quillfeather bed 12"
    private_unknown: str = "PRIVBLOB-66120"
    nested_name: str = "MOONCHILD^AVELINE"
    overlay: str = "Overlay by Oyelaran"
    preamble: str = "BRANNOCK PREAMBLE 7741902"
    trailing: str = "TRAILING-PRIVATE-8830"

    def values(self) -> list[str]:
        """Every planted value."""
        return [str(value) for value in vars(self).values()]


@dataclass
class Spec:
    """What `make_us_dicom` builds; every field has a plain value."""

    syntax: str = "explicit"
    photometric: str | None = None
    planar: int = 0
    bits_stored: int = 8
    bits_allocated: int | None = None
    signed: bool = False
    sop_class: str | None = None
    modality: str | None = "US"
    n_frames: int | None = None
    preamble: bytes | None = None
    file_meta: bool = True
    fragments: int = 1
    offset_table: str = "basic"
    regions: Sequence[Mapping[str, Any]] = ()
    header: Mapping[str, Any] = field(default_factory=dict)
    phi: Planted | None = None
    jpeg_markers: bool = True
    quality: int = 95
    codestreams: Sequence[bytes] | None = None


def phantom(
    n_frames: int = 1, rows: int = 96, cols: int = 128, *, color: bool = False, seed: int = 7
) -> Pixels:
    """Speckle in a sector with a dark, moving cyst, and a coloured flow box if wanted.

    Returns uint8 of shape (n, rows, cols) or (n, rows, cols, 3).
    """
    rng = np.random.default_rng(seed)
    speckle = cv2.GaussianBlur(rng.gamma(2.0, 35.0, (rows, cols)).clip(0, 255).astype(np.uint8), (3, 3), 0)
    yy, xx = np.mgrid[:rows, :cols]
    speckle[np.abs(xx - cols / 2) > 6 + yy * 0.6] = 0
    frames = np.repeat(speckle[None], n_frames, axis=0)
    for i, frame in enumerate(frames):
        cv2.circle(frame, (cols // 3 + (5 * i) % (cols // 3), rows * 2 // 3), rows // 8, 12, -1)
    if not color:
        return frames
    colored = np.repeat(frames[..., None], 3, axis=-1).copy()
    ramp = np.linspace(90, 250, cols // 4).astype(np.uint8)
    box = (slice(None), slice(rows // 3, rows // 2), slice(cols // 3, cols // 3 + len(ramp)))
    colored[box] = 0
    colored[(*box, 0)] = ramp
    colored[(*box, 2)] = ramp[::-1] // 3
    return colored


def make_us_dicom(frames: Pixels | None = None, **options: Any) -> bytes:
    """Return the bytes of an ultrasound DICOM file.

    Parameters
    ----------
    frames : ndarray, optional
        Stored values, (n, rows, cols) or (n, rows, cols, 3); RGB is encoded into the colour space that
        `photometric` names. Default: one grey phantom.
    **options
        Fields of `Spec`.
    """
    spec = Spec(**options)
    frames = phantom() if frames is None else frames
    ds = _header(frames, spec)
    if spec.syntax in VIDEO:
        _set_video(ds, frames, spec)
    elif spec.syntax in ("implicit", "explicit", "deflated", "big_endian"):
        _set_native(ds, frames, spec)
    else:
        _set_coded(ds, frames, spec)
    if spec.phi is not None:
        plant(ds, spec.phi)
    return _write(ds, spec)


def _header(frames: Pixels, spec: Spec) -> Dataset:
    ds = Dataset()
    n, color = len(frames), frames.ndim == 4
    ds.SOPClassUID = spec.sop_class or (ULTRASOUND_MULTIFRAME if n > 1 else ULTRASOUND)
    ds.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.11"
    ds.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.12"
    ds.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.13"
    if spec.modality is not None:
        ds.Modality = spec.modality
    ds.PatientID, ds.PatientName = "P1", "TEST^SUBJECT"
    if n > 1 or spec.n_frames is not None:
        ds.NumberOfFrames = spec.n_frames or n
        ds.FrameTime = "40"
    ds.Rows, ds.Columns = frames.shape[1:3]
    ds.SamplesPerPixel = 3 if color else 1
    ds.PhotometricInterpretation = spec.photometric or ("RGB" if color else "MONOCHROME2")
    if color:
        ds.PlanarConfiguration = spec.planar
    ds.BitsAllocated = spec.bits_allocated or (8 if spec.bits_stored <= 8 else 16)
    ds.BitsStored, ds.HighBit = spec.bits_stored, spec.bits_stored - 1
    ds.PixelRepresentation = int(spec.signed)
    if spec.regions:
        ds.SequenceOfUltrasoundRegions = DicomSequence([region(**entry) for entry in spec.regions])
    for keyword, value in spec.header.items():
        setattr(ds, keyword, value)
    return ds


def region(
    box: tuple[int, int, int, int],
    *,
    spatial: int = 1,
    data_type: int = 1,
    delta_cm: float = 0.02,
    units: int = 3,
) -> Dataset:
    """An item of Sequence of Ultrasound Regions; `box` holds inclusive corners x0, y0, x1, y1."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = spatial, data_type, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = box[:2]
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box[2:]
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = delta_cm, -delta_cm
    return item


def to_ybr(rgb: Pixels) -> Pixels:
    """Full-range BT.601, computed in floating point from the standard's equations (PS3.3 C.7.6.3.1.2)."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    return np.clip(np.rint(rgb @ matrix.T + [0, 128, 128]), 0, 255).astype(np.uint8)


def _set_native(ds: Dataset, frames: Pixels, spec: Spec) -> None:
    photometric = ds.PhotometricInterpretation
    if photometric.startswith("YBR_FULL"):
        frames = to_ybr(frames)
    if photometric == "YBR_FULL_422":
        raw = b"".join(_subsample(frame) for frame in frames)
    else:
        if frames.ndim == 4 and spec.planar == 1:
            frames = frames.transpose(0, 3, 1, 2)
        order = ">" if spec.syntax == "big_endian" else "<"
        kind = "u1" if ds.BitsAllocated == 8 else f"{order}{'i' if spec.signed else 'u'}2"
        raw = np.ascontiguousarray(frames).astype(kind).tobytes()
    ds.PixelData = raw + b"\0" * (len(raw) % 2)
    ds["PixelData"].VR = "OW" if ds.BitsAllocated == 16 or spec.syntax == "implicit" else "OB"


def _subsample(ybr: Pixels) -> bytes:
    pairs = np.empty((*ybr.shape[:1], ybr.shape[1] // 2, 4), np.uint8)
    pairs[..., 0], pairs[..., 1] = ybr[:, 0::2, 0], ybr[:, 1::2, 0]
    pairs[..., 2:] = ybr[:, 0::2, 1:]
    return pairs.tobytes()


def _set_coded(ds: Dataset, frames: Pixels, spec: Spec) -> None:
    streams = list(spec.codestreams or [encode_frame(ds, frame, spec) for frame in frames])
    ds["PixelData"] = _pixel_element()
    if spec.offset_table == "extended":
        ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(streams)
    elif spec.offset_table == "basic":
        ds.PixelData = encapsulate(streams, fragments_per_frame=spec.fragments)
    else:
        items = [itemize_fragment(part) for data in streams for part in fragment_frame(data, spec.fragments)]
        ds.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0" + b"".join(items)
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"


def _pixel_element() -> Any:
    from pydicom.dataelem import DataElement

    return DataElement(0x7FE00010, "OB", b"")


def encode_frame(ds: Dataset, frame: Pixels, spec: Spec) -> bytes:
    """One codestream of a frame, by an encoder that the readers do not use where there is one."""
    if spec.syntax in ("jpeg", "jpeg_extended"):
        return _jpeg(frame, spec)
    if spec.syntax == "jpeg_lossless":
        return _lossless_jpeg(ds, frame)
    small = Dataset()
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit",
                    "PixelRepresentation", "SOPClassUID", "SOPInstanceUID"):  # fmt: skip
        small[keyword] = ds[keyword]
    small.file_meta = FileMetaDataset()
    small.file_meta.TransferSyntaxUID = UID(SYNTAXES["explicit"])
    small.PhotometricInterpretation = "RGB" if frame.ndim == 3 else "MONOCHROME2"
    if frame.ndim == 3:
        small.PlanarConfiguration = 0
    small.PixelData = np.ascontiguousarray(frame).astype("u1" if ds.BitsAllocated == 8 else "<u2").tobytes()
    small["PixelData"].VR = "OB" if ds.BitsAllocated == 8 else "OW"
    from pydicom.encaps import get_frame

    arguments: dict[str, Any] = {"j2k_cr": [4]} if spec.syntax == "jpeg2000" else {}
    if spec.syntax.startswith("jpeg2000") and frame.ndim == 3:
        small.PhotometricInterpretation = "YBR_ICT" if spec.syntax == "jpeg2000" else "YBR_RCT"
        arguments["encoding_plugin"] = "pylibjpeg"
    small.compress(
        UID(SYNTAXES[spec.syntax]), np.ascontiguousarray(frame), generate_instance_uid=False, **arguments
    )
    return get_frame(small.PixelData, 0, number_of_frames=1)


def _jpeg(frame: Pixels, spec: Spec) -> bytes:
    """Pillow writes JFIF and YCbCr; without markers, or as RGB, the segments are changed afterwards."""
    out = io.BytesIO()
    image = Image.fromarray(frame)
    keep_rgb = frame.ndim == 3 and spec.photometric in (None, "RGB") and not spec.jpeg_markers
    image.save(out, "JPEG", quality=spec.quality, subsampling=0, keep_rgb=keep_rgb)
    data = out.getvalue()
    return data if spec.jpeg_markers else _without_app_segments(data)


def _without_app_segments(data: bytes) -> bytes:
    out, at = bytearray(data[:2]), 2
    while data[at + 1] != 0xDA:
        length = struct.unpack(">H", data[at + 2 : at + 4])[0] + 2
        if not 0xE0 <= data[at + 1] <= 0xEF:
            out += data[at : at + length]
        at += length
    # Component ids that spell RGB would tell the colour space again: number them as JFIF does.
    stripped = bytes(out) + data[at:]
    return stripped.replace(b"R\x11\x00G\x11\x00B\x11\x00", b"\x01\x11\x00\x02\x11\x00\x03\x11\x00").replace(
        b"\x03R\x00G\x00B\x00", b"\x03\x01\x00\x02\x00\x03\x00"
    )


def _lossless_jpeg(ds: Dataset, frame: Pixels) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        plain, coded = Path(folder, "a.dcm"), Path(folder, "b.dcm")
        extra: dict[str, Any] = {"bits_stored": int(ds.BitsStored)}
        plain.write_bytes(make_us_dicom(frame[None], **extra))
        reader, writer, change = gdcm.ImageReader(), gdcm.ImageWriter(), gdcm.ImageChangeTransferSyntax()
        reader.SetFileName(str(plain))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(coded))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        from pydicom import dcmread
        from pydicom.encaps import get_frame

        return get_frame(dcmread(coded).PixelData, 0, number_of_frames=1)


def _set_video(ds: Dataset, frames: Pixels, spec: Spec) -> None:
    data = make_video(frames, *VIDEO[spec.syntax])
    ds.PhotometricInterpretation = "YBR_PARTIAL_420"
    ds.SamplesPerPixel, ds.PlanarConfiguration = 3, 0
    ds["PixelData"] = _pixel_element()
    ds.PixelData = encapsulate([data], fragments_per_frame=max(spec.fragments, 1), has_bot=False)
    ds["PixelData"].is_undefined_length = True


def make_video(
    frames: Pixels,
    codec: str = "libx264",
    container: str = "mp4",
    *,
    rate: int = 25,
    metadata: Mapping[str, str] | None = None,
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
) -> bytes:
    """Encode frames, (n, rows, cols[, 3]) of 8 bits, into a clip in memory."""
    out = io.BytesIO()
    settings = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    with av.open(out, "w", format=container) as target:
        target.metadata.update(dict(metadata or {}))
        stream = target.add_stream(codec, rate=rate, options={**settings, **(options or {})})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        for frame in frames:
            rgb = frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=-1)
            for packet in stream.encode(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            ):
                target.mux(packet)
        for packet in stream.encode(None):
            target.mux(packet)
    return out.getvalue()


def plant(ds: Dataset, phi: Planted) -> None:
    """Put identifiers where real exports keep them."""
    ds.PatientName, ds.PatientID, ds.AccessionNumber = phi.name, phi.patient_id, phi.accession
    ds.PatientBirthDate, ds.StudyDate = phi.birth_date, phi.study_date
    ds.PatientTelephoneNumbers, ds.PatientAddress = phi.phone, phi.address
    ds.InstitutionName, ds.StationName = phi.institution, phi.station
    ds.ReferringPhysicianName, ds.OperatorsName = phi.physician, phi.operator
    ds.DeviceSerialNumber = phi.serial
    ds.TransducerData = ["C5-1", phi.serial, ""]
    block = ds.private_block(0x0009, "USDS TEST", create=True)
    block.add_new(0x01, "LO", phi.private_text)
    block.add_new(0x02, "UN", phi.private_unknown.encode())
    item = Dataset()
    item.RequestingPhysician = phi.nested_name
    ds.RequestAttributesSequence = DicomSequence([item])
    ds.add_new(0x60000022, "LO", phi.overlay)
    ds.private_block(0x7FE1, "USDS TAIL", create=True).add_new(0x01, "LO", phi.trailing)


def _write(ds: Dataset, spec: Spec) -> bytes:
    syntax = UID(SYNTAXES[spec.syntax])
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    if spec.phi is not None:
        meta.SourceApplicationEntityTitle = spec.phi.ae_title
    ds.file_meta = meta
    out = io.BytesIO()
    if not spec.file_meta:
        dcmwrite(out, ds, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian,
                 enforce_file_format=False, force_encoding=True)  # fmt: skip
        data = out.getvalue()
        return data[_meta_length(data) :]
    dcmwrite(out, ds, enforce_file_format=True)
    data = out.getvalue()
    preamble = spec.preamble
    if preamble is None and spec.phi is not None:
        preamble = spec.phi.preamble.encode()
    return data if preamble is None else preamble.ljust(128, b"\0")[:128] + data[128:]


def _meta_length(data: bytes) -> int:
    at = 132 if data[128:132] == b"DICM" else 0
    while data[at : at + 2] == b"\x02\x00":
        long = data[at + 4 : at + 6] in (b"OB", b"UN", b"UT")
        size = (
            struct.unpack("<L", data[at + 8 : at + 12])[0]
            if long
            else struct.unpack("<H", data[at + 6 : at + 8])[0]
        )
        at += (12 if long else 8) + size
    return at


def deflate_bomb(megabytes: int) -> bytes:
    """A deflated file whose data set inflates to so many megabytes."""
    data = make_us_dicom(syntax="deflated")
    head = data[: _meta_length(data)]
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = struct.pack("<HH2sHL", 0x0009, 0x1001, b"UN", 0, megabytes << 20)
    packed = engine.compress(body) + b"".join(engine.compress(b"\0" * (1 << 20)) for _ in range(megabytes))
    return head + packed + engine.flush()


__all__ = [
    "SYNTAXES", "Planted", "deflate_bomb", "make_us_dicom", "make_video", "phantom", "plant",
    "region", "to_ybr",
]  # fmt: skip
