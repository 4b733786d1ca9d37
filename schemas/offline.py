"""Keep libraries from reporting to their makers: usds runs beside patients' data, often without a network.

ONNX Runtime 1.32 opens a connection to its maker when it is imported, and keeps a database of events in the
user's cache folder; Hugging Face Hub tells which libraries ask it. Both obey variables of the environment.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["silence"]

_SWITCHES: Final = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")


def silence() -> None:
    """Switch their reports off, for this process and those it starts. Call it before they are imported."""
    os.environ.update(dict.fromkeys(_SWITCHES, "1"))
