"""How much one file may ask of a worker before it is refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ReadLimits(BaseModel):
    """Bounds checked before memory is spent, so that a small file cannot ask for a large machine.

    The defaults keep one worker under 1.5 GB: a frame of 40 Mpx is 120 MB as RGB and needs at most
    a few copies while it is decoded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_file_bytes: int = Field(default=16 * 2**30, gt=0, description="size of one file on disk")
    max_memory_file_bytes: int = Field(
        default=512 * 2**20, gt=0, description="size of a file read into memory"
    )
    max_header_bytes: int = Field(
        default=128 * 2**20, gt=0, description="header and single element of a DICOM file"
    )
    max_inflated_bytes: int = Field(
        default=512 * 2**20, gt=0, description="a deflated DICOM data set, inflated"
    )
    max_frame_pixels: int = Field(default=40_000_000, gt=0, description="rows x columns of one frame")
    max_frames: int = Field(default=50_000, gt=0, description="frames of one file")
    max_frame_bytes: int = Field(default=256 * 2**20, gt=0, description="encoded size of one frame")
    max_seconds: float | None = Field(
        default=None, gt=0, description="wall clock for one pass over a file, checked between frames"
    )
    max_archive_members: int = Field(default=20_000, gt=0, description="files in one zip archive")
    max_archive_bytes: int = Field(default=8 * 2**30, gt=0, description="all members of an archive, unpacked")
    max_archive_ratio: float = Field(default=200.0, gt=1, description="unpacked / packed bytes of one member")
