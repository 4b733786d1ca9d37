"""One rank of the two-process test: loss and gradients of a fixed batch, saved by rank 0.

The test calls :func:`results` itself for the run without ranks.
"""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from usds.model.label_prompts import LabelPrompts
from usds.model.labels import LabelTensors
from usds.model.network import Batch, UltrasoundCLIP
from usds.model.settings import build_settings
from usds.taxonomy.graph import pack_labels
from usds.taxonomy.udt import load_taxonomy

RECORDS = Path(__file__).parents[1] / "data" / "published" / "forward.json"
OBJECTIVES = {
    "paper": {"kind": "paper", "target": "paper"},
    "multi_positive": {"kind": "multi_positive", "mix": 0.2},
    "chunked": {"kind": "multi_positive", "mix": 0.2, "chunk_rows": 4},
    "prompts": {"kind": "multi_positive", "mix": 0.2, "prompt_weight": 0.5},
}
TOWER = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


# In float64 the order of a sum no longer matters, so what differs is the mathematics; float32 is what runs use.
PRECISIONS = {"double": torch.float64, "single": torch.float32}


def network(objective: str, folder: Path, rank: int, precision: torch.dtype) -> UltrasoundCLIP:
    path = folder / f"towers-{rank}.json"
    path.write_text(json.dumps(TOWER), encoding="utf-8")
    model = {
        "towers": {"name": str(path)},
        "graph": {"width": 16, "heads": 2},
        "fusion": {"heads": 2},
        "loss": OBJECTIVES[objective],
    }
    torch.manual_seed(0)
    settings = build_settings({"preset": "small", "model": model}).model
    return UltrasoundCLIP(settings, load_taxonomy("udt")).to(precision)


def rows_of(rank: int, world: int, model: UltrasoundCLIP, precision: torch.dtype) -> Batch:
    records = json.loads(RECORDS.read_text(encoding="utf-8"))["labels"]
    labels = LabelTensors.from_batch(pack_labels(model.taxonomy, records))
    labels.use[3] = False
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(12, 3, 16, 16, generator=generator, dtype=torch.float64).to(precision)
    tokens = model.towers.tokenize_full([f"frame {i // 2} of a nodule" for i in range(12)])
    each = 12 // world
    part = slice(rank * each, (rank + 1) * each)
    return Batch(
        images[part], tokens[part], labels.slice(part.start, part.stop), (torch.arange(12) // 2)[part]
    )


def results(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Loss and gradients of every objective in both precisions."""
    found: dict[str, Any] = {}
    for (name, precision), objective in product(PRECISIONS.items(), OBJECTIVES):
        model = network(objective, folder, rank, precision)
        batch = rows_of(rank, world, model, precision)
        wrapped: Any = DistributedDataParallel(model) if world > 1 else model
        encoded = wrapped(batch.images, batch.tokens, batch.labels)
        total = model.embedding_loss(encoded, batch).total
        if objective == "prompts":
            assert batch.labels is not None
            total = total + LabelPrompts(model, torch.device("cpu")).loss(encoded, batch.labels, 0)
        total.backward()
        value = total.detach().clone()
        if world > 1:
            dist.all_reduce(value)
        found[f"{name}/{objective}/loss"] = value / world
        for part, parameter in model.named_parameters():
            assert parameter.grad is not None, part
            found[f"{name}/{objective}/{part}"] = parameter.grad.clone()
    return found


def main() -> None:
    rank, world, store, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    found = results(rank, world, folder)
    if rank == 0:
        torch.save(found, folder / "ranks.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
