"""The infotext of an image of a job, and saving the image with it."""

from __future__ import annotations

from typing import Any

from PIL import Image

from modules import errors, images, infotext_utils, shared

VERSION = "demo"


def create_infotext(
    p: Any,
    all_prompts: list[str],
    all_seeds: list[int],
    all_subseeds: list[int],
    comments: Any = None,
    iteration: int = 0,
    position_in_batch: int = 0,
    use_main_prompt: bool = False,
    index: int | None = None,
    all_negative_prompts: list[str] | None = None,
) -> str:
    """Prompt, negative prompt, and one line of parameters. Values may be lists or callables, asked per image."""
    if index is None:
        index = position_in_batch + iteration * p.batch_size
    negatives = p.all_negative_prompts if all_negative_prompts is None else all_negative_prompts
    if use_main_prompt:
        index, prompt, negative = 0, p.main_prompt, p.main_negative_prompt
        seed, subseed = p.all_seeds[0], p.all_subseeds[0]
    else:
        prompt, negative = all_prompts[index], negatives[index]
        seed, subseed = all_seeds[index], all_subseeds[index]
    context = {"p": p, "index": index, "use_main_prompt": use_main_prompt}
    context |= {"iteration": iteration, "position_in_batch": position_in_batch}
    values = {key: _for_image(key, value, context) for key, value in _parameters(p, seed, subseed).items()}
    line = infotext_utils.parameter_line(values)
    return "\n".join([prompt, *([f"Negative prompt: {negative}"] if negative else []), line]).strip()


def _parameters(p: Any, seed: int, subseed: int) -> dict[str, Any]:
    """The parameter line's keys in a WebUI's order; None leaves one out."""
    varied = p.subseed_strength != 0
    clip_skip = shared.opts.CLIP_stop_at_last_layers
    return {
        "Steps": p.steps,
        "Sampler": p.sampler_name,
        "Schedule type": p.scheduler,
        "CFG scale": p.cfg_scale,
        "Seed": seed,
        "Size": f"{p.width}x{p.height}",
        "Model hash": p.sd_model_hash,
        "Model": p.sd_model_name,
        "Variation seed": subseed if varied else None,
        "Variation seed strength": p.subseed_strength if varied else None,
        "Clip skip": clip_skip if clip_skip > 1 else None,
        **p.extra_generation_params,
        "Version": VERSION,
    }


def _for_image(key: str, value: Any, context: dict[str, Any]) -> Any:
    try:
        if isinstance(value, list):
            return value[context["index"]]
        return value(**context) if callable(value) else value
    except Exception:
        errors.report(f'Error creating infotext for key "{key}"', exc_info=True)
        return None


def batch_infotext(p: Any, index: int = 0, use_main_prompt: bool = False) -> str:
    """Of an image of the batch at hand."""
    return create_infotext(
        p,
        p.prompts,
        p.seeds,
        p.subseeds,
        index=index,
        use_main_prompt=use_main_prompt,
        all_negative_prompts=p.negative_prompts,
    )


def save_sample(p: Any, i: int, image: Image.Image, suffix: str = "") -> None:
    text, folder = batch_infotext(p, i), p.outpath_samples
    file_format = shared.opts.samples_format
    images.save_image(image, folder, "", p.seeds[i], p.prompts[i], file_format, info=text, p=p, suffix=suffix)
