"""Putting a file's tensors into a network that was built without memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn

from imagereward_ext.compute import Placement
from imagereward_ext.errors import ScoringError
from imagereward_ext.weights.tensors import Shape, TensorFile

Rename = Callable[[str], str]


def published_shapes(network: nn.Module, rename: Rename = str) -> dict[str, Shape]:
    """Name the tensors a file must hold, and their shapes."""
    # Parameters only: the one buffer, the position numbers, is in some versions' state and not in others'.
    return {rename(name): tuple(parameter.shape) for name, parameter in network.named_parameters()}


def fill(
    network: nn.Module,
    file: TensorFile,
    placement: Placement,
    rename: Rename = str,
    single_precision: tuple[str, ...] = (),
) -> None:
    """Replace the meta tensors by the file's, each converted and moved by itself, and stop all gradients.

    Whatever begins with one of the `single_precision` names stays in that, wherever the rest computes.

    In bf16 only the matrix products are: its eight bits are too few for the stream that all layers add to, and whole
    networks of them reorder close scores. The products are where the time goes.
    """
    mixed = placement.dtype == torch.bfloat16
    products = {
        f"{name}.{parameter}"
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
        for parameter, _ in module.named_parameters()
    }
    whole = placement.dtype == torch.float32
    state = {}
    for name, _ in network.named_parameters():
        exact = whole or name.startswith(single_precision) or (mixed and name not in products)
        dtype = torch.float32 if exact else placement.dtype
        # One tensor left in the mapped file would keep what was read around it in memory.
        state[name] = file[rename(name)].to(placement.device, dtype, copy=not whole)
    network.load_state_dict(state, strict=False, assign=True)
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name != "position_ids":
                raise ScoringError(f"transformers has a buffer {name!r} that this version does not know")
            module._buffers[name] = torch.arange(buffer.shape[-1], device=placement.device).expand(
                buffer.shape
            )
    network.eval().requires_grad_(False)
    if mixed:
        for name, part in network.named_children():
            if not f"{name}.".startswith(single_precision):
                _multiply_in_bf16(part)


def _multiply_in_bf16(part: nn.Module) -> None:
    """Let a part's forward pass choose bf16 for its products, and single precision for all that lies between."""
    forward = part.forward

    @wraps(forward)
    def mixed(*arguments: Any, **named: Any) -> Any:
        with torch.autocast(next(part.parameters()).device.type, torch.bfloat16):  # it may have moved since
            return forward(*arguments, **named)

    part.forward = mixed
