"""How the labels enter the text vector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usds.model.graph_encoder import TagTokens
from usds.model.precision import full_precision

__all__ = ["GatedFusion", "TagFusion"]


class GatedFusion(nn.Module):
    """The published fusion without its dead parameters (arXiv 2604.01749, official code).

    Attention over the single graph vector always has weight one, so its query, key and text projection never
    matter: the value path is what remains. The result is not normalised again, as published.
    """

    def __init__(self, width: int, gate_max: float) -> None:
        super().__init__()
        self.graph_proj = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.alpha = nn.Parameter(torch.tensor(0.05))
        self.gate_max = gate_max

    def forward(self, text: Tensor, graph: Tensor) -> Tensor:
        """Unit text (B, E) and graph vectors (B, E) -> fused text (B, E), not of unit length."""
        with torch.autocast(text.device.type, enabled=False):
            attended = self.out(self.value(self.graph_proj(full_precision(graph))))
            residual = torch.tanh(self.output_proj(attended))
            return self.norm(full_precision(text) + self.alpha.clamp(0.0, self.gate_max) * residual)


class TagFusion(nn.Module):
    """The text attends over its record's tags; the gate cannot leave (0, gate_max); unit length at the end.

    A record without tags keeps its text vector, so training with tag dropout and inference from text alone
    see the same function.
    """

    def __init__(self, text_width: int, tag_width: int, heads: int, gate_max: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(text_width, tag_width)
        self.key_value = nn.Linear(tag_width, 2 * tag_width, bias=False)
        self.norm = nn.LayerNorm(tag_width)
        self.out = nn.Linear(tag_width, text_width)
        self.gate = nn.Parameter(torch.zeros(()))
        self.gate_max = gate_max

    def forward(self, text: Tensor, tags: TagTokens) -> Tensor:
        """Unit text (B, E) and tag tokens (B, L, W) -> unit text (B, E), float32."""
        with torch.autocast(text.device.type, enabled=False):
            text = full_precision(text)
            batch, length, width = tags.states.shape
            some = tags.present.any(1, keepdim=True)
            shape = (batch, length, 2, self.heads, width // self.heads)
            k, v = self.key_value(self.norm(tags.states)).view(shape).permute(2, 0, 3, 1, 4)
            q = self.query(text).view(batch, 1, self.heads, -1).transpose(1, 2)
            # Without tags every slot is opened, so that no softmax is empty; the result is dropped below.
            mask = (tags.present | ~some)[:, None, None, :]
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            residual = F.normalize(self.out(mixed.transpose(1, 2).reshape(batch, width)), dim=-1)
            gate = self.gate_max * torch.sigmoid(self.gate)
            return F.normalize(text + gate * some * residual, dim=-1)
