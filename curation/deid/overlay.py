"""Harmless words on the screen become a caption: body part, side, plane; nothing else is ever kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from usds.curation.deid.burned_text import TextDetector
from usds.curation.deid.verify import looks_identifying

if TYPE_CHECKING:
    from usds.curation.deid.verify import TextMatcher

_MIN_SCORE = 0.80
_TOKEN = re.compile(r"[^\s/,+&-]+")
_LEADING_NUMBER = re.compile(r"^\d{1,2}\s*[:.)]\s*")


def overlay_words(
    rgb: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    detector: TextDetector,
    matcher: TextMatcher,
    vocabulary: frozenset[str],
) -> str:
    """Words of the lines whose every token is in the vocabulary, joined by "; ".

    Parameters
    ----------
    rgb : (rows, columns, 3) uint8
        Native frame, not redacted.
    mask : (rows, columns) uint8
        1 in the image area.
    vocabulary : frozenset of str
        Lower case; compared exactly. Tokens with digits never pass.
    """
    boxes = detector.detect_plain(rgb)
    lines: list[str] = []
    for box, (text, score) in zip(boxes, detector.recognise(rgb, boxes), strict=True):
        outside = not mask[box.y0 : box.y1, box.x0 : box.x1].any()
        words = harmless(text, vocabulary) if score >= _MIN_SCORE else ""
        if words and not looks_identifying(text) and not matcher.find(text, ocr=True, outside_area=outside):
            lines.append(words)
    return "; ".join(dict.fromkeys(lines))


def harmless(text: str, vocabulary: frozenset[str]) -> str:
    """The text in lower case if all its tokens are in the vocabulary, else ""."""
    tokens = _TOKEN.findall(_LEADING_NUMBER.sub("", text.strip()).lower().strip(" .:_"))
    if not tokens or any(token not in vocabulary for token in tokens):
        return ""
    return " ".join(tokens)
