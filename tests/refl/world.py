"""A training in miniature: a random Stable Diffusion of 16 pixels and scorers whose taste is plain to see."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from safetensors.torch import save

from imagereward_ext.refl.config import TrainingConfig, from_mapping
from imagereward_ext.scorers import STANDARD
from imagereward_ext.scorers.base import Scorer, one_prompt_each
from tests.diffusion.tiny_models import ldm_tensors, tiny_parts, write_vocabulary

PROMPTS = [f"{a} {b}" for a in ("cat", "dog", "sea", "hill") for b in ("red", "day", "old")]


class Taste(Scorer):
    """Likes one colour, and dislikes another: differentiable, with nothing to load."""

    label, digest = "Taste", "0" * 10
    calibration = STANDARD

    def __init__(self, name: str, weights: Sequence[float]) -> None:
        self.name = name
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.weights = torch.tensor(weights, dtype=torch.float32).view(1, 3, 1, 1)
        self.layer = torch.nn.Linear(1, 1)  # something that must not learn
        self.layer.requires_grad_(False)

    def score(self, images: Sequence[Image.Image], prompts, progress=None) -> list[float]:
        raise AssertionError("a training asks for rewards, never for scores")

    def score_pixels(self, pixels, prompts):
        one_prompt_each(prompts, len(pixels))
        return ((pixels - 0.5) * self.weights).mean((1, 2, 3)) * 10

    def modules(self):
        yield self.layer


TASTES = {"red": (1, 0, 0), "not-red": (-1, 0, 0), "green": (0, 1, 0), "nan": (float("nan"), 0, 0)}


def load_taste(name: str) -> Scorer:
    return Taste(name, TASTES[name])


def make_checkpoint(folder: Path, family: str = "sd1") -> Path:
    """Write a tiny checkpoint, and for the first family its yaml."""
    import yaml

    write_vocabulary(folder / "tokenizer")
    path = folder / "tiny.safetensors"
    path.write_bytes(_lively_checkpoint(family))
    if family != "sd1":
        return path
    unet = {"in_channels": 4, "out_channels": 4, "model_channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1,
            "attention_resolutions": [1], "num_heads": 2, "context_dim": 32}  # fmt: skip
    dd = {"in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1, "z_channels": 4}
    params = {"image_size": 8, "unet_config": {"params": unet}, "first_stage_config": {"params": {"ddconfig": dd}},
              "cond_stage_config": {"params": {"heads": 2}}}  # fmt: skip
    path.with_suffix(".yaml").write_text(yaml.safe_dump({"model": {"params": params}}))
    return path


@cache
def _lively_checkpoint(family: str) -> bytes:
    with TemporaryDirectory() as folder:
        parts = tiny_parts(Path(folder), family)
    _make_lively(parts)
    return save(ldm_tensors(parts))


def _make_lively(parts) -> None:
    """A random network hardly reacts to its input: let attention and colours count."""
    with torch.no_grad():
        for name, parameter in parts.unet.named_parameters():
            if name.endswith("proj_out.weight"):
                parameter.mul_(8)
        parts.unet.conv_out.weight.mul_(4)
        parts.vae.decoder.conv_out.weight.mul_(4)


def tiny_config(folder: Path, **changes) -> TrainingConfig:
    """Write the inputs of a run and return its config; changes win."""
    prompts = folder / "prompts.txt"
    if not prompts.exists():
        prompts.write_text("\n".join(PROMPTS))
    checkpoint = folder / "model" / "tiny.safetensors"
    if not checkpoint.exists():
        make_checkpoint(folder / "model")
    values = {
        "checkpoint": str(checkpoint), "prompts": str(prompts), "name": "run", "output": str(folder / "runs"),
        "scorers": "red", "steps": 4, "first_step": 2, "last_step": 3, "batch": 4, "micro_batch": 4, "updates": 3,
        "check_every": 100, "check_images": 4, "shown_images": 1, "learning_rate": 1e-3, "rank": 2, "alpha": 2.0,
        "cpu": True, "save_every": 100,
    }  # fmt: skip
    return from_mapping(values | changes)


def silent(event) -> None:
    pass
