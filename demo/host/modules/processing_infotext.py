"""The infotext of an image of a job, and saving the image with it."""

from __future__ import annotations

from typing import Any

from PIL import Image

from modules import errors, images, infotext_utils, shared


def program_version() -> str:
    import launch

    return launch.git_tag()


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
    if use_main_prompt:
        index = 0
    elif index is None:
        index = position_in_batch + iteration * p.batch_size
    all_negative_prompts = p.all_negative_prompts if all_negative_prompts is None else all_negative_prompts
    prompt_text = p.main_prompt if use_main_prompt else all_prompts[index]
    negative_prompt = p.main_negative_prompt if use_main_prompt else all_negative_prompts[index]
    seed = p.all_seeds[0] if use_main_prompt else all_seeds[index]
    subseed = p.all_subseeds[0] if use_main_prompt else all_subseeds[index]
    context = {
        "p": p,
        "index": index,
        "use_main_prompt": use_main_prompt,
        "iteration": iteration,
        "position_in_batch": position_in_batch,
        "all_prompts": all_prompts,
        "all_seeds": all_seeds,
        "all_subseeds": all_subseeds,
        "all_negative_prompts": all_negative_prompts,
        "comments": comments,
        "prompt_text": prompt_text,
        "negative_prompt": negative_prompt,
    }
    values = {key: _for_image(key, value, context) for key, value in _parameters(p, seed, subseed).items()}
    shown = {key: value for key, value in values.items() if value is not None}
    line = ", ".join(k if k == v else f"{k}: {infotext_utils.quote(v)}" for k, v in shown.items())
    negative_line = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    return f"{prompt_text}{negative_line}\n{line}".strip()


def _parameters(p: Any, seed: int, subseed: int) -> dict[str, Any]:
    """The parameter line's keys in a WebUI's order; None leaves one out."""
    opts = shared.opts
    varied = p.subseed_strength != 0
    clip_skip = opts.CLIP_stop_at_last_layers
    return {
        "Steps": p.steps,
        "Sampler": p.sampler_name,
        "Schedule type": p.scheduler,
        "CFG scale": p.cfg_scale,
        "Seed": seed,
        "Size": f"{p.width}x{p.height}",
        "Model hash": p.sd_model_hash if opts.add_model_hash_to_info else None,
        "Model": p.sd_model_name if opts.add_model_name_to_info else None,
        "VAE hash": p.sd_vae_hash if opts.add_vae_hash_to_info else None,
        "VAE": p.sd_vae_name if opts.add_vae_name_to_info else None,
        "Variation seed": subseed if varied else None,
        "Variation seed strength": p.subseed_strength if varied else None,
        "Denoising strength": p.extra_generation_params.get("Denoising strength"),
        "Clip skip": clip_skip if clip_skip > 1 else None,
        **p.extra_generation_params,
        "Version": program_version() if opts.add_version_to_infotext else None,
        "User": p.user,
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
    images.save_image(
        image,
        p.outpath_samples,
        "",
        p.seeds[i],
        p.prompts[i],
        shared.opts.samples_format,
        info=batch_infotext(p, i),
        p=p,
        suffix=suffix,
    )
