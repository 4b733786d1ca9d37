"""What a person decided about the pixels of one file. It can only add black, or open what was looked at.

Detection and verification run whatever was decided: a box that a person removed stays black where a reader
can read text in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Final, Literal, cast

import numpy as np

from usds.curation.deid.area import Area, Component, ComponentKind
from usds.curation.deid.text_boxes import TextBox
from usds.schemas.files import canonical_json

__all__ = ["ACCEPTABLE", "AS_FOUND", "PERSON", "Decision", "Mark", "Part"]

PERSON: Final = "person"
"""Method of a box, and shape of an area, that a person drew."""
ACCEPTABLE: Final = frozenset({"area_uncertain", "redaction_large", "frames_withheld"})
"""Doubts that a person can accept as they are. An identifier that is still legible is none of them: it takes
a box over it, or the word that the very place holds no text."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A half-open box in native pixels, of one frame or (None) of every frame of the file."""

    frame: int | None
    x0: int
    y0: int
    x1: int
    y1: int

    def covers(self, index: int, box: TextBox) -> bool:
        """Whether all of a native box of frame ``index`` lies inside."""
        return (
            self.frame in (None, index)
            and self.x0 <= box.x0 <= box.x1 <= self.x1
            and self.y0 <= box.y0 <= box.y1 <= self.y1
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One view of the image area as a person confirmed or drew it: corners x, y in native pixels."""

    kind: ComponentKind
    points: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """All that a person decided about one file; the latest decision replaces the earlier ones.

    Attributes
    ----------
    outcome : {"accept", "keep_out"}
        Whether the file may be written, if it verifies, or never is.
    accepted : tuple of str
        Doubts that the person looked at and found no reason to keep the file out (:data:`ACCEPTABLE`).
    area : tuple of Part
        The image area; empty where it is as found.
    added : tuple of Mark
        Blacked always.
    opened : tuple of Mark
        Boxes that hold no text: what is found wholly inside one, in its frame, is not blacked unless text
        can be read there.
    """

    outcome: Literal["accept", "keep_out"] = "accept"
    accepted: tuple[str, ...] = ()
    area: tuple[Part, ...] = ()
    added: tuple[Mark, ...] = ()
    opened: tuple[Mark, ...] = ()

    @property
    def drawn_area(self) -> Area | None:
        """The area that the person gave; None where it shall be found."""
        components = tuple(
            Component(part.kind, np.array(part.points, np.float64), 1.0, PERSON) for part in self.area
        )
        return Area(components) if components else None

    def boxes(self, index: int) -> list[TextBox]:
        """What the person added to frame ``index``, in native pixels."""
        return [
            TextBox(mark.x0, mark.y0, mark.x1, mark.y1, 1.0, PERSON)
            for mark in self.added
            if mark.frame in (None, index)
        ]

    def opens(self, index: int, box: TextBox) -> bool:
        """Whether the person said that a native box of frame ``index`` holds no text."""
        return any(mark.covers(index, box) for mark in self.opened)

    def has_opened(self, index: int) -> bool:
        """Whether the person removed any box of frame ``index``."""
        return any(mark.frame in (None, index) for mark in self.opened)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Decision:
        """Inverse of :meth:`to_json`."""
        parts = (
            Part(part["kind"], tuple((int(x), int(y)) for x, y in part["points"])) for part in value["area"]
        )
        added, opened = (tuple(Mark(**mark) for mark in value[name]) for name in ("added", "opened"))
        outcome = cast("Literal['accept', 'keep_out']", value["outcome"])
        return cls(outcome, tuple(value["accepted"]), tuple(parts), added, opened)

    @property
    def digest(self) -> str:
        """Hash of everything decided: it changes when the file has to be done again."""
        return sha256(canonical_json(self.to_json())).hexdigest()[:16]


AS_FOUND: Final = Decision()
"""Nobody decided anything."""
