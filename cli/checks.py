"""The checks of `usds doctor`: each says what works, what does not, and how to mend it.

Every check imports what it tests inside itself, so that one broken library fails one line.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final, Literal

from usds.schemas.state import DEMO_FINGERPRINT, State, state_folder

__all__ = ["Check", "run_checks"]

Status = Literal["ok", "warning", "fail"]
LIBGL: Final = "apt-get install -y libgl1 libglib2.0-0"
LOW_DISK_BYTES: Final = 5 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor.

    ``mend`` says what to do when the status is not "ok".
    """

    group: str
    name: str
    status: Status
    detail: str
    mend: str = ""


# (module, distribution, what stops working without it, how to get it)
_LIBRARIES: Final = (
    ("pyarrow", "pyarrow", "everything", "pip install usds"),
    ("duckdb", "duckdb", "stats, sql, split", "pip install usds"),
    ("cv2", "opencv-python", "ingest, report", LIBGL),
    ("pydicom", "pydicom", "DICOM", "pip install usds"),
    ("av", "av", "video", "pip install usds"),
    ("spacy", "spacy", "annotate", "pip install usds"),
    ("rapidfuzz", "rapidfuzz", "annotate", "pip install usds"),
    ("networkx", "networkx", "taxonomy graph, split", "pip install usds"),
    ("onnxruntime", "onnxruntime", "text detection in ingest", "pip install usds"),
    ("rapidocr", "rapidocr", "text detection in ingest", LIBGL),
    ("torch", "torch", "train, evaluate, search", "pip install -c constraints.txt usds"),
    ("open_clip", "open_clip_torch", "train, evaluate, search", "pip install -c constraints.txt usds"),
    ("matplotlib", "matplotlib", "report, loss plot", "pip install usds"),
)
_OPTIONAL: Final = (
    ("transformers", "transformers", "Hugging Face text towers", "pip install 'usds[hf]'"),
    ("onnx", "onnx", "export onnx", "pip install 'usds[onnx]'"),
    ("libjpeg", "pylibjpeg-libjpeg", "rare JPEG processes (GPL-3.0)", "pip install 'usds[gpl]'"),
)
# The transfer syntaxes that ultrasound exports use (DICOM PS3.5, section 10).
_SYNTAXES: Final = (
    ("JPEGBaseline8Bit", "JPEG baseline"),
    ("JPEGExtended12Bit", "JPEG extended"),
    ("JPEGLosslessSV1", "JPEG lossless"),
    ("JPEGLSLossless", "JPEG-LS"),
    ("JPEG2000Lossless", "JPEG 2000 lossless"),
    ("JPEG2000", "JPEG 2000"),
    ("RLELossless", "RLE"),
    ("DeflatedExplicitVRLittleEndian", "deflated"),
)


def run_checks(dataset: Path, runs: Path) -> Iterator[Check]:
    """Run every check.

    Parameters
    ----------
    dataset : Path
        Dataset directory whose key and folders are looked at; it need not exist.
    runs : Path
        Folder of the training runs.
    """
    yield Check(
        "machine", "python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    yield Check("machine", "usds", "ok", metadata.version("usds"))
    yield Check("machine", "cores", "ok", str(os.cpu_count()))
    for module, distribution, what, mend in _LIBRARIES:
        yield _library(module, distribution, f"{what} will not work", mend, "fail")
    for module, distribution, what, mend in _OPTIONAL:
        yield _library(module, distribution, f"optional: {what}", mend, "warning")
    yield from _safely("DICOM codecs", _dicom_codecs)
    yield from _safely("text models", _text_models)
    yield from _safely("audit reader", _audit_reader)
    yield from _safely("bundled taxonomy", _taxonomy)
    yield from _safely("caption extractor", _extractor)
    yield from _safely("GPU", _gpu)
    yield from _places(dataset, runs)
    yield from _safely("key", lambda: _key(dataset))


def _library(module: str, distribution: str, what: str, mend: str, status: Status) -> Check:
    try:
        import_module(module)
        return Check("libraries", distribution, "ok", metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return Check("libraries", distribution, "ok", "version unknown")
    except Exception as error:  # noqa: BLE001 - a broken library may raise anything; the line says what
        return Check("libraries", distribution, status, f"{_why(error)}; {what}", mend)


def _why(error: Exception) -> str:
    text = str(error).split("\n", 1)[0][:160]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _safely(name: str, check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """A check that breaks is a failed line, not the end of the doctor."""
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - see above
        yield Check("function", name, "fail", _why(error), "mend the libraries above first")


def _dicom_codecs() -> Iterator[Check]:
    from pydicom import uid
    from pydicom.pixels.decoders.base import get_decoder

    for name, title in _SYNTAXES:
        syntax = getattr(uid, name)
        try:
            decoder: Any = get_decoder(syntax)
        except NotImplementedError:
            if name == "DeflatedExplicitVRLittleEndian":
                yield Check("DICOM", title, "ok", "native")
                continue
            yield Check("DICOM", title, "fail", "no decoder known", "pip install -U pydicom")
            continue
        plugins = ", ".join(decoder.available_plugins)
        if decoder.is_available:
            yield Check("DICOM", title, "ok", plugins or "native")
        else:
            yield Check(
                "DICOM", title, "fail", "no plugin", "pip install python-gdcm pyjpegls pylibjpeg-openjpeg"
            )


def _text_models() -> Iterator[Check]:
    """The detector's weights come in its wheel: they must be there, for nothing is downloaded."""
    rapidocr: Any = import_module("rapidocr")
    folder = Path(rapidocr.__file__).parent
    models = sorted(folder.rglob("*.onnx"))
    kinds = {kind: [m for m in models if f"_{kind}" in m.name] for kind in ("det", "rec")}
    for kind, title in (("det", "text detection model"), ("rec", "text recognition model")):
        found = kinds[kind]
        if found:
            yield Check("OCR", title, "ok", ", ".join(model.name for model in found))
        else:
            yield Check("OCR", title, "fail", "not in the package", "pip install --force-reinstall rapidocr")


def _audit_reader() -> Iterator[Check]:
    program = shutil.which("tesseract")
    mend = "apt-get install -y tesseract-ocr: `usds audit` then reads images with other eyes than ingest"
    yield Check(
        "OCR", "tesseract", "ok" if program else "warning", "found" if program else "not installed", mend
    )


def _taxonomy() -> Iterator[Check]:
    from usds.taxonomy.udt import load_taxonomy

    taxonomy = load_taxonomy("udt")
    yield Check(
        "function",
        "bundled taxonomy",
        "ok",
        f"{taxonomy.id} {taxonomy.version}, {sum(taxonomy.widths)} labels",
    )


def _extractor() -> Iterator[Check]:
    from usds.taxonomy import extract

    pure = extract.__file__.endswith(".py")
    detail = "pure Python; compiled it is faster (README, Install)" if pure else "compiled"
    yield Check("function", "caption extractor", "ok", detail)


def _gpu() -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties: Any = torch.cuda.get_device_properties(index)
            memory = properties.total_memory / 2**30
            yield Check("GPU", f"cuda:{index}", "ok", f"{properties.name}, {memory:.0f} GiB")
        return
    built = torch.version.cuda is not None
    detail = "torch sees no GPU" if built else "torch was built without CUDA"
    yield Check(
        "GPU", "cuda", "warning", detail, "train on the CPU with --preset tiny, or check `nvidia-smi`"
    )


# -- places ---------------------------------------------------------------------------------------------


def _places(dataset: Path, runs: Path) -> Iterator[Check]:
    yield _writable("dataset", dataset, "name another with --dataset or USDS_DATASET")
    yield _writable("private state", state_folder(""), "set USDS_STATE to a folder of yours")
    yield _writable("runs", runs, "name another with `usds train --out`")
    yield _writable("temporary files", Path(tempfile.gettempdir()), "set TMPDIR")


def _writable(name: str, path: Path, mend: str) -> Check:
    """Whether files can be made at ``path``, or in the nearest folder above it that exists."""
    folder = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    if not folder.is_dir():
        return Check("places", name, "fail", f"{path} is a file", mend)
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("places", name, "fail", f"{path}: {error.strerror}", mend)
    detail = f"{path}, {free / 2**30:.0f} GiB free"
    if free < LOW_DISK_BYTES:
        return Check("places", name, "warning", detail, "free some space")
    return Check("places", name, "ok", detail)


def _key(dataset: Path) -> Iterator[Check]:
    from usds.schemas.dataset import Dataset, is_dataset
    from usds.schemas.errors import UsdsError

    if not is_dataset(dataset):
        yield Check(
            "key", "dataset", "ok", f"no dataset at {dataset}: `usds ingest` makes one with a new key"
        )
        return
    try:
        info = Dataset.open(dataset).info
        State.open(info.dataset_id, info.key_fingerprint)
    except UsdsError as error:
        yield Check("key", "dataset", "fail", str(error), "restore the private state from its backup")
        return
    if info.key_fingerprint == DEMO_FINGERPRINT:
        yield Check(
            "key", "dataset", "warning", "made with the public demo key: its ids protect nobody",
            "for real data, ingest into a new dataset without --key",
        )  # fmt: skip
    else:
        yield Check("key", "dataset", "ok", f"fingerprint {info.key_fingerprint}")
