"""One source file from bytes to staged rows: open, choose frames, clean pixels, scrub captions.

The stages stand in other modules; this one says in which order they run and what a row is made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from usds.curation.captions import CaptionWriter, LinkedCaption, Targets
from usds.curation.deid.area import Component
from usds.curation.deid.decision import AS_FOUND, Decision
from usds.curation.deid.harvest import Matcher
from usds.curation.deid.identity import Ids, age_band
from usds.curation.deid.pixels import CleanFrame, CleanResult
from usds.curation.deid.prose import Scrubber
from usds.curation.frames import clip_samples, key_frames, mode, phash, quality
from usds.curation.outcomes import SETTLED, source_row
from usds.curation.probe import file_state, read_source
from usds.curation.readers.base import RGB, HeaderFacts, Media, MediaError, RawCaption, Region, open_media
from usds.curation.review_folder import Pictures, ReviewFolder, frame_in_doubt, native_area
from usds.curation.settings import IngestSettings
from usds.curation.staging import Staged

__all__ = ["Cleaner", "Pipeline", "WorkItem"]

_SAMPLES = 32
_SAMPLE_BYTES = 160 << 20
"""Frames sampled for the image area may take so much memory together."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One medium to work on, as the private state describes it to a worker.

    Attributes
    ----------
    path, member : str
        The file, or the archive and the member in it.
    content : str
        SHA-256 of the bytes.
    size, mtime_ns : int
        Of the file on disk when it was read first.
    captions : tuple of LinkedCaption
        From sidecars and reports.
    captions_only : bool
        The frames are in the dataset already; only captions are new.
    decision : Decision or None
        What a person decided about its pixels.
    """

    source_key: str
    path: str
    member: str | None
    kind: str
    content: str
    size: int
    mtime_ns: int
    subject_id: str
    subject_rule: str
    subject_conflict: bool
    study_id: str
    series_id: str | None
    is_clip: bool
    captions: tuple[LinkedCaption, ...] = ()
    captions_only: bool = False
    decision: Decision | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON form, for the private state."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {
            **plain,
            "captions": [linked.to_json() for linked in self.captions],
            "decision": self.decision.to_json() if self.decision else None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WorkItem:
        """Inverse of :meth:`to_json`."""
        values: dict[str, Any] = dict(value)
        values["captions"] = tuple(LinkedCaption.from_json(linked) for linked in value["captions"])
        values["decision"] = Decision.from_json(value["decision"]) if value["decision"] else None
        return cls(**values)


class Cleaner(Protocol):
    """What the pipeline needs of `usds.curation.deid.pixels.PixelCleaner`."""

    def clean(
        self, frames: Any, *, samples: Sequence[RGB], regions: Sequence[Region], matcher: Any,
        decision: Decision,
    ) -> CleanResult:  # fmt: skip
        """Redact, encode and verify frames."""
        ...


class Pipeline:
    """Turns work items into staged results.

    Parameters
    ----------
    ids : Ids
    settings : IngestSettings
    cleaner : Cleaner
    scrubber : Scrubber
    review : ReviewFolder
        Where the private state keeps pixels in doubt for a person.
    """

    def __init__(
        self, ids: Ids, settings: IngestSettings, cleaner: Cleaner, scrubber: Scrubber, review: ReviewFolder
    ) -> None:
        self._ids = ids
        self._settings = settings
        self._cleaner = cleaner
        self._scrubber = scrubber
        self._review = review

    def run(self, item: WorkItem, matcher: Matcher) -> Staged:
        """Work on one medium.

        Raises
        ------
        MediaError
            If it cannot be read, or changes while it is read.
        """
        if item.captions_only:
            return self._captions_only(item, matcher)
        if item.decision and item.decision.outcome == "keep_out":
            self._review.clear(item.source_key)
            return Staged(source_row(item.source_key, item.kind, "kept_out", warnings=[SETTLED]))
        path = Path(item.path)
        if file_state(path) != (item.size, item.mtime_ns):
            return Staged(source_row(item.source_key, item.kind, "changed"))
        data = read_source(path, item.member, self._settings)
        with open_media(data, kind=item.kind, limits=self._settings.limits) as media:
            result = self._clean(media, matcher, item.decision or AS_FOUND)
            staged = self._stage(item, media, result, matcher)
        if file_state(path) != (item.size, item.mtime_ns):
            return Staged(source_row(item.source_key, item.kind, "changed"))
        return staged

    # -- pixels -------------------------------------------------------------------------------------

    def _clean(self, media: Media, matcher: Matcher, decision: Decision) -> CleanResult:
        chosen = key_frames(media, self._settings.key_frames)
        per_frame = max(1, media.rows * media.cols * 3)
        count = max(3, min(_SAMPLES, _SAMPLE_BYTES // per_frame))
        samples = [rgb for _, rgb in clip_samples(media, count)]
        if not samples:
            raise MediaError("unreadable")
        return self._cleaner.clean(
            media.frames(chosen), samples=samples, regions=media.header.regions, matcher=matcher,
            decision=decision,
        )  # fmt: skip

    def _stage(self, item: WorkItem, media: Media, result: CleanResult, matcher: Matcher) -> Staged:
        warnings = [*media.warnings, *result.warnings, *([SETTLED] if item.decision else [])]
        self._keep_for_review(item, media, result)
        if result.outcome != "ok" or not result.frames:
            reason = "text_survived" if result.outcome == "ok" else result.reason
            withheld = len(result.frames) + result.withheld
            return Staged(
                source_row(item.source_key, item.kind, reason, withheld=withheld, warnings=warnings)
            )
        frames = [self._frame_row(item, media, frame) for frame in result.frames]
        captions = [
            *item.captions,
            *(LinkedCaption(caption, item.source_key) for caption in media.header.captions),
            *_overlays(result, item.source_key),
        ]
        targets = self._targets(item, frames[0]["frame_id"])
        rows, withheld = CaptionWriter(self._ids, self._scrubber, matcher).rows(captions, targets)
        own = sum(row["source_key"] == item.source_key for row in rows)
        source = source_row(
            item.source_key, item.kind, "ok", frames=len(frames), withheld=result.withheld, captions=own,
            captions_withheld=sum(w.source_key == item.source_key for w in withheld), warnings=warnings,
        )  # fmt: skip
        return Staged(source, frames, [frame.encoded for frame in result.frames], rows, withheld)

    def _captions_only(self, item: WorkItem, matcher: Matcher) -> Staged:
        targets = self._targets(item, self._ids.frame(item.content, 0))
        rows, withheld = CaptionWriter(self._ids, self._scrubber, matcher).rows(item.captions, targets)
        return Staged(source_row(item.source_key, item.kind, "ok"), captions=rows, withheld=withheld)

    def _targets(self, item: WorkItem, frame_id: str) -> Targets:
        return Targets(frame_id, self._ids.clip(item.content) if item.is_clip else None, item.study_id)

    def _keep_for_review(self, item: WorkItem, media: Media, result: CleanResult) -> None:
        """Lay the frames in doubt into the private state, as they came, for a person to look at."""
        self._review.clear(item.source_key)  # what an earlier run doubted
        if item.decision and result.outcome == "ok" and result.frames:
            return  # a person looked at them already
        doubted = [*result.held, *(result.frames if result.outcome == "review" else ())]
        if not doubted:
            return
        doubted.sort(key=lambda frame: frame.index)
        first = doubted[0]
        area = native_area([(c.kind, c.polygon) for c in first.components], first.crop, first.scale)
        failed = {frame.index for frame in result.held}
        seen = tuple(frame_in_doubt(frame, passed=frame.index not in failed) for frame in doubted)
        pictures = Pictures(media.rows, media.cols, media.n_frames, area, seen)
        self._review.write(item.source_key, pictures, media.frames([frame.index for frame in doubted]))

    # -- rows ---------------------------------------------------------------------------------------

    def _frame_row(self, item: WorkItem, media: Media, frame: CleanFrame) -> dict[str, Any]:
        header = media.header
        picture = frame.image
        mask = np.asarray(picture.max(axis=2) > 0) if not frame.components else _mask(frame)
        rated = quality(picture, mask, self._settings.quality)
        spacing = header.spacing_mm
        x0, y0, x1, y1 = frame.crop
        return {
            "frame_id": self._ids.frame(item.content, frame.index),
            "clip_id": self._ids.clip(item.content) if item.is_clip else None,
            "study_id": item.study_id,
            "series_id": item.series_id,
            "subject_id": item.subject_id,
            "subject_rule": item.subject_rule,
            "subject_conflict": item.subject_conflict,
            "source_key": item.source_key,
            "frame_index": frame.index,
            "source_frames": media.n_frames,
            "media": item.kind,
            "rows": frame.rows,
            "cols": frame.cols,
            "native_rows": media.rows,
            "native_cols": media.cols,
            "crop_x0": x0,
            "crop_y0": y0,
            "crop_x1": x1,
            "crop_y1": y1,
            "scale": frame.scale,
            "spacing_row_mm": spacing[0] / frame.scale if spacing else None,
            "spacing_col_mm": spacing[1] / frame.scale if spacing else None,
            "mode": mode(picture, header.regions, [component.kind for component in frame.components]),
            **self._technique(header),
            "area": [_area(component) for component in frame.components],
            "area_method": "+".join(sorted({component.shape for component in frame.components})) or "none",
            "text_boxes": [_box(box) for box in frame.boxes],
            "redacted_fraction": frame.redacted_fraction,
            "verified_by": frame.verified_by,
            "quality": rated.label,
            "blank": rated.blank,
            "saturated": rated.saturated,
            "blurred": rated.blurred,
            "phash": f"{phash(picture):016x}",
            "duplicate_of": None,
        }

    def _technique(self, header: HeaderFacts) -> dict[str, Any]:
        return {
            "vendor": header.vendor or "unknown",
            "model_family": header.model_family or "unknown",
            "transducer": header.transducer or "unknown",
            "body_part": header.body_part or "unknown",
            "sex": header.sex or "unknown",
            "age_band": age_band(header.age_years, exact=self._settings.exact_age),
            "header_codes": [
                {"scheme": scheme, "value": value, "meaning": meaning}
                for scheme, value, meaning in header.codes
            ],
        }


def _overlays(result: CleanResult, source_key: str) -> list[LinkedCaption]:
    words = dict.fromkeys(frame.overlay_words for frame in result.frames if frame.overlay_words)
    return [
        LinkedCaption(RawCaption(text, scope="clip", origin="overlay", language="en"), source_key)
        for text in words
    ]


def _mask(frame: CleanFrame) -> Any:
    from usds.curation.deid.area import Area

    return Area(frame.components).mask(frame.image.shape[:2]) > 0


def _area(component: Component) -> dict[str, Any]:
    points = [{"x": round(float(x)), "y": round(float(y))} for x, y in component.polygon]
    return {"kind": component.kind, "confidence": float(component.confidence), "points": points}


def _box(box: Any) -> dict[str, Any]:
    return {
        "x0": box.x0, "y0": box.y0, "x1": box.x1, "y1": box.y1,
        "score": float(box.score), "method": box.method,
    }  # fmt: skip
