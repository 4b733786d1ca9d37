"""Targets, graphs and the cost of a step, each against its peer in the same run.

    python -m benchmarks.targets [--batch 256] [--rounds 5] [--step] [--towers ViT-B-32] [--json]

* target: packing + batched similarity against loops over pairs, dimensions and labels;
* graph: packing + closed-form encoder against one PyG graph a record (needs torch_geometric) or, without it,
  one networkx graph a record;
* step (``--step``): what semantic target, graph and fusion, and apart from them the label prompts, add to a
  plain CLIP step. The towers run in chunks of 32 as with the gradient cache, loss and label path on the whole
  batch.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from usds.model.graph_encoder import BipartiteEncoder, label_sides
from usds.model.label_prompts import LabelPrompts
from usds.model.labels import LabelTensors
from usds.model.losses import ContrastiveLoss
from usds.model.network import Batch, Embeddings, UltrasoundCLIP
from usds.model.settings import LossSettings, build_settings
from usds.model.targets import batch_target
from usds.taxonomy.graph import diagnosis_dimensions, pack_labels
from usds.taxonomy.similarity import Similarity, similarity
from usds.taxonomy.udt import Taxonomy, load_taxonomy

Record = dict[str, list[str]]

# Share of records that fill a dimension of US-365K's training side (bxtung-hub/us365k-biomedclip-Re).
COVERAGE = {
    "body_system": 0.9997,
    "organ": 0.9966,
    "diagnosis": 0.4996,
    "shape": 0.0751,
    "margins": 0.0185,
    "echogenicity": 0.1728,
    "internal_characteristics": 0.1641,
    "posterior_acoustics": 0.0236,
    "vascularity": 0.0801,
}
CHUNK = 32


def sample_records(taxonomy: Taxonomy, n: int, seed: int = 0) -> list[Record]:
    """Label records with the coverage of US-365K; a filled dimension has one label, at times two."""
    rng = np.random.default_rng(seed)
    records: list[Record] = []
    for _ in range(n):
        record: Record = {}
        for name in taxonomy.dimension_names:
            if rng.random() < COVERAGE[name]:
                count = 1 + int(rng.random() < 0.15)
                record[name] = [
                    str(word) for word in rng.choice(taxonomy.vocabulary(name), count, replace=False)
                ]
            else:
                record[name] = []
        records.append(record)
    return records


def seconds(work: Callable[[], object], rounds: int, *, warm: bool = True) -> float:
    """Shortest of some rounds: on a shared machine, what the work itself takes."""
    if warm:
        work()
    times: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def pair_loops(records: Sequence[Record], prior: Similarity) -> np.ndarray[Any, Any]:
    """The similarity of a batch as the published code computes it: pair by pair, label by label."""
    places = {name: {label: i for i, label in enumerate(labels)} for name, labels in prior.labels.items()}
    n = len(records)
    out = np.eye(n, dtype=np.float32)
    for i in range(n):
        for j in range(i + 1, n):
            scores: list[float] = []
            for name, matrix in prior.matrices.items():
                known = places[name]
                left = [known[label] for label in records[i][name] if label in known]
                right = [known[label] for label in records[j][name] if label in known]
                values = [matrix[a, b] for a in left for b in right]
                scores.append(float(np.mean(values)) if values else 0.0)
            out[i, j] = out[j, i] = np.mean(scores)
    return out


def target_figures(taxonomy: Taxonomy, batch: int, rounds: int) -> dict[str, float]:
    """Packing + target against the loops."""
    prior = similarity(taxonomy)
    block = torch.from_numpy(prior.block())
    records = sample_records(taxonomy, batch)

    def ours() -> Tensor:
        packed = pack_labels(taxonomy, records)
        return batch_target(torch.from_numpy(packed.x), block, widths=taxonomy.widths)

    loops = pair_loops(records, prior)
    loop_seconds = seconds(lambda: pair_loops(records, prior), 2, warm=False)
    ours_seconds = seconds(ours, rounds)
    return {
        "batch": batch,
        "loops_ms": loop_seconds * 1e3,
        "ours_with_packing_ms": ours_seconds * 1e3,
        "packing_ms": seconds(lambda: pack_labels(taxonomy, records), rounds) * 1e3,
        "speedup": loop_seconds / ours_seconds,
        "largest_difference": float(np.abs(ours().numpy() - loops).max()),
    }


def library_encoder(ours: BipartiteEncoder) -> Callable[[Any], Tensor]:
    """The published message passing from PyG's modules, with the weights of ``ours``.

    HeteroConv over one symmetric-normalised convolution a relation and layer, mean pooling a node type.
    """
    from torch_geometric.nn import HeteroConv, MessagePassing, global_mean_pool
    from torch_geometric.utils import degree

    class SymmetricConv(MessagePassing):  # pyright: ignore[reportUntypedBaseClass]
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__(aggr="add")
            self.linear = linear

        def forward(self, x: tuple[Tensor, Tensor], edge_index: Tensor) -> Tensor:
            source, target = edge_index
            out_degree = degree(source, len(x[0])).clamp_min(1)
            in_degree = degree(target, len(x[1])).clamp_min(1)
            weight = (out_degree[source] * in_degree[target]).rsqrt()
            summed = self.propagate(edge_index, x=x, weight=weight, size=(len(x[0]), len(x[1])))
            return self.linear(summed)

        def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
            return weight[:, None] * x_j

    forward = ("diagnosis", "described_by", "attribute")
    back = ("attribute", "rev_described_by", "diagnosis")
    convolutions = [
        HeteroConv({forward: SymmetricConv(layer.described_by), back: SymmetricConv(layer.rev_described_by)})
        for layer in ours.layers
    ]

    def encode(data: Any) -> Tensor:
        states = {
            "diagnosis": ours.node_norm(ours.diag_emb(data["diagnosis"].tid)),
            "attribute": ours.node_norm(ours.desc_emb(data["attribute"].tid)),
        }
        for convolution in convolutions:
            states = {kind: x.relu() for kind, x in convolution(states, data.edge_index_dict).items()}
        pooled = [global_mean_pool(x, data[kind].batch, data.num_graphs) for kind, x in states.items()]
        out = ours.proj(sum(pooled))
        return out / out.norm(dim=-1, keepdim=True).clamp_min(1e-6)

    return encode


def library_graphs(taxonomy: Taxonomy, records: Sequence[Record]) -> Any:
    """One PyG graph a record, then one batch of them."""
    from torch_geometric.data import Batch as GraphBatch
    from torch_geometric.data import HeteroData

    side = diagnosis_dimensions(taxonomy)
    keys = list(taxonomy.label_index)
    sides = label_sides(taxonomy, None)
    place = {keys[c]: i for group in (sides.diagnosis, sides.attribute) for i, c in enumerate(group)}
    graphs: list[Any] = []
    for record in records:
        ids = {
            True: sorted({place[n, w] for n in side for w in record[n]}),
            False: sorted({place[n, w] for n in record if n not in side for w in record[n]}),
        }
        left, right = ids[True], ids[False]
        pairs = [(i, j) for i in range(len(left)) for j in range(len(right))]
        data: Any = HeteroData()
        data["diagnosis"].tid = torch.tensor(left or [len(sides.diagnosis)])
        data["diagnosis"].num_nodes = max(len(left), 1)
        data["attribute"].tid = torch.tensor(right or [len(sides.attribute)])
        data["attribute"].num_nodes = max(len(right), 1)
        edges = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T.contiguous()
        data["diagnosis", "described_by", "attribute"].edge_index = edges
        data["attribute", "rev_described_by", "diagnosis"].edge_index = edges.flip(0)
        graphs.append(data)
    return GraphBatch.from_data_list(graphs)


def networkx_graphs(records: Sequence[Record], taxonomy: Taxonomy) -> list[Any]:
    """One networkx graph a record, the peer where PyG is not installed."""
    import networkx as nx

    side = diagnosis_dimensions(taxonomy)
    graphs: list[Any] = []
    for record in records:
        graph: Any = nx.DiGraph()
        left = [(n, w) for n in side for w in record[n]]
        right = [(n, w) for n in record if n not in side for w in record[n]]
        graph.add_nodes_from(left, kind="diagnosis")
        graph.add_nodes_from(right, kind="attribute")
        for a in left:
            for b in right:
                graph.add_edge(a, b, relation="described_by")
                graph.add_edge(b, a, relation="rev_described_by")
        graphs.append(graph)
    return graphs


def graph_figures(taxonomy: Taxonomy, batch: int, rounds: int) -> dict[str, Any]:
    """Build and encode (forward and backward) against one graph a record."""
    records = sample_records(taxonomy, batch)
    torch.manual_seed(0)
    encoder = BipartiteEncoder(label_sides(taxonomy, None), 128, 512, 2, 0.1).eval()

    def build() -> LabelTensors:
        return LabelTensors.from_batch(pack_labels(taxonomy, records))

    labels = build()
    build_ms = seconds(build, rounds) * 1e3
    figures: dict[str, Any] = {"batch": batch, "build_ms": build_ms}
    figures["encode_ms"] = seconds(lambda: encoder(labels).sum().backward(), rounds) * 1e3
    if importlib.util.find_spec("torch_geometric") is None:
        peer = seconds(lambda: networkx_graphs(records, taxonomy), rounds) * 1e3
        return figures | {"peer": "networkx", "peer_build_ms": peer, "build_speedup": peer / build_ms}
    library = library_encoder(encoder)
    graphs = library_graphs(taxonomy, records)
    peer = seconds(lambda: library_graphs(taxonomy, records), max(rounds // 2, 1)) * 1e3
    peer_encode = seconds(lambda: library(graphs).sum().backward(), rounds) * 1e3
    each = [library_graphs(taxonomy, [record]) for record in records]
    peer_each = seconds(lambda: [library(graph).sum().backward() for graph in each], 1, warm=False) * 1e3
    with torch.no_grad():
        difference = float((library(graphs) - encoder(labels)).abs().max())
    return figures | {
        "peer": "torch_geometric",
        "peer_build_ms": peer,
        "peer_encode_ms": peer_encode,
        "peer_encode_one_by_one_ms": peer_each,
        "build_speedup": peer / build_ms,
        "encode_speedup": peer_encode / figures["encode_ms"],
        "encode_speedup_one_by_one": peer_each / figures["encode_ms"],
        "largest_difference": difference,
    }


def step_figures(taxonomy: Taxonomy, batch: int, rounds: int, towers: str) -> dict[str, Any]:
    """Time of a plain CLIP step, and what each preset's label path and loss add to it."""
    figures: dict[str, Any] = {"batch": batch, "towers": towers, "tokens": 32, "chunk": CHUNK}
    plain = build_settings({"preset": "improved", "model": {"towers": {"name": towers}}})
    model = UltrasoundCLIP(plain.model, taxonomy)
    images = torch.randn(batch, 3, model.towers.spec.size, model.towers.spec.size)
    tokens = torch.randint(1, 40_000, (batch, 32))
    tokens[:, 24] = 49_407
    labels = LabelTensors.from_batch(pack_labels(taxonomy, sample_records(taxonomy, batch)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    tower_seconds = seconds(lambda: tower_step(model, images, tokens, optimizer), rounds, warm=False)
    image = torch.nn.functional.normalize(torch.randn(batch, model.width), dim=1).requires_grad_()
    text = torch.nn.functional.normalize(torch.randn(batch, model.width), dim=1).requires_grad_()
    scale = torch.tensor(14.3, requires_grad=True)
    block = torch.from_numpy(similarity(taxonomy).block())
    clip = ContrastiveLoss(LossSettings(kind="clip"), block, taxonomy.widths)

    def clip_only() -> None:
        clip(image, text, scale).total.backward()

    clip_seconds = seconds(clip_only, 20)
    plain_seconds = tower_seconds + clip_seconds
    figures |= {"plain_step_s": plain_seconds, "clip_loss_ms": clip_seconds * 1e3}
    captions = torch.arange(batch) // 2
    for name in ("improved", "paper"):
        graph, fusion, criterion = label_path(name, taxonomy, model.width, block)

        def whole(graph: Any = graph, fusion: Any = fusion, criterion: Any = criterion) -> None:
            fused = fusion(text, graph(labels))
            criterion(image, fused, scale, labels, captions).total.backward()

        added = seconds(whole, 20) - clip_seconds
        figures[name] = {"added_ms": added * 1e3, "share_of_plain_step": added / plain_seconds}
    prompts, encoded = LabelPrompts(model, images.device), Embeddings(image, text, scale)
    asked = seconds(lambda: prompts.loss(encoded, labels, 0).backward(), rounds)
    figures["label_prompts"] = {"added_ms": asked * 1e3, "share_of_plain_step": asked / plain_seconds}
    figures["packing_512_ms"] = packing_ms(taxonomy, 512)
    return figures


def label_path(
    name: str, taxonomy: Taxonomy, width: int, block: Tensor
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Graph encoder, fusion and loss of a preset, for any width of the towers."""
    from usds.model.network import _label_path  # pyright: ignore[reportPrivateUsage]

    settings = build_settings({"preset": name}).model
    graph, fusion = _label_path(settings, taxonomy, width)
    assert graph is not None
    assert fusion is not None
    return graph, fusion, ContrastiveLoss(settings.loss, block, taxonomy.widths)


def tower_step(
    model: UltrasoundCLIP, images: Tensor, tokens: Tensor, optimizer: torch.optim.Optimizer
) -> None:
    """Forward and backward of both towers over the batch, and the optimizer."""
    optimizer.zero_grad()
    for start in range(0, len(images), CHUNK):
        part = Batch(images[start : start + CHUNK], tokens[start : start + CHUNK])
        (model.encode_image(part.images) * model.encode_text(part.tokens)).sum().backward()
    optimizer.step()


def packing_ms(taxonomy: Taxonomy, batch: int) -> float:
    """Host time to pack the labels of a batch."""
    records = sample_records(taxonomy, batch)
    return seconds(lambda: pack_labels(taxonomy, records), 20) * 1e3


def lines(figures: Mapping[str, Any], lead: str = "") -> list[str]:
    """Figures as readable lines."""
    out: list[str] = []
    for key, value in figures.items():
        if isinstance(value, Mapping):
            out += lines(value, f"{lead}{key}.")
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            out.append(f"{lead}{key:<28} {shown}")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step", action="store_true", help="also the training step (minutes on a CPU)")
    parser.add_argument("--towers", default="ViT-B-32")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    taxonomy = load_taxonomy("udt")
    figures: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "target": target_figures(taxonomy, options.batch, options.rounds),
        "graph": graph_figures(taxonomy, options.batch, options.rounds),
    }
    if options.step:
        figures["step"] = step_figures(taxonomy, options.batch, max(options.rounds // 2, 1), options.towers)
    print(json.dumps(figures) if options.json else "\n".join(lines(figures)))


if __name__ == "__main__":
    main()
