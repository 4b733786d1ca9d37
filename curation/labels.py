"""What a caption says, and what follows from it for a frame: the scope rules.

Per dimension the narrowest scope that fills it wins: frame, then clip, then study. The organ and body system
of a study's captions reach its frames only when they name exactly one organ; what they say of a lesion never
does. A header code fills only an empty organ. A contradiction within one scope is marked as a conflict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from usds.curation.corrections import Correction
from usds.taxonomy.udt import Taxonomy

__all__ = ["CaptionLabels", "FrameLabels", "LabelKey", "apply_corrections", "frame_labels"]

LabelKey = tuple[str, str]
"""(dimension, label)."""
Scope = Literal["frame", "clip", "study"]
SCOPES: Final[tuple[Scope, ...]] = ("frame", "clip", "study")
SITE_ROLES: Final = frozenset({"site", "system"})
"""Roles of the dimensions that say where; the others describe a finding there."""


@dataclass(frozen=True, slots=True)
class CaptionLabels:
    """The labels of one caption.

    ``present``, ``negated`` and ``uncertain`` map a label to the confidence of its best evidence.
    """

    caption_id: str
    scope: Scope
    text: str
    origin: str
    present: dict[LabelKey, float] = field(default_factory=dict[LabelKey, float])
    negated: dict[LabelKey, float] = field(default_factory=dict[LabelKey, float])
    uncertain: dict[LabelKey, float] = field(default_factory=dict[LabelKey, float])
    abstained: str | None = None
    conflict: bool = False


@dataclass(slots=True)
class FrameLabels:
    """The labels of one frame."""

    present: dict[LabelKey, float] = field(default_factory=dict[LabelKey, float])
    negated: dict[LabelKey, float] = field(default_factory=dict[LabelKey, float])
    uncertain: dict[LabelKey, float] = field(default_factory=dict[LabelKey, float])
    source_caption_ids: list[str] = field(default_factory=list[str])
    caption_id: str | None = None
    abstained: str | None = None
    conflict: bool = False

    @property
    def confidence(self) -> float:
        """Confidence of the weakest present label; 0 where there is none."""
        return min(self.present.values(), default=0.0)


@dataclass(slots=True)
class _ScopeLabels:
    """The captions of one scope taken together."""

    present: dict[LabelKey, float]
    negated: dict[LabelKey, float]
    uncertain: dict[LabelKey, float]
    conflict: bool


def frame_labels(
    taxonomy: Taxonomy,
    captions: Sequence[CaptionLabels],
    header: Mapping[LabelKey, float] | None = None,
    corrections: Iterable[Correction] = (),
) -> FrameLabels:
    """Labels of a frame from the captions that reach it.

    Parameters
    ----------
    taxonomy : Taxonomy
    captions : sequence of CaptionLabels
        Those of the frame, of its clip and of its study, in any order.
    header : mapping, optional
        Labels that the codes of its header give, with their confidence.
    corrections : iterable of Correction
        Those about the frame, its clip or its study themselves; they win.
    """
    result = FrameLabels()
    scopes: dict[Scope, _ScopeLabels] = {}
    for scope in SCOPES:
        if own := [caption for caption in captions if caption.scope == scope]:
            scopes[scope] = _merge(taxonomy, own)
    if "study" in scopes:
        _keep_sites_of_one_organ(taxonomy, scopes["study"])
    for dimension in taxonomy.dimensions:
        _narrowest(dimension.name, scopes, result)
    result.conflict = any(scope.conflict for scope in scopes.values())
    if header:
        _fill_from_header(taxonomy, header, result)
    _correct(taxonomy, corrections, result)
    result.source_caption_ids = sorted(c.caption_id for c in captions if _contributes(c, result))
    result.caption_id = _training_caption(captions)
    if captions and all(c.abstained for c in captions) and not result.present:
        result.abstained = min(captions, key=_width).abstained
    return result


def _width(caption: CaptionLabels) -> tuple[int, str]:
    return SCOPES.index(caption.scope), caption.caption_id


def _merge(taxonomy: Taxonomy, captions: Sequence[CaptionLabels]) -> _ScopeLabels:
    """Union of captions of one scope; what one affirms and another denies becomes uncertain."""
    if len(captions) == 1 and captions[0].present.keys().isdisjoint(captions[0].negated):
        (only,) = captions
        uncertain = {key: c for key, c in only.uncertain.items() if key not in only.present}
        return _ScopeLabels(dict(only.present), dict(only.negated), uncertain, only.conflict)
    merged = _ScopeLabels({}, {}, {}, any(c.conflict for c in captions))
    for caption in captions:
        for name in ("present", "negated", "uncertain"):
            into: dict[LabelKey, float] = getattr(merged, name)
            for key, confidence in getattr(caption, name).items():
                into[key] = max(confidence, into.get(key, 0.0))
    for key in sorted(merged.present.keys() & merged.negated.keys()):
        merged.uncertain[key] = min(merged.present.pop(key), merged.negated.pop(key))
        merged.conflict = True
    for key in merged.uncertain.keys() & merged.present.keys():
        del merged.uncertain[key]
    merged.conflict = merged.conflict or any(_disagree(captions, d.name) for d in taxonomy.dimensions)
    return merged


def _disagree(captions: Sequence[CaptionLabels], dimension: str) -> bool:
    """Whether two captions fill a dimension with labels that have nothing in common."""
    if len(captions) < 2:
        return False
    filled = [{label for d, label in c.present if d == dimension} for c in captions]
    filled = [labels for labels in filled if labels]
    return any(a.isdisjoint(b) for i, a in enumerate(filled) for b in filled[i + 1 :])


def _keep_sites_of_one_organ(taxonomy: Taxonomy, study: _ScopeLabels) -> None:
    """Reduce what a study says to what may be copied to each of its frames."""
    roles = {dimension.name: dimension.role for dimension in taxonomy.dimensions}
    organs = [key for key in study.present if roles[key[0]] == "site"]
    present = {key: c for key, c in study.present.items() if roles[key[0]] in SITE_ROLES}
    study.present = present if len(organs) == 1 else {}
    study.negated, study.uncertain = {}, {}


def _narrowest(dimension: str, scopes: dict[Scope, _ScopeLabels], result: FrameLabels) -> None:
    """Copy a dimension from the narrowest scope that fills it, minus what a narrower one denies or doubts."""
    denied: set[LabelKey] = set()
    for labels in scopes.values():  # narrowest first
        present = {k: c for k, c in labels.present.items() if k[0] == dimension and k not in denied}
        for source, into in ((labels.negated, result.negated), (labels.uncertain, result.uncertain)):
            for key, confidence in source.items():
                if key[0] == dimension and key not in denied:
                    into[key] = confidence
                    denied.add(key)
        if present:
            result.present.update(present)
            return


def _fill_from_header(taxonomy: Taxonomy, header: Mapping[LabelKey, float], result: FrameLabels) -> None:
    """Take the header's organ where the captions name none; if their system contradicts it: a conflict."""
    roles = {dimension.name: dimension.role for dimension in taxonomy.dimensions}
    if any(roles[dimension] == "site" for dimension, _ in result.present):
        return
    if sum(roles[dimension] == "site" for dimension, _ in header) > 1:
        return  # a code for a region that holds several organs says of none that it is seen
    systems = {key for key in result.present if roles[key[0]] == "system"}
    wanted = {key for key in header if roles[key[0]] == "system"}
    if systems and wanted and systems.isdisjoint(wanted):
        result.conflict = True
        return
    for key, confidence in header.items():
        if roles[key[0]] == "site" or not systems:
            result.present[key] = confidence
            result.negated.pop(key, None)
            result.uncertain.pop(key, None)


def _contributes(caption: CaptionLabels, result: FrameLabels) -> bool:
    return any(
        key in chosen
        for chosen, own in (
            (result.present, caption.present),
            (result.negated, caption.negated),
            (result.uncertain, caption.uncertain),
        )
        for key in own
    )


def _training_caption(captions: Sequence[CaptionLabels]) -> str | None:
    """The narrowest caption that says something; words read off the picture only where there is no other."""
    usable = [c for c in captions if c.abstained is None]
    best = min(
        usable,
        key=lambda c: (
            c.origin == "overlay", SCOPES.index(c.scope), -len(c.present), -len(c.text), c.caption_id,
        ),
        default=None,
    )  # fmt: skip
    return best.caption_id if best else None


# -- corrections ----------------------------------------------------------------------------------------


def apply_corrections(
    taxonomy: Taxonomy, caption: CaptionLabels, corrections: Sequence[Correction]
) -> CaptionLabels:
    """The caption as a person corrected it; a corrected caption is no longer in conflict, nor abstained."""
    if not corrections:
        return caption
    labels = FrameLabels(dict(caption.present), dict(caption.negated), dict(caption.uncertain))
    _correct(taxonomy, corrections, labels)
    silent = not (labels.present or labels.negated or labels.uncertain)
    return CaptionLabels(
        caption.caption_id, caption.scope, caption.text, caption.origin,
        labels.present, labels.negated, labels.uncertain, caption.abstained if silent else None, False,
    )  # fmt: skip


def _correct(taxonomy: Taxonomy, corrections: Iterable[Correction], labels: FrameLabels) -> None:
    """Apply corrections in order; those about labels that this taxonomy does not have are passed over."""
    for correction in corrections:
        key = (correction.dimension, correction.label)
        if key not in taxonomy.label_index:
            continue
        groups = {"present": labels.present, "negated": labels.negated, "uncertain": labels.uncertain}
        if correction.action == "remove":
            groups[correction.assertion].pop(key, None)
            continue
        for group in groups.values():
            group.pop(key, None)
        groups[correction.assertion][key] = 1.0
        labels.conflict = False
        parent = taxonomy.parent_of(*key)
        if correction.assertion == "present" and parent is not None:
            labels.present.setdefault(parent, 1.0)
