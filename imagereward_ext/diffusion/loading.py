"""From a checkpoint file, or a diffusers folder, to :class:`DiffusionParts`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from imagereward_ext.diffusion.checkpoint import (
    UNET,
    VAE,
    CheckpointError,
    CheckpointFile,
    family_of,
    inspect,
    read_tensors,
)
from imagereward_ext.diffusion.diffusers_folder import config_of_folder, tensors_of_folder
from imagereward_ext.diffusion.ldm_config import read_yaml
from imagereward_ext.diffusion.model_config import DiffusionConfig, Prediction, TextConfig, known
from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.diffusion.requirements import require_diffusion_packages
from imagereward_ext.diffusion.text import TextEncoder
from imagereward_ext.diffusion.tokenizer import find_tokenizer

Tensors = Mapping[str, Tensor]


def load_parts(
    path: Path,
    vae: Path | None = None,
    prediction: Prediction | None = None,
    clip_skip: int = 1,
    dtype: torch.dtype = torch.float32,
) -> DiffusionParts:
    """Load a checkpoint on the CPU, everything frozen.

    ``vae`` replaces the VAE inside the file. ``prediction`` says what the UNet predicts where neither the file
    nor a yaml beside it does; without it a Stable Diffusion 2 file is tried once to tell.
    """
    require_diffusion_packages()
    config = configuration(path)
    if prediction is not None:
        config = config.predicting(prediction)
    if path.is_dir():
        unet, own_vae, texts = tensors_of_folder(path, config)
    else:
        unet, own_vae, texts = _tensors_of_file(read_tensors(path), config, path.name)
    if vae is not None:
        own_vae = _vae_tensors(vae, config)
    if not own_vae:
        raise CheckpointError(f"{path.name} holds no VAE: give one with the VAE option")
    tokenizer = find_tokenizer(path)
    undecided = prediction is None and _is_undecided(path, config)
    dtype = torch.float32 if undecided else dtype  # the trial runs on the CPU, which needs it
    parts = DiffusionParts(
        source=path,
        config=config,
        unet=_filled(_unet_class(), config.unet, unet, dtype, f"the UNet of {path.name}"),
        vae=_filled(_vae_class(), config.vae, own_vae, dtype, f"the VAE of {(vae or path).name}"),
        text_encoders=nn.ModuleList(
            _text_encoder(text, tensors, tokenizer.end, path.name)
            for text, tensors in zip(config.text_encoders, texts, strict=True)
        ),
        tokenizer=tokenizer,
        clip_skip=clip_skip,
    )
    if undecided:
        parts.config = config.predicting(probe_prediction(parts))
        parts.schedule = type(parts.schedule)(parts.config.noise)
    return parts


def configuration(path: Path) -> DiffusionConfig:
    """Tell a checkpoint's configuration from its yaml or its keys, without reading a weight."""
    if path.is_dir():
        return config_of_folder(path)
    file = inspect(path)
    family = family_of(file)
    yaml = path.with_suffix(".yaml")
    if yaml.is_file():
        return read_yaml(yaml, file)
    config = known(family)
    _check_known_sizes(file, config)
    said = file.metadata.get("modelspec.prediction_type", "")
    if said in ("v", "v_prediction") or "v_pred" in file.shapes:
        config = config.predicting("v_prediction")
    if "ztsnr" in file.shapes:
        config = replace(config, noise=replace(config.noise, zero_terminal_snr=True))
    return config


def _check_known_sizes(file: CheckpointFile, config: DiffusionConfig) -> None:
    """Refuse a file of a known layout but of other sizes (distilled or tiny models without a yaml)."""
    width = file.width(UNET + "input_blocks.0.0.weight", 0)
    context = next(
        (s[1] for k, s in file.shapes.items() if k.startswith(UNET) and k.endswith("attn2.to_k.weight")), None
    )
    expected = (config.unet["block_out_channels"][0], config.unet["cross_attention_dim"])
    if (width, context) != expected:
        raise CheckpointError(
            f"{file.path.name} has an unknown architecture (width {width}, context {context}; {config.label} has "
            f"{expected[0]} and {expected[1]}): put its .yaml beside it"
        )


def _is_undecided(path: Path, config: DiffusionConfig) -> bool:
    """Tell whether nothing but a trial can say what the UNet predicts."""
    if path.is_dir() or config.family != "sd2" or path.with_suffix(".yaml").is_file():
        return False
    return "modelspec.prediction_type" not in inspect(path).metadata


@torch.no_grad()
def probe_prediction(parts: DiffusionParts) -> Prediction:
    """Ask the UNet once, near pure noise: predicted noise resembles the input there, predicted velocity does not."""
    size = parts.config.unet["sample_size"]
    stream = torch.Generator().manual_seed(0)
    latents = torch.randn(1, parts.config.latent_channels, size, size, generator=stream)
    t = torch.tensor([parts.config.noise.steps - 1])
    out = parts.predict(latents, t, parts.encode([""]))
    alike = torch.nn.functional.cosine_similarity(out.flatten(), latents.flatten(), dim=0)
    return "epsilon" if float(alike) > 0.5 else "v_prediction"


def _tensors_of_file(
    tensors: Tensors, config: DiffusionConfig, name: str
) -> tuple[Tensors, Tensors, list[Tensors]]:
    """Rename a single file's tensors to those of diffusers and transformers."""
    from diffusers.loaders import single_file_utils as names

    unet = {key: value for key, value in tensors.items() if key.startswith(UNET)}
    vae = {key: value for key, value in tensors.items() if key.startswith(VAE)}
    try:
        return (
            names.convert_ldm_unet_checkpoint(unet, dict(config.unet)),
            names.convert_ldm_vae_checkpoint(vae, dict(config.vae)) if vae else {},
            [_text_tensors(tensors, text) for text in config.text_encoders],
        )
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{name} has an unknown layout: {error} is missing") from error


def _text_tensors(tensors: Tensors, config: TextConfig) -> Tensors:
    if config.layout == "clip":
        return {k.removeprefix(config.prefix): v for k, v in tensors.items() if k.startswith(config.prefix)}
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    # The converter splits the packed attention at the width it finds here.
    model = SimpleNamespace(config=SimpleNamespace(projection_dim=config.hidden_size))
    return dict(convert_open_clip_checkpoint(model, dict(tensors), prefix=config.prefix))


def _vae_tensors(path: Path, config: DiffusionConfig) -> Tensors:
    """Read a separate VAE file: the original naming with or without its prefix, or diffusers' own."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    inspect(path)
    tensors = {k: v for k, v in read_tensors(path).items() if not k.startswith(("loss.", "model_ema."))}
    if any(key.startswith("decoder.up_blocks.") for key in tensors):
        return tensors
    tensors = {key.removeprefix(VAE): value for key, value in tensors.items()}
    if not any(key.startswith("decoder.up.") for key in tensors):
        raise CheckpointError(f"{path.name} is no VAE: no decoder was found in it")
    return dict(convert_ldm_vae_checkpoint({VAE + k: v for k, v in tensors.items()}, dict(config.vae)))


def _text_encoder(config: TextConfig, tensors: Tensors, end: int, name: str) -> TextEncoder:
    if end >= config.vocabulary:
        raise CheckpointError(
            f"{name}: its text encoder knows {config.vocabulary} tokens, the vocabulary has {end + 1}"
        )
    encoder = TextEncoder(config, end)
    wanted = encoder.state_dict()
    _fill(encoder, {k: v for k, v in tensors.items() if k in wanted}, f"the text encoder of {name}")
    return encoder.eval()


def _filled(build: Any, config: Mapping[str, Any], tensors: Tensors, dtype: torch.dtype, what: str) -> Any:
    """Build a network around the tensors: without storage first, so that memory holds it only once."""
    with torch.device("meta"):
        module = build(**config)
    _check(module, tensors, what)
    # Copies, since the file must not stay open (Windows locks it) and must never change with the model.
    filled = {k: tensors[k].reshape(v.shape).to(dtype, copy=True) for k, v in module.state_dict().items()}
    module.load_state_dict(filled, assign=True)
    return module


def _fill(module: nn.Module, tensors: Tensors, what: str) -> None:
    """Copy tensors into a network that has its storage."""
    _check(module, tensors, what)
    filled = {k: tensors[k].reshape(v.shape).float() for k, v in module.state_dict().items() if k in tensors}
    module.load_state_dict(filled, strict=False)


def _check(module: nn.Module, tensors: Tensors, what: str) -> None:
    """Require every parameter, in its shape (a linear layer may be given as a 1x1 convolution)."""
    state = module.state_dict()
    missing = [key for key in state if key not in tensors and not key.endswith("position_ids")]
    if missing:
        raise CheckpointError(
            f"{what} is incomplete: {len(missing)} tensors are missing, {missing[0]} for one"
        )
    for key, value in state.items():
        if key in tensors and tensors[key].numel() != value.numel():
            raise CheckpointError(
                f"{what}: {key} has the shape {tuple(tensors[key].shape)}, not {tuple(value.shape)}"
            )


def _unet_class() -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel


def _vae_class() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL
