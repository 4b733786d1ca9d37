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
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, cast

import cv2
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from usds.curation.audit_matchers import Matchers
from usds.curation.audit_patterns import patterns_in
from usds.curation.audit_types import UNREADABLE, Finding, mask
from usds.curation.deid.harvest import Matcher
from usds.curation.deid.words import fold, is_word
from usds.curation.picture_bytes import image_metadata, whole_blocks
from usds.schemas.dataset import Dataset

__all__ = ["ImageAuditor", "ImageFinding", "Word", "tesseract_words"]

RGB = NDArray[np.uint8]
_SCALE: Final = 2
"""Tesseract wants letters of about 30 px; screens of scanners have 8 to 20."""
_BRIGHT: Final = 170
"""Grey value from which on a pixel may belong to a letter that lies over speckle."""
_VIEW_LINES: Final = 100_000_000
"""Line numbers of one view of an image stay below."""
_WORD_CONFIDENCE: Final = 85
_IDENTIFIER_CONFIDENCE: Final = 30
"""Low: what agrees with a harvested identifier is no accident."""
_PATTERN_CONFIDENCE: Final = 60
_TIMEOUT_S: Final = 60
_BATCH: Final = 8
"""Images that are decoded from their table at a time."""


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
    dataset : Dataset
    matchers : Matchers
    """

    def __init__(self, dataset: Dataset, matchers: Matchers) -> None:
        self._dataset = dataset
        self._matchers = matchers
        program = shutil.which("tesseract")
        self._read: Callable[[RGB], list[Word]]
        if program:
            self.reader, self.independent = f"Tesseract {_version(program)}", True
            self._read = lambda rgb: tesseract_words(rgb, program)
        else:
            self.reader, self.independent = "strokes and PP-OCRv6 (not independent)", False
            self._read = _own_words
        self._damaged: list[str] = []
        self.images = 0

    def check(self, advance: Callable[[int], None]) -> Iterator[ImageFinding]:
        """Findings of all images, in their order; a few are read at a time, each by a process of its own."""
        workers = max(1, len(os.sched_getaffinity(0)))
        waiting: deque[Future[list[ImageFinding]]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            for stored in self._stored():
                waiting.append(pool.submit(self._one, stored))
                if len(waiting) > 2 * workers:
                    yield from self._take(waiting.popleft(), advance)
            while waiting:
                yield from self._take(waiting.popleft(), advance)
        yield from (ImageFinding("", Finding("damaged_file", path, "")) for path in self._damaged)

    def _take(
        self, done: Future[list[ImageFinding]], advance: Callable[[int], None]
    ) -> Iterator[ImageFinding]:
        self.images += 1
        advance(1)
        yield from done.result()

    def _stored(self) -> Iterator[_Stored]:
        """Images task by task, so that no more than one task's subjects are held."""
        for manifest in self._dataset.manifests().values():
            subjects = self._subjects(manifest.files["frames"].path)
            path = manifest.files["images"].path
            try:
                with pq.ParquetFile(self._dataset.root / path) as shard:
                    for batch in shard.iter_batches(batch_size=_BATCH, columns=["frame_id", "image"]):
                        for row in batch.to_pylist():
                            yield _Stored(row["frame_id"], row["image"], subjects)
            except UNREADABLE:
                self._damaged.append(path)

    def _subjects(self, path: str) -> Mapping[str, str] | None:
        try:
            table = pq.read_table(self._dataset.root / path, columns=["frame_id", "subject_id"])
            return dict(zip(table["frame_id"].to_pylist(), table["subject_id"].to_pylist(), strict=True))
        except UNREADABLE:
            self._damaged.append(path)
            return None

    def _one(self, stored: _Stored) -> list[ImageFinding]:
        image, subjects = stored.image, stored.subjects
        known = subjects is None or stored.frame_id in subjects
        place = f"images {stored.frame_id if known else '*'}"
        found = [] if known else [Finding("unknown_row", place, "")]
        if name := image_metadata(image):
            found.append(Finding("image_metadata", place, name))
        matcher = self._matchers.of((subjects or {}).get(stored.frame_id))
        try:
            decoded = cv2.imdecode(np.frombuffer(whole_blocks(image), np.uint8), cv2.IMREAD_COLOR)
            words = self._read(cast(RGB, decoded[:, :, ::-1])) if decoded is not None else None
        except (cv2.error, subprocess.SubprocessError):
            found.append(Finding("unread_image", place, ""))
        else:
            damaged = [Finding("damaged_file", place, "")]
            found += damaged if words is None else judge(words, matcher, place, self._matchers.people)
        return [ImageFinding(stored.frame_id if known else "", finding) for finding in found]


@dataclass(frozen=True, slots=True)
class _Stored:
    """One row of an image table, and the subjects of its task; None where they cannot be read."""

    frame_id: str
    image: bytes
    subjects: Mapping[str, str] | None


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
