"""Look at the encoded image again, with other eyes than the detector's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from usds.curation.deid.burned_text import TextDetector
from usds.curation.deid.strokes import stroke_groups
from usds.curation.deid.text_boxes import TextBox

RGB = NDArray[np.uint8]
METHOD = "strokes+tiles/PP-OCRv6-rec"
"""Goes into the column `verified_by`."""


class TextMatch(Protocol):
    """A place in a text that holds an identifier."""

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...


class TextMatcher(Protocol):
    """Finds harvested identifiers; `usds.curation.deid.harvest.Matcher` is the real one."""

    def find(self, text: str, *, ocr: bool = False, outside_area: bool = False) -> Sequence[TextMatch]: ...


class VerifierSettings(BaseModel):
    """How hard the second look is. It cannot be switched off: every number has a floor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: int = Field(default=14, ge=8, le=200, description="stroke groups that are read")
    tiles: int = Field(default=4, ge=2, le=200, description="tiles that are read")
    identifier_score: float = Field(
        default=0.45, ge=0, le=0.6, description="reading trusted for an identifier"
    )
    text_score: float = Field(default=0.88, ge=0, le=0.97, description="reading trusted to be text at all")


@dataclass(frozen=True, slots=True)
class Finding:
    """Text that is still legible.

    Attributes
    ----------
    box : TextBox
    kind : str
        "identifier": harvested, or shaped like one; "text": legible, harmless as far as known.
    harvested : bool
        Whether it is an identifier that the run knows; no person can overrule that.
    """

    box: TextBox
    kind: Literal["identifier", "text"]
    harvested: bool = False


_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b\d{1,4}[-/.]\d{1,2}[-/.]\d{2,4}\b",
        r"\b\d{1,2}[-/. ]?(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[-/. ,]*\d{2,4}\b",
        r"\b\d{1,2}:\d{2}:\d{2}\b",
        r"(?<!\d)\d{6,}(?!\d)",
        r"\b(name|dob|born|patient|pat|mrn|acc|hosp|clinic|dr|prof)\b\s*[.:#]",
        r"\b(hospital|klinik|clinic|h[oô]pital|medical cent(er|re)|universit\w+)\b",
        r"\b[a-z]{3,}\^[a-z]{2,}",
        r"\b[A-Z][a-z'-]{2,},\s?[A-Z][a-z'-]{1,}",
    )
)


def looks_identifying(text: str) -> bool:
    """Whether a text is shaped like a date, time, number of a person, name or institution."""
    return any(pattern.search(text) for pattern in _PATTERNS)


class Verifier:
    """Reads what strokes and tiles suggest, and compares it with identifiers.

    Parameters
    ----------
    reader : TextDetector
        Only its recogniser is used, never its detector.
    settings : VerifierSettings
    """

    def __init__(self, reader: TextDetector, settings: VerifierSettings | None = None) -> None:
        self.reader = reader
        self.settings = settings or VerifierSettings()

    def check(self, rgb: RGB, matcher: TextMatcher) -> list[Finding]:
        """Legible text in an encoded and decoded image.

        Parameters
        ----------
        rgb : (rows, columns, 3) uint8
            What a reader of the dataset will see.
        matcher : TextMatcher
        """
        return self.read(rgb, candidates(rgb, self.settings), matcher)

    def read(self, rgb: RGB, boxes: Sequence[TextBox], matcher: TextMatcher) -> list[Finding]:
        """Legible text in given boxes of an image."""
        readings = self.reader.recognise(rgb, boxes)
        found = (self._judge(box, *reading, matcher) for box, reading in zip(boxes, readings, strict=True))
        return [finding for finding in found if finding is not None]

    def _judge(self, box: TextBox, text: str, score: float, matcher: TextMatcher) -> Finding | None:
        letters = [char for char in text if char.isalnum()]
        if len(letters) < 2 or score < self.settings.identifier_score:
            return None
        if len(letters) >= 4 and matcher.find(text, ocr=True):
            return Finding(box, "identifier", harvested=True)
        if score >= 0.6 and len(letters) >= 4 and looks_identifying(text):
            return Finding(box, "identifier")
        plain = sum(char.isascii() for char in letters) == len(letters)
        legible = score >= self.settings.text_score and len(letters) >= 3 and len(set(letters)) >= 2
        return Finding(box, "text") if legible and plain else None


def candidates(rgb: RGB, settings: VerifierSettings) -> list[TextBox]:
    """Stroke groups, then the tiles with most strokes; padded so that letters are whole."""
    plane = cast(NDArray[np.uint8], rgb.max(axis=2))
    groups = stroke_groups(plane, limit=settings.groups)
    boxes = [_padded(group.box, plane.shape, "strokes") for group in groups]
    taken = [(box.x0, box.y0, box.x1, box.y1) for box in boxes]
    boxes += [_padded(tile, plane.shape, "tile") for tile in _tiles(plane, taken, settings.tiles)]
    return boxes


def _padded(box: tuple[int, int, int, int], shape: tuple[int, ...], method: str) -> TextBox:
    pad = max(2, (box[3] - box[1]) // 4)
    return TextBox(
        max(0, box[0] - pad), max(0, box[1] - pad), min(shape[1], box[2] + pad), min(shape[0], box[3] + pad),
        1.0, method,
    )  # fmt: skip


def _tiles(
    plane: NDArray[np.uint8], taken: Sequence[tuple[int, int, int, int]], limit: int
) -> list[tuple[int, int, int, int]]:
    """Tiles of 24 x 144 px with the sharpest strokes that the groups did not cover."""
    strokes = cv2.morphologyEx(plane, cv2.MORPH_TOPHAT, np.ones((9, 9), np.uint8)).astype(np.float32)
    for x0, y0, x1, y1 in taken:
        strokes[y0:y1, x0:x1] = 0
    sharp = np.maximum(strokes - 2.0 * cv2.blur(strokes, (61, 61)), 0)
    height, width = 24, 144
    mean = cv2.boxFilter(sharp, -1, (width, height))
    tiles: list[tuple[int, int, int, int]] = []
    rows, columns = plane.shape
    while len(tiles) < limit:
        y, x = np.unravel_index(int(mean.argmax()), mean.shape)
        if mean[y, x] <= 1.0:
            break
        x0, y0 = max(0, int(x) - width // 2), max(0, int(y) - height // 2)
        tiles.append((x0, y0, min(columns, x0 + width), min(rows, y0 + height)))
        mean[max(0, int(y) - height) : int(y) + height, max(0, int(x) - width) : int(x) + width] = 0
    return tiles
