"""Draw known text: fonts, sizes, contrasts, and the ink that must not survive."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

RGB = NDArray[np.uint8]
Ink = NDArray[np.bool_]

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif", "hershey")
"""The DejaVu faces that matplotlib ships, and OpenCV's stroke font."""
SIZES = (6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28)
"""Height of a capital letter, in pixels."""
_CJK_FILES = (
    "wqy-microhei.ttc",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
)
CJK_HINT = "no font with Chinese characters: apt-get install fonts-wqy-microhei (or fonts-noto-cjk)"

NAMES = (
    "SMITH, JOHN", "Garcia Maria", "O'NEILL SEAN", "Nguyen Thi Lan", "MUELLER^HANS", "Łukasz Żak",
    "Иванова Анна",
    "Παπαδόπουλος", "JOHANSSON K", "DUBOIS Hélène", "Kowalska Ewa", "TANAKA KEN", "Al-Masri O", "Ćosić Ana",
    "Yılmaz Şule", "VAN DER BERG J",
)  # fmt: skip
SCRIPTS = {
    "cjk": ("王小明", "田中 健", "김민준", "李秀英", "山田 花子", "北京协和医院", "박서연", "東京中央病院"),
    "arabic": ("محمد علي", "فاطمة حسن", "مستشفى النور", "يوسف إبراهيم"),
    "hebrew": ("יוסף כהן", "שרה לוי", "בית חולים", "דוד מזרחי"),
}  # fmt: skip
"""Names and places in scripts that need their own faces; Cyrillic and Greek are among `NAMES`."""
PLACES = (
    "ST MARY HOSPITAL",
    "Univ. Clinic Nord",
    "CITY MED CTR",
    "Klinikum Süd",
    "Hôpital Lyon",
    "WESTSIDE IMAGING",
)
SETTINGS = (
    "MI 1.1",
    "TIS 0.4",
    "28Hz",
    "C5-1",
    "Gn 60",
    "DR 70",
    "Frq 5.0",
    "Map 3",
    "2D 64%",
    "P Med",
    "11cm",
)
LABELS = (
    "LIVER",
    "LT KIDNEY",
    "SAG",
    "GB",
    "RT LOBE LONG",
    "Dist 1.06 cm",
    "BPD 4.2",
    "TRANS",
    "LEFT AXILLA",
)


@dataclass(frozen=True, slots=True)
class Placed:
    """A string on the screen.

    Attributes
    ----------
    text, font : str
    size : int
        Height of a capital letter in pixels.
    contrast : float
        Mean luma of the ink minus that of its surroundings.
    klass : str
        Where it stands and how visible it is.
    ink : (N, 2) int
        Pixels (y, x) that are mostly ink.
    first : int
        Frame from which on it is shown.
    """

    text: str
    font: str
    size: int
    contrast: float
    klass: str
    ink: NDArray[np.int32]
    first: int = 0


def phrase(rng: np.random.Generator) -> str:
    """A name, date, id, place, setting or label."""
    kind = int(rng.integers(0, 7))
    if kind == 0:
        return f"{rng.integers(1, 29):02d}/{rng.integers(1, 13):02d}/{rng.integers(1930, 2026)}"
    if kind == 1:
        return f"ID {rng.integers(10**6, 10**9)}"
    if kind == 2:
        return f"{rng.integers(0, 24):02d}:{rng.integers(0, 60):02d}:{rng.integers(0, 60):02d}"
    pools = {3: NAMES, 4: PLACES, 5: SETTINGS, 6: LABELS}
    return str(rng.choice(np.array(pools[kind])))


def script_phrase(rng: np.random.Generator) -> tuple[str, str] | None:
    """A name or place in Chinese, Japanese, Korean, Arabic or Hebrew, and the font it needs.

    None where the drawn script is Chinese, Japanese or Korean and no font for it is installed.
    """
    script = ("cjk", "cjk", "arabic", "hebrew")[int(rng.integers(0, 4))]
    text = SCRIPTS[script][int(rng.integers(0, len(SCRIPTS[script])))]
    if script != "cjk":
        return text, "DejaVuSans"
    found = cjk_font()
    return (text, found) if found else None


@lru_cache(maxsize=1)
def cjk_font() -> str | None:
    """File of an installed font with Chinese characters."""
    files = {Path(path).name: path for path in font_manager.findSystemFonts()}
    return next((files[name] for name in _CJK_FILES if name in files), None)


@lru_cache(maxsize=256)
def _face(font: str, size: int) -> ImageFont.FreeTypeFont:
    path = Path(font) if Path(font).is_absolute() else Path(mpl.get_data_path()) / "fonts/ttf" / f"{font}.ttf"
    return ImageFont.truetype(str(path), max(6, round(size / 0.73)))


def glyphs(text: str, font: str, size: int) -> NDArray[np.float32]:
    """Coverage of a text, 0 to 1, cropped to its ink."""
    if font == "hershey":
        text = text.encode("ascii", "replace").decode()
        scale = size / 21.0
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        canvas = np.zeros((height + below + 8, width + 8), np.uint8)
        cv2.putText(canvas, text, (4, height + 4), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 1, cv2.LINE_AA)
        cover = canvas.astype(np.float32) / 255
    else:
        face = _face(font, size)
        box = face.getbbox(text)
        picture = Image.new("L", (int(box[2]) + 8, int(box[3]) + 8), 0)
        ImageDraw.Draw(picture).text((4, 4), text, 255, font=face)
        cover = np.asarray(picture, np.float32) / 255
    ys, xs = np.nonzero(cover > 0.2)
    if ys.size == 0:
        return np.zeros((1, 1), np.float32)
    return cover[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def place(
    rgb: RGB, text: str, *, font: str, size: int, at: tuple[int, int], contrast: float, klass: str,
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0), first: int = 0, turns: int = 0,
) -> Placed | None:  # fmt: skip
    """Draw on the picture, in place.

    Parameters
    ----------
    at : (x, y)
        Upper left corner of the ink.
    contrast : float
        Wanted luma difference to the surroundings; the drawn one is measured and recorded.
    tint : (red, green, blue)
        Colour of the letters, brightest channel 1.
    turns : int
        Quarter turns to the left.

    Returns
    -------
    Placed or None
        None where the text does not fit, or has next to no ink; then nothing is drawn.
    """
    cover = np.rot90(glyphs(text, font, size), turns)
    height, width = cover.shape
    x, y = at
    if x < 0 or y < 0 or y + height > rgb.shape[0] or x + width > rgb.shape[1] or max(width, height) < 4:
        return None
    ys, xs = np.nonzero(cover > 0.5)
    if ys.size < 6:
        return None
    patch = rgb[y : y + height, x : x + width].astype(np.float32)
    around = float((patch @ np.array([0.299, 0.587, 0.114], np.float32)).mean())
    weight = 0.299 * tint[0] + 0.587 * tint[1] + 0.114 * tint[2]
    bright = min(255.0, (around + contrast) / max(weight, 0.2))
    colour = np.array(tint, np.float32) * bright
    drawn = patch * (1 - cover[..., None]) + colour * cover[..., None]
    rgb[y : y + height, x : x + width] = np.clip(drawn, 0, 255).astype(np.uint8)
    difference = float(bright * weight - around)
    return Placed(text, font, size, difference, klass, np.stack([ys + y, xs + x], 1).astype(np.int32), first)
