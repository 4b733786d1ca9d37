"""Pictures of an evaluation: what is shown, and that it is drawn inside the picture."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np

from usds.model.evaluate.pictures import retrieval_examples
from usds.model.evaluate.plots import Example, plot_examples
from usds.model.evaluate.run import Evaluation


def test_a_case_is_shown_once_by_its_nearest_frame() -> None:
    texts = ("cyst", "cyst", "mass", "nodule")
    records = SimpleNamespace(
        captions=np.array([1, 1, 2, 3]),
        subjects=np.array([0, 0, 1, 2]),
        texts=texts,
        frame_ids=("a", "b", "c", "d"),
    )
    image = np.array([[0.9, 0.1], [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], np.float32)
    cache = SimpleNamespace(image=lambda frame: frame)
    evaluation = cast(
        Evaluation, SimpleNamespace(records=records, image=image, text=image[[1, 1, 2, 3]], cache=cache)
    )
    [cyst, *_] = retrieval_examples(evaluation, 3, 2)
    assert (cyst.query, list(cyst.images), list(cyst.hits)) == ("cyst", ["b", "c"], [True, False])
    assert cyst.notes[0] == "1.00  cyst"


def test_long_words_and_odd_shapes_stay_inside_the_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes: list[Any] = [(60, 200, 3), (200, 60, 3), (64, 64, 3)]
    images = [rng.integers(0, 255, shape, np.uint8) for shape in shapes]
    words = "a very long caption that goes on and on " * 8
    example = Example(words, images, [words] * 3, [True, False, False])
    path = plot_examples([example, example], tmp_path / "retrieval.png")
    assert path is not None
    drawn = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert drawn is not None
    ink = np.argwhere(drawn < 250)
    rows, columns = drawn.shape
    assert ink.min() >= 1
    assert ink[:, 0].max() < rows - 1
    assert ink[:, 1].max() < columns - 1
