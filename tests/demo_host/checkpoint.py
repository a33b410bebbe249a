"""A random-weight checkpoint in the layout the demo host opens: one LDM file, and its diffusers config folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.diffusion.tiny_models import WORDS, ldm_tensors, tiny_config, write_vocabulary

SIZE = 64  # pixels
NOISE = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
TOKENIZER = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "model_max_length": 77,
    "tokenizer_class": "CLIPTokenizer",
}


def write_checkpoint(folder: Path, name: str = "random", seed: int = 0, width: int = 32) -> Path:
    """Write `<folder>/<name>.safetensors` and `<folder>/<name>/`, its UNet of this width. Returns the file."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from imagereward_ext.diffusion.parts import DiffusionParts
    from imagereward_ext.diffusion.text import TextEncoder
    from imagereward_ext.diffusion.tokenizer import Tokenizer

    config = tiny_config("sd1")
    wide = {**config.vae, "block_out_channels": [32] * 4, "sample_size": SIZE}
    wide |= {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    text = dataclasses.replace(config.text_encoders[0], positions=77)
    unet = {**config.unet, "block_out_channels": [width, 2 * width]}
    config = dataclasses.replace(config, unet=unet, vae=wide, text_encoders=(text,))
    tokenizer = write_vocabulary(folder / name / "tokenizer")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = DiffusionParts(
            source=folder / f"{name}.safetensors",
            config=config,
            unet=UNet2DConditionModel(**config.unet),
            vae=AutoencoderKL(**config.vae),
            text_encoders=torch.nn.ModuleList([TextEncoder(text, len(WORDS) - 1)]),
            tokenizer=Tokenizer(tokenizer),
        )
    save_file(ldm_tensors(parts), parts.source)
    _write_configs(folder / name, parts)
    return parts.source


def _write_configs(folder: Path, parts) -> None:
    parts.unet.save_config(folder / "unet")
    parts.vae.save_config(folder / "vae")
    text = parts.config.text_encoders[0]
    clip = {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "hidden_size": text.hidden_size,
        "intermediate_size": text.intermediate_size,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "vocab_size": text.vocabulary,
        "max_position_embeddings": text.positions,
        "hidden_act": text.activation,
        "bos_token_id": len(WORDS) - 2,
        "eos_token_id": len(WORDS) - 1,
        "pad_token_id": len(WORDS) - 1,
    }
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    for file, content in {
        "model_index.json": index,
        "scheduler/scheduler_config.json": NOISE,
        "text_encoder/config.json": clip,
        "tokenizer/tokenizer_config.json": TOKENIZER,
    }.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def write_lora(path: Path) -> None:
    """A rank-2 LoRA in kohya's names for two layers of the random UNet and one of its text encoder."""
    generator = torch.Generator().manual_seed(3)
    shapes = {
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (32, 32),
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q": (64, 64),
        "lora_te_text_model_encoder_layers_0_mlp_fc1": (64, 32),
        "lora_unet_no_such_layer": (8, 8),
    }
    weights = {}
    for name, (rows, columns) in shapes.items():
        weights[f"{name}.lora_down.weight"] = torch.randn(2, columns, generator=generator)
        weights[f"{name}.lora_up.weight"] = torch.randn(rows, 2, generator=generator)
        weights[f"{name}.alpha"] = torch.tensor(2.0)
    path.parent.mkdir(parents=True)
    save_file(weights, path)
