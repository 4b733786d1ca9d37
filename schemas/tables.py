"""Arrow schemas of every table of the dataset directory, and the closed lists they use.

The columns that depend on a taxonomy (one list of labels per dimension) are made by
:func:`annotation_schema`; nothing here knows how many dimensions there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, get_args

import pyarrow as pa

__all__ = [
    "ASSERTIONS",
    "CAPTIONS",
    "CORRECTIONS",
    "EVIDENCE",
    "FORMAT_VERSION",
    "FRAMES",
    "IMAGES",
    "OUTCOMES",
    "PICTURE_CORRECTIONS",
    "REASONS",
    "RESERVED_COLUMNS",
    "SCOPES",
    "SOURCES",
    "SPLITS",
    "SPLIT_NAMES",
    "Outcome",
    "Reason",
    "annotation_schema",
]

FORMAT_VERSION: Final = 1
"""Version of the dataset directory's contract; another version is refused."""

Outcome = Literal["ingested", "rejected", "quarantined", "review"]
Reason = Literal[
    "ok",
    # rejected: cannot or need not be used
    "empty",
    "unreadable",
    "truncated",
    "unsupported",
    "wrong_modality",
    "no_pixels",
    "no_image_area",
    "decompression_bomb",
    "too_large",
    "too_small",
    "nested_archive",
    "unsafe_archive",
    "encrypted",
    "unmatched_sidecar",
    "malformed_sidecar",
    "no_caption",
    "media_unused",
    "duplicate",
    "ignored",
    "symlink",
    "permission_denied",
    "disk_error",
    "changed",
    "withdrawn",
    "kept_out",
    # quarantined: identification cannot be excluded, or a stage crashed
    "decoder_crash",
    "timeout",
    "memory",
    "stage_failed",
    "identifier_found",
    # review: one named doubt
    "area_uncertain",
    "text_survived",
    "redaction_large",
    "frames_withheld",
]
SplitName = Literal["train", "valid", "test", "excluded"]
Assertion = Literal["present", "negated", "uncertain", "history", "other"]
Scope = Literal["frame", "clip", "study"]

OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)
REASONS: Final[tuple[str, ...]] = get_args(Reason)
SPLIT_NAMES: Final[tuple[str, ...]] = get_args(SplitName)
ASSERTIONS: Final[tuple[str, ...]] = get_args(Assertion)
SCOPES: Final[tuple[str, ...]] = get_args(Scope)


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_POINT = pa.struct([_required("x", pa.int32()), _required("y", pa.int32())])
_COMPONENT = pa.struct(
    [
        _required("kind", pa.string()),
        _required("confidence", pa.float32()),
        _required("points", pa.list_(_POINT)),
    ]
)
_BOX = pa.struct(
    [
        _required("x0", pa.int32()),
        _required("y0", pa.int32()),
        _required("x1", pa.int32()),
        _required("y1", pa.int32()),
        _required("score", pa.float32()),
        _required("method", pa.string()),
    ]
)
_CODE = pa.struct(
    [_required("scheme", pa.string()), _required("value", pa.string()), _required("meaning", pa.string())]
)
_LABEL = pa.struct([_required("dimension", pa.string()), _required("label", pa.string())])

IMAGES: Final = pa.schema([_required("frame_id", pa.string()), _required("image", pa.binary())])
"""Encoded bytes only: labels are joined elsewhere, so pixels are never rewritten."""

FRAMES: Final = pa.schema(
    [
        _required("frame_id", pa.string()),
        pa.field("clip_id", pa.string()),
        _required("study_id", pa.string()),
        pa.field("series_id", pa.string()),
        _required("subject_id", pa.string()),
        _required("subject_rule", pa.string()),
        _required("subject_conflict", pa.bool_()),
        _required("source_key", pa.string()),
        _required("frame_index", pa.int32()),
        _required("source_frames", pa.int32()),
        _required("media", pa.string()),
        # geometry, pixels of the written image unless named native
        _required("rows", pa.int32()),
        _required("cols", pa.int32()),
        _required("native_rows", pa.int32()),
        _required("native_cols", pa.int32()),
        _required("crop_x0", pa.int32()),
        _required("crop_y0", pa.int32()),
        _required("crop_x1", pa.int32()),
        _required("crop_y1", pa.int32()),
        _required("scale", pa.float32()),
        pa.field("spacing_row_mm", pa.float32()),
        pa.field("spacing_col_mm", pa.float32()),
        # technique, by lookup table only
        _required("mode", pa.string()),
        _required("vendor", pa.string()),
        _required("model_family", pa.string()),
        _required("transducer", pa.string()),
        _required("body_part", pa.string()),
        _required("sex", pa.string()),
        _required("age_band", pa.string()),
        _required("header_codes", pa.list_(_CODE)),
        # de-identification of the pixels
        _required("area", pa.list_(_COMPONENT)),
        _required("area_method", pa.string()),
        _required("text_boxes", pa.list_(_BOX)),
        _required("redacted_fraction", pa.float32()),
        _required("verified_by", pa.string()),
        # quality and duplicates
        _required("quality", pa.string()),
        _required("blank", pa.float32()),
        _required("saturated", pa.float32()),
        _required("blurred", pa.float32()),
        _required("phash", pa.string()),
        pa.field("duplicate_of", pa.string()),
        # locator of the pixels
        _required("shard", pa.string()),
        _required("row_group", pa.int32()),
        _required("row", pa.int32()),
    ]
)

CAPTIONS: Final = pa.schema(
    [
        _required("caption_id", pa.string()),
        _required("scope", pa.string()),
        _required("target_id", pa.string()),
        _required("text", pa.string()),
        _required("origin", pa.string()),
        pa.field("section", pa.string()),
        pa.field("language", pa.string()),
        _required("n_removed", pa.int32()),
        _required("source_key", pa.string()),
    ]
)

SOURCES: Final = pa.schema(
    [
        _required("source_key", pa.string()),
        _required("kind", pa.string()),
        _required("outcome", pa.string()),
        _required("reason", pa.string()),
        _required("frames_written", pa.int32()),
        _required("frames_withheld", pa.int32()),
        _required("captions_written", pa.int32()),
        _required("captions_withheld", pa.int32()),
        pa.field("duplicate_of", pa.string()),
        _required("warnings", pa.list_(pa.string())),
    ]
)

EVIDENCE: Final = pa.schema(
    [
        pa.field("caption_id", pa.string()),
        _required("target_id", pa.string()),
        _required("dimension", pa.string()),
        _required("label", pa.string()),
        pa.field("code", pa.string()),
        _required("assertion", pa.string()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("surface", pa.string()),
        pa.field("cue", pa.string()),
        _required("rule_id", pa.string()),
        _required("method", pa.string()),
        _required("score", pa.float32()),
        _required("confidence", pa.float32()),
    ]
)

SPLITS: Final = pa.schema([_required("subject_id", pa.string()), _required("split", pa.string())])

CORRECTIONS: Final = pa.schema(
    [
        _required("target_id", pa.string()),
        pa.field("caption_id", pa.string()),
        _required("dimension", pa.string()),
        _required("label", pa.string()),
        _required("action", pa.string()),
        _required("assertion", pa.string()),
    ]
)

_PART = pa.struct([_required("kind", pa.string()), _required("points", pa.list_(_POINT))])
_MARK = pa.struct(
    [
        pa.field("frame", pa.int32()),
        _required("action", pa.string()),
        _required("x0", pa.int32()),
        _required("y0", pa.int32()),
        _required("x1", pa.int32()),
        _required("y1", pa.int32()),
    ]
)

PICTURE_CORRECTIONS: Final = pa.schema(
    [
        _required("file_id", pa.string()),
        _required("decision", pa.string()),
        _required("accepted", pa.list_(pa.string())),
        _required("area", pa.list_(_PART)),
        _required("boxes", pa.list_(_MARK)),
    ]
)
"""What a person decided about the pixels of a file, whose ``file_id`` is a keyed hash of its bytes: the
``clip_id`` of a clip. Coordinates are native pixels, boxes half-open; a null ``frame`` means every frame."""

RESERVED_COLUMNS: Final = frozenset(
    {
        "frame_id", "negated", "uncertain", "source_caption_ids", "text", "caption_id", "abstained",
        "conflict", "confidence",
    }
)  # fmt: skip
"""Annotation columns that no taxonomy dimension may be called."""


def annotation_schema(dimensions: Sequence[str]) -> pa.Schema:
    """Schema of one annotation set.

    Parameters
    ----------
    dimensions : sequence of str
        Dimension names of the taxonomy, in its order; each becomes a ``list<string>`` column of the labels
        that are present.

    Raises
    ------
    ValueError
        If a dimension is called like one of the fixed columns.
    """
    clash = sorted(RESERVED_COLUMNS.intersection(dimensions))
    if clash:
        raise ValueError(f"dimension name {clash[0]!r} is reserved; rename it in the taxonomy")
    columns: Iterable[pa.Field] = [
        _required("frame_id", pa.string()),
        *(_required(name, pa.list_(pa.string())) for name in dimensions),
        _required("negated", pa.list_(_LABEL)),
        _required("uncertain", pa.list_(_LABEL)),
        _required("source_caption_ids", pa.list_(pa.string())),
        pa.field("caption_id", pa.string()),  # the caption to train on: the narrowest
        pa.field("abstained", pa.string()),
        _required("conflict", pa.bool_()),
        _required("confidence", pa.float32()),
    ]
    return pa.schema(columns)
