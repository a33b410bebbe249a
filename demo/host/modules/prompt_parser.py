"""Attention weights in prompts, `(more:1.3)` and `[less]`, and prompts as the text encoder's hidden states.

Prompt editing `[a:b:n]`, `BREAK` and `AND` are read as plain text: the demo model does not need them.
"""

from __future__ import annotations

import re
from typing import Any

import torch

TOKEN = re.compile(r"\\[()\[\]\\]|[()\[\]]|:\s*[+-]?\d*\.?\d+\s*\)|[^\\()\[\]:]+|:|\\")
STRONGER, WEAKER = 1.1, 1 / 1.1


def parse_prompt_attention(text: str) -> list[list[Any]]:
    """`a (b:1.5) [c]` -> [["a ", 1.0], ["b", 1.5], [" ", 1.0], ["c", 0.909...]]."""
    pieces: list[list[Any]] = []
    round_open: list[int] = []
    square_open: list[int] = []

    def scale(start: int, factor: float) -> None:
        for piece in pieces[start:]:
            piece[1] *= factor

    for token in TOKEN.findall(text):
        if token == "(":
            round_open.append(len(pieces))
        elif token == "[":
            square_open.append(len(pieces))
        elif token.startswith(":") and token.endswith(")") and round_open:
            scale(round_open.pop(), float(token[1:-1]))
        elif token == ")" and round_open:
            scale(round_open.pop(), STRONGER)
        elif token == "]" and square_open:
            scale(square_open.pop(), WEAKER)
        else:
            pieces.append([token[1:] if len(token) == 2 and token[0] == "\\" else token, 1.0])
    for start in round_open:  # a bracket that never closes reaches to the end
        scale(start, STRONGER)
    for start in square_open:
        scale(start, WEAKER)
    return _joined(pieces) or [["", 1.0]]


def _joined(pieces: list[list[Any]]) -> list[list[Any]]:
    result: list[list[Any]] = []
    for text, weight in pieces:
        if result and result[-1][1] == weight:
            result[-1][0] += text
        else:
            result.append([text, weight])
    return result


def encode(model: Any, prompts: list[str], clip_skip: int = 1) -> torch.Tensor:
    """Prompts as (b, tokens, width); the weights scale the states, whose mean is then put back."""
    ids, weights = zip(*(_tokens(model.tokenizer, prompt) for prompt in prompts), strict=True)
    out = model.cond_stage_model(torch.tensor(ids, device=model.device), output_hidden_states=True)
    states = out.last_hidden_state
    if clip_skip > 1:
        states = model.cond_stage_model.text_model.final_layer_norm(out.hidden_states[-clip_skip])
    scaled = states * torch.tensor(weights, device=model.device, dtype=states.dtype)[:, :, None]
    same = states.mean(dim=(1, 2), keepdim=True) / scaled.mean(dim=(1, 2), keepdim=True)
    return torch.where(torch.isfinite(same), scaled * same, scaled)


def _tokens(tokenizer: Any, prompt: str) -> tuple[list[int], list[float]]:
    """One prompt as ids and weights of the tokenizer's full length; what does not fit is cut off."""
    ids: list[int] = []
    weights: list[float] = []
    for text, weight in parse_prompt_attention(prompt):
        piece = tokenizer(text, add_special_tokens=False).input_ids
        ids += piece
        weights += [weight] * len(piece)
    room = tokenizer.model_max_length - 2
    ids, weights = ids[:room], weights[:room]
    padding = room - len(ids)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return (
        [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *[pad] * padding],
        [1.0, *weights, 1.0, *[1.0] * padding],
    )
