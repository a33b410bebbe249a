"""A folder in the layout of diffusers: one subfolder per network, each with its own config."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from imagereward_ext.diffusion.checkpoint import CheckpointError, read_tensors
from imagereward_ext.diffusion.model_config import DiffusionConfig, Family, NoiseConfig, TextConfig

WEIGHTS = ("diffusion_pytorch_model", "model", "pytorch_model")


def config_of_folder(folder: Path) -> DiffusionConfig:
    """Read the configuration of every network."""
    if not (folder / "unet" / "config.json").is_file():
        raise CheckpointError(f"{folder} is no diffusers folder: it has no unet/config.json")
    unet, vae = _read(folder / "unet" / "config.json"), _read(folder / "vae" / "config.json")
    scheduler = _read(folder / "scheduler" / "scheduler_config.json")
    if unet.get("in_channels", 4) != 4:
        raise CheckpointError(
            f"{folder.name} is an inpainting model ({unet['in_channels']} input channels): give its base"
        )
    family = _family(folder, unet)
    downscale = 2 ** (len(vae["block_out_channels"]) - 1)
    names = ["text_encoder", "text_encoder_2"] if family == "sdxl" else ["text_encoder"]
    return DiffusionConfig(
        family=family,
        label=folder.name,
        resolution=int(unet.get("sample_size") or 64) * downscale,
        unet=_arguments("UNet2DConditionModel", unet),
        vae={"scaling_factor": 0.18215} | _arguments("AutoencoderKL", vae),
        text_encoders=tuple(
            _text(_read(folder / name / "config.json"), family, name == "text_encoder_2") for name in names
        ),
        noise=NoiseConfig(
            steps=int(scheduler.get("num_train_timesteps", 1000)),
            beta_start=float(scheduler.get("beta_start", 0.00085)),
            beta_end=float(scheduler.get("beta_end", 0.012)),
            beta_schedule=str(scheduler.get("beta_schedule", "scaled_linear")),
            prediction="v_prediction" if scheduler.get("prediction_type") == "v_prediction" else "epsilon",
            zero_terminal_snr=bool(scheduler.get("rescale_betas_zero_snr", False)),
        ),
    )


def tensors_of_folder(
    folder: Path, config: DiffusionConfig
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], list[Mapping[str, Tensor]]]:
    """Read UNet, VAE and text encoders."""
    names = ["text_encoder", "text_encoder_2"][: len(config.text_encoders)]
    texts = [_under_text_model(_weights(folder / name)) for name in names]
    return _weights(folder / "unet"), _renamed_attention(_weights(folder / "vae")), texts


def _renamed_attention(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Take the names that VAE attention had in the first versions of diffusers."""
    old = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}

    def renamed(key: str) -> str:
        for part, new in old.items():
            key = key.replace(part, new)
        return key

    return {renamed(key): value for key, value in tensors.items()}


def _under_text_model(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Give back the level that transformers 5 leaves out when it saves a CLIPTextModel."""
    known = ("text_model.", "text_projection.")
    return {key if key.startswith(known) else "text_model." + key: value for key, value in tensors.items()}


def _weights(folder: Path) -> Mapping[str, Tensor]:
    for stem in WEIGHTS:
        for suffix in (".safetensors", ".fp16.safetensors", ".bin"):
            if (folder / (stem + suffix)).is_file():
                return read_tensors(folder / (stem + suffix))
    raise CheckpointError(
        f"{folder} holds no weights (expected diffusion_pytorch_model.safetensors or the like)"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _family(folder: Path, unet: dict[str, Any]) -> Family:
    if unet.get("addition_embed_type") == "text_time":
        if not (folder / "text_encoder").is_dir():
            raise CheckpointError(f"{folder.name} is an SDXL refiner: train on the SDXL base model instead")
        return "sdxl"
    text = _read(folder / "text_encoder" / "config.json")
    return "sd2" if text.get("hidden_act") == "gelu" else "sd1"


def _arguments(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Keep what the class takes: a newer diffusers writes keys that an older one does not know."""
    import diffusers

    accepted = inspect.signature(getattr(diffusers, name).__init__).parameters
    return {key: value for key, value in config.items() if key in accepted}


def _text(config: dict[str, Any], family: Family, second: bool) -> TextConfig:
    return TextConfig(
        layout="clip",
        prefix="",
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        vocabulary=config.get("vocab_size", 49408),
        positions=config.get("max_position_embeddings", 77),
        activation=config.get("hidden_act", "quick_gelu"),
        projection=config["projection_dim"] if second else 0,
        pad="zero" if second or family == "sd2" else "end",
        output="penultimate" if family == "sdxl" else "last",
    )
