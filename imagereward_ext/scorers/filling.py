"""Putting a file's tensors into a network that was built without memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from imagereward_ext.errors import ScoringError
from imagereward_ext.scorers.placement import Placement
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
    """
    state = {}
    for name, _ in network.named_parameters():
        dtype = torch.float32 if name.startswith(single_precision) else placement.dtype
        state[name] = file[rename(name)].to(placement.device, dtype)
    network.load_state_dict(state, strict=False, assign=True)
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name != "position_ids":
                raise ScoringError(f"transformers has a buffer {name!r} that this version does not know")
            module._buffers[name] = torch.arange(buffer.shape[-1], device=placement.device).expand(
                buffer.shape
            )
    network.eval().requires_grad_(False)
