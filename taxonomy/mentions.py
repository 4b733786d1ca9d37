"""What the sweep finds: a label at a place with what is said of it, and words about normality."""

from __future__ import annotations

from dataclasses import dataclass

from usds.taxonomy.lexicon import Item
from usds.taxonomy.udt import Form

__all__ = ["Mention", "Normality"]


class Mention:
    """One label found at one place, with what the caption says about it.

    `first` and `last` are the half-open token span; `head` names the group of a bare head word such as
    "flow", which is no label until a rule makes one of it; `abnormal` marks a word that forbids normal
    appearance.
    """

    __slots__ = (
        "abnormal", "assertion", "cue", "first", "form", "head", "item", "last", "modifier", "sentence",
    )  # fmt: skip

    def __init__(
        self,
        first: int,
        last: int,
        sentence: int,
        assertion: str,
        said: tuple[Item | None, Form | None] = (None, None),
    ) -> None:
        self.first = first
        self.last = last
        self.sentence = sentence
        self.assertion = assertion
        self.item, self.form = said
        self.cue: tuple[int, int] | None = None
        self.head: str | None = None
        self.abnormal = False
        self.modifier = -1


@dataclass(slots=True)
class Normality:
    """A word about normality, for the rules of normal appearance."""

    hit: int
    roles: tuple[str, ...]
    sentence: int
    state: str
