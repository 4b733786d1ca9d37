"""From native frames to written images without burned-in text: area, text, redaction, encoding, check.

Nothing here can be switched off. A frame leaves this module only encoded and looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from usds.curation.deid.area import Area, AreaResult, Component, find_area
from usds.curation.deid.burned_text import DetectorSettings, TextDetector
from usds.curation.deid.codes import printed_codes
from usds.curation.deid.decision import AS_FOUND, PERSON, Decision
from usds.curation.deid.encode import ImageFormat, decode, encode
from usds.curation.deid.overlay import overlay_words
from usds.curation.deid.redaction import (
    RGB,
    Box,
    Plan,
    cut,
    cut_mask,
    fill,
    inside,
    native_box,
    share,
    snapped,
    visible,
    wider,
    written_box,
    written_component,
)
from usds.curation.deid.text_boxes import TextBox, meet
from usds.curation.deid.text_views import carries_colour
from usds.curation.deid.verify import METHOD, Finding, TextMatcher, Verifier, VerifierSettings
from usds.curation.readers.base import Region

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
OPENING_REFUSED: Final = "opening_refused"
"""Warning: a box that a person removed stays black."""
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
    doubtful_fraction : float
        Share of the area that is blacked without a person having asked for it.
    hits : tuple of Finding
        What is still legible, in written pixels; none of a frame that is written.
    refused : int
        Boxes that a person removed and that stay, because text was read in them.
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
    doubtful_fraction: float = 0.0
    hits: tuple[Finding, ...] = ()
    refused: int = 0


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
        decision: Decision = AS_FOUND,
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
        decision : Decision
            What a person decided about this file.
        """
        found = AreaResult(decision.drawn_area)
        if found.area is None:
            found = find_area(
                samples, regions, is_clip=len(samples) > 1, keep_traces=self.settings.keep_traces
            )
        if found.area is None:
            reason: CleanReason = "too_small" if "too_small" in found.warnings else "no_image_area"
            return CleanResult("no_image_area", reason, [], 0, found.warnings)
        plan = self._plan(found.area, samples, decision)
        written: list[CleanFrame] = []
        survived: list[CleanFrame] = []
        large: list[CleanFrame] = []
        words: str | None = None
        black_is_fine = "redaction_large" in decision.accepted
        for index, rgb in frames:
            if words is None:
                words = self._words(rgb, plan, matcher)
            frame, clean = self._frame(index, rgb, plan, matcher)
            frame = replace(frame, overlay_words=words or None)
            if not clean:
                survived.append(frame)
            elif frame.doubtful_fraction > self.settings.max_redacted and not black_is_fine:
                large.append(frame)
            else:
                written.append(frame)
        return self._result(written, survived, large, found, decision)

    def _result(
        self, written: list[CleanFrame], survived: list[CleanFrame], large: list[CleanFrame],
        found: AreaResult, decision: Decision,
    ) -> CleanResult:  # fmt: skip
        held = [*survived, *large]
        few_are_fine = bool(written) and "frames_withheld" in decision.accepted
        refused = any(frame.refused for frame in (*written, *held))
        warnings = (*found.warnings, *((OPENING_REFUSED,) if refused else ()))
        total = len(written) + len(held)
        outcome: CleanOutcome = "ok"
        reason: CleanReason = "ok"
        if found.reason == "area_uncertain":
            outcome, reason = "review", "area_uncertain"
        elif len(held) > self.settings.max_withheld * total and not few_are_fine:
            outcome = "review"
            only: CleanReason = "redaction_large" if len(large) >= len(survived) else "text_survived"
            reason = "frames_withheld" if written else only
        return CleanResult(outcome, reason, written, len(held), warnings, held)

    def _plan(self, area: Area, samples: Sequence[RGB], decision: Decision) -> Plan:
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
        plan = Plan(area, mask, crop, search, scale, color, len(samples) >= _STANDING, (), decision)
        return replace(plan, fixed=tuple(self._fixed_text(samples, plan)))

    def _fixed_text(self, samples: Sequence[RGB], plan: Plan) -> list[TextBox]:
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
        found = self.detector.detect(darkest, shown=visible(plan))
        found = self.detector.detect(middle, plan.color, known=found, shown=visible(plan))
        return [box.moved(x0, y0) for box in found]

    def _frame(self, index: int, rgb: RGB, plan: Plan, matcher: TextMatcher) -> tuple[CleanFrame, bool]:
        """One written image, and whether no identifier is legible after the second redaction."""
        x0, y0, x1, y1 = plan.search
        near = np.ascontiguousarray(rgb[y0:y1, x0:x1])
        standing = [box.moved(-x0, -y0) for box in plan.fixed]
        found = self.detector.detect(near, plan.color, quick=plan.clip, known=standing, shown=visible(plan))
        looked = [box.moved(x0, y0) for box in found]
        kept, refused = self._kept(rgb, looked, plan, index, matcher)
        native = [*kept, *plan.decision.boxes(index)]
        boxes = [box for box in (written_box(box, plan) for box in native) if box is not None]
        picture = cut(rgb, plan, native)
        data, seen, boxes, hits = self._seal(picture, boxes, matcher, plan, index)
        area = cut_mask(plan)
        shown = [box for box in boxes if area[box.y0 : box.y1, box.x0 : box.x1].any()]
        rows, cols = picture.shape[:2]
        components = tuple(written_component(component, plan) for component in plan.area.components)
        by = f"{METHOD}+{PERSON}" if plan.decision.has_opened(index) else METHOD
        frame = CleanFrame(
            index, data, rows, cols, plan.crop, plan.scale, components, shown, share(area, boxes), by,
            None, seen, share(area, [box for box in boxes if box.method != PERSON]), hits, refused,
        )  # fmt: skip
        return frame, not hits

    def _kept(
        self, rgb: RGB, boxes: list[TextBox], plan: Plan, index: int, matcher: TextMatcher
    ) -> tuple[list[TextBox], int]:
        """The boxes without those that a person removed; how many of these stay: text or a code is there."""
        opened = [box for box in boxes if plan.decision.opens(index, inside(box, plan.crop))]
        codes = printed_codes(rgb) if opened else []
        padded = [wider(box, rgb.shape) for box in opened]
        looks = (self.verifier.read(rgb, part, matcher) for part in (opened, padded) if part)
        legible = {finding.box for found in looks for finding in found}
        refused = {
            box
            for box, wide in zip(opened, padded, strict=True)
            if legible & {box, wide} or any(meet(box, code) for code in codes)
        }
        return [box for box in boxes if box in refused or box not in opened], len(refused)

    def _legible(self, picture: RGB, matcher: TextMatcher, plan: Plan, index: int) -> tuple[Finding, ...]:
        """What verification reads, but for shapes of identifiers where a person said that there is no text.

        An identifier that the run knows, or a word that is plainly legible, is believed before any person.
        """
        return tuple(
            finding
            for finding in self.verifier.check(picture, matcher)
            if finding.harvested
            or finding.kind == "text"
            or not plan.decision.opens(index, native_box(finding.box, plan))
        )

    def _seal(
        self, picture: RGB, boxes: list[TextBox], matcher: TextMatcher, plan: Plan, index: int
    ) -> tuple[bytes, RGB, list[TextBox], tuple[Finding, ...]]:
        """Fill, encode, look; once more where something is legible; then say what still identifies."""
        data, seen = b"", picture
        for _ in range(2):
            fill(picture, boxes, 0)
            data = encode(picture, self.settings.image_format, self.settings.quality)
            seen = decode(data)
            findings = self._legible(seen, matcher, plan, index)
            if not findings:
                return data, seen, boxes, ()
            boxes = [*boxes, *(snapped(finding.box, picture.shape) for finding in findings)]
        fill(picture, boxes, 0)
        data = encode(picture, self.settings.image_format, self.settings.quality)
        seen = decode(data)
        last = self._legible(seen, matcher, plan, index)
        return data, seen, boxes, tuple(finding for finding in last if finding.kind != "text")

    def _words(self, rgb: RGB, plan: Plan, matcher: TextMatcher) -> str:
        if not self.settings.read_labels or not self.overlay_vocabulary:
            return ""
        return overlay_words(rgb, plan.mask, self.detector, matcher, self.overlay_vocabulary)
