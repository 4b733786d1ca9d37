"""Ultrasound-CLIP: two towers, an encoder of the record's labels and their fusion into the text vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from usds.model.fusion import GatedFusion, TagFusion
from usds.model.graph_encoder import BipartiteEncoder, TagEncoder, label_sides
from usds.model.labels import LabelTensors
from usds.model.losses import ContrastiveLoss, LossParts
from usds.model.settings import ModelSettings
from usds.model.towers import ImageSpec, Towers, build_towers
from usds.schemas.errors import UsageError
from usds.taxonomy.similarity import Similarity, similarity
from usds.taxonomy.udt import Taxonomy

__all__ = ["Batch", "Embeddings", "LabelTensors", "UltrasoundCLIP"]


@dataclass(frozen=True, eq=False)
class Batch:
    """One training batch of a rank.

    Attributes
    ----------
    images : float32 (B, 3, H, W)
        Normalised pixels.
    tokens : int64 (B, L)
        Token ids of the captions.
    labels : LabelTensors or None
        Labels of the records.
    captions : int64 (B,) or None
        Equal numbers for equal captions, the same on every rank.
    """

    images: Tensor
    tokens: Tensor
    labels: LabelTensors | None = None
    captions: Tensor | None = None

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return the batch on another device."""
        return Batch(
            self.images.to(device, non_blocking=non_blocking),
            self.tokens.to(device, non_blocking=non_blocking),
            self.labels.to(device, non_blocking=non_blocking) if self.labels is not None else None,
            self.captions.to(device, non_blocking=non_blocking) if self.captions is not None else None,
        )


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of a batch (B, E) and the temperature s = exp(theta).

    ``tagged`` is the text with the record's labels where ``fusion.train`` keeps it apart from the text alone.
    """

    image: Tensor
    text: Tensor
    logit_scale: Tensor
    tagged: Tensor | None = None


class UltrasoundCLIP(nn.Module):
    """The dual encoder of arXiv 2604.01749 and its improved variants.

    Every parameter exists after construction, so an optimizer or a strict load sees all of them.

    Parameters
    ----------
    settings : ModelSettings
        Towers, graph encoder, fusion, loss.
    taxonomy : Taxonomy
        Dimensions and labels of the graph and of the targets.
    prior : Similarity, optional
        Label similarity S; default: made from the taxonomy as the settings say.

    Raises
    ------
    UsageError
        Settings that do not fit the taxonomy, unknown towers, or a prior that needs training labels.
    """

    def __init__(self, settings: ModelSettings, taxonomy: Taxonomy, prior: Similarity | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.taxonomy = taxonomy
        if prior is None:
            chosen = settings.similarity
            prior = similarity(taxonomy, chosen.mode, path=chosen.path, measure=chosen.measure)
        self.prior = prior
        self.towers: Towers = build_towers(settings.towers)
        width = self.towers.width
        self.graph, self.fusion = _label_path(settings, taxonomy, width)
        block = torch.from_numpy(prior.block())
        weights = _dimension_weights(settings.loss.dimension_weights, taxonomy)
        self.criterion = ContrastiveLoss(settings.loss, block, taxonomy.widths, weights)
        self._load_given_weights()
        self.initialise_labels()

    def _load_given_weights(self) -> None:
        """Load what the settings point at (model.weights knows the layouts)."""
        from usds.model.weights import load_tower_weights

        load_tower_weights(self.towers, self.settings.towers)

    @torch.no_grad()
    def initialise_labels(self) -> None:
        """Start the tag embeddings from the text tower's vectors of the label names."""
        if not isinstance(self.graph, TagEncoder):
            return
        names = [label for _, label in self.taxonomy.label_index]
        was_training = self.training
        self.eval()
        self.graph.initialise(self.towers.encode_text(self.tokenize(names)))
        self.train(was_training)

    @property
    def width(self) -> int:
        """Width E of the embedding space."""
        return self.towers.width

    @property
    def logit_scale(self) -> Tensor:
        """s = exp(theta), at most ``loss.logit_scale_max``; a scalar with gradient."""
        return self.towers.clip.logit_scale.reshape(()).clamp(max=self._theta_bound).exp()

    @torch.no_grad()
    def clamp_logit_scale_(self) -> None:
        """Bring theta back below its bound after an optimizer step.

        A value at the bound has no gradient and would never come down again, so it ends one float below.
        """
        below = np.nextafter(np.float32(self._theta_bound), np.float32(-np.inf))
        self.towers.clip.logit_scale.clamp_(max=float(below))

    @property
    def _theta_bound(self) -> float:
        return float(np.float32(math.log(self.settings.loss.logit_scale_max)))

    def image_transform(self, train: bool) -> ImageSpec:
        """Size, mean and standard deviation of the image tower's input."""
        return replace(self.towers.spec, train=train)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts -> int64 (B, L), padded to the batch's longest (a multiple of 8)."""
        return self.towers.tokenize(texts)

    def encode_image(self, images: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) -> unit vectors (B, E), float32."""
        return self.towers.encode_image(images)

    def encode_text(self, tokens: Tensor, labels: LabelTensors | None = None) -> Tensor:
        """Encode captions, with the records' labels where given.

        Parameters
        ----------
        tokens : int64 (B, L)
            From :meth:`tokenize`.
        labels : LabelTensors, optional
            Without labels the text tower's unit vector is returned.

        Returns
        -------
        Tensor (B, E)
            float32; of unit length, except with ``fusion.kind`` "gated" and labels, as published.
        """
        text = self.towers.encode_text(tokens)
        if labels is None or self.graph is None or self.fusion is None:
            return text
        return self.fusion(text, self.graph(labels))

    def forward(self, images: Tensor, tokens: Tensor, labels: LabelTensors | None = None) -> Embeddings:
        """Encode a batch; this is what data-parallel wrappers call."""
        image, how = self.encode_image(images), self.settings.fusion.train
        if labels is None or self.graph is None or self.fusion is None or how == "mixed":
            return Embeddings(image, self.encode_text(tokens, labels), self.logit_scale)
        text = self.encode_text(tokens)
        tagged = self.fusion(text.detach() if how == "beside" else text, self.graph(labels))
        return Embeddings(image, text, self.logit_scale, tagged)

    def loss(self, batch: Batch) -> LossParts:
        """Encode a batch and return its loss against the pairs of all ranks."""
        encoded: Embeddings = self(batch.images, batch.tokens, batch.labels)
        return self.embedding_loss(encoded, batch)

    def embedding_loss(self, encoded: Embeddings, batch: Batch) -> LossParts:
        """Return the loss of vectors that are already computed (gradient cache, wrapped models)."""
        image, scale = encoded.image, encoded.logit_scale
        parts = self.criterion(image, encoded.text, scale, batch.labels, batch.captions)
        if encoded.tagged is None:
            return parts
        if self.settings.fusion.train == "both":
            tagged = self.criterion(image, encoded.tagged, scale, batch.labels, batch.captions)
            return replace(parts, total=(parts.total + tagged.total) / 2)
        # The towers are a fixed frame for the label path, which therefore cannot cost them anything.
        frame = image.detach(), encoded.tagged, scale.detach()
        return replace(parts, total=parts.total + self.criterion(*frame, batch.labels, batch.captions).total)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute tower activations in the backward pass."""
        self.towers.clip.set_grad_checkpointing(enable)


def _label_path(
    settings: ModelSettings, taxonomy: Taxonomy, width: int
) -> tuple[nn.Module | None, nn.Module | None]:
    """Graph encoder and fusion of the settings."""
    graph, fusion = settings.graph, settings.fusion
    if graph.kind == "none":
        return None, None
    sides = label_sides(taxonomy, graph.diagnosis_dimension)
    if graph.kind == "bipartite":
        encoder = BipartiteEncoder(sides, graph.width, width, graph.layers, graph.dropout)
        return encoder, GatedFusion(width, fusion.gate_max)
    for name, heads in (("graph", graph.heads), ("fusion", fusion.heads)):
        if graph.width % heads:
            raise UsageError(f"model.{name}.heads {heads} does not divide model.graph.width {graph.width}")
    tags = TagEncoder(sides, graph.width, graph.layers, graph.heads, graph.dropout)
    return tags, TagFusion(width, graph.width, fusion.heads, fusion.gate_max)


def _dimension_weights(weights: dict[str, float] | None, taxonomy: Taxonomy) -> Tensor | None:
    if weights is None:
        return None
    unknown = sorted(set(weights) - set(taxonomy.dimension_names))
    if unknown:
        raise UsageError(
            f"model.loss.dimension_weights names {unknown[0]!r}, which taxonomy {taxonomy.set_name} lacks; "
            f"it has {', '.join(taxonomy.dimension_names)}"
        )
    return torch.tensor([weights.get(name, 1.0) for name in taxonomy.dimension_names])
