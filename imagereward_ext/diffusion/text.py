"""CLIP text encoders under one shape for every version of transformers, and prompts as conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imagereward_ext.diffusion.model_config import TextConfig
from imagereward_ext.diffusion.tokenizer import Tokenizer


@dataclass(frozen=True)
class Conditioning:
    """What the UNet hears of the prompts."""

    states: Tensor
    """(b, tokens, width)"""
    pooled: Tensor | None = None
    """(b, width), SDXL only"""

    def __len__(self) -> int:
        return len(self.states)

    def rows(self, index: slice | Sequence[int]) -> Conditioning:
        """Pick some of the prompts."""
        return Conditioning(self.states[index], None if self.pooled is None else self.pooled[index])

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Conditioning:
        """Move to a device (and change the type)."""
        pooled = None if self.pooled is None else self.pooled.to(device, dtype)
        return Conditioning(self.states.to(device, dtype), pooled)


def concatenate(parts: Sequence[Conditioning]) -> Conditioning:
    """Put several batches behind one another."""
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Conditioning(torch.cat([part.states for part in parts]), torch.cat(pooled) if pooled else None)


class TextEncoder(nn.Module):
    """One CLIP text tower.

    The tower always hangs under ``text_model``, whatever the version of transformers (5 dropped that level from
    ``CLIPTextModel``, but not from the class with a projection that is used here), so tensor and LoRA names are
    the same everywhere.
    """

    def __init__(self, config: TextConfig, end: int) -> None:
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection

        super().__init__()
        # Not named config: peft would take it for its own.
        self.shape = config
        clip = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=config.vocabulary,
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                max_position_embeddings=config.positions,
                hidden_act=config.activation,
                projection_dim=config.projection or 1,
                bos_token_id=end - 1,
                eos_token_id=end,
                pad_token_id=end,
            )
        )
        self.text_model: Any = clip.text_model
        self.text_projection: Any = clip.text_projection if config.projection else None

    def forward(self, ids: Tensor, skip: int = 0) -> tuple[Tensor, Tensor | None]:
        """Encode (b, tokens) ids; ``skip`` leaves out that many of the last layers ("clip skip" minus one).

        Where one is left out anyway, a skip of one is no more than that, as in the WebUIs.
        """
        out = self.text_model(input_ids=ids, output_hidden_states=True)
        if self.shape.output == "penultimate":
            states = out.hidden_states[-max(2, 1 + skip)]
        elif skip:
            states = self.text_model.final_layer_norm(out.hidden_states[-1 - skip])
        else:
            states = out.last_hidden_state
        pooled = None if self.text_projection is None else self.text_projection(out.pooler_output)
        return states, pooled


def encode(
    encoders: Sequence[TextEncoder], tokenizer: Tokenizer, prompts: Sequence[str], skip: int
) -> Conditioning:
    """Encode prompts with every tower: states side by side, pooled from the last tower that has one."""
    states, pooled = [], None
    for encoder in encoders:
        config = encoder.shape
        pad = tokenizer.end if config.pad == "end" else 0
        windows = [tokenizer.window(prompt, config.positions, pad) for prompt in prompts]
        ids = torch.tensor(windows, device=next(encoder.parameters()).device)
        state, vector = encoder(ids, skip)
        states.append(state)
        pooled = vector if vector is not None else pooled
    return Conditioning(torch.cat(states, dim=-1), pooled)
