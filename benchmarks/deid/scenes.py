"""Scenes: a scan, a vendor-like screen around it, and text whose every ink pixel is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.deid.echo import SHAPES, Echo, scan
from benchmarks.deid.lettering import FONTS, SIZES, Placed, phrase, place, script_phrase
from benchmarks.deid.strips import StripKind, add_ecg, add_strip

RGB = NDArray[np.uint8]
Split = Literal["tune", "test"]
SCREENS = ((480, 640), (600, 800), (768, 1024))
BANNERS = ((40, 62, 105), (70, 70, 78), (28, 40, 34), (52, 56, 84), (0, 0, 0), (0, 0, 0))
TINTS = ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 0.1), (0.2, 1.0, 0.3), (0.4, 1.0, 1.0), (1.0, 0.7, 0.2))
CINE_FRAMES = 24
LATE_FROM = 20
_LONGEST = 220
"""Size times characters: labels inside a scan are short or small."""


@dataclass(slots=True)
class Scene:
    """One file of the benchmark.

    Attributes
    ----------
    name, kind : str
    frames : list of (rows, columns, 3) uint8
    area : (rows, columns) uint8 or None
        True image area; None on real pictures.
    strings : list of Placed
    trace : (rows, columns) uint8 or None
        1 where a spectral, M-mode or ECG trace stands.
    """

    name: str
    kind: str
    frames: list[RGB]
    area: NDArray[np.uint8] | None
    strings: list[Placed] = field(default_factory=list[Placed])
    trace: NDArray[np.uint8] | None = None


Planned = tuple[str, Callable[[], Scene | None]]
"""Name of a scene and how to make it."""


def generated(split: Split, count: int) -> list[Planned]:
    """Generated scenes; the two splits share no seed.

    Parameters
    ----------
    count : int
        Scenes; of ten, one is clean, one a clip, one carries a trace over time.
    """
    base = {"tune": 50_000, "test": 60_000}[split]
    return [(f"{split}-{number:03d}", partial(_generated, split, base, number)) for number in range(count)]


def _generated(split: Split, base: int, number: int) -> Scene:
    rng = np.random.default_rng(base + number)
    shape = SHAPES[(number + number // 10) % len(SHAPES)]
    size = SCREENS[int(rng.integers(0, len(SCREENS)))]
    place_in_ten = number % 10
    doppler = place_in_ten in (1, 3, 5, 6, 9) and shape != "dual"
    if place_in_ten == 7:
        return _with_trace(f"{split}-{number:03d}", size, rng)
    echo = scan(shape, size, rng, doppler=doppler, gain=float(rng.uniform(0.55, 1.15)))
    scene = Scene(f"{split}-{number:03d}", f"{shape}{'-doppler' if doppler else ''}", [], echo.area)
    if place_in_ten == 9:
        return replace(scene, kind=f"{scene.kind}-clean", frames=[_screen(echo, rng, [])])
    if place_in_ten == 5:
        return _clip(scene, echo, rng)
    picture = _screen(echo, rng, scene.strings)
    _inside(picture, echo.area, echo.flow, rng, scene.strings, doppler=doppler, count=5)
    _other_scripts(picture, echo.area, rng, scene.strings)
    for _ in range(2):
        _across(picture, echo.area, rng, scene.strings)
    return replace(scene, frames=[picture])


def _with_trace(name: str, size: tuple[int, int], rng: np.random.Generator) -> Scene:
    """A small scan above (or left of) a spectral or M-mode trace, an ECG line below in every other."""
    kind: StripKind = "spectral" if rng.random() < 0.5 else "mmode"
    rows, columns = size
    beside = rng.random() < 0.25
    part = (rows, columns // 2) if beside else (int(rows * rng.uniform(0.48, 0.62)), columns)
    shape = SHAPES[int(rng.integers(0, 4))]
    echo = scan(shape, part, rng, doppler=rng.random() < 0.5, gain=float(rng.uniform(0.55, 1.15)))
    picture, area = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    picture[: part[0], : part[1]], area[: part[0], : part[1]] = echo.rgb, echo.area
    if beside:
        box = (columns // 2 + 10, int(rows * 0.15), columns - 30, int(rows * 0.85))
    else:
        left = int(columns * rng.uniform(0.02, 0.12))
        box = (left, part[0] + 4, columns - left - 8, int(rows * 0.93))
    trace = add_strip(picture, kind, box, rng)
    if rng.random() < 0.5:
        trace |= add_ecg(picture, (box[0], int(rows * 0.94), box[2], rows - 4), rng)
    scene = Scene(name, f"{shape}-{kind}{'-beside' if beside else ''}", [], area, [], trace)
    free = 1 - cv2.dilate(area | trace, np.ones((9, 9), np.uint8))
    for _ in range(80):
        at = (int(rng.integers(2, columns - 40)), int(rng.integers(2, rows - 12)))
        _try(picture, free, rng, scene.strings, at=at, klass="outside_dark", contrast=150.0)
    _inside(picture, area, np.zeros_like(area), rng, scene.strings, doppler=False, count=2)
    return replace(scene, frames=[picture])


def real(split: Split, folder: Path, count: int) -> list[Planned]:
    """Text drawn on real pictures that carry none: cropped scans, strings inside; every third stays clean.

    Files are dealt to the splits by the order of their names: even ones tune, odd ones test.
    """
    files = sorted(path for path in folder.rglob("*.png") if "mask" not in str(path))
    mine = files[0 if split == "tune" else 1 :: 2]
    step = max(1, len(mine) // count)
    chosen = mine[::step][:count]
    return [
        (f"{split}-{folder.name}-{number:03d}", partial(_real, split, path, number))
        for number, path in enumerate(chosen)
    ]


def _real(split: Split, path: Path, number: int) -> Scene | None:
    picture = cv2.imread(str(path))
    if picture is None or min(picture.shape[:2]) < 128:
        return None
    rgb = np.ascontiguousarray(picture[..., ::-1])
    rng = np.random.default_rng({"tune": 30_000, "test": 70_000}[split] + number)
    strings: list[Placed] = []
    if number % 3:
        area = np.ones(rgb.shape[:2], np.uint8)
        _inside(rgb, area, np.zeros_like(area), rng, strings, doppler=False, count=3)
    kind = "real" if strings else "real-clean"
    return Scene(f"{split}-{path.parent.name}-{number:03d}", kind, [rgb], None, strings)


def _screen(echo: Echo, rng: np.random.Generator, strings: list[Placed]) -> RGB:
    """Banners, columns of settings, a grey bar and a ruler around the scan."""
    picture = echo.rgb.copy()
    rows, columns = picture.shape[:2]
    ys, xs = np.nonzero(echo.area)
    colour = BANNERS[int(rng.integers(0, len(BANNERS)))]
    tall = max(14, int(ys.min()) - 10)
    picture[:tall][echo.area[:tall] == 0] = colour
    klass = "outside_banner" if any(colour) else "outside_dark"
    free = 1 - cv2.dilate(echo.area, np.ones((9, 9), np.uint8))
    for _ in range(60):
        at = (int(rng.integers(2, columns - 40)), int(rng.integers(2, max(3, tall - 8))))
        _try(picture, free, rng, strings, at=at, klass=klass, contrast=120.0)
    for _ in range(220):
        at = (int(rng.integers(2, columns - 20)), int(rng.integers(tall + 2, rows - 8)))
        _try(picture, free, rng, strings, at=at, klass="outside_dark", contrast=float(rng.uniform(60, 230)))
    bar = int(xs.max()) + 14
    if bar + 12 < columns and free[60:260, bar : bar + 12].all():
        ramp = np.linspace(255, 0, 200).astype(np.uint8)[:, None, None]
        picture[60:260, bar : bar + 12] = ramp
    for tick in range(int(ys.min()), int(ys.max()), 30):
        edge = min(columns - 6, int(xs.max()) + 4)
        if not echo.area[tick, edge : edge + 5].any():
            picture[tick, edge : edge + 5] = 180
    return picture


def _try(
    picture: RGB, free: NDArray[np.uint8], rng: np.random.Generator, strings: list[Placed], *,
    at: tuple[int, int], klass: str, contrast: float,
) -> None:  # fmt: skip
    size = int(rng.choice(np.array(SIZES[:9])))
    font = str(rng.choice(np.array(FONTS)))
    text = phrase(rng)
    x, y = at
    room = free[y : y + size * 2 + 4, x : x + size * len(text) + 4]
    if room.size == 0 or room.shape[1] < size * len(text) * 0.9 or not room.all():
        return
    tint = TINTS[int(rng.integers(0, len(TINTS)))]
    placed = place(picture, text, font=font, size=size, at=at, contrast=contrast, klass=klass, tint=tint)
    if placed is not None:
        strings.append(placed)
        ys, xs = placed.ink[:, 0], placed.ink[:, 1]
        free[max(0, ys.min() - 3) : ys.max() + 4, max(0, xs.min() - 3) : xs.max() + 4] = 0


def _inside(
    picture: RGB, area: NDArray[np.uint8], flow: NDArray[np.uint8], rng: np.random.Generator,
    strings: list[Placed], *, doppler: bool, count: int = 3, first: int = 0,
) -> None:  # fmt: skip
    """Strings on the scan: visible ones, and mostly a faint one at the end."""
    free = cv2.erode(area, np.ones((9, 9), np.uint8))
    ys, xs = np.nonzero(free)
    wanted, tries = count, 0
    while wanted and tries < 200:
        tries += 1
        pick = int(rng.integers(0, ys.size))
        faint = wanted == 1 and rng.random() < 0.75
        contrast = float(rng.uniform(20, 40)) if faint else float(rng.uniform(42, 150))
        sizes = SIZES if not faint else SIZES[3:]
        size = int(rng.choice(np.array(sizes)))
        text = phrase(rng)
        if size * len(text) > _LONGEST:
            continue
        width, height = int(size * len(text) * 0.9) + 4, int(size * 1.5) + 2
        x, y = int(xs[pick]), int(ys[pick])
        room = free[y : y + height, x : x + width]
        if room.shape != (height, width) or not room.all():
            continue
        on_flow = bool(flow[y : y + height, x : x + width].mean() > 0.15)
        klass = "inside_faint" if faint else "inside_doppler" if doppler else "inside_grey"
        if first:
            klass = "inside_late"
        tint = TINTS[int(rng.integers(0, len(TINTS)))] if not faint else (1.0, 1.0, 1.0)
        if on_flow and klass == "inside_faint":
            continue
        font = str(rng.choice(np.array(FONTS)))
        placed = place(
            picture,
            text,
            font=font,
            size=size,
            at=(x, y),
            contrast=contrast,
            klass=klass,
            tint=tint,
            first=first,
        )
        limits = (20, 40) if faint else (40, 256)
        if placed is None or not limits[0] <= placed.contrast < limits[1]:
            if placed is not None:
                strings.append(_renamed(placed, "inside_other"))
            continue
        strings.append(placed)
        ys_, xs_ = placed.ink[:, 0], placed.ink[:, 1]
        free[max(0, ys_.min() - 8) : ys_.max() + 9, max(0, xs_.min() - 8) : xs_.max() + 9] = 0
        wanted -= 1


def _renamed(placed: Placed, klass: str) -> Placed:
    return Placed(placed.text, placed.font, placed.size, placed.contrast, klass, placed.ink, placed.first)


def _other_scripts(
    picture: RGB, area: NDArray[np.uint8], rng: np.random.Generator, strings: list[Placed]
) -> None:
    """A name in another script, and a line that runs upwards or downwards; both visible."""
    turned = (phrase(rng), str(rng.choice(np.array(FONTS))))
    for klass, drawn in (("inside_script", script_phrase(rng)), ("inside_turned", turned)):
        if drawn is None:
            continue
        free = cv2.erode(area, np.ones((9, 9), np.uint8))
        for placed in strings:
            (y0, x0), (y1, x1) = placed.ink.min(axis=0), placed.ink.max(axis=0)
            free[max(0, y0 - 8) : y1 + 9, max(0, x0 - 8) : x1 + 9] = 0
        _put(picture, free, rng, strings, drawn, klass)


def _put(
    picture: RGB, free: NDArray[np.uint8], rng: np.random.Generator, strings: list[Placed],
    drawn: tuple[str, str], klass: str,
) -> None:  # fmt: skip
    """One visible string at a free place; nothing where none is found in forty tries."""
    text, font = drawn
    ys, xs = np.nonzero(free)
    turns = (1, 3)[int(rng.integers(0, 2))] if klass == "inside_turned" else 0
    for _ in range(40 if ys.size else 0):
        size = int(rng.choice(np.array((10, 12, 14, 16, 20))))
        pick = int(rng.integers(0, ys.size))
        y, x = int(ys[pick]), int(xs[pick])
        width, height = int(size * len(text) * 1.2) + 4, int(size * 1.7) + 2
        if turns:
            width, height = height, width
        room = free[y : y + height, x : x + width]
        if room.shape != (height, width) or not room.all():
            continue
        trial = picture.copy()
        placed = place(
            trial, text, font=font, size=size, at=(x, y), contrast=float(rng.uniform(60, 150)), klass=klass,
            turns=turns,
        )  # fmt: skip
        if placed is not None and placed.contrast >= 40:
            picture[:] = trial
            strings.append(placed)
            return


def _across(picture: RGB, area: NDArray[np.uint8], rng: np.random.Generator, strings: list[Placed]) -> None:
    """A string that begins outside the area and ends inside it."""
    edges = np.argwhere((area == 1) & (np.roll(area, 1, axis=1) == 0))
    taken = np.zeros_like(area)
    for placed in strings:
        taken[placed.ink[:, 0], placed.ink[:, 1]] = 1
    for _ in range(40):
        y, x = (int(value) for value in edges[int(rng.integers(0, len(edges)))])
        size = int(rng.choice(np.array(SIZES[2:10])))
        text = phrase(rng)
        left = x - int(size * len(text) * 0.3)
        box = taken[max(0, y - 4) : y + 2 * size, max(0, left - 6) : left + size * len(text)]
        if left < 0 or box.any():
            continue
        font = str(rng.choice(np.array(FONTS)))
        placed = place(picture, text, font=font, size=size, at=(left, y), contrast=110.0, klass="edge")
        if placed is None:
            continue
        strings.append(placed)
        taken[placed.ink[:, 0], placed.ink[:, 1]] = 1
        return


def _clip(scene: Scene, echo: Echo, rng: np.random.Generator) -> Scene:
    """Moving speckle under a still screen; two strings stand throughout, four appear late."""
    screen = _screen(echo, rng, scene.strings)
    quiet = screen.copy()
    quiet[echo.area > 0] = 0
    frames: list[RGB] = []
    steady: list[Placed] = []
    late: list[Placed] = []
    for number in range(CINE_FRAMES):
        frame = _moved(echo, number, rng)
        frame[echo.area == 0] = quiet[echo.area == 0]
        frames.append(frame)
    layer = frames[0].copy()
    _inside(layer, echo.area, echo.flow, rng, steady, doppler=False, count=2)
    _inside(layer, echo.area, echo.flow, rng, late, doppler=False, count=4, first=LATE_FROM)
    for placed in steady + late:
        value = layer[placed.ink[:, 0], placed.ink[:, 1]]
        for frame in frames[placed.first :]:
            frame[placed.ink[:, 0], placed.ink[:, 1]] = value
    strings = [*scene.strings, *(_steady(placed) for placed in steady), *(_late(placed) for placed in late)]
    return replace(scene, kind=f"{scene.kind}-clip", frames=frames, strings=strings)


def _steady(placed: Placed) -> Placed:
    classes = ((40, "inside_clip"), (20, "inside_clip_faint"))
    return _renamed(
        placed, next((name for least, name in classes if placed.contrast >= least), "inside_other")
    )


def _late(placed: Placed) -> Placed:
    if placed.contrast < 15:
        return _renamed(placed, "inside_other")
    return placed if placed.contrast >= 40 else _renamed(placed, "inside_faint")


def _moved(echo: Echo, number: int, rng: np.random.Generator) -> RGB:
    shift = 6.0 * float(np.sin(number / 3.0))
    matrix = np.array([[1, 0, shift], [0, 1, shift / 2]], np.float32)
    moved = cv2.warpAffine(
        echo.rgb, matrix, (echo.rgb.shape[1], echo.rgb.shape[0]), borderMode=cv2.BORDER_REFLECT
    ).astype(np.int16)
    moved += rng.integers(-12, 13, moved.shape[:2], dtype=np.int16)[..., None]
    return cast(RGB, np.clip(moved, 3, 255).astype(np.uint8))


def written_indices(scene: Scene) -> Sequence[int]:
    """Frames that a run writes: the still, or eight of a clip, with two late ones where text appears late."""
    if len(scene.frames) == 1:
        return [0]
    if scene.area is not None:
        return [0, 3, 6, 9, 12, 15, LATE_FROM, LATE_FROM + 2]
    return sorted({round(i) for i in np.linspace(0, len(scene.frames) - 1, 8).tolist()})
