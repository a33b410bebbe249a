"""Write the trained parts as WebUI checkpoints come: one LDM file, its yaml, the tokenizer, diffusers' configs.

<folder>/demo-world.safetensors   half precision, the key names of Stable Diffusion 1.x
<folder>/demo-world.yaml          sizes and latent scale
<folder>/demo-world/              for StableDiffusionPipeline.from_single_file(..., config=<this folder>)
<folder>/demo-world/tokenizer/    vocabulary and merges; with the text model's config.json, for WebUIs
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from demo.world import tokenizer
from demo.world.configs import NAME, SCHEDULER, TEXT, UNET, VAE, ldm_yaml

TEXT_FOLDER = f"models/Stable-diffusion/{NAME}/tokenizer"
"""Where a WebUI finds the text model's config and vocabulary, from its own root: copy the folder with the file."""


def write(folder: Path, unet: nn.Module, vae: nn.Module, text: nn.Module, scale: float) -> Path:
    """Write everything; returns the checkpoint file."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = ldm_tensors(unet, vae, text)
    halves = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in sorted(tensors.items())}
    metadata = {"modelspec.architecture": "stable-diffusion-v1", "modelspec.title": NAME}
    save_file(halves, folder / f"{NAME}.safetensors", metadata={"format": "pt", **metadata})
    description = yaml.safe_dump(ldm_yaml(scale, TEXT_FOLDER), sort_keys=False)
    (folder / f"{NAME}.yaml").write_text(description, "utf-8")
    write_diffusers_configs(folder / NAME, scale)
    return folder / f"{NAME}.safetensors"


def write_diffusers_configs(folder: Path, scale: float) -> None:
    """Write the configuration half of a diffusers model folder: everything but the weights."""
    _write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    _write_json(folder / "unet" / "config.json", {"_class_name": "UNet2DConditionModel", **UNET})
    _write_json(
        folder / "vae" / "config.json", {"_class_name": "AutoencoderKL", **VAE, "scaling_factor": scale}
    )
    _write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": "DDIMScheduler", **SCHEDULER})
    _write_json(folder / "text_encoder" / "config.json", _text_config())
    tokenizer.write(folder / "tokenizer")
    _write_json(folder / "tokenizer" / "config.json", _text_config())


def _text_config() -> dict[str, Any]:
    return {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", **TEXT}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


# --- names ---------------------------------------------------------------------------------------------------


def ldm_tensors(unet: nn.Module, vae: nn.Module, text: nn.Module) -> dict[str, Tensor]:
    """Rename diffusers' and transformers' tensors to those of an LDM checkpoint."""
    tensors = _renamed(unet, "model.diffusion_model.", _unet_modules())
    tensors |= _renamed(vae, "first_stage_model.", _vae_modules())
    for name, tensor in text.state_dict().items():
        # transformers 5 dropped the "text_model" level from CLIPTextModel.
        tensors[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = tensor
    positions = torch.arange(tokenizer.MAX_LENGTH)[None]
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = positions
    return tensors


def _renamed(network: nn.Module, prefix: str, modules: Iterator[tuple[str, str]]) -> dict[str, Tensor]:
    """Rename by the longest module name that fits; every tensor must find one."""
    names = sorted(modules, key=lambda pair: -len(pair[0]))
    renamed = {}
    for name, tensor in network.state_dict().items():
        theirs, ours = next(pair for pair in names if name.startswith(pair[0] + "."))
        is_projection = prefix == "first_stage_model." and ".attn_1." in ours + "."
        if is_projection and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]  # LDM's autoencoder attends with 1x1 convolutions
        renamed[prefix + ours + name.removeprefix(theirs)] = tensor
    return renamed


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def _unet_modules() -> Iterator[tuple[str, str]]:
    """Pair every module of the UNet with its LDM name."""
    yield from {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.attentions.0": "middle_block.1",
    }.items()
    yield from _resnet("mid_block.resnets.0", "middle_block.0")
    yield from _resnet("mid_block.resnets.1", "middle_block.2")
    levels, layers = len(UNET["block_out_channels"]), UNET["layers_per_block"]
    index = 1
    for level in range(levels):
        for layer in range(layers):
            yield from _resnet(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{index}.0")
            yield f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{index}.1"
            index += 1
        if level < levels - 1:
            yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{index}.0.op"
            index += 1
    for level in range(levels):
        for layer in range(layers + 1):
            index = level * (layers + 1) + layer
            yield from _resnet(f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{index}.0")
            yield f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{index}.1"
        yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{index}.2.conv"


def _resnet(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    for part, name in _RESNET.items():
        yield f"{theirs}.{part}", f"{ours}.{name}"


def _vae_modules() -> Iterator[tuple[str, str]]:
    """Pair every module of the autoencoder with its LDM name."""
    yield from (("quant_conv", "quant_conv"), ("post_quant_conv", "post_quant_conv"))
    levels = len(VAE["block_out_channels"])
    for side, layers in (("encoder", VAE["layers_per_block"]), ("decoder", VAE["layers_per_block"] + 1)):
        yield f"{side}.conv_in", f"{side}.conv_in"
        yield f"{side}.conv_out", f"{side}.conv_out"
        yield f"{side}.conv_norm_out", f"{side}.norm_out"
        for index in (0, 1):
            yield from _plain_resnet(f"{side}.mid_block.resnets.{index}", f"{side}.mid.block_{index + 1}")
        attention = f"{side}.mid_block.attentions.0"
        for part, name in (
            ("group_norm", "norm"),
            ("to_q", "q"),
            ("to_k", "k"),
            ("to_v", "v"),
            ("to_out.0", "proj_out"),
        ):
            yield f"{attention}.{part}", f"{side}.mid.attn_1.{name}"
        for level in range(levels):
            # LDM numbers the decoder's levels by resolution, diffusers in the order they run.
            theirs = f"{side}.{'down' if side == 'encoder' else 'up'}_blocks.{level}"
            ours = f"encoder.down.{level}" if side == "encoder" else f"decoder.up.{levels - 1 - level}"
            for layer in range(layers):
                yield from _plain_resnet(f"{theirs}.resnets.{layer}", f"{ours}.block.{layer}")
            yield f"{theirs}.downsamplers.0.conv", f"{ours}.downsample.conv"
            yield f"{theirs}.upsamplers.0.conv", f"{ours}.upsample.conv"


def _plain_resnet(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    for part in ("norm1", "conv1", "norm2", "conv2"):
        yield f"{theirs}.{part}", f"{ours}.{part}"
    yield f"{theirs}.conv_shortcut", f"{ours}.nin_shortcut"
