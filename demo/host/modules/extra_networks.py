"""`<lora:name:weight>` in prompts: read, taken out, and merged into the weights while the job runs."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from modules import paths, shared

TAG = re.compile(r"<(\w+):([^>]+)>")
SIDE_BLOCK = re.compile(r"(down|up)_blocks_(\d+)_attentions_(\d+)_")
KOHYA_PREFIXES = {"unet": "lora_unet_", "cond_stage_model": "lora_te_"}


@dataclass(frozen=True)
class ExtraNetworkParams:
    items: tuple[str, ...]

    @property
    def positional(self) -> list[str]:
        return [item for item in self.items if "=" not in item]

    @property
    def named(self) -> dict[str, str]:
        return dict(item.split("=", 1) for item in self.items if "=" in item)


def parse_prompt(prompt: str) -> tuple[str, dict[str, list[ExtraNetworkParams]]]:
    """The prompt without its tags, and the tags by kind."""
    found: dict[str, list[ExtraNetworkParams]] = {}

    def take(match: re.Match[str]) -> str:
        found.setdefault(match.group(1), []).append(ExtraNetworkParams(tuple(match.group(2).split(":"))))
        return ""

    return TAG.sub(take, prompt), found


def parse_prompts(prompts: list[str]) -> tuple[list[str], dict[str, list[ExtraNetworkParams]]]:
    """Every prompt without its tags; the first prompt's tags hold for the batch."""
    parsed = [parse_prompt(prompt) for prompt in prompts]
    return [text for text, _ in parsed], parsed[0][1] if parsed else {}


def lora_folder() -> Path:
    return Path(shared.cmd_opts.lora_dir or Path(paths.models_path) / "Lora")


def available_loras() -> dict[str, Path]:
    folder = lora_folder()
    files = sorted(folder.rglob("*.safetensors")) if folder.is_dir() else []
    return {file.stem: file for file in files}


_original: dict[str, torch.Tensor] = {}  # weights as they were, by "part.module"
_merged: tuple[tuple[str, float, float], ...] = ()


def activate(p: Any, extra_network_data: dict[str, list[ExtraNetworkParams]]) -> None:
    """Make the LoRAs of this batch, and no others, part of the model."""
    global _merged
    wanted = tuple(_strengths(params) for params in extra_network_data.get("lora", []))
    if wanted != _merged:
        _restore()
        hashes = [h for h in (_merge(p, *strengths) for strengths in wanted) if h]
        _merged = wanted
        if hashes:
            p.extra_generation_params["Lora hashes"] = ", ".join(hashes)
    if p.scripts is not None:
        p.scripts.after_extra_networks_activate(
            p,
            batch_number=p.iteration,
            prompts=p.prompts,
            seeds=p.seeds,
            subseeds=p.subseeds,
            extra_network_data=extra_network_data,
        )


def deactivate(p: Any, extra_network_data: dict[str, list[ExtraNetworkParams]]) -> None:
    global _merged
    _restore()
    _merged = ()


def _strengths(params: ExtraNetworkParams) -> tuple[str, float, float]:
    """(name, strength in the text encoder, strength in the UNet)."""
    values = params.positional
    te = float(params.named.get("te", values[1] if len(values) > 1 else 1.0))
    unet = float(params.named.get("unet", values[2] if len(values) > 2 else te))
    return values[0], te, unet


def _modules(model: Any) -> dict[str, tuple[str, torch.nn.Module]]:
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
def _merge(p: Any, name: str, te: float, unet: float) -> str | None:
    """Add one LoRA to the weights. Returns `name: hash` for the infotext."""
    from safetensors.torch import load_file

    file = available_loras().get(name)
    if file is None:
        p.comment(f"Couldn't find Lora with name {name}")
        return None
    weights = load_file(str(file))
    modules = _modules(shared.sd_model)
    unknown = []
    for key in sorted({key.split(".", 1)[0] for key in weights}):
        # As AUTOMATIC1111, which takes every model to have two layers per block: in others such a name goes astray.
        known_as = _numbered(key, 2)
        if known_as not in modules:
            unknown.append(key)
            continue
        path, module = modules[known_as]
        _original.setdefault(path, module.weight.detach().clone())
        strength = te if key.startswith("lora_te_") else unet
        module.weight += strength * _delta(weights, key, module.weight)
    if unknown:
        print(f"[Lora] {name}: {len(unknown)} keys match no layer, for example {unknown[0]}", flush=True)
    return f"{name}: {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"


def _delta(weights: dict[str, torch.Tensor], key: str, like: torch.Tensor) -> torch.Tensor:
    """up @ down * alpha / rank, in the shape of the layer's weight."""
    down = weights[f"{key}.lora_down.weight"].to(like)
    up = weights[f"{key}.lora_up.weight"].to(like)
    rank = down.shape[0]
    alpha = weights.get(f"{key}.alpha")
    scale = float(alpha) / rank if alpha is not None else 1.0
    return scale * (up.flatten(1) @ down.flatten(1)).reshape(like.shape)


@torch.no_grad()
def _restore() -> None:
    if not _original:
        return
    layers = dict(_modules(shared.sd_model).values())
    for path, weight in _original.items():
        layers[path].weight.copy_(weight)
    _original.clear()


def forget() -> None:
    """A new model has been loaded: nothing is merged into it."""
    global _merged
    _original.clear()
    _merged = ()
