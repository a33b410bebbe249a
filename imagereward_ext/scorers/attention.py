"""BLIP's vision attention by PyTorch's fused kernel: the same sums, without the matrix of all token pairs.

transformers' own class writes that matrix to memory and reads it back for the scale, the softmax and the values.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class FusedAttention(nn.Module):
    """Stands where BlipAttention stood: the same parameters under the same names."""

    def __init__(self, replaced: Any) -> None:
        super().__init__()
        self.heads: int = replaced.num_heads
        self.qkv: nn.Linear = replaced.qkv
        self.projection: nn.Linear = replaced.projection

    def forward(self, hidden_states: Tensor, *unused: object, **also_unused: object) -> tuple[Tensor, None]:
        """Attend: (b, tokens, width) to the same, and no attention map, whatever version asks."""
        batch, tokens, width = hidden_states.shape
        packed: Tensor = self.qkv(hidden_states).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.projection(attended.transpose(1, 2).reshape(batch, tokens, width)), None


def fuse_attention(vision: Any) -> None:
    """Replace the attention of every layer of a BLIP vision tower."""
    for layer in vision.encoder.layers:
        layer.self_attn = FusedAttention(layer.self_attn)
