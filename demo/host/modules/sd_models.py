"""Checkpoints on disk, and the one in memory."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import torch

from modules import devices, errors, script_callbacks, shared
from modules.paths_internal import models_path

checkpoints_list: dict[str, CheckpointInfo] = {}  # by title
checkpoint_aliases: dict[str, CheckpointInfo] = {}


class CheckpointInfo:
    """A checkpoint file and the names it goes by."""

    def __init__(self, file: Path):
        self.filename, self.name = str(file), file.name
        self.model_name = self.name_for_extra = file.stem
        self.shorthash: str | None = None
        self.register()

    @property
    def title(self) -> str:
        return f"{self.name} [{self.shorthash}]" if self.shorthash else self.name

    def register(self) -> None:
        checkpoints_list[self.title] = self
        for name in (self.title, self.name, self.model_name, self.filename):
            checkpoint_aliases[name] = self

    def calculate_shorthash(self) -> str:
        if self.shorthash is None:
            checkpoints_list.pop(self.title, None)
            self.shorthash = hashlib.sha256(Path(self.filename).read_bytes()).hexdigest()[:10]
            self.register()
        return self.shorthash


def _folders() -> list[Path]:
    extra = shared.cmd_opts.ckpt_dir
    return [Path(models_path) / "Stable-diffusion", *([Path(extra)] if extra else [])]


def list_models() -> None:
    checkpoints_list.clear()
    checkpoint_aliases.clear()
    for file in (f for folder in _folders() for f in sorted(folder.glob("*.safetensors"))):
        if _config_folder(file) is not None:
            CheckpointInfo(file)


def _config_folder(checkpoint: Path) -> Path | None:
    """The diffusers configuration beside a checkpoint, `<stem>/`."""
    folder = checkpoint.with_suffix("")
    return folder if (folder / "model_index.json").is_file() else None


def select_checkpoint() -> CheckpointInfo:
    """The checkpoint of the settings, else the first one there is."""
    info = checkpoint_aliases.get(shared.opts.sd_model_checkpoint or "")
    info = info or next(iter(checkpoints_list.values()), None)
    if info is None:
        where = ", ".join(map(str, _folders()))
        raise FileNotFoundError(f"No checkpoint with its diffusers config folder found in {where}")
    return info


class WebuiSdModel(torch.nn.Module):
    """The loaded checkpoint with the attribute names a WebUI gives its parts."""

    def __init__(self, pipeline: Any, info: CheckpointInfo):
        super().__init__()
        self.first_stage_model, self.cond_stage_model = pipeline.vae, pipeline.text_encoder
        self.unet, self.tokenizer = pipeline.unet, pipeline.tokenizer
        self.scheduler_config = dict(pipeline.scheduler.config)
        self.sd_checkpoint_info = info
        self.sd_model_hash = info.calculate_shorthash()
        self.original_weights: dict[str, torch.Tensor] = {}
        """Of the layers that LoRAs are merged into now, by their path in this module."""

    @property
    def model(self) -> Any:
        """A WebUI's UNet is `sd_model.model.diffusion_model`."""
        return _Wrapped(self.unet)

    @property
    def scale(self) -> int:
        """Pixels per latent, along one side."""
        return 2 ** (len(self.first_stage_model.config.block_out_channels) - 1)

    @property
    def native_size(self) -> int:
        return int(self.unet.config.sample_size) * self.scale

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents to pixels (b, 3, h, w) in [-1, 1]."""
        return self.first_stage_model.decode(latents / self.first_stage_model.config.scaling_factor).sample

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (b, 3, h, w) in [0, 1] to latents: the mean, so that no random number is drawn."""
        mean = self.first_stage_model.encode(pixels * 2 - 1).latent_dist.mean
        return mean * self.first_stage_model.config.scaling_factor

    def encode_prompts(self, prompts: list[str], clip_skip: int) -> torch.Tensor:
        """Prompts as (b, tokens, width)."""
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(
            prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        out = self.cond_stage_model(tokens.input_ids.to(self.unet.device), output_hidden_states=True)
        if clip_skip == 1:
            return out.last_hidden_state
        return self.cond_stage_model.text_model.final_layer_norm(out.hidden_states[-clip_skip])


class _Wrapped:
    def __init__(self, unet: torch.nn.Module):
        self.diffusion_model = unet


class SdModelData:
    def __init__(self) -> None:
        self.sd_model: WebuiSdModel | None = None
        self.loaded_sd_models: list[WebuiSdModel] = []
        self.was_loaded_at_least_once = False
        self.lock = threading.RLock()

    def get_sd_model(self) -> WebuiSdModel | None:
        """As in a WebUI, asking loads the first time only; what was taken away since is not brought back by it."""
        with self.lock:
            if self.sd_model is None and not self.was_loaded_at_least_once:
                load_model()
        return self.sd_model

    def set_sd_model(self, model: WebuiSdModel | None) -> None:
        self.sd_model = model
        self.loaded_sd_models = [] if model is None else [model]


model_data = SdModelData()
shared.find_model = model_data.get_sd_model


def load_model(checkpoint_info: CheckpointInfo | None = None) -> WebuiSdModel:
    """Read a checkpoint into memory, put it on the device and tell the extensions."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging

    info = checkpoint_info or select_checkpoint()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it would warn of buffers that every SD 1.x file carries along
    pipeline = StableDiffusionPipeline.from_single_file(
        info.filename,
        config=str(_config_folder(Path(info.filename))),
        local_files_only=True,
        safety_checker=None,
        feature_extractor=None,
        torch_dtype=torch.float32,
    )
    pipeline.to(devices.device)
    model = WebuiSdModel(pipeline, info).eval().requires_grad_(False)
    model_data.set_sd_model(model)
    model_data.was_loaded_at_least_once = True
    shared.opts.data["sd_model_checkpoint"] = info.title
    script_callbacks.model_loaded_callback(model)
    print(f"Loaded {info.title}", flush=True)
    return model


def reload_model_weights(forced_reload: bool = False) -> WebuiSdModel:
    """Bring the chosen checkpoint into memory, unless it is there already."""
    wanted, loaded = select_checkpoint(), model_data.sd_model
    if loaded is not None and loaded.sd_checkpoint_info is wanted and not forced_reload:
        return loaded
    model_data.set_sd_model(None)
    devices.torch_gc()
    return load_model(wanted)


def send_model_to_trash(m: WebuiSdModel) -> None:
    """Free the memory at once, whoever still holds the model: it cannot be used or moved again."""
    m.to(device="meta")
    devices.torch_gc()


def preload_in_background() -> None:
    """Start reading the checkpoint while the UI is built."""

    def work() -> None:
        try:
            model_data.get_sd_model()
        except Exception:
            errors.report("The checkpoint could not be loaded", exc_info=True)

    threading.Thread(target=work, daemon=True).start()
