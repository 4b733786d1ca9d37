"""Real pictures and clips as they are: what a tool takes of scans in which nothing needs to be hidden."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks.deid.scenes import RGB, Planned, Scene

_PICTURES = frozenset({".png", ".jpg", ".jpeg"})
_CLIPS = frozenset({".mp4", ".mov", ".mpeg", ".mpg", ".avi"})
_SAMPLES = 24


def clean(folder: Path, count: int) -> list[Planned]:
    """Up to `count` files of a folder, spread evenly over their sorted names."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES | _CLIPS)
    places = np.unique(np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int))
    names = [f"clean-{folder.name}-{number:03d}" for number in range(len(places))]
    return [
        (name, partial(_scene, name, files[place]))
        for name, place in zip(names, places.tolist(), strict=True)
    ]


def _scene(name: str, path: Path) -> Scene | None:
    frames = _clip(path) if path.suffix.lower() in _CLIPS else _still(path)
    return Scene(name, "clean", frames, None) if frames else None


def _still(path: Path) -> list[RGB]:
    picture = cv2.imread(str(path))
    return [] if picture is None else [np.ascontiguousarray(picture[..., ::-1])]


def _clip(path: Path) -> list[RGB]:
    """Frames spread over a clip."""
    reader = cv2.VideoCapture(str(path))
    total = int(reader.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(np.linspace(0, max(0, total - 1), _SAMPLES).round().astype(int).tolist())
    frames: list[RGB] = []
    number = 0
    while True:
        read, picture = reader.read()
        if not read:
            break
        if number in wanted:
            frames.append(np.ascontiguousarray(picture[..., ::-1]))
        number += 1
    reader.release()
    return frames
