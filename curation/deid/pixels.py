"""From native frames to written images without burned-in text: area, text, redaction, encoding, check.

Nothing here can be switched off. A frame leaves this module only encoded and looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from usds.curation.deid.area import Area, AreaResult, Component, find_area
from usds.curation.deid.area_evidence import Mask
from usds.curation.deid.burned_text import DetectorSettings, TextBox, TextDetector
from usds.curation.deid.encode import ImageFormat, decode, encode
from usds.curation.deid.overlay import overlay_words
from usds.curation.deid.text_views import carries_colour
from usds.curation.deid.verify import METHOD, TextMatcher, Verifier, VerifierSettings
from usds.curation.readers.base import Region

RGB = NDArray[np.uint8]
Box = tuple[int, int, int, int]
CleanOutcome = Literal["ok", "no_image_area", "review"]
CleanReason = Literal[
    "ok",
    "no_image_area",
    "too_small",
    "area_uncertain",
    "text_survived",
    "redaction_large",
    "frames_withheld",
]
_PAD, _SNAP = 4, 8
_STANDING = 3
"""Samples from which on standing text can be told from moving tissue."""


class PixelSettings(BaseModel):
    """What is written, and how text is looked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    long_side: int = Field(default=1024, ge=128, description="longest side of a written image in pixels")
    image_format: ImageFormat = Field(default="jpeg", description="encoding of written images")
    quality: int = Field(default=95, ge=50, le=100, description="JPEG quality; chroma is never subsampled")
    margin: int = Field(default=32, ge=8, description="pixels around the area in which text is looked for")
    max_redacted: float = Field(
        default=0.05, gt=0, le=0.05, description="share of the area; more goes to review"
    )
    max_withheld: float = Field(default=0.20, gt=0, le=0.20, description="share of frames; more is a review")
    keep_traces: bool = Field(
        default=False, description="whether spectral Doppler and M-mode traces are written beside their scan"
    )
    read_labels: bool = Field(
        default=True, description="whether harmless words on the screen become a caption"
    )
    detector: DetectorSettings = DetectorSettings()
    verifier: VerifierSettings = VerifierSettings()


@dataclass(frozen=True, slots=True)
class CleanFrame:
    """One written image.

    Attributes
    ----------
    index : int
        Frame number in the source.
    encoded : bytes
    rows, cols : int
        Of the written image.
    crop : (x0, y0, x1, y1)
        Native pixels, half-open.
    scale : float
        Written over native size.
    components : tuple of Component
        Polygons in written pixels.
    boxes : list of TextBox
        Blacked boxes in written pixels.
    redacted_fraction : float
        Share of the area that is blacked.
    verified_by : str
    overlay_words : str or None
        Harmless words that stood on the screen.
    image : (rows, cols, 3) uint8
        The encoded image, decoded.
    """

    index: int
    encoded: bytes
    rows: int
    cols: int
    crop: Box
    scale: float
    components: tuple[Component, ...]
    boxes: list[TextBox]
    redacted_fraction: float
    verified_by: str
    overlay_words: str | None
    image: RGB


@dataclass(frozen=True, slots=True)
class CleanResult:
    """All written images of one file.

    Attributes
    ----------
    outcome : CleanOutcome
        With "review" the frames must not enter the dataset.
    reason : CleanReason
    frames : list of CleanFrame
    withheld : int
        Frames that failed verification or are redacted too much.
    warnings : tuple of str
    held : list of CleanFrame
        The withheld frames; for a person to look at in the private state, never for the dataset.
    """

    outcome: CleanOutcome
    reason: CleanReason
    frames: list[CleanFrame]
    withheld: int
    warnings: tuple[str, ...] = ()
    held: list[CleanFrame] = field(default_factory=list["CleanFrame"])


@dataclass(frozen=True, slots=True)
class _Plan:
    """What all frames of a file share."""

    area: Area
    mask: Mask
    crop: Box
    search: Box
    scale: float
    color: bool
    clip: bool
    fixed: tuple[TextBox, ...]


class PixelCleaner:
    """Redacts and encodes frames.

    Parameters
    ----------
    settings : PixelSettings
    overlay_vocabulary : frozenset of str
        Lower-case words that may become an overlay caption.
    """

    def __init__(
        self, settings: PixelSettings | None = None, overlay_vocabulary: frozenset[str] = frozenset()
    ) -> None:
        self.settings = settings or PixelSettings()
        self.overlay_vocabulary = overlay_vocabulary
        self.detector = TextDetector(self.settings.detector)
        self.verifier = Verifier(self.detector, self.settings.verifier)

    def clean(
        self,
        frames: Iterable[tuple[int, RGB]],
        *,
        samples: Sequence[RGB],
        regions: Sequence[Region],
        matcher: TextMatcher,
    ) -> CleanResult:
        """Redact, encode and verify the frames that shall be written.

        Parameters
        ----------
        frames : iterable of (index, (rows, columns, 3) uint8)
            Native frames; consumed one by one.
        samples : sequence of (rows, columns, 3) uint8
            Up to 32 frames spread over the file; one for a still.
        regions : sequence of Region
            From the header.
        matcher : TextMatcher
            Harvested identifiers of the subject and the run.
        """
        found = find_area(samples, regions, is_clip=len(samples) > 1, keep_traces=self.settings.keep_traces)
        if found.area is None:
            reason: CleanReason = "too_small" if "too_small" in found.warnings else "no_image_area"
            return CleanResult("no_image_area", reason, [], 0, found.warnings)
        plan = self._plan(found.area, samples)
        written: list[CleanFrame] = []
        survived: list[CleanFrame] = []
        large: list[CleanFrame] = []
        words: str | None = None
        for index, rgb in frames:
            if words is None:
                words = self._words(rgb, plan, matcher)
            frame, clean = self._frame(index, rgb, plan, matcher)
            frame = replace(frame, overlay_words=words or None)
            if not clean:
                survived.append(frame)
            elif frame.redacted_fraction > self.settings.max_redacted:
                large.append(frame)
            else:
                written.append(frame)
        return self._result(written, survived, large, found)

    def _result(
        self, written: list[CleanFrame], survived: list[CleanFrame], large: list[CleanFrame],
        found: AreaResult,
    ) -> CleanResult:  # fmt: skip
        held = [*survived, *large]
        total = len(written) + len(held)
        outcome: CleanOutcome = "ok"
        reason: CleanReason = "ok"
        if found.reason == "area_uncertain":
            outcome, reason = "review", "area_uncertain"
        elif len(held) > self.settings.max_withheld * total:
            outcome = "review"
            only: CleanReason = "redaction_large" if len(large) >= len(survived) else "text_survived"
            reason = "frames_withheld" if written else only
        return CleanResult(outcome, reason, written, len(held), found.warnings, held)

    def _plan(self, area: Area, samples: Sequence[RGB]) -> _Plan:
        shape = samples[0].shape
        mask = area.mask(shape)
        x0, y0, x1, y1 = area.bbox()
        crop = (max(0, x0), max(0, y0), min(shape[1], x1), min(shape[0], y1))
        pad = self.settings.margin
        search = (
            max(0, crop[0] - pad), max(0, crop[1] - pad),
            min(shape[1], crop[2] + pad), min(shape[0], crop[3] + pad),
        )  # fmt: skip
        scale = min(1.0, self.settings.long_side / max(crop[2] - crop[0], crop[3] - crop[1]))
        color = any(carries_colour(sample, mask) for sample in samples[:: max(1, len(samples) // 4)])
        plan = _Plan(area, mask, crop, search, scale, color, len(samples) >= _STANDING, ())
        return replace(plan, fixed=tuple(self._fixed_text(samples, plan)))

    def _fixed_text(self, samples: Sequence[RGB], plan: _Plan) -> list[TextBox]:
        """Text that stands still in a clip shows best where the moving picture is darkest or most common.

        The sample whose brightest channel is darkest is taken whole: channel by channel, coloured letters
        that stand in a few frames only would leave a print in the picture of all.
        """
        if not plan.clip:
            return []
        x0, y0, x1, y1 = plan.search
        stack = np.stack([sample[y0:y1, x0:x1] for sample in samples])
        darkest = cast(
            RGB, np.take_along_axis(stack, stack.max(axis=-1).argmin(axis=0)[None, ..., None], 0)[0]
        )
        middle = cast(RGB, np.median(stack, axis=0).astype(np.uint8))
        found = self.detector.detect(darkest)
        found = self.detector.detect(middle, plan.color, known=found)
        return [box.moved(x0, y0) for box in found]

    def _frame(self, index: int, rgb: RGB, plan: _Plan, matcher: TextMatcher) -> tuple[CleanFrame, bool]:
        """One written image, and whether no identifier is legible after the second redaction."""
        x0, y0, x1, y1 = plan.search
        near = np.ascontiguousarray(rgb[y0:y1, x0:x1])
        standing = [box.moved(-x0, -y0) for box in plan.fixed]
        found = self.detector.detect(near, plan.color, quick=plan.clip, known=standing)
        native = [box.moved(x0, y0) for box in found]
        boxes = [box for box in (_written(box, plan) for box in native) if box is not None]
        picture = _cut(rgb, plan, native)
        data, seen, boxes, clean = self._seal(picture, boxes, matcher)
        area = _cut_mask(plan)
        black = np.zeros_like(area)
        _fill(black, boxes, 1)
        share = float((black & area).sum() / max(1, int(area.sum())))
        shown = [box for box in boxes if area[box.y0 : box.y1, box.x0 : box.x1].any()]
        rows, cols = picture.shape[:2]
        components = tuple(_component(component, plan) for component in plan.area.components)
        frame = CleanFrame(
            index, data, rows, cols, plan.crop, plan.scale, components, shown, round(share, 5), METHOD,
            None, seen,
        )  # fmt: skip
        return frame, clean

    def _seal(
        self, picture: RGB, boxes: list[TextBox], matcher: TextMatcher
    ) -> tuple[bytes, RGB, list[TextBox], bool]:
        """Fill, encode, look; once more where something is legible; then say whether it is clean."""
        data, seen = b"", picture
        for _ in range(2):
            _fill(picture, boxes, 0)
            data = encode(picture, self.settings.image_format, self.settings.quality)
            seen = decode(data)
            findings = self.verifier.check(seen, matcher)
            if not findings:
                return data, seen, boxes, True
            boxes = [*boxes, *(_snapped(finding.box, picture.shape) for finding in findings)]
        _fill(picture, boxes, 0)
        data = encode(picture, self.settings.image_format, self.settings.quality)
        seen = decode(data)
        clean = all(finding.kind == "text" for finding in self.verifier.check(seen, matcher))
        return data, seen, boxes, clean

    def _words(self, rgb: RGB, plan: _Plan, matcher: TextMatcher) -> str:
        if not self.settings.read_labels or not self.overlay_vocabulary:
            return ""
        return overlay_words(rgb, plan.mask, self.detector, matcher, self.overlay_vocabulary)


def _cut_mask(plan: _Plan) -> Mask:
    x0, y0, x1, y1 = plan.crop
    return _resized(plan.mask[y0:y1, x0:x1], plan.scale, cv2.INTER_NEAREST)


def _cut(rgb: RGB, plan: _Plan, boxes: Sequence[TextBox]) -> RGB:
    """Black outside the area and in the boxes, crop, shrink."""
    picture = np.where(plan.mask[..., None] > 0, rgb, np.uint8(0))
    for box in boxes:
        picture[max(0, box.y0 - _PAD) : box.y1 + _PAD, max(0, box.x0 - _PAD) : box.x1 + _PAD] = 0
    x0, y0, x1, y1 = plan.crop
    return _resized(picture[y0:y1, x0:x1], plan.scale, cv2.INTER_AREA)


def _resized(picture: NDArray[np.uint8], scale: float, how: int) -> NDArray[np.uint8]:
    if scale == 1.0:
        return np.ascontiguousarray(picture)
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cast(NDArray[np.uint8], cv2.resize(picture, size, interpolation=how))


def _written(box: TextBox, plan: _Plan) -> TextBox | None:
    """Box in written pixels, padded and snapped; None where it lies outside the crop."""
    x0, y0, x1, y1 = plan.crop
    s = plan.scale
    moved = TextBox(
        int((box.x0 - x0) * s), int((box.y0 - y0) * s),
        int(np.ceil((box.x1 - x0) * s)), int(np.ceil((box.y1 - y0) * s)), box.score, box.method,
    )  # fmt: skip
    snapped = _snapped(moved, (round((y1 - y0) * s), round((x1 - x0) * s)))
    return snapped if snapped.x1 > snapped.x0 and snapped.y1 > snapped.y0 else None


def _snapped(box: TextBox, shape: tuple[int, ...]) -> TextBox:
    """Padded by 4 px, outward to the 8 px grid of JPEG, inside the picture."""
    return TextBox(
        max(0, (box.x0 - _PAD) // _SNAP * _SNAP), max(0, (box.y0 - _PAD) // _SNAP * _SNAP),
        min(shape[1], -(-(box.x1 + _PAD) // _SNAP) * _SNAP),
        min(shape[0], -(-(box.y1 + _PAD) // _SNAP) * _SNAP),
        box.score, box.method,
    )  # fmt: skip


def _fill(picture: NDArray[np.uint8], boxes: Sequence[TextBox], value: int) -> None:
    for box in boxes:
        picture[box.y0 : box.y1, box.x0 : box.x1] = value


def _component(component: Component, plan: _Plan) -> Component:
    return replace(component, polygon=(component.polygon - plan.crop[:2] + 0.5) * plan.scale - 0.5)
