"""Small towers, the bundled taxonomy and the recorded forward of the published modules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from usds.model.labels import LabelTensors
from usds.model.network import Batch, UltrasoundCLIP
from usds.model.settings import ModelSettings, build_settings
from usds.taxonomy.graph import pack_labels
from usds.taxonomy.udt import Taxonomy, load_taxonomy

DATA = Path(__file__).parents[1] / "data" / "published"

TOWER = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session")
def taxonomy() -> Taxonomy:
    return load_taxonomy("udt")


@pytest.fixture(scope="session")
def published() -> dict[str, Any]:
    """Arrays as tensors, and the label records, of the recorded forward."""
    facts: dict[str, Any] = json.loads((DATA / "forward.json").read_text(encoding="utf-8"))
    with np.load(DATA / "forward.npz") as arrays:
        facts |= {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return facts


@pytest.fixture(scope="session")
def tower_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("towers") / "small-towers.json"
    path.write_text(json.dumps(TOWER), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def settings_of(tower_file: Path) -> Callable[..., ModelSettings]:
    """Model settings of a preset on small towers; keyword arguments change the loss."""

    def build(preset: str = "improved", **loss: Any) -> ModelSettings:
        graph = {"width": 16} if preset == "paper" else {"width": 16, "heads": 2}
        model = {"towers": {"name": str(tower_file)}, "graph": graph, "fusion": {"heads": 2}, "loss": loss}
        return build_settings({"preset": preset, "model": model}).model

    return build


@pytest.fixture
def network(settings_of: Callable[..., ModelSettings], taxonomy: Taxonomy) -> UltrasoundCLIP:
    torch.manual_seed(0)
    return UltrasoundCLIP(settings_of(), taxonomy)


@pytest.fixture(scope="session")
def labels(published: dict[str, Any], taxonomy: Taxonomy) -> LabelTensors:
    return LabelTensors.from_batch(pack_labels(taxonomy, published["labels"]))


@pytest.fixture
def batch(network: UltrasoundCLIP, labels: LabelTensors) -> Batch:
    """Twelve pairs; two of them share a caption."""
    generator = torch.Generator().manual_seed(1)
    texts = [f"frame {i} shows a hypoechoic nodule" for i in range(12)]
    texts[3] = texts[2]
    captions = torch.tensor([0, 1, 2, 2, 4, 5, 6, 7, 8, 9, 10, 11])
    images = torch.randn(12, 3, 16, 16, generator=generator)
    return Batch(images, network.tokenize(texts), labels, captions)
