"""Encoders of a record's labels: the published bipartite convolution in closed form, and tag tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usds.model.labels import LabelTensors
from usds.schemas.errors import UsageError
from usds.taxonomy.graph import diagnosis_dimensions
from usds.taxonomy.udt import Taxonomy

__all__ = ["BipartiteEncoder", "LabelSides", "TagEncoder", "TagTokens", "label_sides"]


@dataclass(frozen=True)
class LabelSides:
    """Which labels are diagnoses and which are attributes, as columns of the multi-hot rows."""

    diagnosis: tuple[int, ...]
    attribute: tuple[int, ...]
    dimension_of: tuple[int, ...]
    parent_of: tuple[int | None, ...]


def label_sides(taxonomy: Taxonomy, diagnosis_dimension: str | None) -> LabelSides:
    """Split the vocabulary of a taxonomy into the two sides of the bipartite graph.

    Raises
    ------
    UsageError
        The taxonomy has no dimension for the diagnosis side.
    """
    names = taxonomy.dimension_names
    side = (diagnosis_dimension,) if diagnosis_dimension is not None else diagnosis_dimensions(taxonomy)
    missing = [name for name in side if name not in names]
    if missing or not side:
        wanted = missing[0] if missing else "with the role finding"
        raise UsageError(
            f"taxonomy {taxonomy.set_name} has no dimension {wanted!r}: "
            f"set model.graph.diagnosis_dimension to one of {', '.join(names)}, or model.graph.kind to 'none'"
        )
    keys = list(taxonomy.label_index)
    parents = [taxonomy.parent_of(*key) for key in keys]
    return LabelSides(
        tuple(i for i, (name, _) in enumerate(keys) if name in side),
        tuple(i for i, (name, _) in enumerate(keys) if name not in side),
        tuple(names.index(name) for name, _ in keys),
        tuple(taxonomy.label_index[parent] if parent is not None else None for parent in parents),
    )


class BipartiteLayer(nn.Module):
    """Both directions of one graph convolution on a complete bipartite graph (arXiv 2604.01749)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.described_by = nn.Linear(width, width)
        self.rev_described_by = nn.Linear(width, width)
        for linear in (self.described_by, self.rev_described_by):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, diagnosis: Tensor, attribute: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
        """Side means (B, W) -> node states (B, W) of both sides; ``ratio`` (B, 1): sqrt(n_d / n_a) or 0.

        The symmetric normalisation of a complete bipartite graph leaves a mean of the other side times the
        square root of the ratio of the sides.
        """
        inverse = torch.where(ratio > 0, 1.0 / ratio.clamp_min(1e-12), 0.0)
        weight, back = self.described_by, self.rev_described_by
        to_attribute = ratio * F.linear(diagnosis, weight.weight) + weight.bias
        to_diagnosis = inverse * F.linear(attribute, back.weight) + back.bias
        return to_diagnosis.relu(), to_attribute.relu()


class BipartiteEncoder(nn.Module):
    """The published graph encoder in closed form: equal to its message passing, without building graphs.

    After the first layer all nodes of a side carry the same vector, so each side is one row a record. Dropout
    is drawn a node in the published code; the mean over n nodes then scales by
    Binomial(n, 1 - p) / (n (1 - p)), which is what is drawn here.
    """

    def __init__(self, sides: LabelSides, width: int, output: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.diag_emb = nn.Embedding(len(sides.diagnosis) + 1, width)
        self.desc_emb = nn.Embedding(len(sides.attribute) + 1, width)
        self.node_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList([BipartiteLayer(width) for _ in range(layers)])
        self.proj = nn.Linear(width, output)
        self.dropout = dropout
        self.register_buffer("diagnosis", torch.tensor(sides.diagnosis), persistent=False)
        self.register_buffer("attribute", torch.tensor(sides.attribute), persistent=False)

    def forward(self, labels: LabelTensors) -> Tensor:
        """Return (B, output) float32 of unit length; zeros where no record of the batch has an edge."""
        with torch.autocast(labels.x.device.type, enabled=False):
            hot = (labels.x > 0).to(self.proj.weight.dtype) * labels.use[:, None]
            diagnosis, n_d = self._side(hot[:, self.get_buffer("diagnosis")], self.diag_emb)
            attribute, n_a = self._side(hot[:, self.get_buffer("attribute")], self.desc_emb)
            ratio = (n_d / n_a.clamp_min(1.0)).sqrt() * (n_a > 0)
            counts = n_d.clamp_min(1.0), n_a.clamp_min(1.0)
            for layer in self.layers:
                diagnosis, attribute = layer(diagnosis, attribute, ratio)
                diagnosis, attribute = self._drop(diagnosis, counts[0]), self._drop(attribute, counts[1])
            out = self.proj(diagnosis + attribute)
            out = out / out.norm(dim=-1, keepdim=True).clamp_min(1e-6)
            return out * (ratio > 0).any()

    def _side(self, hot: Tensor, table: nn.Embedding) -> tuple[Tensor, Tensor]:
        """Mean of the normalised embeddings of a side, and its number of labels; an empty side is unknown."""
        count = hot.sum(1, keepdim=True)
        share = torch.cat([hot / count.clamp_min(1.0), (count == 0).to(count.dtype)], dim=1)
        return share @ self.node_norm(table.weight), count

    def _drop(self, mean: Tensor, count: Tensor) -> Tensor:
        if not self.training or self.dropout == 0.0:
            return mean
        keep = 1.0 - self.dropout
        kept = torch.binomial(count.expand_as(mean).contiguous(), torch.full_like(mean, keep))
        return mean * kept / (count * keep)


@dataclass(frozen=True, eq=False)
class TagTokens:
    """Encoded labels of a batch: states (B, L, W); present (B, L) is False for padding."""

    states: Tensor
    present: Tensor


class TypedAttention(nn.Module):
    """Self-attention over the tags of a record, with weights that depend on the side of a tag.

    Queries, keys and values have one projection a side; a learned bias a head tells the four directions
    (diagnosis or attribute to either) and the self term apart.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norm = nn.LayerNorm(width)
        self.project = nn.ModuleList([nn.Linear(width, 3 * width, bias=False) for _ in range(2)])
        self.relation = nn.Parameter(torch.zeros(5, heads))
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, states: Tensor, side: Tensor, present: Tensor) -> Tensor:
        """States (B, L, W), side (B, L) in {0, 1}, present (B, L) -> (B, L, W)."""
        batch, length, width = states.shape
        normed = self.norm(states)
        both = [project(normed) for project in self.project]
        mixed = torch.where(side[..., None] == 1, both[1], both[0])
        q, k, v = mixed.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        kind = side[:, :, None] * 2 + side[:, None, :]
        own = torch.eye(length, dtype=torch.bool, device=states.device)
        bias = self.relation[kind.masked_fill(own, 4)].permute(0, 3, 1, 2)
        # A tag always sees itself, so that no row of the softmax is empty.
        bias = bias.masked_fill(~(present[:, None, None, :] | own), float("-inf"))
        rate = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=rate)
        states = states + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return states + self.feed(states)


class TagEncoder(nn.Module):
    """One token a label: embedding + its dimension + its parent in the tree, then typed attention.

    A record without a diagnosis gets a learned "unknown" diagnosis token, so that every record with labels
    has a diagnosis side.
    """

    def __init__(self, sides: LabelSides, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        size = len(sides.dimension_of)
        self.label_embedding = nn.Parameter(torch.randn(size, width) * 0.1)
        self.dimension_embedding = nn.Parameter(torch.randn(max(sides.dimension_of) + 1, width) * 0.1)
        self.unknown = nn.Parameter(torch.randn(1, width) * 0.1)
        self.parent = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList([TypedAttention(width, heads, dropout) for _ in range(layers)])
        links = torch.zeros(size, size)
        for child, above in enumerate(sides.parent_of):
            if above is not None:
                links[child, above] = 1.0
        side = torch.zeros(size + 1, dtype=torch.long)
        side[list(sides.diagnosis)] = 1
        side[size] = 1
        self.register_buffer("dimension_of", torch.tensor(sides.dimension_of), persistent=False)
        self.register_buffer("links", links, persistent=False)
        self.register_buffer("unknown_id", torch.tensor([size]), persistent=False)
        self.register_buffer("side", side, persistent=False)
        self.register_buffer("diagnosis", torch.tensor(sides.diagnosis), persistent=False)

    def table(self) -> Tensor:
        """Return the (V + 1, W) start states of all labels; the last row is the unknown diagnosis."""
        label = self.label_embedding + self.dimension_embedding[self.get_buffer("dimension_of")]
        label = label + self.parent(self.get_buffer("links") @ self.label_embedding)
        return self.norm(torch.cat([label, self.unknown]))

    def forward(self, labels: LabelTensors) -> TagTokens:
        """Encode the labels of B records.

        Returns
        -------
        TagTokens
            L = 1 + most labels of a record; slot 0 is the unknown diagnosis. float32.
        """
        with torch.autocast(labels.x.device.type, enabled=False):
            ids, present = self._slots(labels)
            side = self.get_buffer("side")[ids]
            states = F.embedding(ids, self.table())
            for layer in self.layers:
                states = layer(states, side, present)
            return TagTokens(states, present)

    def _slots(self, labels: LabelTensors) -> tuple[Tensor, Tensor]:
        """Ragged label ids -> padded ids (B, L) and which of them count."""
        unknown = self.get_buffer("unknown_id")
        counts = labels.offsets.diff()
        place = torch.arange(labels.longest, device=labels.nodes.device)
        inside = place < counts[:, None]
        # Gathering with a spare last entry needs no wait for the device, as a boolean assignment would.
        spare = torch.cat([labels.nodes, unknown])
        at = (labels.offsets[:-1, None] + place).clamp(max=len(labels.nodes))
        ids = torch.cat([unknown.expand(len(counts), 1), torch.where(inside, spare[at], unknown)], dim=1)
        no_diagnosis = (labels.x[:, self.get_buffer("diagnosis")] > 0).sum(1, keepdim=True) == 0
        present = torch.cat([no_diagnosis & (counts > 0)[:, None], inside], dim=1)
        return ids, present & labels.use[:, None]

    @torch.no_grad()
    def initialise(self, text: Tensor) -> None:
        """Start the label embeddings from text vectors (V, E) of their names.

        The common part of the vectors is removed: what two names share says nothing about either. Another
        width is reached by a fixed semi-orthogonal projection.
        """
        width = self.label_embedding.shape[1]
        vectors = text.float() - text.float().mean(0)
        if vectors.shape[1] != width:
            generator = torch.Generator().manual_seed(0)
            sizes = sorted((vectors.shape[1], width), reverse=True)
            basis = torch.linalg.qr(torch.randn(*sizes, generator=generator))[0].to(vectors)
            vectors = vectors @ (basis if vectors.shape[1] >= width else basis.T)
        scale = vectors.square().mean().sqrt().clamp_min(1e-12)
        self.label_embedding.copy_(vectors / scale * 0.1)
