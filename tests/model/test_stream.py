"""Batches as functions of (seed, epoch, step)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.tiny_dataset import make_dataset, quick_settings, specs

from usds.model.augment import augment, centre
from usds.model.sampler import record_rng
from usds.model.settings import AugmentSettings
from usds.model.stream import TrainStream, train_loader
from usds.model.towers import build_towers
from usds.model.train_data import load_train_data
from usds.taxonomy.udt import load_taxonomy


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> TrainStream:
    folder = tmp_path_factory.mktemp("stream")
    settings = quick_settings(folder)
    dataset = make_dataset(folder / "dataset", specs(20, 2))
    towers = build_towers(settings.model.towers)
    data = load_train_data(dataset, load_taxonomy("udt"), settings, 32, 1, note=lambda _: None)
    return data.stream(towers, settings, 0, 1)


def equal(one: object, other: object) -> bool:
    a, b = one.__dict__, other.__dict__
    pairs = [(a[k], b[k]) for k in ("pixels", "tokens", "captions", "rows")]
    return all(torch.equal(x, y) for x, y in pairs) and torch.equal(a["labels"].use, b["labels"].use)


def test_a_batch_is_a_function_of_its_step(stream: TrainStream) -> None:
    fresh = replace(stream)
    late = fresh[5]  # asked for first: nothing depends on the batches before
    assert equal(stream[5], late)
    assert not equal(stream[4], late)
    assert late.pixels.shape == (8, 3, 32, 32)
    assert late.pixels.dtype == torch.uint8


def test_two_ranks_make_the_batch_of_one(stream: TrainStream) -> None:
    whole = stream[3]
    left, right = (replace(stream, rank=r, world=2)[3] for r in (0, 1))
    assert torch.equal(torch.cat([left.pixels, right.pixels]), whole.pixels)
    assert torch.equal(torch.cat([left.captions, right.captions]), whole.captions)
    assert torch.equal(torch.cat([left.labels.use, right.labels.use]), whole.labels.use)


@pytest.mark.slow
def test_worker_processes_change_nothing(stream: TrainStream) -> None:
    alone = list(train_loader(stream, 2, 5, 0, False))
    helped = list(train_loader(stream, 2, 5, 2, False))
    assert all(equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_text_is_padded_to_the_longest_of_the_batch(stream: TrainStream) -> None:
    tokens = stream[0].tokens
    assert tokens.shape[1] % 8 == 0
    assert tokens.shape[1] < 32
    assert (tokens[:, -8:] != 0).any()


def test_tag_dropout_hides_about_its_share(stream: TrainStream) -> None:
    half = replace(stream, tag_dropout=0.5)
    seen = torch.cat([half[step].labels.use for step in range(60)]).float().mean()
    assert 0.35 < float(seen) < 0.65
    assert bool(replace(stream, tag_dropout=0.0)[0].labels.use.all())


def test_augmentation_repeats_for_a_frame_and_differs_between_epochs() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    settings = AugmentSettings(speckle=0.1)
    first, again, other = (augment(image, 32, settings, record_rng(0, e, "f", "image")) for e in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_centre_keeps_the_middle() -> None:
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = 255
    assert (centre(image, 20) == 255).all()


def test_mirroring_is_off_unless_asked_for() -> None:
    ramp = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    plain = AugmentSettings(brightness=0.0, contrast=0.0)
    for epoch in range(20):
        out = augment(ramp, 32, plain, record_rng(0, epoch, "f", "image")).astype(int)
        assert out[0, -1, 0] > out[0, 0, 0]
    always = plain.model_copy(update={"flip": 1.0})
    out = augment(ramp, 32, always, record_rng(0, 0, "f", "image")).astype(int)
    assert out[0, -1, 0] < out[0, 0, 0]
