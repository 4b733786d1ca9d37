"""The two text networks (PP-OCRv6 small) that ship inside the rapidocr wheel, run through ONNX Runtime.

Only the weights of that package are used: nothing is downloaded, and one session a process is shared.

Half of the weights of two layers of the detector are denormal numbers (below 1.2e-38), leftovers of weight
decay; processors compute with those a hundred times slower than with others. They are set to zero while the
file is read, which leaves every output bit as it was and makes detection three times as fast. ONNX Runtime
has a switch for the same (`session.set_denormal_as_zero`), but it changes how the whole thread computes, and
counts only in the first session of a process.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from usds.schemas.offline import silence

if TYPE_CHECKING:
    import onnxruntime as ort

ModelName = Literal["PP-OCRv6_det_small", "PP-OCRv6_rec_small"]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""Field numbers of ModelProto.graph, GraphProto.initializer and TensorProto.raw_data (onnx.proto)."""
_DATA_TYPE, _FLOAT = 2, 1
_SMALLEST: Final = float(np.finfo(np.float32).tiny)


@lru_cache(maxsize=4)
def session(name: ModelName, threads: int) -> ort.InferenceSession:
    """Open a network once a process.

    Parameters
    ----------
    name : ModelName
    threads : int
        Threads inside one run; 1 where several worker processes share the machine.

    Raises
    ------
    FileNotFoundError
        When the installed rapidocr does not carry the model.
    """
    silence()
    import onnxruntime as ort

    path = files("rapidocr") / "models" / f"{name}.onnx"
    if not path.is_file():
        raise FileNotFoundError(
            f"rapidocr is installed without {name}.onnx: install a rapidocr whose wheel carries it (3.9)"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = without_denormals(path.read_bytes())
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@lru_cache(maxsize=1)
def alphabet() -> tuple[str, ...]:
    """Characters of the recogniser by output class: blank first, space last."""
    text = session("PP-OCRv6_rec_small", 1).get_modelmeta().custom_metadata_map["character"]
    return ("", *text.splitlines(), " ")


def without_denormals(model: bytes) -> bytes:
    """Set the denormal float32 weights of an ONNX file to zero.

    Parameters
    ----------
    model : bytes
        Serialised ModelProto, weights inside.

    Returns
    -------
    bytes
        Of the same length.
    """
    cleaned = bytearray(model)
    for start, end in _float_weights(model):
        weights: NDArray[np.float32] = np.frombuffer(memoryview(cleaned)[start:end], "<f4")
        weights[np.abs(weights) < _SMALLEST] = 0
    return bytes(cleaned)


def _float_weights(model: bytes) -> Iterator[tuple[int, int]]:
    """Byte ranges of all float32 initializers."""
    for graph in _fields(model, 0, len(model), _GRAPH):
        for tensor in _fields(model, *graph, _INITIALIZER):
            kinds = [value for value, _ in _fields(model, *tensor, _DATA_TYPE)]
            if kinds == [_FLOAT]:
                yield from _fields(model, *tensor, _RAW_DATA)


def _fields(data: bytes, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Byte range of each wanted field of a protobuf message; of a number, (value, value)."""
    while start < end:
        tag, start = _varint(data, start)
        wire = tag & 7
        if wire == _VARINT:
            value, start = _varint(data, start)
            found = (value, value)
        else:
            length = {_FIXED64: 8, _FIXED32: 4}.get(wire, 0)
            if wire == _LENGTH:
                length, start = _varint(data, start)
            found = (start, start + length)
            start += length
        if tag >> 3 == wanted:
            yield found


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """A protobuf number and where the next field begins."""
    value = shift = 0
    while True:
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, start
