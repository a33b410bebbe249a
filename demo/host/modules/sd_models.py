"""Checkpoints on disk, and the one in memory."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from modules import devices, errors, paths, shared
from modules.timer import startup_timer

model_dir = "Stable-diffusion"
model_path = str(Path(paths.models_path) / model_dir)
SUFFIXES = (".safetensors", ".ckpt")

checkpoints_list: dict[str, CheckpointInfo] = {}
checkpoint_aliases: dict[str, CheckpointInfo] = {}
checkpoints_loaded: dict[Any, Any] = {}


class CheckpointInfo:
    """A checkpoint file and the names it goes by."""

    def __init__(self, filename: str):
        path = Path(filename)
        self.filename = filename
        self.name = path.name
        self.model_name = self.name_for_extra = path.stem
        self.is_safetensors = path.suffix == ".safetensors"
        self.hash = self.sha256 = self.shorthash = None
        self.metadata: dict[str, str] = {}

    @property
    def title(self) -> str:
        return f"{self.name} [{self.shorthash}]" if self.shorthash else self.name

    @property
    def short_title(self) -> str:
        return f"{self.model_name} [{self.shorthash}]" if self.shorthash else self.model_name

    @property
    def ids(self) -> list[str]:
        names = [
            self.sha256,
            self.shorthash,
            self.title,
            self.short_title,
            self.name,
            self.model_name,
            self.filename,
        ]
        return [name for name in names if name]

    def register(self) -> None:
        checkpoints_list[self.title] = self
        for name in self.ids:
            checkpoint_aliases[name] = self

    def calculate_shorthash(self) -> str:
        if self.shorthash is None:
            checkpoints_list.pop(self.title, None)
            self.sha256 = hashlib.sha256(Path(self.filename).read_bytes()).hexdigest()
            self.shorthash = self.sha256[:10]
            self.register()
        return self.shorthash


def _folders() -> list[Path]:
    extra = shared.cmd_opts.ckpt_dir
    return [Path(model_path), *([Path(extra)] if extra else [])]


def list_models() -> None:
    checkpoints_list.clear()
    checkpoint_aliases.clear()
    files = [f for folder in _folders() if folder.is_dir() for f in sorted(folder.iterdir())]
    if shared.cmd_opts.ckpt:
        files.insert(0, Path(shared.cmd_opts.ckpt).resolve())
    for file in files:
        if file.suffix in SUFFIXES and not file.name.endswith(".vae.safetensors") and _config_folder(file):
            CheckpointInfo(str(file)).register()


def checkpoint_tiles(use_short: bool = False) -> list[str]:
    return [info.short_title if use_short else info.title for info in checkpoints_list.values()]


def get_closet_checkpoint_match(search_string: str | None) -> CheckpointInfo | None:
    if not search_string:
        return None
    exact = checkpoint_aliases.get(search_string)
    return exact or next(
        (i for i in checkpoints_list.values() if search_string.lower() in i.title.lower()), None
    )


def select_checkpoint() -> CheckpointInfo:
    """The checkpoint of the settings, else the first one there is."""
    info = checkpoint_aliases.get(shared.opts.sd_model_checkpoint or "")
    if info is None:
        info = next(iter(checkpoints_list.values()), None)
    if info is None:
        where = ", ".join(map(str, _folders()))
        raise FileNotFoundError(f"No checkpoint with its diffusers config folder found in {where}")
    return info


def _config_folder(checkpoint: Path) -> Path | None:
    """The diffusers config beside a checkpoint: `<stem>/`, `<stem>-config/` or `--sd-config`."""
    given = shared.cmd_opts.sd_config
    beside = [
        checkpoint.with_suffix(""),
        checkpoint.with_name(f"{checkpoint.stem}-config"),
        checkpoint.parent / "config",
    ]
    candidates = [Path(given)] if given else beside
    return next((folder for folder in candidates if (folder / "model_index.json").is_file()), None)


class WebuiSdModel(torch.nn.Module):
    """The loaded checkpoint with the attribute names a WebUI gives its parts."""

    def __init__(self, pipeline: Any, info: CheckpointInfo):
        super().__init__()
        self.first_stage_model = pipeline.vae
        self.cond_stage_model = pipeline.text_encoder
        self.unet = pipeline.unet
        self.tokenizer = pipeline.tokenizer
        self.scheduler_config = dict(pipeline.scheduler.config)
        self.sd_checkpoint_info = info
        self.sd_model_hash = info.calculate_shorthash()
        self.sd_model_checkpoint = self.filename = info.filename
        self.cond_stage_key = "txt"
        self.is_sdxl = self.is_sd2 = self.is_sd3 = False
        self.is_sd1 = True

    @property
    def model(self) -> Any:
        return SimpleNamespace(diffusion_model=self.unet, conditioning_key="crossattn")

    @property
    def device(self) -> torch.device:
        return self.unet.device

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


class SdModelData:
    def __init__(self) -> None:
        self.sd_model: WebuiSdModel | None = None
        self.loaded_sd_models: list[WebuiSdModel] = []
        self.was_loaded_at_least_once = False
        self.lock = threading.RLock()

    def get_sd_model(self) -> WebuiSdModel | None:
        """As in a WebUI, asking loads the first time only; what was taken away since is not brought back by it."""
        if self.sd_model is None and not self.was_loaded_at_least_once:
            with self.lock:
                if self.sd_model is None and not self.was_loaded_at_least_once:
                    load_model()
        return self.sd_model

    def set_sd_model(self, model: WebuiSdModel | None, already_loaded: bool = False) -> None:
        self.sd_model = model
        self.loaded_sd_models = [] if model is None else [model]


model_data = SdModelData()


def load_model(
    checkpoint_info: CheckpointInfo | None = None, already_loaded_state_dict: Any = None
) -> WebuiSdModel:
    """Read a checkpoint into memory, put it on the device and tell the extensions."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging

    from modules import extra_networks, script_callbacks, sd_vae

    info = checkpoint_info or select_checkpoint()
    config = _config_folder(Path(info.filename))
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it would warn of buffers that every SD 1.x file carries along
    pipeline = StableDiffusionPipeline.from_single_file(
        info.filename,
        config=str(config),
        local_files_only=True,
        safety_checker=None,
        feature_extractor=None,
        torch_dtype=torch.float32,
    )
    pipeline.to(devices.device)
    model = WebuiSdModel(pipeline, info).eval().requires_grad_(False)
    model_data.set_sd_model(model)
    extra_networks.forget()
    model_data.was_loaded_at_least_once = True
    shared.opts.data["sd_model_checkpoint"] = info.title
    sd_vae.load_vae(model)
    startup_timer.record("load model")
    script_callbacks.model_loaded_callback(model)
    print(f"Loaded {info.title}", flush=True)
    return model


def reload_model_weights(
    sd_model: WebuiSdModel | None = None, info: CheckpointInfo | None = None, forced_reload: bool = False
) -> WebuiSdModel | None:
    """Bring the chosen checkpoint into memory, unless it is there already."""
    wanted = info or select_checkpoint()
    loaded = model_data.sd_model
    if loaded is not None and loaded.filename == wanted.filename and not forced_reload:
        send_model_to_device(loaded)
        return loaded
    if loaded is not None:
        unload_model_weights()
    return load_model(wanted)


def unload_model_weights(sd_model: WebuiSdModel | None = None, info: CheckpointInfo | None = None) -> None:
    """As in a WebUI, unloading only moves the weights to the CPU."""
    if model_data.sd_model is not None:
        send_model_to_cpu(model_data.sd_model)
    devices.torch_gc()


def send_model_to_cpu(m: WebuiSdModel) -> None:
    m.to(devices.cpu)
    devices.torch_gc()


def send_model_to_device(m: WebuiSdModel) -> None:
    m.to(devices.device)


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
