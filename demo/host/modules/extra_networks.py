"""`<lora:name:weight>` in prompts: read, taken out, and merged into the weights while the batch runs."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import torch

from modules import shared
from modules.paths_internal import models_path

TAG = re.compile(r"<(\w+):([^>]+)>")
SIDE_BLOCK = re.compile(r"(down|up)_blocks_(\d+)_attentions_(\d+)_")
KOHYA_PREFIXES = {"unet": "lora_unet_", "cond_stage_model": "lora_te_"}


def parse_prompts(prompts: list[str]) -> tuple[list[str], dict[str, list[list[str]]]]:
    """Every prompt without its tags; the first prompt's tags, by kind, hold for the batch."""
    found: dict[str, list[list[str]]] = {}
    for kind, items in TAG.findall(prompts[0]) if prompts else []:
        found.setdefault(kind, []).append(items.split(":"))
    return [TAG.sub("", prompt) for prompt in prompts], found


def available_loras() -> dict[str, Path]:
    folder = Path(shared.cmd_opts.lora_dir or Path(models_path) / "Lora")
    return {file.stem: file for file in sorted(folder.rglob("*.safetensors"))}


def activate(p: Any, extra_network_data: dict[str, list[list[str]]]) -> None:
    """Make the LoRAs of this batch, and no others, part of the model."""
    deactivate(p)
    hashes = []
    for name, *weights in extra_network_data.get("lora", []):
        file = available_loras().get(name)
        if file is None:
            p.comment(f"Couldn't find Lora with name {name}")
            continue
        _merge(p.sd_model, file, float(weights[0]) if weights else 1.0)
        hashes.append(f"{name}: {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}")
    if hashes:
        p.extra_generation_params["Lora hashes"] = ", ".join(hashes)


@torch.no_grad()
def deactivate(p: Any) -> None:
    layers = dict(_layers(p.sd_model).values())
    for path, weight in p.sd_model.original_weights.items():
        layers[path].weight.copy_(weight)
    p.sd_model.original_weights.clear()


def _layers(model: Any) -> dict[str, tuple[str, torch.nn.Module]]:
    """kohya's name of every linear and convolution layer -> (its path in the model, the layer)."""
    found = {}
    for part, prefix in KOHYA_PREFIXES.items():
        for name, module in getattr(model, part).named_modules():
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
                key = _numbered(prefix + name.replace(".", "_"), model.unet.config.layers_per_block)
                found[key] = (f"{part}.{name}", module)
    return found


def _numbered(name: str, layers: int) -> str:
    """A layer's name with its block counted as in a checkpoint file."""

    def number(block: re.Match[str]) -> str:
        count = int(block[2]) * (layers + 1) + int(block[3])
        return f"input_blocks_{count + 1}_1_" if block[1] == "down" else f"output_blocks_{count}_1_"

    return SIDE_BLOCK.sub(number, name)


@torch.no_grad()
def _merge(model: Any, file: Path, strength: float) -> None:
    """Add one LoRA to the weights."""
    from safetensors.torch import load_file

    weights, layers = load_file(str(file)), _layers(model)
    unknown = []
    for key in sorted({key.split(".", 1)[0] for key in weights}):
        # As AUTOMATIC1111, which takes every model to have two layers per block: in others such a name goes astray.
        known_as = _numbered(key, 2)
        if known_as not in layers:
            unknown.append(key)
            continue
        path, layer = layers[known_as]
        model.original_weights.setdefault(path, layer.weight.detach().clone())
        layer.weight += strength * _delta(weights, key, layer.weight)
    if unknown:
        print(f"[Lora] {file.stem}: {len(unknown)} keys match no layer, for example {unknown[0]}", flush=True)


def _delta(weights: dict[str, torch.Tensor], key: str, like: torch.Tensor) -> torch.Tensor:
    """up @ down * alpha / rank, in the shape of the layer's weight."""
    down = weights[f"{key}.lora_down.weight"].to(like)
    up = weights[f"{key}.lora_up.weight"].to(like)
    rank = down.shape[0]
    scale = float(weights.get(f"{key}.alpha", rank)) / rank
    return scale * (up.flatten(1) @ down.flatten(1)).reshape(like.shape)
