"""What the page for pictures shows and keeps: one person's decisions about pixels in doubt."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from usds.curation.deid.area import ComponentKind
from usds.curation.deid.decision import ACCEPTABLE, AS_FOUND, PERSON, Decision, Mark, Part
from usds.curation.picture_corrections import (
    APPLIED,
    DECIDED_FOR,
    Decided,
    append_decision,
    read_decisions,
)
from usds.curation.review_folder import Pictures, ReviewFolder
from usds.curation.review_queue import Candidate
from usds.curation.review_server import Malformed
from usds.schemas.dataset import Dataset, DatasetLocked
from usds.schemas.errors import ContentError, UsageError
from usds.schemas.state import State

__all__ = ["PictureSession"]

_MOST: Final = 500
"""Boxes of one file that a person draws; more are no work of a hand."""
_MOST_OPENED: Final = 10_000
"""Boxes of one file that a person removes: all of a long clip."""
_GONE: Final = (
    "another command removed the picture meanwhile, an ingest or a second review: Finish, and start the "
    "review again"
)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _PostedMark(_Strict):
    frame: int | None
    x0: int
    y0: int
    x1: int
    y1: int

    def mark(self) -> Mark:
        return Mark(self.frame, self.x0, self.y0, self.x1, self.y1)


class _PostedPart(_Strict):
    kind: ComponentKind
    points: list[list[int]] = Field(min_length=3, max_length=_MOST)


class _Posted(_Strict):
    """What the page sends; ``number`` is that of the decision it was shown, 0 for none."""

    outcome: Literal["accept", "keep_out"]
    area: list[_PostedPart] = Field(max_length=4)
    added: list[_PostedMark] = Field(max_length=_MOST)
    opened: list[_PostedMark] = Field(max_length=_MOST_OPENED)
    number: int


class PictureSession:
    """One person's pass over pictures.

    Every save is one file of corrections, under the dataset's lock, so a kill loses nothing. Pictures come
    from the private state; nothing of them reaches the dataset here. Safe to call from several threads.

    Parameters
    ----------
    dataset : Dataset
    state : State
    candidates : sequence of Candidate
        The files to look at.
    """

    page = "review_pictures.html"

    def __init__(self, dataset: Dataset, state: State, candidates: Sequence[Candidate]) -> None:
        self.dataset = dataset
        self.state = state
        self._files = {one.file.source_key: one for one in candidates}
        self._lock = threading.RLock()
        self._decided: dict[str, Decided] = {}
        self._saved: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._files)

    @property
    def saved(self) -> int:
        """Files about which something was decided."""
        return len(self._saved)

    def close(self) -> None:
        """Remove the native frames that were laid out for this review alone."""
        folder = ReviewFolder.viewed(self.state)
        for key in self._files:
            folder.clear(key)

    # -- what the page shows ------------------------------------------------------------------------

    def data(self, path: list[str]) -> dict[str, Any] | None:
        """What the page asks for: ``overview``, or ``file`` and its key."""
        match path:
            case ["overview"]:
                return self.overview()
            case ["file", key]:
                return self.file(key)
            case _:
                return None

    def overview(self) -> dict[str, Any]:
        """The files to look at."""
        return {
            "files": [
                {
                    "key": key,
                    "reason": one.reason,
                    "frames": len(one.seen),
                    "redacted": max((frame.redacted for frame in one.seen), default=0.0),
                    "saved": self._saved.get(key),
                }
                for key, one in self._files.items()
            ]
        }

    def file(self, key: str) -> dict[str, Any]:
        """Frames, boxes and the present decision of one file; all places in native pixels.

        Raises
        ------
        UsageError
            If it is not among those to look at.
        """
        one = self._file(key)
        decided = self._present(one)
        pictures, decision = one.pictures, decided.decision
        return {
            "key": key,
            "reason": one.reason,
            "reachable": one.reachable,
            "native": one.folder is not None,
            "acceptable": one.reason != "text_survived",
            "rows": pictures.rows if pictures else 0,
            "cols": pictures.cols if pictures else 0,
            "source_frames": pictures.n_frames if pictures else 0,
            "area": [_plain(part) for part in (decision.area or (pictures.area if pictures else ()))],
            "area_is_given": bool(decision.area),
            "frames": list(_frames(one)),
            "focus": one.focus,
            "added": [_place(mark) for mark in decision.added],
            "opened": [_place(mark) for mark in decision.opened],
            "outcome": decision.outcome if decided.number else None,
            "number": decided.number,
            "applied": self._is_applied(one, decided),
        }

    def picture(self, name: str) -> bytes:
        """A frame, named ``key/number``: native from the private state, else as the dataset holds it.

        Raises
        ------
        UsageError
            If there is no such file.
        ContentError
            If there is no such frame.
        """
        key, _, number = name.partition("/")
        one = self._file(key)
        if not number.isascii() or not number.isdigit() or len(number) > 9:
            raise ContentError("a picture is named by its file and the number of its frame")
        if one.folder is not None:
            return one.folder.picture(key, int(number))
        if int(number) not in one.frames:
            raise ContentError(f"no frame {int(number)} of this file is in the dataset")
        frame_id = one.frames[int(number)]["frame_id"]
        return self.dataset.read_pixels([frame_id])[frame_id]

    # -- what the person decides --------------------------------------------------------------------

    def keep(self, path: list[str], body: Any) -> dict[str, Any] | None:
        """What the page sends: the decision about a ``file``.

        Raises
        ------
        Malformed
            If it is not of the form that is asked for.
        """
        match path:
            case ["file", key]:
                return self.save(key, body)
            case _:
                return None

    def save(self, key: str, body: Any) -> dict[str, Any]:
        """Keep a decision about a file at once.

        Raises
        ------
        Malformed
            If the body has another form; nothing is written.
        UsageError
            For what cannot be decided; nothing is written.
        DatasetLocked
            If another process is writing to the dataset.
        """
        one = self._file(key)
        try:
            posted = _Posted.model_validate(body)
        except ValidationError as error:
            raise Malformed(
                "a decision is outcome, area, added, opened and number, as JSON; places are whole pixels; "
                f"at most {_MOST} boxes are drawn on a file"
            ) from error
        with self._lock, self._writing():
            before = self._present(one)
            if posted.number != before.number:
                raise UsageError("somebody else decided about this file meanwhile: open it again")
            decision = _decision(one, posted, before.decision)
            self._note_subject(one)
            append_decision(self.dataset, one.file.file_id, decision)
            number = self._present(one).number
        self._saved[key] = decision.outcome
        return {"outcome": decision.outcome, "number": number, "accepted": list(decision.accepted)}

    @contextmanager
    def _writing(self) -> Generator[None]:
        """The dataset's lock; whoever is told that another has it shall stay on the page."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self.dataset.lock("usds review"))
            except DatasetLocked as error:
                holder = str(error).partition(": wait until")[0]
                raise DatasetLocked(f"{holder}: stay here and decide again when it has ended") from error
            yield

    def _note_subject(self, one: Candidate) -> None:
        """Have the private state know whom a decision is about, also after the file was replaced.

        Raises
        ------
        UsageError
            If the file was replaced, or its subject withdrew, since the review began.
        """
        known = [row["subject_id"] for row in self.state.locate(one.file.source_key)]
        if not known:
            raise UsageError(
                "this file was replaced or its subject withdrew since the review began: Finish, and start "
                "the review again"
            )
        noted: dict[str, str] = self.state.read(DECIDED_FOR) or {}
        if known[0] and noted.get(one.file.file_id) != known[0]:
            self.state.write(DECIDED_FOR, {**noted, one.file.file_id: known[0]})

    def _present(self, one: Candidate) -> Decided:
        with self._lock:
            newest = max((decided.number for decided in self._decided.values()), default=0)
            self._decided.update(read_decisions(self.dataset, after=newest))
            return self._decided.get(one.file.file_id, Decided(AS_FOUND, 0))

    def _is_applied(self, one: Candidate, decided: Decided) -> bool:
        """Whether what is shown was made with the present decision."""
        applied: dict[str, str] = self.state.read(APPLIED) or {}
        return decided.number > 0 and applied.get(one.file.file_id) == decided.decision.digest

    def _file(self, key: str) -> Candidate:
        if key not in self._files:
            raise UsageError(f"file {key!r} is not among those to look at")
        return self._files[key]


def _decision(one: Candidate, posted: _Posted, before: Decision) -> Decision:
    """The decision that was posted, if a person may decide so.

    Raises
    ------
    UsageError
        If a place lies outside the picture, a box is removed that nobody was shown, or an identifier is
        still legible and nothing was done about it.
    """
    if posted.outcome == "keep_out":
        return Decision("keep_out", before.accepted, before.area, before.added, before.opened)
    pictures = one.pictures
    if pictures is None:
        raise UsageError(
            "no picture of this file is kept: run `usds ingest RAW --retry-review`, then look at it"
        )
    added = tuple(dict.fromkeys(mark.mark() for mark in posted.added))
    opened = tuple(dict.fromkeys(mark.mark() for mark in posted.opened))
    for mark in (*added, *opened):
        _check_place(mark, pictures)
    _check_opened(one, pictures, opened, before)
    area = tuple(_part(part, pictures) for part in posted.area)
    if one.reason == "area_uncertain" and not area:
        raise UsageError("draw the image area, or confirm the one that was found")
    if one.reason == "text_survived" and not (
        set(added) - set(before.added) or set(opened) - set(before.opened)
    ):
        raise UsageError(
            "an identifier is still legible: draw a box over it, say that the place holds no text, or keep "
            "the file out"
        )
    accepted = tuple(sorted({*before.accepted, *({one.reason} & ACCEPTABLE)}))
    return Decision("accept", accepted, area, added, opened)


def _check_place(mark: Mark, pictures: Pictures) -> None:
    if not (0 <= mark.x0 < mark.x1 <= pictures.cols and 0 <= mark.y0 < mark.y1 <= pictures.rows):
        raise UsageError(
            f"a box lies outside the picture of {pictures.cols} x {pictures.rows} pixels, or has no size: "
            "draw it again"
        )
    if mark.frame is not None and not 0 <= mark.frame < pictures.n_frames:
        raise UsageError(f"the file has {pictures.n_frames} frames: there is no frame {mark.frame}")


def _check_opened(one: Candidate, pictures: Pictures, opened: Iterable[Mark], before: Decision) -> None:
    """Only what was shown can be removed, frame by frame, and no identifier that the run knows."""
    shown = {mark for frame in pictures.frames for mark, method in frame.boxes if method != PERSON}
    shown |= {mark for frame in pictures.frames for mark, harvested in frame.hits if not harvested}
    for mark in set(opened).difference(before.opened):
        if one.folder is None:
            raise UsageError(
                "the raw file is not where it was, so nobody can see what is beneath a box: boxes can only "
                "be added"
            )
        if mark not in shown:
            raise UsageError("only a box that was shown can be removed; one over a known identifier stays")
        if not one.folder.holds(one.file.source_key, mark.frame):
            raise UsageError(_GONE)


def _part(posted: _PostedPart, pictures: Pictures) -> Part:
    points = tuple((point[0], point[1]) for point in posted.points if len(point) == 2)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    inside = len(points) == len(posted.points) and (
        min(xs) >= 0 and min(ys) >= 0 and max(xs) < pictures.cols and max(ys) < pictures.rows
    )
    if not inside or max(xs) - min(xs) < 8 or max(ys) - min(ys) < 8:
        raise UsageError(
            f"the image area lies outside the picture of {pictures.cols} x {pictures.rows} pixels, or is "
            "too small: draw it again"
        )
    return Part(posted.kind, points)


def _frames(one: Candidate) -> Iterator[dict[str, Any]]:
    for frame in one.seen:
        row = one.frames.get(frame.index) if one.folder is None else None
        yield {
            "index": frame.index,
            "redacted": frame.redacted,
            "passed": frame.passed,
            "boxes": [{**_place(mark), "method": method} for mark, method in frame.boxes],
            "hits": [{**_place(mark), "harvested": harvested} for mark, harvested in frame.hits],
            # Where the picture lies in the native frame: the dataset holds the image area alone.
            "crop": [row[f"crop_{side}"] for side in ("x0", "y0", "x1", "y1")] if row else None,
        }


def _place(mark: Mark) -> dict[str, int | None]:
    return {"frame": mark.frame, "x0": mark.x0, "y0": mark.y0, "x1": mark.x1, "y1": mark.y1}


def _plain(part: Part) -> dict[str, Any]:
    return {"kind": part.kind, "points": [list(point) for point in part.points]}
