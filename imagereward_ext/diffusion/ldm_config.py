"""Read the ``.yaml`` that lies beside a checkpoint: the sizes of a model that is none of the known ones.

These files name Python classes of the original code; only their numbers are used here. What they leave to the
text encoder's library (its width, its layers) is read from the shapes of the tensors.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from imagereward_ext.diffusion.checkpoint import CheckpointError, CheckpointFile, family_of
from imagereward_ext.diffusion.model_config import (
    DiffusionConfig,
    Family,
    NoiseConfig,
    TextConfig,
    known,
)

HEAD_WIDTH = 64  # of every published CLIP text encoder


def read_yaml(path: Path, file: CheckpointFile) -> DiffusionConfig:
    """Build the configuration of the checkpoint ``file`` from the yaml at ``path``."""
    import yaml

    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["params"]
        family = family_of(file)
        unet = params.get("unet_config") or params["network_config"]
        vae = params["first_stage_config"]["params"]["ddconfig"]
        noise = _noise(params, file)
        image = _image_size(params, unet["params"], vae, family, noise)
        return DiffusionConfig(
            family=family,
            label=path.stem,
            resolution=image,
            unet=_unet(unet["params"], family, image // 2 ** (len(vae["ch_mult"]) - 1)),
            vae=_vae(vae, params.get("scale_factor", 0.18215), image),
            text_encoders=_text_encoders(file, family, _conditioner(params)),
            noise=noise,
        )
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise CheckpointError(f"{path.name} cannot be read as YAML: {str(error).splitlines()[0]}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path.name} describes no Stable Diffusion model (at {error})") from error


def _image_size(
    params: dict[str, Any], unet: dict[str, Any], vae: dict[str, Any], family: Family, noise: NoiseConfig
) -> int:
    """Return the edge in pixels. The published yamls of the known models all say 64 latents, right or wrong."""
    if unet["model_channels"] == known(family).unet["block_out_channels"][0]:
        return known(family).predicting(noise.prediction).resolution
    return int(params.get("image_size", unet.get("image_size", 64))) * int(2 ** (len(vae["ch_mult"]) - 1))


def _unet(p: dict[str, Any], family: Family, sample_size: int) -> dict[str, Any]:
    channels = [p["model_channels"] * m for m in p["channel_mult"]]
    attends = [2**level in p["attention_resolutions"] for level in range(len(channels))]
    depth = p.get("transformer_depth", 1)
    linear = bool(p.get("use_linear_in_transformer", False))
    # diffusers calls the number of heads "attention_head_dim"; with a fixed head width it differs per level.
    fixed = p.get("num_head_channels", -1)
    heads = [c // fixed for c in channels] if fixed not in (None, -1) else p["num_heads"]
    context = p["context_dim"]
    config: dict[str, Any] = {
        "sample_size": sample_size,
        "in_channels": p["in_channels"],
        "out_channels": p["out_channels"],
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        "block_out_channels": channels,
        "layers_per_block": p["num_res_blocks"],
        "transformer_layers_per_block": depth if isinstance(depth, int) else list(depth),
        "cross_attention_dim": context if isinstance(context, int) else context[0],
        "attention_head_dim": heads,
        "use_linear_projection": linear,
        "norm_num_groups": p.get("num_groups", 32),
    }
    if family == "sdxl":
        config["addition_embed_type"] = "text_time"
        config["addition_time_embed_dim"] = p.get("addition_time_embed_dim", 256)
        config["projection_class_embeddings_input_dim"] = p["adm_in_channels"]
    return config


def _vae(p: dict[str, Any], scale_factor: float, image: int) -> dict[str, Any]:
    levels = len(p["ch_mult"])
    return {
        "in_channels": p["in_channels"],
        "out_channels": p["out_ch"],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [p["ch"] * m for m in p["ch_mult"]],
        "layers_per_block": p["num_res_blocks"],
        "latent_channels": p["z_channels"],
        "norm_num_groups": p.get("num_groups", 32),
        "sample_size": image,
        "scaling_factor": float(scale_factor),
    }


def _noise(params: dict[str, Any], file: CheckpointFile) -> NoiseConfig:
    v = params.get("parameterization", "eps") == "v" or "v_pred" in file.shapes
    denoiser = str(params.get("denoiser_config", {}).get("params", {}).get("scaling_config", ""))
    return NoiseConfig(
        steps=int(params.get("timesteps", 1000)),
        beta_start=float(params.get("linear_start", 0.00085)),
        beta_end=float(params.get("linear_end", 0.012)),
        prediction="v_prediction" if v or "VScaling" in denoiser else "epsilon",
        zero_terminal_snr="ztsnr" in file.shapes,
    )


def _conditioner(params: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of each text encoder, in order."""
    if "conditioner_config" in params:
        return [model.get("params") or {} for model in params["conditioner_config"]["params"]["emb_models"]]
    return [params["cond_stage_config"].get("params") or {}]


def _text_encoders(
    file: CheckpointFile, family: Family, given: list[dict[str, Any]]
) -> tuple[TextConfig, ...]:
    places: dict[Family, list[tuple[Literal["clip", "open_clip"], str]]] = {
        "sd1": [("clip", "cond_stage_model.transformer.")],
        "sd2": [("open_clip", "cond_stage_model.model.")],
        "sdxl": [
            ("clip", "conditioner.embedders.0.transformer."),
            ("open_clip", "conditioner.embedders.1.model."),
        ],
    }
    return tuple(
        _text_encoder(file, family, layout, prefix, given[index] if index < len(given) else {})
        for index, (layout, prefix) in enumerate(places[family])
    )


def _text_encoder(
    file: CheckpointFile,
    family: Family,
    layout: Literal["clip", "open_clip"],
    prefix: str,
    given: dict[str, Any],
) -> TextConfig:
    clip = layout == "clip"
    tokens, positions, block, inner = (
        (
            "text_model.embeddings.token_embedding.weight",
            "text_model.embeddings.position_embedding.weight",
            "text_model.encoder.layers.",
            "mlp.fc1.weight",
        )
        if clip
        else ("token_embedding.weight", "positional_embedding", "transformer.resblocks.", "mlp.c_fc.weight")
    )
    vocabulary, hidden = file.shapes[prefix + tokens]
    numbers = {
        int(m[1]) for key in file.shapes if (m := re.match(re.escape(prefix + block) + r"(\d+)\.", key))
    }
    heads = next((given[k] for k in ("heads", "num_attention_heads", "num_heads") if k in given), None)
    return TextConfig(
        layout=layout,
        prefix=prefix,
        hidden_size=hidden,
        intermediate_size=file.shapes[f"{prefix}{block}0.{inner}"][0],
        # SD 2.x reads the state before the last layer, so that layer is left out.
        layers=len(numbers) - (1 if family == "sd2" and given.get("layer") == "penultimate" else 0),
        heads=int(heads or max(1, hidden // HEAD_WIDTH)),
        vocabulary=vocabulary,
        positions=file.shapes[prefix + positions][0],
        activation=str(given.get("hidden_act", "quick_gelu" if clip else "gelu")),
        projection=hidden if family == "sdxl" and not clip else 0,
        pad="end" if clip else "zero",
        output="penultimate" if family == "sdxl" else "last",
    )
