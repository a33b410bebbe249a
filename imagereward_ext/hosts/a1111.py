"""AUTOMATIC1111 1.9 and 1.10 (1.8 asks no callable for a parameter), and whatever speaks the same extension API."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from modules import call_queue, devices, images, processing, sd_models, sd_vae, shared
from modules.paths_internal import data_path, models_path

from imagereward_ext.hosts.base import Checkpoint, Host, Sample
from imagereward_ext.memory import return_memory

log = logging.getLogger("imagereward")

_LOADERS = ((sd_models, "reload_model_weights"), (sd_vae, "reload_vae_weights"))
"""What a changed setting calls."""
_held: dict[str, Callable[..., Any]] = {}
"""The host's own ways to load, while a training has the memory."""


class A1111(Host):
    """The host most others descend from."""

    name = "AUTOMATIC1111"

    def data_folder(self) -> Path:
        return Path(data_path)

    def models_folder(self) -> Path:
        return Path(models_path)

    def lora_folder(self) -> Path:
        return Path(self.flag("lora_dir") or self.models_folder() / "Lora")

    def save_folder(self) -> Path:
        return Path(self.option("outdir_save", "log/images"))

    def option(self, name: str, default: Any = None) -> Any:
        return getattr(shared.opts, name, default)

    def flag(self, name: str, default: Any = None) -> Any:
        return getattr(shared.cmd_opts, name, default)

    def device(self) -> str:
        return str(devices.device)

    def queue(self) -> AbstractContextManager[Any]:
        lock: AbstractContextManager[Any] = call_queue.queue_lock
        return lock

    def stopped(self) -> bool:
        return bool(shared.state.interrupted or getattr(shared.state, "stopping_generation", False))

    def half_done(self) -> bool:
        return bool(shared.state.interrupted or shared.state.skipped)

    def tell(self, text: str) -> None:
        shared.state.textinfo = text

    def expect(self, batches: int, steps: int) -> None:
        shared.state.job_count = shared.state.job_no + batches
        shared.state.processing_has_refined_job_count = True  # hires fix would double what is exact already
        shared.total_tqdm.updateTotal(steps)

    def generate(self, job: Any) -> Any:
        return processing.process_images(job)

    def fix_seeds(self, job: Any) -> None:
        if not isinstance(job.seed, list):
            job.seed = processing.get_fixed_seed(job.seed)
        if not isinstance(job.subseed, list):
            job.subseed = processing.get_fixed_seed(job.subseed)

    def hires_prompts(self, job: Any) -> tuple[str, str]:
        styles = shared.prompt_styles
        positive, negative = job.hr_prompt or "", job.hr_negative_prompt or ""
        return (
            styles.apply_styles_to_prompt(positive, job.styles) if positive else "",
            styles.apply_negative_styles_to_prompt(negative, job.styles) if negative else "",
        )

    def masks_per_image(self, job: Any) -> int:
        if getattr(job, "mask_for_overlay", None) is None:
            return 0
        return int(bool(self.option("return_mask"))) + int(bool(self.option("return_mask_composite")))

    def grid_of(self, images_: list[Any], job: Any) -> Any | None:
        wanted = self.shows_grid() or self.option("grid_save")
        too_few = len(images_) < 2 and self.option("grid_only_if_multiple")
        if not images_ or too_few or not wanted or job.do_not_save_grid:
            return None
        return images.image_grid(images_, job.batch_size)

    def shows_grid(self) -> bool:
        return bool(self.option("return_grid"))

    def grid_infotext(self, job: Any) -> str:
        return str(
            processing.create_infotext(
                job,
                job.all_prompts,
                job.all_seeds,
                job.all_subseeds,
                use_main_prompt=True,
                all_negative_prompts=job.all_negative_prompts,
            )
        )

    def save_grid(self, grid: Any, job: Any, sample: Sample) -> None:
        if not self.option("grid_save"):
            return
        images.save_image(
            grid,
            job.outpath_grids,
            "grid",
            sample.seed,
            sample.prompt,
            self.option("grid_format"),
            info=sample.infotext,
            short_filename=not self.option("grid_extended_filename"),
            p=job,
            grid=True,
        )

    def text_of(self, image: Any) -> str:
        text, _ = images.read_info_from_image(image)
        return str(text or "")

    def font(self, size: int) -> Any:
        return images.get_font(size)

    def save_sample(self, job: Any, sample: Sample) -> None:
        if job.do_not_save_samples or not self.option("samples_save"):
            return  # the job's own word would also depend on whether the user has stopped it meanwhile
        images.save_image(
            sample.image,
            job.outpath_samples,
            "",
            sample.seed,
            sample.prompt,
            self.option("samples_format"),
            info=sample.infotext,
            p=job,
        )

    def checkpoint(self) -> Checkpoint:
        loaded = sd_models.model_data.sd_model
        info = getattr(loaded, "sd_checkpoint_info", None) or sd_models.select_checkpoint()
        vae = getattr(sd_vae, "loaded_vae_file", None)
        return Checkpoint.of(Path(info.filename), Path(vae) if vae else None)

    def checkpoints(self) -> dict[str, Checkpoint]:
        loaded = self.checkpoint()
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
