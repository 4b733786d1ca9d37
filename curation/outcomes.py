"""From a reason code to the outcome of a file, and the row of the table ``sources`` that says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

__all__ = ["HARMLESS", "SETTLED", "TRANSIENT", "outcome_of", "source_row"]

_QUARANTINED: Final = frozenset({"decoder_crash", "timeout", "memory", "stage_failed", "identifier_found"})
_REVIEW: Final = frozenset({"area_uncertain", "text_survived", "redaction_large", "frames_withheld"})

HARMLESS: Final = frozenset({"duplicate", "ignored", "withdrawn", "media_unused", "kept_out"})
"""Rejections that are no trouble by themselves: they do not change the exit code."""

SETTLED: Final = "settled_by_person"
"""Warning of a file about which a person decided."""

TRANSIENT: Final = frozenset({"permission_denied", "disk_error", "timeout", "memory", "changed"})
"""Reasons that another day may not have: what ``--retry`` does again."""


def outcome_of(reason: str) -> str:
    """Outcome that a reason code of `usds.schemas.tables` means."""
    if reason == "ok":
        return "ingested"
    if reason in _QUARANTINED:
        return "quarantined"
    return "review" if reason in _REVIEW else "rejected"


def source_row(
    source_key: str,
    kind: str,
    reason: str,
    *,
    frames: int = 0,
    withheld: int = 0,
    captions: int = 0,
    captions_withheld: int = 0,
    duplicate_of: str | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """The one row of a source file."""
    return {
        "source_key": source_key,
        "kind": kind,
        "outcome": outcome_of(reason),
        "reason": reason,
        "frames_written": frames,
        "frames_withheld": withheld,
        "captions_written": captions,
        "captions_withheld": captions_withheld,
        "duplicate_of": duplicate_of,
        "warnings": sorted(set(warnings)),
    }
