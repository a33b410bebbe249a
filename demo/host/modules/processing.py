"""Running a generation job: the loop over batches with every hook in its place.

The order of hooks is the contract that extensions rely on; tests/demo_host/ states it as a scenario.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from modules import (
    devices,
    extra_networks,
    images,
    paths_internal,
    processing_infotext,
    scripts,
    sd_models,
    sd_samplers,
    shared,
)
from modules.processing_base import Processed, StableDiffusionProcessing
from modules.processing_img2img import StableDiffusionProcessingImg2Img
from modules.processing_infotext import create_infotext
from modules.processing_txt2img import StableDiffusionProcessingTxt2Img
from modules.shared import state

# The names extensions import from here.
__all__ = [
    "Processed",
    "StableDiffusionProcessing",
    "StableDiffusionProcessingImg2Img",
    "StableDiffusionProcessingTxt2Img",
    "create_infotext",
    "get_fixed_seed",
    "process_images",
]


def get_fixed_seed(seed: Any) -> int:
    seed = int(seed) if seed not in (None, "") else -1
    return random.SystemRandom().randrange(2**32 - 2) if seed == -1 else seed


@contextlib.contextmanager
def _overridden_settings(p: Any) -> Iterator[None]:
    """The job's own settings, taken back at its end."""
    opts = shared.opts
    stored = {key: opts.data[key] for key in p.override_settings if key in opts.data}
    if p.override_settings.get("sd_model_checkpoint") not in sd_models.checkpoint_aliases:
        p.override_settings.pop("sd_model_checkpoint", None)
    try:
        for key, value in p.override_settings.items():
            if key in opts.data_labels:
                opts.set(key, value, run_callbacks=False)
        sd_models.reload_model_weights()
        yield
    finally:
        if p.override_settings_restore_afterwards:
            opts.data.update(stored)


def process_images(p: StableDiffusionProcessing) -> Processed:
    """Run the job: what buttons, the API and dropdown scripts call."""
    p.scripts.before_process(p)
    with _overridden_settings(p):
        p.sampler_name, p.scheduler = p.sampler_name or sd_samplers.DEFAULT, p.scheduler or "Automatic"
        return _run(p)


@dataclass
class _Results:
    """Images and their infotexts, in the order they will be shown; masks have no infotext."""

    images: list[Any] = field(default_factory=list)
    infotexts: list[str] = field(default_factory=list)


def _run(p: Any) -> Processed:
    _prepare(p)
    p.scripts.process(p)
    results = _Results()
    with torch.no_grad():
        p.init(p.all_prompts, p.all_seeds, p.all_subseeds)
        if state.job_count == -1:
            state.job_count = p.n_iter
        for n in range(p.n_iter):
            p.iteration = n
            state.skipped = False
            if state.interrupted or state.stopping_generation or not _run_batch(p, results):
                break
        if not results.infotexts:
            results.infotexts.append(Processed(p, []).infotext(p, 0))
        first = _add_grid(p, results)
    extra_networks.deactivate(p)
    devices.torch_gc()
    text, seed, subseed = results.infotexts[0], p.all_seeds[0], p.all_subseeds[0]
    processed = Processed(p, results.images, seed, text, subseed, first, results.infotexts)
    p.scripts.postprocess(p, processed)
    return processed


def _prepare(p: Any) -> None:
    """Seeds and prompts of every image, and the names of what makes them."""
    p.sd_model_name = p.sd_model.sd_checkpoint_info.name_for_extra
    p.sd_model_hash = p.sd_model.sd_model_hash
    p.setup_prompts()
    count = len(p.all_prompts)
    p.all_seeds = _counted_on(p.seed, count, 0 if p.subseed_strength else 1)
    p.all_subseeds = _counted_on(p.subseed, count, 1)


def _counted_on(seed: Any, count: int, step: int) -> list[int]:
    """A seed for each image, from the first one on."""
    if isinstance(seed, list):
        return seed
    first = get_fixed_seed(seed)
    return [first + step * i for i in range(count)]


def _run_batch(p: Any, results: _Results) -> bool:
    """Sample, decode and hand on one batch. False: there is nothing left to do."""
    hooks, n, scale = p.scripts, p.iteration, p.sd_model.scale
    p.setup_batch()
    p.rng = p.new_rng(p.height // scale, p.width // scale)
    of_batch = {"batch_number": n, "seeds": p.seeds, "subseeds": p.subseeds}
    hooks.before_process_batch(p, prompts=p.prompts, **of_batch)
    if not p.prompts:
        return False
    p.prompts, p.extra_network_data = extra_networks.parse_prompts(p.prompts)
    extra_networks.activate(p, p.extra_network_data)
    hooks.process_batch(p, prompts=p.prompts, **of_batch)
    p.uc, p.c = p.encoded(p.negative_prompts), p.encoded(p.prompts)
    if n == 0:
        text = Processed(p, []).infotext(p, 0)
        (Path(paths_internal.data_path) / "params.txt").write_text(text, encoding="utf8")
    if p.n_iter > 1:
        state.job = f"Batch {n + 1} out of {p.n_iter}"
    samples = scripts.PostSampleArgs(p.sample())
    hooks.post_sample(p, samples)
    pixels = sd_samplers.decode_to_pixels(p.sd_model, samples.samples)
    state.nextjob()
    hooks.postprocess_batch(p, images=pixels, batch_number=n)
    p.setup_batch()  # with the tags in the prompts again
    batch = scripts.PostprocessBatchListArgs(list(pixels))
    hooks.postprocess_batch_list(p, batch, batch_number=n)
    save = p.save_samples()
    for i, sample in enumerate(batch.images):
        p.batch_index = i
        _finish_image(p, i, sample, save, results)
    return True


def _finish_image(p: Any, i: int, sample: torch.Tensor, save: bool, results: _Results) -> None:
    """From pixels to a saved image with its infotext: the hooks on single images."""
    args = scripts.PostprocessImageArgs(sd_samplers.pixels_to_image(sample))
    p.scripts.postprocess_image(p, args)
    overlay = p.overlay_images[i] if p.overlay_images is not None else None
    layers = scripts.PostProcessMaskOverlayArgs(i, getattr(p, "mask_for_overlay", None), overlay)
    p.scripts.postprocess_maskoverlay(p, layers)
    denoised = args.image.copy()
    if layers.overlay_image is not None:
        whole = Image.alpha_composite(args.image.convert("RGBA"), layers.overlay_image)
        args = scripts.PostprocessImageArgs(whole.convert("RGB"))
    p.scripts.postprocess_image_after_composite(p, args)
    image = args.image
    if save:
        processing_infotext.save_sample(p, i, image)
    text = processing_infotext.batch_infotext(p, i)
    results.infotexts.append(text)
    if shared.opts.enable_pnginfo:
        image.info["parameters"] = text
    results.images.append(image)
    if layers.mask_for_overlay is not None:
        results.images += _mask_images(p, i, layers.mask_for_overlay, denoised, save)


def _mask_images(p: Any, i: int, mask: Image.Image, denoised: Image.Image, save: bool) -> list[Image.Image]:
    """The mask and what was painted in it, as far as the settings ask for them."""
    empty, alpha = Image.new("RGBA", denoised.size), mask.resize(denoised.size)
    made = {
        "mask": mask.convert("RGB"),
        "mask_composite": Image.composite(denoised.convert("RGBA"), empty, alpha),
    }
    opts, shown = shared.opts.data, []
    for name, image in made.items():
        if opts[f"save_{name}"] and save:
            processing_infotext.save_sample(p, i, image, suffix=f"-{name.replace('_', '-')}")
        if opts[f"return_{name}"]:
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
