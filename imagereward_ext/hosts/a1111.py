"""AUTOMATIC1111 1.9 and 1.10 (1.8 asks no callable for a parameter), and whatever speaks the same extension API."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from modules import call_queue, devices, sd_models, sd_vae, shared
from modules.paths_internal import data_path, models_path

from imagereward_ext.hosts.base import Checkpoint, Checkpoints, Host
from imagereward_ext.hosts.images import Images
from imagereward_ext.hosts.jobs import Jobs
from imagereward_ext.memory import return_memory

log = logging.getLogger("imagereward")

_LOADERS = ((sd_models, "reload_model_weights"), (sd_vae, "reload_vae_weights"))
"""What a changed setting calls."""
_held: dict[str, Callable[..., Any]] = {}
"""The host's own ways to load, while a training has the memory."""


class A1111Checkpoints(Checkpoints):
    """The host loads what is chosen at once, and may hold several."""

    def _loaded(self) -> Checkpoint:
        """Return the files of the checkpoint that is loaded, or would be."""
        loaded = sd_models.model_data.sd_model
        info = getattr(loaded, "sd_checkpoint_info", None) or sd_models.select_checkpoint()
        vae = getattr(sd_vae, "loaded_vae_file", None)
        return Checkpoint.of(Path(info.filename), Path(vae) if vae else None)

    def by_name(self) -> dict[str, Checkpoint]:
        loaded = self._loaded()
        files: dict[str, Checkpoint] = {}
        for info in sd_models.checkpoints_list.values():
            files[str(info.name)] = Checkpoint.of(Path(info.filename))
        first = next((name for name, checkpoint in files.items() if checkpoint.weights == loaded.weights), "")
        return {first: loaded} | files | {first: loaded} if first else files

    def make_room(self) -> None:
        hold_loading()
        data = sd_models.model_data
        for model in {id(m): m for m in (data.sd_model, *data.loaded_sd_models) if m is not None}.values():
            sd_models.send_model_to_trash(model)
        data.loaded_sd_models.clear()
        data.sd_model = None
        data.was_loaded_at_least_once = True  # or the page would load it again in the middle of a training
        devices.torch_gc()
        return_memory()

    def load_when_asked(self) -> None:
        allow_loading()
        # Once loaded, its absence is taken for granted: jobs load it, but refreshing the LoRA cards would fail.
        sd_models.model_data.was_loaded_at_least_once = False

    def restore(self) -> None:
        allow_loading()
        sd_models.reload_model_weights(forced_reload=True)


class A1111(Host):
    """The host most others descend from."""

    name = "AUTOMATIC1111"
    checkpoints = A1111Checkpoints()
    jobs = Jobs()

    def __init__(self) -> None:
        self.images = Images(self.option)

    def data_folder(self) -> Path:
        return Path(data_path)

    def models_folder(self) -> Path:
        return Path(models_path)

    def lora_folder(self) -> Path:
        return Path(self.flag("lora_dir") or self.models_folder() / "Lora")

    def option(self, name: str, default: Any = None) -> Any:
        return getattr(shared.opts, name, default)

    def flag(self, name: str, default: Any = None) -> Any:
        return getattr(shared.cmd_opts, name, default)

    def device(self) -> str:
        return str(devices.device)

    def queue(self) -> AbstractContextManager[Any]:
        lock: AbstractContextManager[Any] = call_queue.queue_lock
        return lock


def hold_loading() -> None:
    """Let a checkpoint or a VAE be chosen without loading it: whatever loads next takes what is chosen by then.

    An error here would make the host go back to the one before, and tell its log alone.
    """
    for module, name in _LOADERS:
        if name not in _held:
            _held[name] = getattr(module, name)
            setattr(module, name, _load_later)


def _load_later(*arguments: Any, **more: Any) -> None:
    log.warning("A training has the memory: what was chosen now is loaded when it is done")


def allow_loading() -> None:
    """Give the host its own ways to load back."""
    for module, name in _LOADERS:
        if name in _held:
            setattr(module, name, _held.pop(name))
