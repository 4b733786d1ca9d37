"""Audit of the images: metadata, and text that another family of reader can still read.

Ingest finds text with a convolutional detector and the PP-OCR recogniser. The audit reads with Tesseract,
whose segmentation and recogniser were built and trained apart; where it is not installed the reader of the
ingest's own verification looks again, harder, and the report says that this is not independent.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from usds.curation.audit_text import patterns_in
from usds.curation.audit_types import Finding, mask
from usds.curation.deid.harvest import IdentifierIndex, Matcher
from usds.curation.deid.words import fold, is_word
from usds.curation.picture_bytes import image_metadata, whole_blocks

__all__ = ["ImageAuditor", "ImageFinding", "Word", "tesseract_words"]

RGB = NDArray[np.uint8]
_SCALE: Final = 2
_BRIGHT: Final = 170
"""Grey value from which on a pixel may belong to a letter that lies over speckle."""
_VIEW_LINES: Final = 100_000_000
"""Line numbers of one view of an image stay below."""
"""Tesseract wants letters of about 30 px; screens of scanners have 8 to 20."""
_WORD_CONFIDENCE: Final = 85
_IDENTIFIER_CONFIDENCE: Final = 30
"""Low: what agrees with a harvested identifier is no accident."""
_PATTERN_CONFIDENCE: Final = 60
_TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True)
class Word:
    """A word read from pixels: text, confidence 0-100, box (x0, y0, x1, y1) in image pixels."""

    text: str
    confidence: float
    box: tuple[int, int, int, int]
    line: int


@dataclass(frozen=True, slots=True)
class ImageFinding:
    """A finding in the pixels or the file of one frame."""

    frame_id: str
    finding: Finding


class ImageAuditor:
    """Reads images.

    Parameters
    ----------
    index : IdentifierIndex or None
    subjects : mapping
        frame_id to subject_id.
    """

    def __init__(self, index: IdentifierIndex | None, subjects: Mapping[str, str]) -> None:
        self._index = index
        self._subjects = subjects
        program = shutil.which("tesseract")
        self._read: Callable[[RGB], list[Word]]
        if program:
            self.reader, self.independent = f"Tesseract {_version(program)}", True
            self._read = lambda rgb: tesseract_words(rgb, program)
        else:
            self.reader, self.independent = "strokes and PP-OCRv6 (not independent)", False
            self._read = _own_words
        self._matchers: dict[str | None, Matcher] = {}
        self._people = index.matcher_of_people() if index else None
        self.images = 0

    def check(
        self, images: Iterable[tuple[str, bytes]], advance: Callable[[int], None]
    ) -> Iterator[ImageFinding]:
        """Findings of all images, in their order; a few are read at a time."""
        workers = max(1, len(os.sched_getaffinity(0)))
        pending = iter(images)
        with ThreadPoolExecutor(workers) as pool:
            while chunk := list(islice(pending, 4 * workers)):
                for found in pool.map(lambda pair: self._one(*pair), chunk):
                    self.images += 1
                    advance(1)
                    yield from found

    def _one(self, frame_id: str, image: bytes) -> list[ImageFinding]:
        place = f"images {frame_id}"
        found = [Finding("image_metadata", place, name)] if (name := image_metadata(image)) else []
        decoded = cv2.imdecode(np.frombuffer(whole_blocks(image), np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            return [ImageFinding(frame_id, Finding("damaged_file", place, ""))]
        words = self._read(cast(RGB, decoded[:, :, ::-1]))
        found += judge(words, self._matcher(self._subjects.get(frame_id)), place, self._people)
        return [ImageFinding(frame_id, finding) for finding in found]

    def _matcher(self, subject: str | None) -> Matcher | None:
        if self._index is None:
            return None
        if subject not in self._matchers:
            self._matchers[subject] = self._index.matcher(subject)
        return self._matchers[subject]


_STRANGER: Final = 5
"""Letters of another patient's name from which on a reading is no noise."""


def judge(
    words: Sequence[Word], matcher: Matcher | None, place: str, people: Matcher | None = None
) -> list[Finding]:
    """What the words that were read give away: identifiers, patterns, other patients, legible words."""
    findings: list[Finding] = []
    for text in _lines(words, _IDENTIFIER_CONFIDENCE):
        for match in matcher.find(text, ocr=True) if matcher else ():
            if match.end - match.start >= 4:
                findings.append(Finding(match.klass, place, mask(text[match.start : match.end])))
    for text in _lines(words, _PATTERN_CONFIDENCE):
        findings += [Finding(klass, place, mask(value)) for klass, value in patterns_in(text)]
    if people is not None and not findings:
        # Without the tolerance for misread letters: many names meet much noise here.
        findings += [
            Finding(match.klass, place, mask(text[match.start : match.end]))
            for text in _lines(words, _IDENTIFIER_CONFIDENCE)
            for match in people.find(text)
            if match.end - match.start >= _STRANGER
        ]
    if not findings:
        findings += [Finding("text_in_image", place, mask(word.text)) for word in words if _legible(word)]
    return findings


def _lines(words: Sequence[Word], confidence: float) -> list[str]:
    """Words read with some confidence, joined line by line."""
    kept: dict[int, list[str]] = {}
    for word in words:
        if word.confidence >= confidence:
            kept.setdefault(word.line, []).append(word.text)
    return [" ".join(texts) for _, texts in sorted(kept.items())]


def _legible(word: Word) -> bool:
    """A word of some length that a person would read; speckle gives two or three letters of no language."""
    letters = fold(word.text)
    return (
        word.confidence >= _WORD_CONFIDENCE and len(letters) >= 4 and letters.isalpha() and is_word(letters)
    )


def _version(program: str) -> str:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    first = (answer.stdout or answer.stderr).split("\n", 1)[0].split()
    return first[-1] if first else "of unknown version"


def tesseract_words(rgb: RGB, program: str = "tesseract") -> list[Word]:
    """Read an image with Tesseract, upscaled, on one thread: as it is, and its bright strokes alone.

    Speckle behind letters hides them from Tesseract; writing of machines is brighter than most tissue.

    Parameters
    ----------
    rgb : (rows, columns, 3) uint8

    Raises
    ------
    subprocess.TimeoutExpired, subprocess.CalledProcessError
        When the program hangs or fails.
    """
    brightest = cast("NDArray[np.uint8]", rgb.max(axis=2))
    large = cv2.resize(brightest, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_CUBIC)
    strokes = np.where(large >= _BRIGHT, 0, 255).astype(np.uint8)
    # Bright letters on dark: Tesseract reads dark on light.
    views = (255 - large, strokes)
    return [word for number, view in enumerate(views) for word in _words(view, program, number * _VIEW_LINES)]


def _words(view: NDArray[Any], program: str, first_line: int) -> list[Word]:
    encoded = cv2.imencode(".bmp", view)[1].tobytes()
    answer = subprocess.run(
        [program, "stdin", "stdout", "--psm", "11", "--dpi", "150", "tsv"],
        input=encoded,
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=True,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
    )
    table = csv.DictReader(
        io.StringIO(answer.stdout.decode("utf-8", "replace")), delimiter="\t", quoting=csv.QUOTE_NONE
    )
    return [word for row in table if (word := _word(row, first_line)) is not None]


def _word(row: Mapping[str, Any], first_line: int) -> Word | None:
    text = (row.get("text") or "").strip()
    if not text or float(row["conf"]) < 0:
        return None
    x, y, width, height = (int(row[name]) // _SCALE for name in ("left", "top", "width", "height"))
    line = first_line + int(row["block_num"]) * 10_000 + int(row["par_num"]) * 100 + int(row["line_num"])
    return Word(text, float(row["conf"]), (x, y, x + width, y + height), line)


def _own_words(rgb: RGB) -> list[Word]:
    from usds.curation.deid.burned_text import TextDetector
    from usds.curation.deid.verify import VerifierSettings, candidates

    reader = TextDetector()
    boxes = candidates(rgb, VerifierSettings(groups=60, tiles=20))
    read = reader.recognise(rgb, boxes)
    return [
        Word(text, 100 * score, (box.x0, box.y0, box.x1, box.y1), number)
        for number, (box, (text, score)) in enumerate(zip(boxes, read, strict=True))
        if text.strip()
    ]
