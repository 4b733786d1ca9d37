"""Settings of ``usds ingest``: what changes the output apart from what only changes how it is made.

The first part is hashed into the dataset; the same raw files, key and hash give the same ids and pixels.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import metadata
from typing import Any, Final, cast

from pydantic import BaseModel, ConfigDict, Field

from usds.curation.deid.pixels import PixelSettings
from usds.curation.frames import KeyFrameSettings, QualitySettings
from usds.curation.near_duplicates import MAX_DISTANCE
from usds.curation.readers.limits import ReadLimits
from usds.schemas.files import canonical_json

__all__ = ["RULES", "IngestSettings", "RunSettings", "detector_version", "differences", "tool_version"]

RULES: Final = 2
"""Version of the stages themselves; raising it asks for ``--redo`` on datasets made before."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSettings(_Frozen):
    """How the work is done; changes no byte of the dataset."""

    workers: int = Field(default=0, ge=0, description="worker processes; 0 takes as many as there are cores")
    timeout_s: float = Field(default=600.0, gt=0, description="wall clock one file may take")
    memory_mb: int = Field(default=1500, ge=500, description="resident memory of one worker")

    @property
    def worker_count(self) -> int:
        """Processes to start."""
        return self.workers or len(os.sched_getaffinity(0)) or 1


class IngestSettings(_Frozen):
    """Settings of ``usds ingest``.

    Attributes
    ----------
    key_frames, quality, pixels, limits
        Of the stages they are named after.
    columns : dict
        Column names of caption tables by role ("image", "caption", "subject"); others are guessed.
    exact_age : bool
        Write ages up to 89 in years instead of bands.
    near_duplicate_bits : int
        Perceptual hashes that differ by no more bits are near duplicates.
    run : RunSettings
        The part that changes no output.
    """

    key_frames: KeyFrameSettings = KeyFrameSettings()
    quality: QualitySettings = QualitySettings()
    pixels: PixelSettings = PixelSettings()
    limits: ReadLimits = ReadLimits()
    columns: dict[str, str] = Field(
        default_factory=dict[str, str],
        description="column names of caption tables by role: image, caption, subject",
    )
    exact_age: bool = Field(default=False, description="ages up to 89 in years instead of bands")
    near_duplicate_bits: int = Field(
        default=MAX_DISTANCE, ge=0, le=7, description="bits near duplicates differ by"
    )
    run: RunSettings = RunSettings()

    def output(self) -> dict[str, Any]:
        """The settings that change the output, as plain JSON values."""
        return {**self.model_dump(mode="json", exclude={"run"}), "rules": RULES}

    def output_hash(self) -> str:
        """Hash of :meth:`output` and of the detector's version: 16 hexadecimal digits."""
        content = canonical_json({"settings": self.output(), "detector": detector_version()})
        return hashlib.sha256(content).hexdigest()[:16]


@lru_cache
def detector_version() -> str:
    """Version of the text detector: its networks come inside the rapidocr package."""
    return f"rapidocr {metadata.version('rapidocr')}"


@lru_cache
def tool_version() -> str:
    """Name and version of this tool."""
    return f"usds {metadata.version('usds')}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two settings, as ``pixels.quality: 95 -> 90``."""
    before, after = dict(_flat(old)), dict(_flat(new))
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return [f"{name}: {before.get(name, 'unset')} -> {after.get(name, 'unset')}" for name in names]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(cast("Mapping[str, Any]", value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
