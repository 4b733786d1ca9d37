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
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

import cv2
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from usds.curation.audit.matchers import Finder, Matchers
from usds.curation.audit.patterns import patterns_in
from usds.curation.audit.types import UNREADABLE, Finding, mask
from usds.curation.deid.harvest import Matcher
from usds.curation.deid.words import fold, is_word
from usds.curation.picture_bytes import image_metadata, whole_blocks
from usds.schemas.dataset import Dataset

if TYPE_CHECKING:
    from usds.curation.deid.burned_text import TextDetector

__all__ = ["ImageAuditor", "ImageFinding", "Word", "tesseract_pages", "tesseract_words"]

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
_BATCH: Final = 4
"""Images that one start of the reader reads."""


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
        self._read: Callable[[Sequence[RGB]], list[list[Word]]]
        if program:
            self.reader, self.independent = f"Tesseract {_version(program)}", True
            self._read = lambda pictures: tesseract_pages(pictures, program)
        else:
            self.reader, self.independent = "strokes and PP-OCRv6 (not independent)", False
            self._read = lambda pictures: [_own_words(rgb) for rgb in pictures]
        self._damaged: list[str] = []
        self.images = 0

    def check(self, advance: Callable[[int], None]) -> Iterator[ImageFinding]:
        """Findings of all images, in their order; a few are read at a time, each by a process of its own."""
        workers = max(1, len(os.sched_getaffinity(0)))
        waiting: deque[Future[list[ImageFinding]]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            stored = self._stored()
            while group := list(islice(stored, _BATCH)):
                waiting.append(pool.submit(self._several, group))
                self.images += len(group)
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
                advance(len(group))
            for done in waiting:
                yield from done.result()
        yield from (ImageFinding("", Finding("damaged_file", path, "")) for path in self._damaged)

    def _stored(self) -> Iterator[_Stored]:
        """Images task by task, so that no more than one task's subjects are held."""
        for manifest in self._dataset.manifests().values():
            subjects = self._subjects(manifest.files["frames"].path)
            path = manifest.files["images"].path
            try:
                with pq.ParquetFile(self._dataset.root / path) as shard:
                    for batch in shard.iter_batches(batch_size=_BATCH, columns=["frame_id", "image"]):
                        for row in batch.to_pylist():
                            name = row["frame_id"]
                            subject = (subjects or {}).get(name)
                            yield _Stored(name, row["image"], subject, subjects is None or name in subjects)
            except UNREADABLE:
                self._damaged.append(path)

    def _subjects(self, path: str) -> Mapping[str, str] | None:
        try:
            table = pq.read_table(self._dataset.root / path, columns=["frame_id", "subject_id"])
            return dict(zip(table["frame_id"].to_pylist(), table["subject_id"].to_pylist(), strict=True))
        except UNREADABLE:
            self._damaged.append(path)
            return None

    def _several(self, group: Sequence[_Stored]) -> list[ImageFinding]:
        pictures = [_decoded(stored.image) for stored in group]
        sound = [picture for picture in pictures if picture is not None]
        try:
            read = iter(self._read(sound) if sound else [])
        except (cv2.error, subprocess.SubprocessError, OSError):
            if len(group) > 1:  # which of them it was
                return [found for stored in group for found in self._several([stored])]
            return self._judged(group[0], [Finding("unread_image", "", "")])
        found: list[ImageFinding] = []
        for stored, picture in zip(group, pictures, strict=True):
            if picture is None:
                found += self._judged(stored, [Finding("damaged_file", "", "")])
            else:
                matcher = self._matchers.of(stored.subject)
                found += self._judged(stored, judge(next(read), matcher, "", self._matchers.people))
        return found

    def _judged(self, stored: _Stored, found: Sequence[Finding]) -> list[ImageFinding]:
        """Findings of one picture in the place where it stands, and those of its bytes and its row."""
        rows = [] if stored.known else [Finding("unknown_row", "", "")]
        name = image_metadata(stored.image)
        notes = [Finding("image_metadata", "", name)] if name else []
        frame_id = stored.frame_id if stored.known else ""
        place = f"images {frame_id or '*'}"
        return [ImageFinding(frame_id, replace(one, place=place)) for one in (*rows, *notes, *found)]


@dataclass(frozen=True, slots=True)
class _Stored:
    """One row of an image table; ``known`` tells whether a row of frames speaks of it."""

    frame_id: str
    image: bytes
    subject: str | None
    known: bool


def _decoded(image: bytes) -> RGB | None:
    """All that a picture encodes, also beyond its edges; None for what cannot be decoded."""
    try:
        bgr = cv2.imdecode(np.frombuffer(whole_blocks(image), np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if bgr is None else cast(RGB, bgr[:, :, ::-1])


_STRANGER: Final = 5
"""Letters of another patient's name from which on a reading is no noise."""


def judge(
    words: Sequence[Word], matcher: Matcher | None, place: str, people: Finder | None = None
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
    """Read one image with Tesseract; see :func:`tesseract_pages`."""
    return tesseract_pages([rgb], program)[0]


def tesseract_pages(pictures: Sequence[RGB], program: str = "tesseract") -> list[list[Word]]:
    """Read images with Tesseract, upscaled, on one thread: as they are, and their bright strokes alone.

    Speckle behind letters hides them from Tesseract; writing of machines is brighter than most tissue. All
    views are pages of one document in memory: the program starts once, and no picture lies on disk.

    Parameters
    ----------
    pictures : sequence of (rows, columns, 3) uint8

    Returns
    -------
    list of list of Word
        Of each picture.

    Raises
    ------
    subprocess.TimeoutExpired, subprocess.CalledProcessError
        When the program hangs or fails.
    """
    views = [view for rgb in pictures for view in _views(rgb)]
    words: list[list[Word]] = [[] for _ in pictures]
    per_picture = len(views) // max(1, len(pictures))
    for row in _rows(views, program):
        page = int(row["page_num"]) - 1
        if (word := _word(row, page % per_picture * _VIEW_LINES)) is not None:
            words[page // per_picture].append(word)
    return words


def _views(rgb: RGB) -> tuple[NDArray[np.uint8], ...]:
    brightest = cast("NDArray[np.uint8]", rgb.max(axis=2))
    large = cv2.resize(brightest, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_CUBIC)
    strokes = np.where(large >= _BRIGHT, 0, 255).astype(np.uint8)
    # Bright letters on dark: Tesseract reads dark on light.
    return np.asarray(255 - large, np.uint8), strokes


def _rows(views: Sequence[NDArray[np.uint8]], program: str) -> Iterator[dict[str, Any]]:
    document = cv2.imencodemulti(".tiff", list(views), [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes()
    answer = subprocess.run(
        [program, "stdin", "stdout", "--psm", "11", "--dpi", "150", "tsv"],
        input=document,
        capture_output=True,
        timeout=_TIMEOUT_S * len(views),
        check=True,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
    )
    text = io.StringIO(answer.stdout.decode("utf-8", "replace"))
    yield from csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE)


def _word(row: Mapping[str, Any], first_line: int) -> Word | None:
    text = (row.get("text") or "").strip()
    if not text or float(row["conf"]) < 0:
        return None
    x, y, width, height = (int(row[name]) // _SCALE for name in ("left", "top", "width", "height"))
    line = first_line + int(row["block_num"]) * 10_000 + int(row["par_num"]) * 100 + int(row["line_num"])
    return Word(text, float(row["conf"]), (x, y, x + width, y + height), line)


@cache
def _own_reader() -> TextDetector:
    from usds.curation.deid.burned_text import TextDetector

    return TextDetector()


def _own_words(rgb: RGB) -> list[Word]:
    from usds.curation.deid.verify import VerifierSettings, candidates

    reader = _own_reader()
    boxes = candidates(rgb, VerifierSettings(groups=60, tiles=20))
    read = reader.recognise(rgb, boxes)
    return [
        Word(text, 100 * score, (box.x0, box.y0, box.x1, box.y1), number)
        for number, (box, (text, score)) in enumerate(zip(boxes, read, strict=True))
        if text.strip()
    ]
