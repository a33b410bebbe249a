"""LoRA layers inside the frozen networks: put in, switched off for the base's prediction, merged back.

peft's own layers are used directly. The adapter methods that diffusers' models carry have the same names, but
they are switched off under the transformers that A1111 pins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from imagereward_ext.diffusion.checkpoint import CheckpointError
from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.diffusion.requirements import require_training_packages

Targets = Literal["attention", "attention+feed-forward"]
TARGETS: tuple[Targets, ...] = get_args(Targets)

ADAPTER = "default"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
TEXT_FEED_FORWARD = ("mlp.fc1", "mlp.fc2")


@dataclass(frozen=True)
class LoraShape:
    """How large the trained part is and where it sits."""

    rank: int = 8
    alpha: float = 8.0
    targets: Targets = "attention+feed-forward"
    text_encoder: bool = False


def target_modules(shape: LoraShape) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the endings of the module names that get a LoRA layer, in the UNet and in the text encoders."""
    wide = shape.targets == "attention+feed-forward"
    unet = ATTENTION + (FEED_FORWARD if wide else ())
    text = TEXT_ATTENTION + (TEXT_FEED_FORWARD if wide else ())
    return unet, text if shape.text_encoder else ()


def inject(parts: DiffusionParts, shape: LoraShape, seed: int) -> None:
    """Put LoRA layers in. They start as nothing (B is zero), train in float32, and everything else is frozen."""
    require_training_packages()
    from peft import LoraConfig, inject_adapter_in_model

    unet, text = target_modules(shape)
    jobs: list[tuple[nn.Module, tuple[str, ...]]] = [(parts.unet, unet)]
    if text:
        jobs += [(encoder, text) for encoder in parts.text_encoders]
    with torch.random.fork_rng(devices=[]):  # peft draws A from the global stream
        torch.manual_seed(seed)
        for module, targets in jobs:
            config = LoraConfig(
                r=shape.rank, lora_alpha=shape.alpha, target_modules=list(targets), bias="none"
            )
            inject_adapter_in_model(config, module, adapter_name=ADAPTER)
    for parameter in parts.trainable():
        parameter.data = parameter.data.float()


def layers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield peft's layers with their path inside the module."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, child in module.named_modules():
        if isinstance(child, BaseTunerLayer):
            yield name, child


def components(parts: DiffusionParts) -> Iterator[tuple[str, nn.Module]]:
    """Yield what may hold LoRA layers: "unet", and "text_0", "text_1" for the text encoders."""
    yield "unet", parts.unet
    for index, encoder in enumerate(parts.text_encoders):
        yield f"text_{index}", encoder


@contextmanager
def adapters_disabled(parts: DiffusionParts) -> Iterator[None]:
    """Run the untuned base inside the block: no second UNet in memory."""
    found = [layer for _, module in components(parts) for _, layer in layers(module)]
    for layer in found:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in found:
            layer.enable_adapters(True)


@contextmanager
def merged_for_inference(parts: DiffusionParts) -> Iterator[None]:
    """Let the layers stand in the base's weights inside the block: one product each, where beside it there are three.

    For passes without gradient. The base's own tensors come back untouched. Half precision would round small changes
    away, so there the layers stay beside.
    """
    found = [
        layer
        for _, module in components(parts)
        for _, layer in layers(module)
        if not layer.disable_adapters and layer.get_base_layer().weight.dtype == torch.float32
    ]
    base = [(layer.get_base_layer().weight, layer.get_base_layer().weight.data) for layer in found]
    try:
        for layer, (weight, data) in zip(found, base, strict=True):
            weight.data = data + layer.get_delta_weight(ADAPTER).detach()
            layer.enable_adapters(False)
        yield
    finally:
        for layer, (weight, data) in zip(found, base, strict=True):
            weight.data = data
            layer.enable_adapters(True)


@dataclass(frozen=True)
class LoraLayer:
    """One trained layer: the weight grows by ``alpha / rank * up @ down``."""

    down: Tensor
    """(rank, in)"""
    up: Tensor
    """(out, rank)"""
    alpha: float

    def delta(self) -> Tensor:
        """Return the change of the weight, (out, in)."""
        rank = self.down.shape[0]
        up, down = self.up.float().flatten(1), self.down.float().flatten(1)
        return up @ down * (self.alpha / rank)


LoraLayers = dict[str, dict[str, LoraLayer]]
"""Component ("unet", "text_0", "text_1") -> path of the layer inside it -> the layer."""


def trained_layers(parts: DiffusionParts) -> LoraLayers:
    """Copy the trained layers to the CPU."""
    result: LoraLayers = {}
    for component, module in components(parts):
        for path, layer in layers(module):
            down = layer.lora_A[ADAPTER].weight.detach().float().cpu().clone()
            up = layer.lora_B[ADAPTER].weight.detach().float().cpu().clone()
            result.setdefault(component, {})[path] = LoraLayer(down, up, float(layer.lora_alpha[ADAPTER]))
    return result


@contextmanager
def merged(parts: DiffusionParts, lora: LoraLayers, weight: float) -> Iterator[None]:
    """Add a LoRA to the base's weights inside the block, as a WebUI does for ``<lora:name:weight>``."""
    modules = dict(components(parts))
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        for component, found in lora.items():
            if component not in modules:
                raise CheckpointError(
                    "the LoRA was trained for another architecture: it has a second text encoder"
                )
            paths = dict(modules[component].named_modules())
            for path, layer in found.items():
                target = paths[path].weight if path in paths else None
                delta = layer.delta()
                if not isinstance(target, Tensor) or target.numel() != delta.numel():
                    raise CheckpointError(
                        f"the LoRA does not fit this base model: {component} {path} differs"
                    )
                kept.append((target.data, target.data.clone()))
                target.data += weight * delta.view(target.shape).to(target.device, target.dtype)
        yield
    finally:
        for data, original in kept:
            data.copy_(original)
