"""Stable Diffusion in miniature: the three families with random weights, written as the files people have."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from imagereward_ext.diffusion import model_config
from imagereward_ext.diffusion.model_config import DiffusionConfig, NoiseConfig, TextConfig
from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.diffusion.text import TextEncoder
from imagereward_ext.diffusion.tokenizer import Tokenizer

LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
WORDS = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [32, 32],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 16,
    "scaling_factor": 0.18215,
}


def tiny_config(family: str, prediction: str = "epsilon") -> DiffusionConfig:
    clip = TextConfig("clip", "cond_stage_model.transformer.", 32, 64, 2, 2, len(WORDS), 16)
    openclip = TextConfig(
        "open_clip", "cond_stage_model.model.", 32, 64, 2, 2, len(WORDS), 16, "gelu", pad="zero"
    )
    texts = {"sd1": (clip,), "sd2": (openclip,), "sdxl": (
        TextConfig("clip", "conditioner.embedders.0.transformer.", 32, 64, 3, 2, len(WORDS), 16, output="penultimate"),
        TextConfig("open_clip", "conditioner.embedders.1.model.", 64, 64, 3, 2, len(WORDS), 16, "gelu", 64, "zero",
                   "penultimate"),
    )}  # fmt: skip
    unet = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "block_out_channels": [32, 64],
        "layers_per_block": 1,
        "transformer_layers_per_block": 1,
        "cross_attention_dim": 96 if family == "sdxl" else 32,
        "attention_head_dim": 2 if family == "sd1" else [1, 2],
        "use_linear_projection": family != "sd1",
        "norm_num_groups": 32,
    }
    if family == "sdxl":
        unet |= {
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
            "transformer_layers_per_block": [1, 2],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 64 + 6 * 8,
        }
    return DiffusionConfig(family, "tiny", 16, unet, VAE, texts[family], NoiseConfig(prediction=prediction))  # type: ignore[arg-type]


def write_vocabulary(folder: Path) -> Path:
    """Write a letter-by-letter vocabulary in CLIP's format."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def tiny_parts(
    folder: Path, family: str = "sd1", seed: int = 0, prediction: str = "epsilon"
) -> DiffusionParts:
    """Build a random model in memory."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    config = tiny_config(family, prediction)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return DiffusionParts(
            source=folder / f"tiny-{family}.safetensors",
            config=config,
            unet=UNet2DConditionModel(**config.unet),
            vae=AutoencoderKL(**config.vae),
            text_encoders=torch.nn.ModuleList(TextEncoder(t, len(WORDS) - 1) for t in config.text_encoders),
            tokenizer=Tokenizer(write_vocabulary(folder / "tokenizer")),
        )


def known_as(config: DiffusionConfig, monkeypatch) -> None:
    """Let the loader take a tiny configuration for a known one."""
    from imagereward_ext.diffusion import ldm_config, loading

    for module in (model_config, ldm_config, loading):
        monkeypatch.setattr(module, "known", lambda family: config)


# ------------------------------------------------------------- the original names, written from the architecture


def ldm_tensors(parts: DiffusionParts) -> dict[str, Tensor]:
    """Return the model's tensors under the names of a single-file checkpoint."""
    config = parts.config
    out = {"model.diffusion_model." + _unet_key(k, config): v for k, v in parts.unet.state_dict().items()}
    out |= {"first_stage_model." + _vae_key(k, config): v for k, v in parts.vae.state_dict().items()}
    for encoder in parts.text_encoders:
        tensors = {k: v for k, v in encoder.state_dict().items() if not k.endswith("position_ids")}
        named = tensors if encoder.shape.layout == "clip" else _openclip(tensors, encoder.shape)
        out |= {encoder.shape.prefix + k: v for k, v in named.items()}
    return {k: v.clone().contiguous() for k, v in out.items()}


def _unet_key(key: str, config: DiffusionConfig) -> str:
    layers = config.unet["layers_per_block"]
    head, _, rest = key.partition(".")
    plain = {
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    }  # fmt: skip
    for ours, theirs in plain.items():
        if key.startswith(ours + "."):
            return theirs + key.removeprefix(ours)
    if head == "mid_block":
        kind, index, tail = rest.split(".", 2)
        place = f"middle_block.{2 * int(index) if kind == 'resnets' else 1}"
    else:
        block, kind, index, tail = rest.split(".", 3)
        block, index = int(block), int(index)
        if head == "down_blocks":
            number = 1 + block * (layers + 1) + (layers if kind == "downsamplers" else index)
            place = (
                f"input_blocks.{number}." + {"resnets": "0", "attentions": "1", "downsamplers": "0.op"}[kind]
            )
        else:
            number = block * (layers + 1) + (layers if kind == "upsamplers" else index)
            attends = config.unet["up_block_types"][block].startswith("CrossAttn")
            place = f"output_blocks.{number}." + {
                "resnets": "0", "attentions": "1", "upsamplers": "2" if attends else "1"
            }[kind]  # fmt: skip
            if kind == "upsamplers":
                tail = tail  # "conv.weight" stays
        if kind == "downsamplers":
            tail = tail.removeprefix("conv.")
    names = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
             "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
    first = tail.split(".")[0]
    if "resnets" in key and first in names:
        tail = names[first] + tail.removeprefix(first)
    return f"{place}.{tail}"


def _vae_key(key: str, config: DiffusionConfig) -> str:
    levels = len(config.vae["block_out_channels"])
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    for side, block, sampler in (("down", "down_blocks", "downsamplers"), ("up", "up_blocks", "upsamplers")):
        for i in range(levels):
            number = i if side == "down" else levels - 1 - i
            key = key.replace(f"coder.{block}.{i}.resnets", f"coder.@{side}.{number}.block")
            key = key.replace(f"coder.{block}.{i}.{sampler}.0", f"coder.@{side}.{number}.{side}sample")
    key = key.replace("@", "")
    key = key.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
    if "mid_block.attentions.0" in key:
        key = key.replace("mid_block.attentions.0", "mid.attn_1").replace("to_out.0", "proj_out")
        for ours, theirs in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v")):
            key = key.replace(ours, theirs)
    return key


def _openclip(tensors: dict[str, Tensor], config: TextConfig) -> dict[str, Tensor]:
    width = config.hidden_size
    out: dict[str, Tensor] = {
        "token_embedding.weight": tensors["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": tensors["text_model.embeddings.position_embedding.weight"],
        "ln_final.weight": tensors["text_model.final_layer_norm.weight"],
        "ln_final.bias": tensors["text_model.final_layer_norm.bias"],
        "text_projection": tensors.get("text_projection.weight", torch.zeros(width, width)).T,
        "logit_scale": torch.tensor(1.0),
    }
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}  # fmt: skip
    for layer in range(config.layers):
        theirs, ours = f"transformer.resblocks.{layer}.", f"text_model.encoder.layers.{layer}."
        for kind in ("weight", "bias"):
            for a, b in names.items():
                out[f"{theirs}{b}.{kind}"] = tensors[f"{ours}{a}.{kind}"]
            packed = [tensors[f"{ours}self_attn.{p}_proj.{kind}"] for p in "qkv"]
            out[f"{theirs}attn.in_proj_{kind}"] = torch.cat(packed)
    return out
