"""The shape of a taxonomy file, as frozen models: unknown keys and wrong types are refused here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictStr

__all__ = [
    "CodeEntry",
    "CombinationEntry",
    "CompoundEntry",
    "DimensionEntry",
    "Document",
    "FormEntry",
    "LabelEntry",
    "NormalEntry",
    "OverrideEntry",
    "SiteEntry",
]


class Entry(BaseModel):
    """Base of all entries: immutable, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FormEntry(Entry):
    """One surface form, with the context it needs or that forbids it.

    `text` may hold alternatives ``{a|b}`` and optional parts ``[a|b]``. `require` and `block` are lists of
    words
    or phrases looked up in the whole caption; `case` demands the letters exactly as written. A `whole` form
    hides
    the labels of the words inside it; `also` names further labels that it states.
    """

    text: Annotated[StrictStr, Field(min_length=1)]
    require: tuple[StrictStr, ...] = ()
    block: tuple[StrictStr, ...] = ()
    case: StrictBool | None = None
    whole: StrictBool = False
    also: dict[StrictStr, StrictStr] = Field(default_factory=dict)


def _form(value: object) -> object:
    """A bare string is a form without conditions."""
    return {"text": value} if isinstance(value, str) else value


Form = Annotated[FormEntry, BeforeValidator(_form)]


class CodeEntry(Entry):
    """A code of a terminology: scheme DCM or SCT, value, meaning."""

    scheme: Literal["DCM", "SCT"]
    value: StrictStr
    meaning: StrictStr


def _code(value: object) -> object:
    """Read a code from one line: scheme, value, then the meaning."""
    if not isinstance(value, str):
        return value
    parts = value.split(maxsplit=2)
    return dict(zip(("scheme", "value", "meaning"), parts, strict=False))


CodeLine = Annotated[CodeEntry, BeforeValidator(_code)]


class LabelEntry(Entry):
    """One label of a dimension.

    The groups say how far a form can be trusted: `synonyms` and `substructures` name the label itself,
    `variants` and `misspellings` are other spellings, `abbreviations` are case-sensitive, `implied` terms
    entail
    it, `regions` count only where the caption gives the dimension no other label.
    """

    name: Annotated[StrictStr, Field(min_length=1)]
    parent: StrictStr | None = None
    rank: int | None = None
    matches_own_name: StrictBool = True
    codes: tuple[CodeLine, ...] = ()
    synonyms: tuple[Form, ...] = ()
    substructures: dict[StrictStr, tuple[Form, ...]] = Field(default_factory=dict)
    variants: tuple[Form, ...] = ()
    misspellings: tuple[Form, ...] = ()
    abbreviations: tuple[Form, ...] = ()
    implied: tuple[Form, ...] = ()
    regions: tuple[Form, ...] = ()
    pediatric: StrictStr | None = None
    body_parts: tuple[StrictStr, ...] = ()


class DimensionEntry(Entry):
    """One dimension and its closed vocabulary.

    `role` tells the engine how a dimension behaves: a `site` is never negated and yields to landmarks, a
    `system` is the union of its children's parents, a `finding` and a `descriptor` can be negated;
    uncertainty
    governs a descriptor only inside its own phrase. `adjectival` labels stand before the noun they describe.
    """

    name: Annotated[StrictStr, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    title: StrictStr
    role: Literal["system", "site", "finding", "descriptor"] = "descriptor"
    parent_dimension: StrictStr | None = None
    ordinal: StrictBool = False
    adjectival: StrictBool = False
    fuzzy: StrictBool = False
    prompts: tuple[StrictStr, ...] = ()
    labels: Annotated[tuple[LabelEntry, ...], Field(min_length=1)]


class CompoundEntry(Entry):
    """A label made of two words that may stand apart: a modifier and a head ("flow ... is increased")."""

    id: StrictStr
    dimension: StrictStr
    label: StrictStr
    heads: StrictStr
    modifiers: tuple[StrictStr, ...] = ()
    when_negated: StrictBool = False
    order: Literal["any", "before", "after"] = "any"
    gap: int = 3


class CombinationEntry(Entry):
    """Labels that change when they occur together: `all` present in one sentence -> add and drop."""

    id: StrictStr
    all: tuple[tuple[StrictStr, StrictStr], ...]
    any: tuple[tuple[StrictStr, StrictStr], ...] = ()
    scope: Literal["sentence", "caption"] = "sentence"
    add: tuple[tuple[StrictStr, StrictStr], ...] = ()
    drop: tuple[tuple[StrictStr, StrictStr], ...] = ()
    unless: tuple[StrictStr, ...] = ()


class SiteEntry(Entry):
    """A context that decides the site: `cues` in the caption -> keep only `keep`, drop `drop`, add
    `system`."""

    id: StrictStr
    cues: tuple[StrictStr, ...]
    block: tuple[StrictStr, ...] = ()
    keep: tuple[StrictStr, ...] | None = None
    drop: tuple[StrictStr, ...] = ()
    system: StrictStr | None = None
    excepted_by: tuple[StrictStr, ...] = ()


class OverrideEntry(Entry):
    """The pediatric override: cues and age words, and the system that replaces the adult one.

    Where a caption names one of `species`, a number of years or months is no evidence of childhood: a dog of
    eight years is old. Words such as "newborn" or "puppy" remain evidence.
    """

    dimension: StrictStr
    system_dimension: StrictStr
    system: StrictStr
    cues: tuple[StrictStr, ...]
    block: tuple[StrictStr, ...] = ()
    age_below_years: int = 18
    infant_cues: tuple[StrictStr, ...] = ()
    infant_below_years: int = 2
    infant_only: tuple[StrictStr, ...] = ()
    species: tuple[StrictStr, ...] = ()


class NormalEntry(Entry):
    """What "normal" means: the label, the words, and what forbids it."""

    dimension: StrictStr
    label: StrictStr
    words: tuple[StrictStr, ...]
    phrases: tuple[StrictStr, ...] = ()
    negated_words: tuple[StrictStr, ...] = ()
    abnormality: tuple[StrictStr, ...] = ()
    attributes: tuple[StrictStr, ...] = ()
    objects: tuple[StrictStr, ...] = ()
    comparator: tuple[StrictStr, ...] = ()
    abnormal_findings: tuple[StrictStr, ...] = ()
    abnormal_dimensions: tuple[StrictStr, ...] = ()
    compatible: tuple[tuple[StrictStr, StrictStr], ...] = ()


class Document(Entry):
    """A whole taxonomy file."""

    id: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    title: StrictStr = ""
    version: StrictStr
    licence: StrictStr = ""
    description: StrictStr = ""
    dimensions: Annotated[tuple[DimensionEntry, ...], Field(min_length=1)]
    ignore: tuple[Form, ...] = ()
    groups: dict[StrictStr, tuple[StrictStr, ...]] = Field(default_factory=dict)
    compounds: tuple[CompoundEntry, ...] = ()
    combinations: tuple[CombinationEntry, ...] = ()
    sites: tuple[SiteEntry, ...] = ()
    pediatric: OverrideEntry | None = None
    normal: NormalEntry | None = None
