"""Labels under which scores may stand in an image's text, and names that may stand anywhere."""

from __future__ import annotations

import re

from imagereward_ext.errors import WeightsError
from imagereward_ext.metadata.score_mark import is_label

_PARTS = ("", " hash", " prompt", " Score")
"""What stands behind a label in the keys of its score."""
_LONGEST_LABEL = 90
_LONGEST_NAME = 120

_FIELDS = {
    "prompt", "negative prompt", "template", "negative template", "steps", "sampler", "sampler name", "scheduler",
    "schedule type", "noise schedule", "cfg scale", "distilled cfg scale", "seed", "size", "original size", "model",
    "model hash", "vae", "vae hash", "clip skip", "denoising strength", "ensd", "eta", "eta ddim", "rng", "randomness",
    "version", "user", "refiner", "emphasis", "script", "tiling", "face restoration", "fp8 weight", "pad conds",
    "parser", "style", "styles", "batch size", "batch pos", "score", "created date", "comment", "url", "hashes",
    "resources", "ngms", "shift", "ti", "upcast cross attention", "downcast alphas_cumprod", "old prompt editing timelines",
    "image cfg scale", "conditional mask weight", "extra noise", "noise multiplier", "sgm noise multiplier",
    "decode prompt", "first pass size", "inpaint area", "s_churn", "s_noise", "s_tmin", "s_tmax", "latent size",
    "civitai resources", "civitai metadata", "discard penultimate sigma", "skip early cfg", "token merging ratio",
}  # fmt: skip
"""Keys that AUTOMATIC1111 and the Forges write into an image's text, in lower case."""
_FAMILIES = (
    "hires ", "lora ", "lora hashes", "ti hashes", "hashes", "variation seed", "seed resize", "schedule ", "sigma ",
    "token merging", "refiner ", "mask ", "masked ", "hypertile ", "controlnet", "adetailer", "freeu", "beta schedule",
    "module ", "vae ", "decode ", "recorder ", "sd upscale", "x type", "y type", "z type", "x values", "y values",
    "z values", "fixed x", "fixed y", "fixed z", "postprocess ", "pad conds", "ngms", "cfg rescale", "dynamic thresholding",
    "dynthres", "soft inpainting", "cache ", "init image", "model ", "sampler ", "kohya hrfix", "perturbed attention",
    "sag ", "self attention guidance", "ip-adapter", "regional prompter", "tiled ", "forge ", "civitai ", "style selector",
)  # fmt: skip
"""What several of their keys begin with."""


def check_label(label: object) -> str:
    """Return a label that can be a key among an image's generation parameters, and takes no other's place."""
    if not isinstance(label, str) or not is_label(label) or len(label) > _LONGEST_LABEL:
        raise WeightsError(
            f"the label {_shown(label)} cannot stand inside an image file: use 2 to {_LONGEST_LABEL} letters, "
            "digits, blanks and - / _, a letter or a digit first"
        )
    for key in (" ".join((label + part).lower().split()) for part in _PARTS):
        if key in _FIELDS or f"{key} ".startswith(_FAMILIES):
            raise WeightsError(
                f"the label {label!r} would write over what the WebUI says of an image ({key!r} is a field of its "
                "own): choose another"
            )
    return label


def label_of(name: str) -> str:
    """Make a label of a model's name, which nobody chose to stand inside an image: any name gives one."""
    letters = " ".join(re.sub(r"[^\w /-]+", " ", name)[:40].split())
    return next(label for label in (name, f"Reward {letters}".strip(), "Reward") if _stands(label))


def check_name(name: object) -> str:
    """Return a model's name that can stand on a page, in a path and in a terminal."""
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise WeightsError(
            f"the name {_shown(name)} cannot be a model's: give 1 to {_LONGEST_NAME} characters, none of "
            "which controls a terminal"
        )
    return name


def _stands(label: str) -> bool:
    try:
        check_label(label)
    except WeightsError:
        return False
    return True


def _shown(value: object) -> str:
    return (
        ascii(value)[:80]
        if isinstance(value, (str, int, float, type(None)))
        else f"of type {type(value).__name__}"
    )
