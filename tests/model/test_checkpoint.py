"""Checkpoints: whole or absent, refused where they do not belong, best and last kept."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from usds.model.checkpoint import Checkpoint, CheckpointStore, find_checkpoint, identity_of, load_model
from usds.model.network import UltrasoundCLIP
from usds.model.settings import ModelSettings
from usds.schemas.errors import ContentError, UsageError
from usds.taxonomy.similarity import similarity
from usds.taxonomy.udt import Taxonomy, load_taxonomy

OTHER_TAXONOMY = """\
id: other
version: "1"
title: Other
dimensions:
  - name: diagnosis
    title: Diagnosis
    role: finding
    prompts: ["an ultrasound image of a {label}"]
    labels: [{name: cyst}, {name: mass}]
  - name: shape
    title: Shape
    prompts: ["{label} shape"]
    labels: [{name: round}, {name: oval}]
"""


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "run" / "checkpoints", keep_last=2)


def save(store: CheckpointStore, model: UltrasoundCLIP, step: int, score: float | None = None) -> Path:
    state = {"rng": torch.get_rng_state(), "optimizer": {"lr": 0.1, "steps": [step]}, "epoch": 1}
    checkpoint = Checkpoint(step, model.state_dict(), None, state, {"loss": 1.5})
    return store.save(checkpoint, model, identity_of(model, settings="s", data="d"), score=score)


def test_what_is_saved_comes_back(store: CheckpointStore, network: UltrasoundCLIP) -> None:
    path = save(store, network, 3)
    loaded = store.load(path, identity_of(network, settings="s", data="d"), resume=True)
    assert loaded.step == 3
    assert loaded.metrics == {"loss": 1.5}
    assert loaded.state["optimizer"] == {"lr": 0.1, "steps": [3]}
    assert torch.equal(loaded.state["rng"], torch.get_rng_state())
    assert all(torch.equal(loaded.model[name], value) for name, value in network.state_dict().items())


def test_model_is_rebuilt_from_the_run_alone(store: CheckpointStore, network: UltrasoundCLIP) -> None:
    save(store, network, 1)
    tokens = network.tokenize(["a cyst of the liver"])
    with torch.no_grad():
        expected = network.eval().encode_text(tokens)
        rebuilt = load_model(store.folder.parent)
        assert torch.equal(rebuilt.encode_text(tokens), expected)
    assert rebuilt.taxonomy == network.taxonomy
    assert not rebuilt.training


def test_averaged_weights_are_preferred(store: CheckpointStore, network: UltrasoundCLIP) -> None:
    average = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    store.save(Checkpoint(1, network.state_dict(), average), network, identity_of(network))
    assert float(load_model(store.folder).towers.clip.logit_scale) == 0
    assert float(load_model(store.folder, average=False).towers.clip.logit_scale) > 1


def test_last_ones_and_the_best_stay(store: CheckpointStore, network: UltrasoundCLIP) -> None:
    for step, score in enumerate([0.1, 0.9, 0.3, 0.2, 0.4]):
        save(store, network, step, score)
    assert [path.name for path in store.paths()] == ["step-00000001", "step-00000003", "step-00000004"]
    assert store.best() == store.paths()[0]
    assert store.latest() == store.paths()[-1]
    assert find_checkpoint(store.folder.parent) == store.best()


def test_saving_a_step_again_replaces_it(store: CheckpointStore, network: UltrasoundCLIP) -> None:
    save(store, network, 1, 0.1)
    save(store, network, 1, 0.7)
    assert [path.name for path in store.folder.iterdir()] == ["step-00000001.1"]
    save(store, network, 1, 0.5)
    save(store, network, 2, 0.1)
    assert [path.name for path in store.paths()] == ["step-00000001.2", "step-00000002"]
    assert find_checkpoint(store.folder) == store.paths()[0]


def test_unfinished_folders_do_not_count(store: CheckpointStore, network: UltrasoundCLIP) -> None:
    save(store, network, 1)
    half = store.folder / ".partial-99-step-00000002"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    assert [path.name for path in store.paths()] == ["step-00000001"]
    save(store, network, 3)
    assert not half.exists()


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_loadable_checkpoint(
    tmp_path: Path, store: CheckpointStore, network: UltrasoundCLIP
) -> None:
    """A real process saves without pause and is killed; what lies there loads."""
    save(store, network, 0)
    script = tmp_path / "saver.py"
    script.write_text(
        "import sys\nfrom dataclasses import replace\nfrom pathlib import Path\n"
        "from usds.model.checkpoint import *\n"
        "folder = Path(sys.argv[1])\nmodel = load_model(folder)\nstore = CheckpointStore(folder, 2)\n"
        "first = store.load(find_checkpoint(folder))\nprint('ready', flush=True)\n"
        "for step in range(1, 10**6):\n"
        "    store.save(replace(first, step=step), model, identity_of(model), score=-step)\n"
    )
    for delay in (0.15, 0.4):
        command = [sys.executable, str(script), str(store.folder)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        latest = store.latest()
        assert latest is not None
        store.load(latest, identity_of(network))
        for path in store.paths():
            store.load(path)


def test_checkpoint_of_another_taxonomy_is_refused(
    store: CheckpointStore,
    network: UltrasoundCLIP,
    tmp_path: Path,
    settings_of: Callable[..., ModelSettings],
) -> None:
    path = save(store, network, 1)
    file = tmp_path / "other.yaml"
    file.write_text(OTHER_TAXONOMY, encoding="utf-8")
    other = UltrasoundCLIP(settings_of(), load_taxonomy(file))
    with pytest.raises(ContentError, match=r"was trained with taxonomy udt-.*, not other-.*--taxonomy RUN"):
        store.load(path, identity_of(other))


def test_checkpoint_of_another_architecture_is_refused(
    store: CheckpointStore,
    network: UltrasoundCLIP,
    taxonomy: Taxonomy,
    settings_of: Callable[..., ModelSettings],
) -> None:
    path = save(store, network, 1)
    other = UltrasoundCLIP(settings_of("paper"), taxonomy)
    with pytest.raises(ContentError, match=r"another architecture: it lacks fusion.alpha and \d+ more"):
        store.load(path, identity_of(other))
    identity = identity_of(network)
    wider = {**identity.architecture, "fusion.query.bias": [99]}
    with pytest.raises(ContentError, match=r"fusion.query.bias is \[16\] there and \[99\] here"):
        store.load(path, replace(identity, architecture=wider))


def test_other_similarity_data_and_settings_are_refused(
    store: CheckpointStore, network: UltrasoundCLIP, taxonomy: Taxonomy
) -> None:
    path = save(store, network, 1)
    identity = identity_of(network, settings="s", data="d")
    flat = similarity(taxonomy, "identity").hash
    with pytest.raises(ContentError, match="another label similarity"):
        store.load(path, replace(identity, similarity=flat))
    with pytest.raises(ContentError, match="dataset or the split has changed"):
        store.load(path, replace(identity, data="new"), resume=True)
    with pytest.raises(ContentError, match="the settings differ"):
        store.load(path, replace(identity, settings="new"), resume=True)
    store.load(path, replace(identity, settings="new", data="new"))


def test_damaged_and_missing_checkpoints_are_named(
    store: CheckpointStore, network: UltrasoundCLIP, tmp_path: Path
) -> None:
    path = save(store, network, 1)
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ContentError, match="step-00000001 is damaged"):
        store.load(path)
    with pytest.raises(UsageError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("numbers", [10, 2_500_000])
def test_a_full_disk_leaves_the_checkpoints_before(
    store: CheckpointStore, network: UltrasoundCLIP, numbers: int
) -> None:
    """Files may not grow beyond 8 MB: first the weights, then the optimizer's state do not fit."""
    path = save(store, network, 1)
    most = 1_000_000 if numbers == 10 else 8_000_000
    checkpoint = Checkpoint(2, network.state_dict(), None, {"moments": torch.zeros(numbers)}, {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        with pytest.raises(
            ContentError, match=r"step-00000002 could not be written .*: make room, then go on"
        ):
            store.save(checkpoint, network, identity_of(network))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.paths() == [path]
    assert not list(store.folder.glob(".partial-*"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.json", b"{"),
        ("model.json", None),
        ("similarity.npz", b"PK\x03\x04"),
        ("state.pt", b"{}"),
        ("meta.json", b"{"),
        ("taxonomy.yaml", OTHER_TAXONOMY.encode()),
        ("ema.safetensors", b"{}"),
    ],
)
def test_any_damaged_file_of_a_checkpoint_is_said_in_words(
    store: CheckpointStore, network: UltrasoundCLIP, name: str, content: bytes | None
) -> None:
    path = save(store, network, 1)
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(content)
    with pytest.raises(ContentError, match=r"is damaged.*copy|not a saved similarity"):
        load_model(path)
