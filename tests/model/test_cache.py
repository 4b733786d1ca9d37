"""The memory-mapped cache of resized frames."""

from __future__ import annotations

import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
from support.tiny_dataset import make_dataset, specs

from usds.model.cache import decode_rgb, open_cache, shrink
from usds.schemas.errors import ContentError, UsageError


def test_frames_are_kept_small_and_like_the_originals(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", specs(4, 1))
    cache = open_cache(dataset, 56, tmp_path / "cache")
    assert len(cache) == 4
    assert not cache.unreadable
    native = decode_rgb(dataset.read_pixels(["frame00100"])["frame00100"])
    assert native is not None
    small = cache.image("frame00100")
    assert small.shape == (64, 64, 3)
    assert np.abs(small.astype(int) - shrink(native, 64)).mean() < 3


def test_a_changed_dataset_is_cached_anew_and_the_old_cache_goes(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", specs(4, 1))
    first = open_cache(dataset, 32, tmp_path / "cache").path
    seen: list[int] = []
    assert open_cache(dataset, 32, tmp_path / "cache", lambda done, _: seen.append(done)).path == first
    assert not seen
    dataset.remove_task("task0")
    second = open_cache(dataset, 32, tmp_path / "cache")
    assert (len(second), first.exists()) == (0, False)


def test_another_process_maps_the_same_file(tmp_path: Path) -> None:
    cache = open_cache(make_dataset(tmp_path / "dataset", specs(4, 1)), 32, tmp_path / "cache")
    data = pickle.dumps(cache)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).image("frame00000"), cache.image("frame00000"))


def test_bytes_that_are_no_image_are_named_not_fatal(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", specs(4, 1), corrupt=frozenset({"frame00200"}))
    cache = open_cache(dataset, 32, tmp_path / "cache")
    assert cache.unreadable == {"frame00200"}
    with pytest.raises(ContentError, match="frame frame00200 has no readable pixels: `usds audit`"):
        cache.image("frame00200")


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", specs(4, 1))
    (shard,) = dataset.paths("images")
    shard.write_bytes(shard.read_bytes()[:-200])
    with pytest.raises(ContentError, match=r"a shard .* cannot be read \(images/task0.parquet\): restore it"):
        open_cache(dataset, 32, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_a_folder_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"name a folder with room in data\.cache"):
        open_cache(make_dataset(tmp_path / "dataset", specs(4, 1)), 32, tmp_path / "file")


def test_a_killed_build_leaves_nothing_behind(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", specs(4, 1))
    half = tmp_path / "cache" / dataset.info.dataset_id / ".partial-99-32-abc.arrow"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    open_cache(dataset, 32, tmp_path / "cache")
    assert not half.exists()


def test_a_full_disk_names_the_setting(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", specs(40, 1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(
            UsageError, match=r"cannot be written \(\w.*: name a folder with room in data\.cache"
        ):
            open_cache(dataset, 96, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "cache").rglob("*.arrow"))
