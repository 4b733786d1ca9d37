"""What an evaluation looks at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from usds.model.evaluate import retrieval
from usds.model.settings import Settings

__all__ = ["EvaluateSettings"]


class EvaluateSettings(Settings):
    """What an evaluation looks at."""

    side: Literal["test", "valid"] = "test"
    split: str | None = Field(None, description="name of the split; default: the run's")
    labels: str | None = Field(
        None, description="label set to judge by; default: the run's, else the current"
    )
    average: bool = Field(True, description="take the averaged weights where the run kept them")
    galleries: tuple[Annotated[int, Field(ge=2)], ...] = retrieval.GALLERIES
    draws: Annotated[int, Field(ge=1)] = retrieval.DRAWS
    bootstrap: Annotated[int, Field(ge=10)] = 1000
    probe: bool = Field(True, description="linear probe and few-shot on frozen vectors")
    probe_frames: Annotated[int, Field(ge=2)] = Field(
        20_000,
        description="most frames of a side that a probe or fine-tune learns from, spread over the subjects",
    )
    fine_tune: tuple[str, ...] = Field((), description="dimensions to fine-tune the image tower on (slow)")
    fine_tune_epochs: Annotated[int, Field(ge=1)] = 10
    examples: Annotated[int, Field(ge=0)] = 4
    seed: int = 0
