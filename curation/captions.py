"""From text as it was found to rows of ``captions``: scrubbed, aimed, and withheld where it must be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, cast

from usds.curation.deid.harvest import Matcher
from usds.curation.deid.identity import Ids
from usds.curation.deid.prose import Scrubber
from usds.curation.readers.base import RawCaption
from usds.curation.readers.lookup import language_code
from usds.curation.staging import Withheld

__all__ = ["CaptionWriter", "LinkedCaption", "Targets", "caption_id"]


@dataclass(frozen=True, slots=True)
class LinkedCaption:
    """A caption and the file it came from (the medium itself, a sidecar, a report)."""

    caption: RawCaption
    source_key: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON form, for the private state."""
        return {"caption": asdict(self.caption), "source_key": self.source_key}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> LinkedCaption:
        """Inverse of :meth:`to_json`."""
        return cls(RawCaption(**cast("dict[str, Any]", value["caption"])), value["source_key"])


@dataclass(frozen=True, slots=True)
class Targets:
    """What a medium's captions can be about.

    Attributes
    ----------
    frame_id : str
        The first written frame.
    clip_id : str or None
        None for a still.
    study_id : str
    """

    frame_id: str
    clip_id: str | None
    study_id: str

    def aim(self, scope: str) -> tuple[str, str]:
        """Scope and id that a caption gets: a still has no clip, and a sidecar knows no frame of a clip."""
        if scope == "study":
            return "study", self.study_id
        return ("clip", self.clip_id) if self.clip_id else ("frame", self.frame_id)


def caption_id(ids: Ids, caption: RawCaption, targets: Targets) -> str:
    """Keyed id of a caption: the same text about the same target is one caption per origin and section."""
    _, target = targets.aim(caption.scope)
    return ids.keyed_hash("caption", target, caption.origin, caption.section or "", caption.text)


class CaptionWriter:
    """Scrubs captions of one subject.

    Parameters
    ----------
    ids : Ids
    scrubber : Scrubber
    matcher : Matcher
        Harvested identifiers of the subject and the run.
    """

    def __init__(self, ids: Ids, scrubber: Scrubber, matcher: Matcher) -> None:
        self._ids = ids
        self._scrubber = scrubber
        self._matcher = matcher

    def rows(
        self, captions: Iterable[LinkedCaption], targets: Targets
    ) -> tuple[list[dict[str, Any]], list[Withheld]]:
        """Rows of what may be written, and what may not.

        The same text about the same target is written once per origin.
        """
        written: dict[str, dict[str, Any]] = {}
        withheld: dict[str, Withheld] = {}
        for linked in captions:
            raw = linked.caption
            scope, target = targets.aim(raw.scope)
            key = caption_id(self._ids, raw, targets)
            if key in written or key in withheld:
                continue
            scrubbed = self._scrubber.scrub(raw.text, self._matcher)
            text = scrubbed.text.strip()
            if scrubbed.withheld or not any(char.isalpha() for char in text):
                withheld[key] = Withheld(key, linked.source_key, raw.text, "too_much_removed")
                continue
            written[key] = {
                "caption_id": key,
                "scope": scope,
                "target_id": target,
                "text": text,
                "origin": raw.origin,
                "section": self._section(raw.section),
                "language": language_code(raw.language),
                "n_removed": scrubbed.n_removed,
                "source_key": linked.source_key,
            }
        return list(written.values()), list(withheld.values())

    def _section(self, section: str | None) -> str | None:
        """A section's title is text as well: one that needs scrubbing is dropped."""
        if section is None:
            return None
        scrubbed = self._scrubber.scrub(section, self._matcher)
        return section if scrubbed.n_removed == 0 and not scrubbed.withheld else None
