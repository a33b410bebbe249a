"""The shapes of the tiny Stable Diffusion 1.x, in diffusers' words, and the same in the words of an LDM yaml.

Limits that come from the LDM code WebUIs run: every GroupNorm has 32 groups, so widths are multiples of 32; the
UNet's first width is ``model_channels`` itself; the number of heads is one for the whole UNet.
"""

from __future__ import annotations

from typing import Any

from demo.world import tokenizer
from demo.world.grammar import SIZE

NAME = "demo-world"
LATENTS = SIZE // 8
GUIDANCE = 3.0
"""What the demo makes images with. People guide: without it the model's images are worse, and a training that gains there
may only have learned what guidance gives for nothing."""

VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [64, 64, 64, 64],  # two channels to a group; with one, flat colours cannot be told
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": SIZE,
}

TEXT: dict[str, Any] = {
    "vocab_size": len(tokenizer.vocabulary()[0]),
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,  # 64 wide, like every published CLIP
    "max_position_embeddings": tokenizer.MAX_LENGTH,
    "hidden_act": "quick_gelu",
    "projection_dim": 128,
    "bos_token_id": tokenizer.vocabulary()[0][tokenizer.START],
    "eos_token_id": tokenizer.vocabulary()[0][tokenizer.END],
    "pad_token_id": tokenizer.vocabulary()[0][tokenizer.END],
}

UNET: dict[str, Any] = {
    "sample_size": LATENTS,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D"] * 2,
    "up_block_types": ["CrossAttnUpBlock2D"] * 2,
    "block_out_channels": [128, 128],
    "layers_per_block": 1,
    "cross_attention_dim": TEXT["hidden_size"],
    "attention_head_dim": 4,  # diffusers' word for the number of heads
    "norm_num_groups": 32,
}

SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}


def ldm_yaml(scale_factor: float, text_folder: str) -> dict[str, Any]:
    """Describe the checkpoint as the yaml beside an LDM file does."""
    width = VAE["block_out_channels"][0]
    autoencoder = {
        "double_z": True,
        "z_channels": VAE["latent_channels"],
        "resolution": SIZE,
        "in_channels": VAE["in_channels"],
        "out_ch": VAE["out_channels"],
        "ch": width,
        "ch_mult": [c // width for c in VAE["block_out_channels"]],
        "num_res_blocks": VAE["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    channels = UNET["block_out_channels"]
    unet = {
        "image_size": LATENTS,
        "in_channels": UNET["in_channels"],
        "out_channels": UNET["out_channels"],
        "model_channels": channels[0],
        "attention_resolutions": [2**level for level in reversed(range(len(channels)))],
        "num_res_blocks": UNET["layers_per_block"],
        "channel_mult": [c // channels[0] for c in channels],
        "num_heads": UNET["attention_head_dim"],
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": UNET["cross_attention_dim"],
        "use_checkpoint": False,
        "legacy": False,
    }
    params = {
        "linear_start": SCHEDULER["beta_start"],
        "linear_end": SCHEDULER["beta_end"],
        "num_timesteps_cond": 1,
        "log_every_t": 200,
        "timesteps": SCHEDULER["num_train_timesteps"],
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": LATENTS,
        "channels": UNET["in_channels"],
        "cond_stage_trainable": False,
        "conditioning_key": "crossattn",
        "scale_factor": scale_factor,
        "use_ema": False,
        "unet_config": _part("ldm.modules.diffusionmodules.openaimodel.UNetModel", unet),
        "first_stage_config": _part(
            "ldm.models.autoencoder.AutoencoderKL",
            {
                "embed_dim": VAE["latent_channels"],
                "ddconfig": autoencoder,
                "lossconfig": {"target": "torch.nn.Identity"},
            },
        ),
        "cond_stage_config": _part(
            "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            {"version": text_folder, "max_length": tokenizer.MAX_LENGTH},
        ),
    }
    return {"model": _part("ldm.models.diffusion.ddpm.LatentDiffusion", params)}


def _part(target: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"target": target, "params": params}
