"""Tools under test: usds itself, and peers that only find text."""

from __future__ import annotations

import csv
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.deid.scenes import Scene, written_indices
from benchmarks.deid.score import Blacked, enlarged

if TYPE_CHECKING:
    from usds.curation.deid.pixels import CleanFrame
    from usds.curation.deid.verify import TextMatch

RGB = NDArray[np.uint8]
_PAD = 4


class Tool(Protocol):
    """Something that hides text."""

    @classmethod
    def missing(cls) -> str | None:
        """What to install, or None where the tool can run."""
        ...

    def run(self, scene: Scene) -> tuple[str, list[Blacked]]:
        """Outcome ("ok", "review", "no_image_area") and what was hidden."""
        ...


class NothingHarvested:
    """A matcher that knows no identifiers: the benchmark tests seeing, not knowing."""

    def find(self, text: str, *, ocr: bool = False, outside_area: bool = False) -> Sequence[TextMatch]:
        """No identifier."""
        return []


class Usds:
    """The whole pixel pipeline: area, detection, redaction, encoding, verification."""

    @classmethod
    def missing(cls) -> str | None:
        """Nothing: it is the project itself."""
        return None

    def __init__(self) -> None:
        from usds.curation.deid.pixels import PixelCleaner

        self.cleaner = PixelCleaner()

    def run(self, scene: Scene) -> tuple[str, list[Blacked]]:
        """Clean a scene; frames held back for review are scored too, so that nothing hides there."""
        frames = [(index, scene.frames[index]) for index in written_indices(scene)]
        samples = scene.frames[:: max(1, len(scene.frames) // 16)]
        result = self.cleaner.clean(frames, samples=samples, regions=(), matcher=NothingHarvested())
        shape = scene.frames[0].shape
        return result.outcome, [_native(frame, shape) for frame in [*result.frames, *result.held]]


def _native(frame: CleanFrame, shape: tuple[int, ...]) -> Blacked:
    """Where the written image hides native pixels."""
    x0, y0, x1, y1 = frame.crop
    area = np.zeros((frame.rows, frame.cols), np.uint8)
    for component in frame.components:
        cv2.fillPoly(area, [np.round(component.polygon).astype(np.int32)], 1)
    boxes = np.zeros_like(area)
    for box in frame.boxes:
        boxes[box.y0 : box.y1, box.x0 : box.x1] = 1
    inside = np.zeros(shape[:2], np.uint8)
    inside[y0:y1, x0:x1] = enlarged(area, (y1 - y0, x1 - x0))
    blacked = np.zeros(shape[:2], np.uint8)
    blacked[y0:y1, x0:x1] = enlarged(boxes, (y1 - y0, x1 - x0))
    return Blacked(frame.index, ((inside == 0) | (blacked == 1)).astype(np.uint8), blacked, inside)


class Tesseract:
    """Tesseract's sparse-text mode, every word box padded as usds pads."""

    @classmethod
    def missing(cls) -> str | None:
        """Whether the program is on the path."""
        return (
            None
            if shutil.which("tesseract")
            else "tesseract is not on the path: apt-get install tesseract-ocr"
        )

    def run(self, scene: Scene) -> tuple[str, list[Blacked]]:
        """Black every word it finds in each written frame."""
        return "ok", [self._frame(index, scene.frames[index]) for index in written_indices(scene)]

    def _frame(self, index: int, rgb: RGB) -> Blacked:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frame.png"
            cv2.imwrite(str(path), rgb[..., ::-1])
            command = ["tesseract", str(path), "-", "--psm", "11", "tsv"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows = csv.DictReader(done.stdout.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
        words = [row for row in rows if row["level"] == "5" and row["text"] and row["text"].strip()]
        return _blacked(
            index, rgb, [tuple(int(row[key]) for key in ("left", "top", "width", "height")) for row in words]
        )


class Presidio:
    """presidio-image-redactor, every word that its reader finds blacked, as it would with a perfect analyser.

    Which of the words are personal is for its analyser to say, whose language model is not on the package
    index; so this is the most that it can remove. Its pictures are read by Tesseract through pytesseract.
    """

    @classmethod
    def missing(cls) -> str | None:
        """Whether the package can be imported; it needs an environment of its own."""
        known = importlib.util.find_spec("presidio_image_redactor")
        return (
            None
            if known
            else "presidio-image-redactor is not in this environment: see docs/deid-benchmark.md"
        )

    def __init__(self) -> None:
        from presidio_image_redactor import TesseractOCR  # pyright: ignore[reportMissingImports]

        self.reader: Any = TesseractOCR()

    def run(self, scene: Scene) -> tuple[str, list[Blacked]]:
        """Black every word it finds in each written frame."""
        return "ok", [self._frame(index, scene.frames[index]) for index in written_indices(scene)]

    def _frame(self, index: int, rgb: RGB) -> Blacked:
        found: dict[str, list[Any]] = self.reader.perform_ocr(rgb)
        boxes = zip(found["left"], found["top"], found["width"], found["height"], found["text"], strict=True)
        return _blacked(index, rgb, [(x, y, w, h) for x, y, w, h, word in boxes if str(word).strip()])


class Nothing:
    """Hides nothing: the floor."""

    @classmethod
    def missing(cls) -> str | None:
        """Nothing."""
        return None

    def run(self, scene: Scene) -> tuple[str, list[Blacked]]:
        """Leave every frame as it is."""
        return "ok", [_blacked(index, scene.frames[index], []) for index in written_indices(scene)]


def _blacked(index: int, rgb: RGB, words: Sequence[tuple[int, ...]]) -> Blacked:
    """Mask of padded word boxes (x, y, width, height)."""
    black = np.zeros(rgb.shape[:2], np.uint8)
    for x, y, w, h in words:
        black[max(0, y - _PAD) : y + h + _PAD, max(0, x - _PAD) : x + w + _PAD] = 1
    return Blacked(index, black, black, None)


TOOLS: dict[str, type[Tool]] = {"usds": Usds, "tesseract": Tesseract, "presidio": Presidio, "none": Nothing}
