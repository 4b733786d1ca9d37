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
from usds.curation.deid.text_boxes import (
    MARK_RATIO,
    TextBox,
    inside,
    is_loose,
    is_patch,
    is_small,
    merge,
    runs_level,
    touches,
)
from usds.curation.deid.text_views import View, enlarged, flow_colours, parts, plain_views, still_views

RGB = NDArray[np.uint8]
Flow = NDArray[np.bool_]
Mask = NDArray[np.uint8]
_STEP = 32
"""The detection network halves its input five times."""
_READ_ROWS = 48
_READ_LONGEST = 1600
_TALLEST_LINE, _TALLEST_SHARE = 56, 0.09
"""A line of text is no taller than this, in pixels or as a share of the picture."""
_SPLIT_LEVELS = (0.5, 0.75)
_HINT = 0.02
"""Probability from which on a view hints at text. Of strings of tuning scenes that only the enlarged view
confirmed, the least hint was .029."""
_TURNED_SCORE = 0.7
_LETTER_SCORE = 0.85
"""Reading that tells a letter from a patch of flow colours."""
_AGAIN_SCORE, _SMOOTH = 0.5, 0.8
"""Least score of the second reading of an unsure box, and the spread in pixels of its smoothing."""
_LINE_SCORE = 0.85
"""A line seen well."""
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
class Ground:
    """What a picture shows beneath its text.

    Attributes
    ----------
    flow : (rows, columns) bool
        Pixels of flow colours.
    shown : (rows, columns) uint8
        1 where pixels will be shown.
    """

    flow: Flow
    shown: Mask

    def turned(self) -> Ground:
        """The picture on its side."""
        return Ground(np.rot90(self.flow), np.rot90(self.shown))


class TextDetector:
    """Text detection and reading with networks that are part of the installation.

    Parameters
    ----------
    settings : DetectorSettings
    """

    def __init__(self, settings: DetectorSettings | None = None) -> None:
        self.settings = settings or DetectorSettings()

    def detect(
        self,
        rgb: RGB,
        color: bool = False,
        *,
        quick: bool = False,
        known: Sequence[TextBox] = (),
        shown: Mask | None = None,
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
        shown : (rows, columns) uint8 or None
            1 where pixels will be shown: what lies elsewhere is not read. None: everywhere.
        """
        ground = Ground(flow_colours(rgb), np.ones(rgb.shape[:2], np.uint8) if shown is None else shown)
        coloured = ground.flow if color else None
        found = (self._quick if quick else self._thorough)(rgb, coloured, ground, known)
        return merge([*self._tight(rgb, found), *printed_codes(rgb)])

    def _thorough(
        self, rgb: RGB, coloured: Flow | None, ground: Ground, known: Sequence[TextBox]
    ) -> list[TextBox]:
        """The whole picture in every view, and lying on its side."""
        found = list(known)
        for view in [enlarged(rgb), *plain_views(rgb, coloured), *still_views(rgb, coloured)]:
            found.extend(self._confirmed(view, self._detect_view(view), found, ground))
        found.extend(self._turned(rgb, found, ground))
        return found

    def _quick(
        self, rgb: RGB, coloured: Flow | None, ground: Ground, known: Sequence[TextBox]
    ) -> list[TextBox]:
        """The smaller views, then enlarged what they hint at and nobody found.

        The enlarged view was two fifths of the cost of a frame, and mostly found the text that stands
        throughout the clip again.
        """
        found = list(known)
        hints = np.zeros(rgb.shape[:2], np.uint8)
        for view in plain_views(rgb, coloured):
            probability = self._search(view)
            found.extend(self._confirmed(view, self._boxes(probability, view), found, ground))
            if view.hints:
                _mark(hints, probability > _HINT, view)
        for view in parts(rgb, hints & ground.shown, found):
            found.extend(self._confirmed(view, self._detect_view(view), found, ground))
        return found

    def _tight(self, rgb: RGB, boxes: Sequence[TextBox]) -> list[TextBox]:
        """Cut what sticks out above and below a line that another view saw closer, where no letters are read.

        Some views see a line of text as a blob twice as high, and every box is blacked.
        """
        lines = [box for box in boxes if box.score >= _LINE_SCORE and not is_small(box)]
        return [self._cut_to_line(rgb, box, lines) for box in boxes]

    def _cut_to_line(self, rgb: RGB, box: TextBox, lines: Sequence[TextBox]) -> TextBox:
        line = max((line for line in lines if is_loose(box, line)), key=lambda line: line.score, default=None)
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
        return score < _STRIP_SCORE or _letters(text) < 2

    def _turned(self, rgb: RGB, known: Sequence[TextBox], ground: Ground) -> list[TextBox]:
        """Boxes of lines that run upwards or downwards: the picture is searched lying on its side.

        What stands upright there runs level in the picture itself, which was searched: flow mostly.
        """
        columns = rgb.shape[1]
        view = View("turned", np.ascontiguousarray(np.rot90(rgb)), 0.6)
        lying = [TextBox(b.y0, columns - b.x1, b.y1, columns - b.x0, b.score, b.method) for b in known]
        boxes = [box for box in self._detect_view(view) if runs_level(box)]
        return [
            TextBox(columns - b.y1, b.x0, columns - b.y0, b.x1, b.score, b.method)
            for b in self._confirmed(view, boxes, lying, ground.turned())
        ]

    def _confirmed(
        self, view: View, boxes: Sequence[TextBox], known: Sequence[TextBox], ground: Ground
    ) -> list[TextBox]:
        """Boxes the network is sure of, and those of the others in which letters can be read.

        What lies in a known box is not read again. Patches of flow colours have the shape of large letters:
        a box that holds one counts only when it is read.
        """
        x, y = view.at
        boxes = [box for box in boxes if touches(box.moved(x, y), ground.shown)]
        patches = [box for box in boxes if is_patch(box.moved(x, y), ground.flow)]
        kept = [
            box
            for box in boxes
            if box.score >= self.settings.sure and not is_small(box) and box not in patches
        ]
        covered = [*known, *(box.moved(x, y) for box in kept)]
        unsure = [box for box in boxes if box not in kept and not inside(box.moved(x, y), covered)]
        unsure.sort(key=lambda box: -box.score)
        unsure = unsure[: self.settings.readings]
        kept += [box for box in unsure if self._is_read(view, box, patch=box in patches)]
        return [box.moved(x, y) for box in kept]

    def _is_read(self, view: View, box: TextBox, *, patch: bool) -> bool:
        """Whether letters can be read in a box, and again with a rim around it or smoothed a little.

        Speckle that reads as two letters reads as others or none once the crop is not quite the same.
        """
        crop = _crop(view.image, box, 0)
        text, score, turned = self._read_any_way(crop)
        trusted = max(self.settings.read_score, view.trust, _TURNED_SCORE if turned else 0.0)
        alone = box.score >= self.settings.sure and (not patch or score >= _LETTER_SCORE)
        least = 1 if alone else 2
        if score < trusted or _letters(text) < least:
            return False
        wider = _crop(view.image, box, max(2, (box.y1 - box.y0) // 6))
        smooth = cast(RGB, cv2.GaussianBlur(crop, (0, 0), _SMOOTH))
        return any(
            score >= _AGAIN_SCORE and _letters(text) >= least
            for text, score, _ in map(self._read_any_way, (wider, smooth))
        )

    def detect_plain(self, rgb: RGB) -> list[TextBox]:
        """Boxes of clear text in one pass at native size: enough to read labels, not to redact."""
        return merge(self._detect_view(View("plain", rgb, 1.0 / self.settings.scale)))

    def _detect_view(self, view: View) -> list[TextBox]:
        return self._boxes(self._search(view), view)

    def _search(self, view: View) -> NDArray[np.float32]:
        """How likely each pixel of the enlarged view is text."""
        rows, columns = view.image.shape[:2]
        wanted = self.settings.scale * view.zoom
        scale = min(wanted, (self.settings.max_pixels / (rows * columns)) ** 0.5)
        height, width = (max(_STEP, round(side * scale / _STEP) * _STEP) for side in (rows, columns))
        image = cv2.resize(view.image, (width, height), interpolation=cv2.INTER_CUBIC)
        network = session("PP-OCRv6_det_small", self.settings.threads)
        output = cast(list[Any], network.run(None, {"x": _batch(cast(RGB, image))}))
        return cast(NDArray[np.float32], output[0][0, 0])

    def _boxes(self, probability: NDArray[np.float32], view: View) -> list[TextBox]:
        """Connected likely pixels as boxes; what is too large for a line is cut at a higher threshold."""
        boxes: list[TextBox] = []
        tallest = max(_TALLEST_LINE, _TALLEST_SHARE * min(view.image.shape[:2]))
        rest = probability
        for level in (self.settings.pixel_threshold, *_SPLIT_LEVELS):
            found, rest = self._level(rest, level, view, tallest)
            boxes.extend(found)
            if rest is None:
                break
        return boxes

    def _level(
        self, probability: NDArray[np.float32], level: float, view: View, tallest: float
    ) -> tuple[list[TextBox], NDArray[np.float32] | None]:
        """Boxes at one threshold, and the map where only pieces taller than a line are left."""
        likely = (probability > level).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(likely, connectivity=8)
        rows, columns = view.image.shape[:2]
        wide, high = columns / probability.shape[1], rows / probability.shape[0]
        boxes: list[TextBox] = []
        large: NDArray[np.float32] | None = None
        for index, (x, y, w, h, _) in enumerate(stats[1:].tolist(), start=1):
            if min(w, h) < 3:
                continue
            place = slice(y, y + h), slice(x, x + w)
            mine = labels[place] == index
            score = float(probability[place][mine].mean())
            if score < self.settings.box_threshold:
                continue
            grow = w * h * self.settings.unclip / (2 * (w + h))
            x0, x1 = (x - grow) * wide, (x + w + grow) * wide
            y0, y1 = (y - grow) * high, (y + h + grow) * high
            if min(x1 - x0, y1 - y0) > tallest:
                large = np.zeros_like(probability) if large is None else large
                large[place][mine] = probability[place][mine]
                continue
            box = TextBox(
                max(0, int(x0)), max(0, int(y0)), min(columns, int(x1) + 1), min(rows, int(y1) + 1),
                round(score, 3), view.name,
            )  # fmt: skip
            boxes.append(box)
        return boxes, large

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
        if crop.shape[0] <= MARK_RATIO * crop.shape[1]:
            return *self._read(crop), False
        turned = (np.ascontiguousarray(np.rot90(crop, turns)) for turns in (1, 3))
        return *max((self._read(way) for way in turned), key=lambda reading: reading[1]), True

    def _read(self, crop: RGB) -> tuple[str, float]:
        rows, columns = crop.shape[:2]
        if min(rows, columns) < 3:
            return "", 0.0
        width = max(16, min(_READ_LONGEST, round(columns * _READ_ROWS / rows / 8) * 8))
        image = cv2.resize(crop, (width, _READ_ROWS), interpolation=cv2.INTER_CUBIC)
        network = session("PP-OCRv6_rec_small", self.settings.threads)
        output = cast(list[Any], network.run(None, {"x": _batch(cast(RGB, image))}))
        return decode(cast(NDArray[np.float32], output[0][0]))


def _letters(text: str) -> int:
    return sum(char.isalnum() for char in text)


def _crop(rgb: RGB, box: TextBox, rim: int) -> RGB:
    return rgb[max(0, box.y0 - rim) : box.y1 + rim, max(0, box.x0 - rim) : box.x1 + rim]


def _batch(image: RGB) -> NDArray[np.float32]:
    """A picture as the networks take it: one batch, blue first, -1 to 1."""
    blob = cv2.dnn.blobFromImage(image, 1 / 127.5, mean=(127.5, 127.5, 127.5), swapRB=True)
    return cast(NDArray[np.float32], blob)


def _mark(hints: NDArray[np.uint8], likely: NDArray[np.bool_], view: View) -> None:
    """Set the pixels of a picture that a view thinks likely."""
    (rows, columns), (x, y) = view.image.shape[:2], view.at
    # Grown first: where the view was enlarged, a single pixel would be lost.
    grown = cv2.dilate(likely.astype(np.uint8), np.ones((3, 3), np.uint8))
    hints[y : y + rows, x : x + columns] |= cast(
        NDArray[np.uint8], cv2.resize(grown, (columns, rows), interpolation=cv2.INTER_NEAREST)
    )


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
