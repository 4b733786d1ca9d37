"""The two text networks (PP-OCRv6 small) that ship inside the rapidocr wheel, run through ONNX Runtime.

Only the weights of that package are used: nothing is downloaded, and one session a process is shared.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Literal

import onnxruntime as ort

ModelName = Literal["PP-OCRv6_det_small", "PP-OCRv6_rec_small"]


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
    path = files("rapidocr") / "models" / f"{name}.onnx"
    if not path.is_file():
        raise FileNotFoundError(
            f"rapidocr is installed without {name}.onnx: install a rapidocr whose wheel carries it (3.9)"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@lru_cache(maxsize=1)
def alphabet() -> tuple[str, ...]:
    """Characters of the recogniser by output class: blank first, space last."""
    text = session("PP-OCRv6_rec_small", 1).get_modelmeta().custom_metadata_map["character"]
    return ("", *text.splitlines(), " ")
