"""Read + decode + encode, stage by stage, against the bare decoders in the same run.

    python -m benchmarks.ingest [--json] [--repeats 3] [--no-long]

Files are made on the spot (synthetic cines, noise-like speckle), so the figures need no download. The
peer of each case decodes the same file with pydicom, PyAV or OpenCV alone; both sides encode the same RGB
frames as JPEG of quality 95 without chroma subsampling, as the dataset does. Each side runs alternately in
fresh processes of one thread and is timed by the processor time that it used, so that other load of the
machine counts for neither; the best of the repeats counts. Scaling over workers is wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

Frames = Iterator[np.ndarray]
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def make_cases(folder: Path) -> dict[str, tuple[Path, str]]:
    """Write the files; returns name -> (path, peer)."""
    from support import dicom_factory as factory

    grey = factory.phantom(120, 768, 1024)
    color = factory.phantom(60, 480, 640, color=True)
    index = np.ascontiguousarray(color[..., 0])
    palette = {}
    for channel in ("Red", "Green", "Blue"):
        palette[f"{channel}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{channel}PaletteColorLookupTableData"] = (np.arange(256) * 257).astype("<u2").tobytes()
    make = factory.make_us_dicom
    contents: dict[str, tuple[bytes, str]] = {
        "native grey 120 x 768 x 1024": (make(grey), "pydicom"),
        "native RGB 60 x 480 x 640": (make(color), "pydicom"),
        "palette 60 x 480 x 640": (make(index, photometric="PALETTE COLOR", header=palette), "pydicom"),
        "YBR_FULL_422 60 x 480 x 640": (make(color, photometric="YBR_FULL_422"), "pydicom"),
        "12 bits 30 x 480 x 640": (make(index[:30].astype(np.int64) * 16, bits_stored=12), "pydicom"),
        "RLE RGB 30 x 480 x 640": (make(color[:30], syntax="rle"), "pydicom"),
        "JPEG RGB 60 x 480 x 640": (make(color, syntax="jpeg", photometric="YBR_FULL_422"), "pydicom"),
        "JPEG lossless grey 20 x 480 x 640": (make(index[:20], syntax="jpeg_lossless"), "pydicom"),
        "JPEG-LS grey 20 x 480 x 640": (make(index[:20], syntax="jpeg_ls"), "pydicom"),
        "JPEG 2000 RGB 10 x 480 x 640": (make(color[:10], syntax="jpeg2000_lossless"), "pydicom"),
        "MPEG-4 in DICOM 60 x 480 x 640": (make(color, syntax="mpeg4"), "pyav-fragments"),
        "mp4 H.264 60 x 480 x 640": (factory.make_video(color), "pyav"),
        "mpeg-1 60 x 480 x 640": (factory.make_video(color, "mpeg1video", "mpeg"), "pyav"),
        "PNG 768 x 1024": (cv2.imencode(".png", grey[0])[1].tobytes(), "cv2"),
        "JPEG still 480 x 640": (cv2.imencode(".jpg", color[0])[1].tobytes(), "cv2"),
    }
    cases: dict[str, tuple[Path, str]] = {}
    for number, (name, (data, peer)) in enumerate(contents.items()):
        path = folder / f"case{number}"
        path.write_bytes(data)
        cases[name] = (path, peer)
    return cases


def ours(path: Path) -> Frames:
    """Frames as the ingest reads them: sniffed, opened, header translated, streamed."""
    from usds.curation.readers.base import ReadLimits, open_media
    from usds.curation.readers.sniff import HEAD_BYTES, sniff

    with path.open("rb") as file:
        kind = sniff(file.read(HEAD_BYTES))
    with open_media(path, kind=kind, limits=ReadLimits()) as media:
        for _, rgb in media.frames():
            yield rgb


def pydicom_alone(path: Path) -> Frames:
    """pydicom's own frame iterator, and what its documentation says to do about palettes and depth."""
    import pydicom
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, iter_pixels

    ds = pydicom.dcmread(path, stop_before_pixels=True)
    # pydicom 3.0.2 cannot step through subsampled native frames: there its peer decodes the clip at once.
    is_subsampled = (
        ds.PhotometricInterpretation == "YBR_FULL_422" and not ds.file_meta.TransferSyntaxUID.is_compressed
    )
    for frame in pydicom.dcmread(path).pixel_array if is_subsampled else iter_pixels(path):
        if ds.PhotometricInterpretation == "PALETTE COLOR":
            yield (apply_color_lut(frame, ds) >> 8).astype(np.uint8)
        elif frame.dtype != np.uint8:
            grey = apply_voi_lut(apply_modality_lut(frame, ds), ds)
            yield cv2.cvtColor((grey >> (ds.BitsStored - 8)).astype(np.uint8), cv2.COLOR_GRAY2RGB)
        else:
            yield frame if frame.ndim == 3 else cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB)


def pyav_alone(source: Any) -> Frames:
    """PyAV's decode loop with one thread."""
    import av

    with av.open(source) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            yield frame.to_ndarray(format="rgb24")


def pyav_fragments(path: Path) -> Frames:
    """pydicom to get the fragments, PyAV to decode them."""
    import io

    import pydicom
    from pydicom.encaps import generate_fragmented_frames

    ds = pydicom.dcmread(path)
    joined = b"".join(
        b"".join(parts) for parts in generate_fragmented_frames(ds.PixelData, number_of_frames=1)
    )
    yield from pyav_alone(io.BytesIO(joined))


def cv2_alone(path: Path) -> Frames:
    """OpenCV's imread."""
    yield cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


_PEERS: dict[str, Callable[[Path], Frames]] = {
    "pydicom": pydicom_alone,
    "pyav": lambda path: pyav_alone(str(path)),
    "pyav-fragments": pyav_fragments,
    "cv2": cv2_alone,
}


def encode(rgb: np.ndarray) -> int:
    """Encode one frame as the dataset does; returns its size."""
    return len(cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _JPEG)[1])


def measure(path: Path, side: str) -> dict[str, float]:
    """Time one side over a file in this process: a first frame loads libraries, what follows counts."""
    cv2.setNumThreads(1)  # the only library here that starts threads of its own
    source = ours if side == "ours" else _PEERS[side]
    next(iter(source(path)))
    return {
        "decode_fps": _rate(source, path, lambda rgb: 0),
        "all_fps": _rate(source, path, encode),
        "peak_mb": peak_mb(),
    }


def _rate(source: Callable[[Path], Frames], path: Path, use: Callable[[np.ndarray], int]) -> float:
    """Frames for each second of processor time, over enough passes to be measurable."""
    passes = 1
    while True:
        start, count = time.process_time(), 0
        for _ in range(passes):
            for rgb in source(path):
                use(rgb)
                count += 1
        seconds = time.process_time() - start
        if seconds > 0.4 or passes > 200:
            return count / seconds
        passes *= 4


def peak_mb() -> float:
    """Highest resident memory of this process; unlike ru_maxrss it does not inherit the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def in_process(path: Path, side: str) -> dict[str, float]:
    """Run `measure` in a fresh process, so that peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, path, side).result()


def compare(path: Path, peer: str, repeats: int) -> dict[str, float]:
    """Both sides alternately; best of the repeats."""
    best: dict[str, float] = {}
    for _ in range(repeats):
        for label, side in (("ours", "ours"), ("bare", peer)):
            for key, value in in_process(path, side).items():
                best[f"{label}_{key}"] = max(best.get(f"{label}_{key}", 0.0), value)
    best["decode_ratio"] = best["ours_decode_fps"] / best["bare_decode_fps"]
    best["ratio"] = best["ours_all_fps"] / best["bare_all_fps"]
    return {key: round(value, 2) for key, value in best.items()}


def write_long_cine(path: Path, n_frames: int = 2000) -> None:
    """A native RGB cine of 2,000 frames of 480 x 640 (1.8 GB), written frame by frame."""
    from support import dicom_factory as factory

    frames = factory.phantom(8, 480, 640, color=True)
    head = factory.make_us_dicom(frames[:1], n_frames=n_frames)
    at = head.index(b"\xe0\x7f\x10\x00OB")
    with path.open("wb") as file:
        file.write(head[:at] + b"\xe0\x7f\x10\x00OB\0\0" + struct.pack("<L", n_frames * frames[0].nbytes))
        for index in range(n_frames):
            file.write(frames[index % len(frames)].tobytes())


def write_long_jpeg(path: Path, n_frames: int = 2000) -> None:
    """A JPEG cine of 2,000 frames of 768 x 1024."""
    from support import dicom_factory as factory

    frames = factory.phantom(4, 768, 1024, color=True)
    streams = [factory.encode_frame(None, frame, factory.Spec(syntax="jpeg", quality=80)) for frame in frames]
    codestreams = [streams[i % len(streams)] for i in range(n_frames)]
    everything = np.broadcast_to(frames[:1], (n_frames, *frames.shape[1:]))
    path.write_bytes(
        factory.make_us_dicom(everything, syntax="jpeg", photometric="YBR_FULL_422", codestreams=codestreams)
    )


def key_frame_pass(path: Path) -> dict[str, float]:
    """Choose key frames and decode them, as the ingest does with a clip; time and peak memory."""
    from usds.curation.frames import KeyFrameSettings, key_frames
    from usds.curation.readers.base import ReadLimits, open_media

    start = time.perf_counter()
    with open_media(path, kind="dicom", limits=ReadLimits()) as media:
        chosen = key_frames(media, KeyFrameSettings())
        n_decoded = sum(1 for _ in media.frames(chosen))
        every = sum(1 for _ in media.frames())
    return {
        "frames": every, "key_frames": n_decoded, "peak_mb": round(peak_mb(), 1),
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip


def _work(paths: list[Path]) -> int:
    cv2.setNumThreads(1)
    return sum(1 for path in paths for rgb in ours(path) if encode(rgb))


def scaling(paths: list[Path]) -> dict[str, float]:
    """Frames/s of one and of two worker processes over the same files."""
    context = multiprocessing.get_context("forkserver")
    rates: dict[str, float] = {}
    for n_workers in (1, 2):
        with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
            list(pool.map(_work, [[paths[0]]] * n_workers))
            best = 0.0
            for _ in range(3):
                start = time.perf_counter()
                count = sum(pool.map(_work, [[path] for path in paths for _ in range(4)]))
                best = max(best, count / (time.perf_counter() - start))
            rates[f"workers_{n_workers}_fps"] = round(best, 1)
    rates["two_over_one"] = round(rates["workers_2_fps"] / rates["workers_1_fps"], 2)
    return rates


def long_cines(folder: Path) -> dict[str, dict[str, float]]:
    """Peak memory of cines of 2,000 frames: every frame decoded, key frames chosen."""
    found: dict[str, dict[str, float]] = {}
    context = multiprocessing.get_context("spawn")
    for name, write in (("native RGB 480 x 640", write_long_cine), ("JPEG 768 x 1024", write_long_jpeg)):
        path = folder / "long"
        write(path)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found[f"2,000 frames {name}"] = pool.submit(key_frame_pass, path).result()
        path.unlink()
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-long", action="store_true", help="leave out the cines of 2,000 frames")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = make_cases(folder)
        figures: dict[str, Any] = {
            "cases": {case: compare(path, peer, options.repeats) for case, (path, peer) in cases.items()},
            "scaling": scaling([path for path, peer in cases.values() if peer == "pydicom"]),
        }
        if not options.no_long:
            figures["long"] = long_cines(folder)
    ratios = [case["ratio"] for case in figures["cases"].values()]
    figures["worst_ratio"], figures["median_ratio"] = min(ratios), round(float(np.median(ratios)), 2)
    if options.json:
        print(json.dumps(figures))
        return
    print(f"{'case':36}{'ours':>8}{'bare':>8}{'ratio':>7}{'decode ratio':>14}{'peak MB':>9}{'bare':>7}")
    for case, row in figures["cases"].items():
        print(
            f"{case:36}{row['ours_all_fps']:8.0f}{row['bare_all_fps']:8.0f}{row['ratio']:7.2f}"
            f"{row['decode_ratio']:14.2f}{row['ours_peak_mb']:9.0f}{row['bare_peak_mb']:7.0f}"
        )
    for key in ("worst_ratio", "median_ratio", "scaling", "long"):
        print(key, figures.get(key))


if __name__ == "__main__":
    main()
