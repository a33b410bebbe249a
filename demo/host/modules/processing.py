"""Running a generation job: the loop over batches with every hook in its place.

The order of hooks is the contract that extensions rely on; tests/demo_host/ states it as a scenario.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from modules import (
    devices,
    extra_networks,
    images,
    infotext_utils,
    processing_infotext,
    scripts,
    sd_models,
    sd_samplers,
    sd_vae,
    shared,
)
from modules.processing_base import Processed, StableDiffusionProcessing
from modules.processing_img2img import StableDiffusionProcessingImg2Img
from modules.processing_infotext import create_infotext, program_version
from modules.processing_txt2img import StableDiffusionProcessingTxt2Img
from modules.shared import state

# The names extensions import from here.
__all__ = [
    "Processed",
    "StableDiffusionProcessing",
    "StableDiffusionProcessingImg2Img",
    "StableDiffusionProcessingTxt2Img",
    "create_infotext",
    "fix_seed",
    "get_fixed_seed",
    "opt_C",
    "opt_f",
    "process_images",
    "program_version",
]

opt_C = 4  # noqa: N816  # latent channels
opt_f = 8  # pixels per latent


def get_fixed_seed(seed: Any) -> int:
    try:
        seed = int(seed)
    except (TypeError, ValueError):
        seed = -1
    return random.SystemRandom().randrange(2**32 - 2) if seed == -1 else seed


def fix_seed(p: Any) -> None:
    p.seed, p.subseed = get_fixed_seed(p.seed), get_fixed_seed(p.subseed)


@contextlib.contextmanager
def _overridden_settings(p: Any) -> Iterator[None]:
    """The job's own settings, taken back at its end."""
    opts = shared.opts
    stored = {key: opts.data[key] for key in p.override_settings if key in opts.data}
    if sd_models.get_closet_checkpoint_match(p.override_settings.get("sd_model_checkpoint")) is None:
        p.override_settings.pop("sd_model_checkpoint", None)
    try:
        for key, value in p.override_settings.items():
            if key in opts.data_labels:
                opts.set(key, value, is_api=True, run_callbacks=key == "sd_vae")
        sd_models.reload_model_weights()
        yield
    finally:
        if p.override_settings_restore_afterwards:
            opts.data.update(stored)
            if "sd_vae" in stored:
                sd_vae.reload_vae_weights()


def process_images(p: StableDiffusionProcessing) -> Processed:
    """Run the job: what buttons, the API and dropdown scripts call."""
    if p.scripts is not None:
        p.scripts.before_process(p)
    with _overridden_settings(p):
        config = sd_samplers.find_sampler_config(p.sampler_name)
        p.sampler_name = (config or sd_samplers.all_samplers[0]).name
        p.scheduler = p.scheduler or "Automatic"
        return process_images_inner(p)


@dataclass
class _Results:
    """Images and their infotexts, in the order they will be shown; masks have no infotext."""

    images: list[Any] = field(default_factory=list)
    infotexts: list[str] = field(default_factory=list)


def process_images_inner(p: Any) -> Processed:
    _prepare(p)
    if p.scripts is not None:
        p.scripts.process(p)
    results = _Results()
    with torch.no_grad():
        p.init(p.all_prompts, p.all_seeds, p.all_subseeds)
        if state.job_count == -1:
            state.job_count = p.n_iter
        for n in range(p.n_iter):
            p.iteration = n
            state.skipped = False
            if state.interrupted or state.stopping_generation or not _run_batch(p, n, results):
                break
        if not results.infotexts:
            results.infotexts.append(Processed(p, []).infotext(p, 0))
        first = _add_grid(p, results)
    if not p.disable_extra_networks and p.extra_network_data:
        extra_networks.deactivate(p, p.extra_network_data)
    devices.torch_gc()
    processed = Processed(
        p,
        images_list=results.images,
        seed=p.all_seeds[0],
        info=results.infotexts[0],
        subseed=p.all_subseeds[0],
        index_of_first_image=first,
        infotexts=results.infotexts,
    )
    if p.scripts is not None:
        p.scripts.postprocess(p, processed)
    return processed


def _prepare(p: Any) -> None:
    """Seeds and prompts of every image, and the names of what makes them."""
    seed, subseed = p.seed, p.subseed
    model = shared.sd_model
    p.sd_model_name = model.sd_checkpoint_info.name_for_extra
    p.sd_model_hash = model.sd_model_hash
    p.sd_vae_name, p.sd_vae_hash = sd_vae.get_loaded_vae_name(), sd_vae.get_loaded_vae_hash()
    p.setup_prompts()
    count = len(p.all_prompts)
    if isinstance(seed, list):
        p.all_seeds = seed
    else:
        start = get_fixed_seed(seed)
        p.all_seeds = [start + (i if p.subseed_strength == 0 else 0) for i in range(count)]
    if isinstance(subseed, list):
        p.all_subseeds = subseed
    else:
        start = get_fixed_seed(subseed)
        p.all_subseeds = [start + i for i in range(count)]


def _run_batch(p: Any, n: int, results: _Results) -> bool:
    """Sample, decode and hand on one batch. False: there is nothing left to do."""
    hooks = p.scripts
    p.prompts, p.negative_prompts = p.of_batch(p.all_prompts), p.of_batch(p.all_negative_prompts)
    p.seeds, p.subseeds = p.of_batch(p.all_seeds), p.of_batch(p.all_subseeds)
    scale = p.sd_model.scale
    p.rng = p.new_rng(p.height // scale, p.width // scale)
    if hooks is not None:
        hooks.before_process_batch(p, batch_number=n, prompts=p.prompts, seeds=p.seeds, subseeds=p.subseeds)
    if not p.prompts:
        return False
    p.parse_extra_network_prompts()
    if not p.disable_extra_networks:
        extra_networks.activate(p, p.extra_network_data)
    if hooks is not None:
        hooks.process_batch(p, batch_number=n, prompts=p.prompts, seeds=p.seeds, subseeds=p.subseeds)
    p.setup_conds()
    if n == 0:
        infotext_utils.last_prompt_file().write_text(Processed(p, []).infotext(p, 0), encoding="utf8")
    if p.n_iter > 1:
        state.job = f"Batch {n + 1} out of {p.n_iter}"
    pixels = _sample_pixels(p)
    state.nextjob()
    if hooks is not None:
        hooks.postprocess_batch(p, pixels, batch_number=n)
        p.prompts, p.negative_prompts = p.of_batch(p.all_prompts), p.of_batch(p.all_negative_prompts)
        batch = scripts.PostprocessBatchListArgs(list(pixels))
        hooks.postprocess_batch_list(p, batch, batch_number=n)
        pixels = batch.images
    save = p.save_samples()
    for i, sample in enumerate(pixels):
        p.batch_index = i
        _finish_image(p, i, sample, save, results)
    return True


def _sample_pixels(p: Any) -> torch.Tensor:
    """The batch as pixels (b, 3, h, w) in [0, 1]."""
    samples = p.sample(
        conditioning=p.c,
        unconditional_conditioning=p.uc,
        seeds=p.seeds,
        subseeds=p.subseeds,
        subseed_strength=p.subseed_strength,
        prompts=p.prompts,
    )
    if p.scripts is not None:
        args = scripts.PostSampleArgs(samples)
        p.scripts.post_sample(p, args)
        samples = args.samples
    devices.test_for_nans(samples, "unet")
    return sd_samplers.decode_to_pixels(p.sd_model, samples)


def _finish_image(p: Any, i: int, sample: torch.Tensor, save: bool, results: _Results) -> None:
    """From pixels to a saved image with its infotext: the hooks on single images."""
    hooks = p.scripts
    image = sd_samplers.pixels_to_image(sample)
    mask, overlay = getattr(p, "mask_for_overlay", None), None
    if p.overlay_images is not None and i < len(p.overlay_images):
        overlay = p.overlay_images[i]
    if hooks is not None:
        args = scripts.PostprocessImageArgs(image)
        hooks.postprocess_image(p, args)
        image = args.image
        layers = scripts.PostProcessMaskOverlayArgs(i, mask, overlay)
        hooks.postprocess_maskoverlay(p, layers)
        mask, overlay = layers.mask_for_overlay, layers.overlay_image
    denoised = image.copy()
    if overlay is not None:
        image = Image.alpha_composite(image.convert("RGBA"), overlay).convert("RGB")
    if hooks is not None:
        args = scripts.PostprocessImageArgs(image)
        hooks.postprocess_image_after_composite(p, args)
        image = args.image
    if save:
        processing_infotext.save_sample(p, i, image)
    text = processing_infotext.batch_infotext(p, i)
    results.infotexts.append(text)
    if shared.opts.enable_pnginfo:
        image.info["parameters"] = text
    results.images.append(image)
    if mask is not None:
        results.images += _mask_images(p, i, mask, denoised, save)


def _mask_images(p: Any, i: int, mask: Image.Image, denoised: Image.Image, save: bool) -> list[Image.Image]:
    """The mask and what was painted in it, as far as the settings ask for them."""
    opts, shown = shared.opts, []
    alpha = mask.convert("L").resize(denoised.size)
    made = {
        "mask": (mask.convert("RGB"), opts.save_mask, opts.return_mask),
        "mask-composite": (
            Image.composite(denoised.convert("RGBA"), Image.new("RGBA", denoised.size), alpha),
            opts.save_mask_composite,
            opts.return_mask_composite,
        ),
    }
    for name, (image, saved, returned) in made.items():
        if saved and save:
            processing_infotext.save_sample(p, i, image, suffix=f"-{name}")
        if returned:
            shown.append(image)
    return shown


def _add_grid(p: Any, results: _Results) -> int:
    """Put the grid first, where the settings want one. Returns the index of the first image."""
    opts = shared.opts
    wanted = (opts.return_grid or opts.grid_save) and not p.do_not_save_grid
    if not wanted or not results.images or (len(results.images) < 2 and opts.grid_only_if_multiple):
        return 0
    grid = images.image_grid(results.images, p.batch_size)
    text = processing_infotext.batch_infotext(p, use_main_prompt=True)
    if opts.grid_save:
        images.save_image(
            grid,
            p.outpath_grids,
            "grid",
            p.all_seeds[0],
            p.all_prompts[0],
            opts.grid_format,
            info=text,
            short_filename=not opts.grid_extended_filename,
            p=p,
            grid=True,
        )
    if not opts.return_grid:
        return 0
    if opts.enable_pnginfo:
        grid.info["parameters"] = text
    results.images.insert(0, grid)
    results.infotexts.insert(0, text)
    return 1
