"""A VAE file that takes the place of the checkpoint's own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from modules import paths, shared

vae_path = str(Path(paths.models_path) / "VAE")
vae_dict: dict[str, str] = {}
loaded_vae_file: str | None = None


def refresh_vae_list() -> None:
    vae_dict.clear()
    for folder in (vae_path, shared.cmd_opts.vae_dir):
        files = sorted(Path(folder).glob("*.safetensors")) if folder and Path(folder).is_dir() else []
        vae_dict.update({file.name: str(file) for file in files})


def get_loaded_vae_name() -> str | None:
    return None if loaded_vae_file is None else Path(loaded_vae_file).name


def get_loaded_vae_hash() -> str | None:
    if loaded_vae_file is None:
        return None
    return hashlib.sha256(Path(loaded_vae_file).read_bytes()).hexdigest()[:10]


def load_vae(model: Any) -> None:
    """Put the VAE of the settings into the model; `Automatic` and `None` keep the checkpoint's own."""
    global loaded_vae_file
    path = vae_dict.get(shared.opts.sd_vae)
    loaded_vae_file = path
    if path is None:
        return
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
    from safetensors.torch import load_file

    weights = {
        f"first_stage_model.{k.removeprefix('first_stage_model.')}": v for k, v in load_file(path).items()
    }
    vae = model.first_stage_model
    vae.load_state_dict(convert_ldm_vae_checkpoint(weights, vae.config))


def reload_vae_weights(sd_model: Any = None, vae_file: Any = None) -> None:
    """The settings' VAE, or the checkpoint's own read again from its file."""
    from modules import sd_models

    if sd_models.model_data.sd_model is not None:
        sd_models.reload_model_weights(forced_reload=True)
