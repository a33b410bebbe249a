"""Every setting of a run, once: its name, what it means, its range and its default.

The command line's flags, the tab's widgets and the routes are built from these fields. A config is frozen, survives
JSON, and refuses what it does not know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from imagereward_ext.compute import PRECISIONS
from imagereward_ext.diffusion.lora import TARGETS, LoraShape, Targets
from imagereward_ext.diffusion.sampling import SamplingSettings
from imagereward_ext.diffusion.schedule import PREDICTIONS, SAMPLERS, SamplerName
from imagereward_ext.refl.methods import find_method, known_methods
from imagereward_ext.settings import FieldError, check, read_strictly, setting

PRIOR_UPDATES = ("summed", "own step")
PHIS = ("relu", "linear", "log-sigmoid")
MEMORY_SIZES = (6, 8, 12, 24)
"""GB of graphics memory that there is a preset for."""
MEMORY = ("auto", *map(str, MEMORY_SIZES), "none")
NAME = re.compile(r"[^\W.][\w .+-]{0,99}")


@dataclass(frozen=True)
class TrainingConfig:
    """One run. The defaults are the paper's where the paper says something; docs/training.md says where not."""

    checkpoint: str = setting(
        "", "Checkpoint", "base model: .safetensors, .ckpt, or a diffusers folder", group="Model"
    )
    vae: str = setting("", "VAE", "another VAE file instead of the checkpoint's own", group="Model")
    prediction: str = setting(
        "auto",
        "Prediction",
        "what the UNet predicts, where the file does not tell",
        group="Model",
        choices=PREDICTIONS,
    )
    clip_skip: int = setting(
        1, "Clip skip", "as in the WebUI; 2 for most anime models", group="Model", low=1, high=12
    )
    prompts: str = setting("", "Prompts", "text file with one prompt per line (or a JSON list)", group="Data")
    images: str = setting(
        "",
        "Images",
        "folder of images with .txt captions for the prior, instead of the base's own images",
        group="Data",
    )
    name: str = setting("", "Name", "of the run and of the LoRA", group="Output")
    output: str = setting("runs", "Runs", "folder the run's folder is made in", group="Output")
    lora_dir: str = setting(
        "", "LoRA folder", "copy finished LoRA files here (the WebUI's models/Lora)", group="Output"
    )

    method: str = setting(
        "refl",
        "Method",
        "refl follows the reward's gradient, dpo learns from pairs that the reward chose; the others are to compare with",
        group="Method",
        choices=known_methods(),
    )
    scorers: str = setting(
        "ImageReward-v1.0",
        "Scorers",
        "the reward: one scorer, or a mix as name:weight,name:weight",
        group="Method",
        several=True,
        aliases=("--scorer",),
    )
    phi: str = setting(
        "relu",
        "Loss of the reward",
        "relu stops pushing at the cap, linear never does",
        group="Method",
        choices=PHIS,
    )
    reward_cap: float = setting(
        2.0, "Reward cap", "relu: a reward above this is good enough", group="Method", low=-10, high=10
    )
    reward_weight: float = setting(1e-3, "Reward weight", "lambda of the paper", group="Method", low=0)
    prior_weight: float = setting(
        0.0, "Prior weight", "denoising loss on images of the base (1 in the paper)", group="Method", low=0
    )
    prior_update: str = setting(
        "summed",
        "Prior update",
        "summed: one step on both losses; own step: one on each, as in the paper",
        group="Method",
        choices=PRIOR_UPDATES,
    )
    kl_weight: float = setting(
        1e-4,
        "Distance weight",
        "distance to the base's prediction on the same latents",
        group="Method",
        low=0,
    )
    prior_images: int = setting(
        64,
        "Prior images",
        "images the base makes once: for the prior, or to learn from (dpo wants a thousand or more)",
        group="Method",
        low=1,
        high=100_000,
    )
    keep_share: float = setting(
        0.25,
        "Kept share",
        "filtering and raft: share of the images that is kept",
        group="Method",
        low=0.01,
        high=1,
    )
    images_per_prompt: int = setting(
        8,
        "Images per prompt",
        "dpo: images of which the best and the worst make a pair",
        group="Method",
        low=2,
        high=1000,
    )
    beta: float = setting(
        250.0,
        "Beta",
        "dpo: how sharply a pair counts; the larger, the sooner one that is ordered well is left alone",
        group="Method",
        low=1e-3,
        high=1e6,
    )
    hold: float = setting(
        1.0,
        "Hold",
        "dpo: how much any distance to the base costs; at 1 the better image is fitted, the worse one only pushes",
        group="Method",
        low=0,
        high=1000,
    )
    rounds: int = setting(
        1,
        "Rounds",
        "raft and dpo: times the images are made by the current model; with 1 dpo learns from the base's alone",
        group="Method",
        low=1,
        high=100,
    )

    sampler: str = setting(
        "ddpm", "Sampler", "how images are made during training", group="Sampling", choices=SAMPLERS
    )
    steps: int = setting(
        40, "Steps", "T: sampling steps from noise to image", group="Sampling", low=2, high=1000
    )
    first_step: int = setting(
        30,
        "First step",
        "T1: earliest step that may take the gradient, counted from 0",
        group="Sampling",
        low=0,
        high=999,
    )
    last_step: int = setting(
        39, "Last step", "T2: latest step that may take the gradient", group="Sampling", low=0, high=999
    )
    guidance: float = setting(
        1.0,
        "Guidance",
        "classifier-free guidance during training; 1 is none",
        group="Sampling",
        low=1,
        high=30,
    )
    width: int = setting(
        0, "Width", "pixels; 0 takes the model's own size", group="Sampling", low=0, high=4096
    )
    height: int = setting(
        0, "Height", "pixels; 0 takes the model's own size", group="Sampling", low=0, high=4096
    )

    rank: int = setting(8, "Rank", "of the LoRA", group="LoRA", low=1, high=1024)
    alpha: float = setting(
        8.0, "Alpha", "the LoRA is scaled by alpha / rank", group="LoRA", low=0.001, high=1024
    )
    targets: str = setting(
        "attention+feed-forward",
        "Targets",
        "layers of the UNet that are trained",
        group="LoRA",
        choices=TARGETS,
    )
    text_encoder: bool = setting(False, "Text encoder", "train the text encoder as well", group="LoRA")

    learning_rate: float = setting(
        3e-4,
        "Learning rate",
        "1e-5 is for a whole UNet; a LoRA takes more",
        group="Optimiser",
        low=1e-8,
        high=1,
    )
    updates: int = setting(100, "Updates", "optimiser steps", group="Optimiser", low=1, high=1_000_000)
    batch: int = setting(
        64, "Batch", "images per update, over all devices", group="Optimiser", low=1, high=65_536
    )
    micro_batch: int = setting(
        0,
        "Micro-batch",
        "images at once on a device; 0 chooses by free memory",
        group="Optimiser",
        low=0,
        high=4096,
    )
    clip: float = setting(
        1.0, "Gradient clip", "largest norm of a gradient", group="Optimiser", low=1e-6, high=1e6
    )
    weight_decay: float = setting(0.01, "Weight decay", "of AdamW", group="Optimiser", low=0, high=1)
    seed: int = setting(0, "Seed", "of everything random", group="Optimiser", low=0, high=2**32 - 1)

    precision: str = setting(
        "auto",
        "Precision",
        "of the frozen networks; the LoRA always trains in fp32",
        group="Memory",
        choices=PRECISIONS,
    )
    memory: str = setting(
        "auto",
        "Memory preset",
        "GB of GPU memory to fit into; auto takes what is free",
        group="Memory",
        choices=MEMORY,
    )
    gradient_checkpointing: bool = setting(
        False, "Gradient checkpointing", "less memory, more time", group="Memory"
    )
    cpu: bool = setting(False, "CPU", "use no GPU", group="Memory")

    guard: bool = setting(
        True, "Guard rails", "stop when the reward rises and the judge falls", group="Guard"
    )
    judge: str = setting("", "Judge", "a scorer the training never uses", group="Guard")
    patience: int = setting(
        2, "Patience", "checks in a row that must be bad before the run stops", group="Guard", low=1, high=100
    )
    check_every: int = setting(
        10, "Check every", "updates between two checks and samples", group="Guard", low=1, high=100_000
    )
    check_images: int = setting(
        16, "Check images", "images per check, of fixed prompts and seeds", group="Guard", low=2, high=10_000
    )
    shown_images: int = setting(
        4, "Shown images", "how many of them are written as samples", group="Guard", low=0, high=100
    )
    save_every: int = setting(
        10, "Save every", "updates between two states to resume from", group="Guard", low=1, high=100_000
    )
    lora_every: int = setting(
        0,
        "LoRA every",
        "updates between two LoRA files; 0 writes the final one",
        group="Guard",
        low=0,
        high=100_000,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.first_step > self.last_step:
            raise FieldError(
                "first_step",
                lambda spell: (
                    f"{spell('first_step')} is {self.first_step}, after {spell('last_step')} {self.last_step}: swap them"
                ),
            )
        if self.last_step >= self.steps:
            raise FieldError(
                "last_step",
                lambda spell: (
                    f"{spell('last_step')} is {self.last_step}, but {self.steps} steps end at {self.steps - 1}"
                ),
            )
        if find_method(self.method).rolls_out and self.reward_weight == 0:
            raise FieldError(
                "reward_weight", lambda spell: f"{spell('reward_weight')} is 0: nothing would be learned"
            )

    @property
    def uses_prior(self) -> bool:
        """Whether images with captions are needed."""
        return not find_method(self.method).rolls_out or self.prior_weight > 0

    def lora_shape(self) -> LoraShape:
        """Return rank, alpha and places of the LoRA."""
        targets: Targets = self.targets  # type: ignore[assignment]  # checked against its choices
        return LoraShape(self.rank, self.alpha, targets, self.text_encoder)

    def sampling(self, resolution: int) -> SamplingSettings:
        """Return how images are made, for a model of the given size."""
        sampler: SamplerName = self.sampler  # type: ignore[assignment]
        return SamplingSettings(
            sampler, self.steps, self.guidance, self.width or resolution, self.height or resolution
        )

    def to_json(self) -> str:
        """Return every value as JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def from_mapping(values: Mapping[str, Any]) -> TrainingConfig:
    """Build a config; an unknown key is an error that names the nearest known one."""
    return read_strictly(TrainingConfig, values)


def check_name(name: str) -> None:
    """Refuse a name that is no plain file name."""
    if not NAME.fullmatch(name) or name != name.strip() or name.endswith("."):
        raise FieldError(
            "name", f"{name!r} cannot be the name of a run: use letters, digits, spaces, and . _ - +"
        )
