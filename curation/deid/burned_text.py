"""Find and read text that is part of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from usds.curation.deid.codes import printed_codes
from usds.curation.deid.ocr_models import alphabet, session
from usds.curation.deid.text_views import View, flow_colours, views

RGB = NDArray[np.uint8]
_STEP = 32
"""The detection network halves its input five times."""
_READ_ROWS = 48
_READ_LONGEST = 1600
_TALLEST_LINE, _TALLEST_SHARE = 56, 0.09
"""A line of text is no taller than this, in pixels or as a share of the picture."""
_SPLIT_LEVELS = (0.5, 0.75)
_MARK_RATIO = 1.8
_TURNED_SCORE = 0.7
_PATCH, _PATCH_SHARE, _LETTER_SCORE = 36, 0.35, 0.85
"""Shortest side of a box, and share of flow colours in it, from which on it may hold a patch of them; reading
that tells a letter from one."""
_LINE_SCORE, _LINE_SHARE, _LOOSE = 0.85, 0.6, 1.25
"""A line seen well, the share of a looser box's width that it takes, and how much higher that box is."""
_LEAST_ROWS, _STRIP_SCORE = 6, 0.6
"""Rows that letters need; of slimmer strips and of readings below this score nothing is made."""


class DetectorSettings(BaseModel):
    """How hard to look for text. Chosen on the tuning scenes of `benchmarks.deid`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: float = Field(
        default=2.0, ge=1.0, le=4.0, description="enlargement before detection: text of 6 px"
    )
    max_pixels: int = Field(default=1_300_000, ge=100_000, description="largest input of one pass")
    pixel_threshold: float = Field(default=0.12, gt=0, le=0.3, description="probability of a text pixel")
    box_threshold: float = Field(default=0.2, gt=0, le=0.5, description="mean probability of a box")
    sure: float = Field(default=0.88, gt=0, le=0.9, description="mean probability that needs no reading")
    read_score: float = Field(default=0.40, ge=0, le=0.6, description="reading that confirms an unsure box")
    readings: int = Field(
        default=16, ge=8, le=200, description="unsure boxes of one view that are read, best first"
    )
    unclip: float = Field(
        default=1.2, ge=1.0, le=3.0, description="growth of the shrunken map of the network"
    )
    threads: int = Field(default=1, ge=1, description="threads of one inference")


@dataclass(frozen=True, slots=True)
class TextBox:
    """Half-open pixel box around text.

    Attributes
    ----------
    score : float
        0 to 1.
    method : str
        Which detector and view found it.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    score: float
    method: str

    def moved(self, dx: int, dy: int) -> TextBox:
        """Shift by whole pixels."""
        return TextBox(self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy, self.score, self.method)


class TextDetector:
    """Text detection and reading with networks that are part of the installation.

    Parameters
    ----------
    settings : DetectorSettings
    """

    def __init__(self, settings: DetectorSettings | None = None) -> None:
        self.settings = settings or DetectorSettings()

    def detect(
        self, rgb: RGB, color: bool = False, *, quick: bool = False, known: Sequence[TextBox] = ()
    ) -> list[TextBox]:
        """Boxes of text lines, and of bar codes and matrix codes.

        Parameters
        ----------
        rgb : (rows, columns, 3) uint8
        color : bool
            Whether the picture carries flow colours: then further views of them are searched.
        quick : bool
            Only what a frame of a clip may add: its standing text was looked for before.
        known : sequence of TextBox
            Boxes found before, of the same picture; they come back with the others.
        """
        found = list(known)
        flow = flow_colours(rgb)
        for view in views(rgb, color=color, quick=quick):
            found.extend(self._confirmed(view, self._detect_view(view), found, flow))
        if not quick:
            found.extend(self._turned(rgb, found, flow))
        codes = [TextBox(*box, 1.0, "code") for box in printed_codes(rgb)]
        return merge([*self._tight(rgb, found), *codes])

    def _tight(self, rgb: RGB, boxes: Sequence[TextBox]) -> list[TextBox]:
        """Cut what sticks out above and below a line that another view saw closer, where no letters are read.

        Some views see a line of text as a blob twice as high, and every box is blacked.
        """
        lines = [box for box in boxes if box.score >= _LINE_SCORE and not _small(box)]
        return [self._cut_to_line(rgb, box, lines) for box in boxes]

    def _cut_to_line(self, rgb: RGB, box: TextBox, lines: Sequence[TextBox]) -> TextBox:
        line = max((line for line in lines if _loose(box, line)), key=lambda line: line.score, default=None)
        if line is None:
            return box
        above, below = replace(box, y1=line.y0), replace(box, y0=line.y1)
        return replace(
            box,
            y0=line.y0 if self._empty(rgb, above) else box.y0,
            y1=line.y1 if self._empty(rgb, below) else box.y1,
        )

    def _empty(self, rgb: RGB, strip: TextBox) -> bool:
        """Whether a strip is worth cutting off and no letters are read in it."""
        if strip.y1 - strip.y0 < _LEAST_ROWS:
            return False
        text, score = self._read(rgb[strip.y0 : strip.y1, strip.x0 : strip.x1])
        return score < _STRIP_SCORE or sum(char.isalnum() for char in text) < 2

    def _turned(self, rgb: RGB, known: Sequence[TextBox], flow: NDArray[np.bool_]) -> list[TextBox]:
        """Boxes of lines that run upwards or downwards: the picture is searched lying on its side.

        What stands upright there runs level in the picture itself, which was searched: flow mostly.
        """
        columns = rgb.shape[1]
        view = View("turned", np.ascontiguousarray(np.rot90(rgb)), 0.6)
        lying = [TextBox(b.y0, columns - b.x1, b.y1, columns - b.x0, b.score, b.method) for b in known]
        boxes = [box for box in self._detect_view(view) if _runs_level(box)]
        return [
            TextBox(columns - b.y1, b.x0, columns - b.y0, b.x1, b.score, b.method)
            for b in self._confirmed(view, boxes, lying, np.rot90(flow))
        ]

    def _confirmed(
        self, view: View, boxes: Sequence[TextBox], known: Sequence[TextBox],
        flow: NDArray[np.bool_],
    ) -> list[TextBox]:  # fmt: skip
        """Boxes the network is sure of, and those of the others in which letters can be read.

        What lies in a known box is not read again. Patches of flow colours have the shape of large letters:
        a box that holds one counts only when it is read.
        """
        x, y = view.at
        patches = [box for box in boxes if _patch(box.moved(x, y), flow)]
        kept = [
            box for box in boxes if box.score >= self.settings.sure and not _small(box) and box not in patches
        ]
        covered = [*known, *(box.moved(x, y) for box in kept)]
        unsure = [box for box in boxes if box not in kept and not _inside(box.moved(x, y), covered)]
        unsure.sort(key=lambda box: -box.score)
        for box in unsure[: self.settings.readings]:
            text, score, turned = self._read_any_way(view.image[box.y0 : box.y1, box.x0 : box.x1])
            letters = sum(char.isalnum() for char in text)
            trusted = max(self.settings.read_score, view.trust, _TURNED_SCORE if turned else 0.0)
            alone = box.score >= self.settings.sure and (box not in patches or score >= _LETTER_SCORE)
            if score >= trusted and letters >= (1 if alone else 2):
                kept.append(box)
        return [box.moved(x, y) for box in kept]

    def detect_plain(self, rgb: RGB) -> list[TextBox]:
        """Boxes of clear text in one pass at native size: enough to read labels, not to redact."""
        return merge(self._detect_view(View("plain", rgb, 1.0 / self.settings.scale)))

    def _detect_view(self, view: View) -> list[TextBox]:
        rows, columns = view.image.shape[:2]
        wanted = self.settings.scale * view.zoom
        scale = min(wanted, (self.settings.max_pixels / (rows * columns)) ** 0.5)
        height, width = (max(_STEP, round(side * scale / _STEP) * _STEP) for side in (rows, columns))
        probability = self._probability(
            cast(RGB, cv2.resize(view.image, (width, height), interpolation=cv2.INTER_CUBIC))
        )
        return self._boxes(probability, (columns / width, rows / height), view)

    def _probability(self, image: RGB) -> NDArray[np.float32]:
        network = session("PP-OCRv6_det_small", self.settings.threads)
        pixels = image[..., ::-1].astype(np.float32) / 127.5 - 1.0
        batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
        output = cast(list[Any], network.run(None, {"x": batch}))
        return cast(NDArray[np.float32], output[0][0, 0])

    def _boxes(
        self, probability: NDArray[np.float32], back: tuple[float, float], view: View
    ) -> list[TextBox]:
        """Connected likely pixels as boxes; what is too large for a line is cut at a higher threshold."""
        boxes: list[TextBox] = []
        threshold = self.settings.pixel_threshold
        tallest = max(_TALLEST_LINE, _TALLEST_SHARE * min(view.image.shape[:2]))
        rest = probability
        for level in (threshold, *_SPLIT_LEVELS):
            found, rest = self._level(rest, level, back, view, tallest)
            boxes.extend(found)
            if not rest.any():
                break
        return boxes

    def _level(
        self, probability: NDArray[np.float32], level: float, back: tuple[float, float], view: View,
        tallest: float,
    ) -> tuple[list[TextBox], NDArray[np.float32]]:  # fmt: skip
        """Boxes at one threshold, and the map where only pieces taller than a line are left."""
        likely = (probability > level).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(likely, connectivity=8)
        mass = np.bincount(labels.ravel(), probability.ravel(), minlength=count)
        rows, columns = view.image.shape[:2]
        boxes: list[TextBox] = []
        large = np.zeros(count, bool)
        for index in range(1, count):
            x, y, w, h, n = (int(value) for value in stats[index])
            score = float(mass[index] / n)
            if score < self.settings.box_threshold or min(w, h) < 3:
                continue
            grow = w * h * self.settings.unclip / (2 * (w + h))
            x0, x1 = (x - grow) * back[0], (x + w + grow) * back[0]
            y0, y1 = (y - grow) * back[1], (y + h + grow) * back[1]
            if min(x1 - x0, y1 - y0) > tallest:
                large[index] = True
                continue
            box = TextBox(
                max(0, int(x0)), max(0, int(y0)), min(columns, int(x1) + 1), min(rows, int(y1) + 1),
                round(score, 3), view.name,
            )  # fmt: skip
            boxes.append(box)
        return boxes, np.where(large[cast(NDArray[np.int32], labels)], probability, np.float32(0))

    def recognise(self, rgb: RGB, boxes: Sequence[TextBox]) -> list[tuple[str, float]]:
        """Read the text in boxes.

        Returns
        -------
        list of (text, score)
            One per box, in order; ("", 0.0) where nothing can be read.
        """
        return [self._read(rgb[box.y0 : box.y1, box.x0 : box.x1]) for box in boxes]

    def _read_any_way(self, crop: RGB) -> tuple[str, float, bool]:
        """Read; what stands upright is turned a quarter both ways, which invents letters more often."""
        if crop.shape[0] <= _MARK_RATIO * crop.shape[1]:
            return *self._read(crop), False
        turned = (np.ascontiguousarray(np.rot90(crop, turns)) for turns in (1, 3))
        return *max((self._read(way) for way in turned), key=lambda reading: reading[1]), True

    def _read(self, crop: RGB) -> tuple[str, float]:
        rows, columns = crop.shape[:2]
        if min(rows, columns) < 3:
            return "", 0.0
        width = max(16, min(_READ_LONGEST, round(columns * _READ_ROWS / rows / 8) * 8))
        image = cv2.resize(crop, (width, _READ_ROWS), interpolation=cv2.INTER_CUBIC)
        pixels = image[..., ::-1].astype(np.float32) / 127.5 - 1.0
        batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
        network = session("PP-OCRv6_rec_small", self.settings.threads)
        output = cast(list[Any], network.run(None, {"x": batch}))
        return decode(cast(NDArray[np.float32], output[0][0]))


def decode(classes: NDArray[np.float32]) -> tuple[str, float]:
    """Best path of a connectionist temporal classification output.

    Parameters
    ----------
    classes : (steps, characters) float32
        Probabilities; class 0 is blank.
    """
    best = classes.argmax(axis=1)
    keep = (best > 0) & np.concatenate([[True], best[1:] != best[:-1]])
    if not keep.any():
        return "", 0.0
    letters = alphabet()
    text = "".join(letters[index] for index in best[keep])
    return text, float(classes.max(axis=1)[keep].mean())


def merge(boxes: Sequence[TextBox]) -> list[TextBox]:
    """Drop boxes that lie at least nine tenths inside a larger one."""
    kept: list[TextBox] = []
    for box in sorted(boxes, key=lambda b: -(b.x1 - b.x0) * (b.y1 - b.y0)):
        if not _inside(box, kept):
            kept.append(box)
    return kept


def _inside(box: TextBox, others: Sequence[TextBox]) -> bool:
    """Whether nine tenths of the box, or all of an empty one, lie in one of the others."""
    area = (box.x1 - box.x0) * (box.y1 - box.y0)
    return area <= 0 or any(_common(box, other) >= 0.9 * area for other in others)


def _patch(box: TextBox, flow: NDArray[np.bool_]) -> bool:
    """Whether a box is larger than letters of 28 px need and flow colours fill a good part of it."""
    if min(box.x1 - box.x0, box.y1 - box.y0) <= _PATCH:
        return False
    return bool(flow[box.y0 : box.y1, box.x0 : box.x1].mean() >= _PATCH_SHARE)


def _loose(box: TextBox, line: TextBox) -> bool:
    """Whether a box is clearly higher than a line that takes most of its width, and holds the line's rows."""
    inside = box.y0 <= line.y0 and line.y1 <= box.y1
    higher = box.y1 - box.y0 >= _LOOSE * (line.y1 - line.y0)
    common = min(box.x1, line.x1) - max(box.x0, line.x0)
    return inside and higher and common >= _LINE_SHARE * (box.x1 - box.x0)


def _small(box: TextBox) -> bool:
    """Hardly wider than high: a tick, a caliper or a letter."""
    width, height = box.x1 - box.x0, box.y1 - box.y0
    return max(width, height) <= _MARK_RATIO * min(width, height)


def _runs_level(box: TextBox) -> bool:
    return box.x1 - box.x0 > _MARK_RATIO * (box.y1 - box.y0)


def _common(a: TextBox, b: TextBox) -> int:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(0, width) * max(0, height)
