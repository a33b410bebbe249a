"""Every setting of a run, once: its name, what it means, its range and its default.

The command line's flags, the tab's widgets and the documentation are built from these fields. A config is
frozen, survives JSON, and refuses what it does not know.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from imagereward_ext.diffusion.lora import TARGETS, LoraShape, Targets
from imagereward_ext.diffusion.sampling import SamplingSettings
from imagereward_ext.diffusion.schedule import SAMPLERS, SamplerName
from imagereward_ext.errors import ImageRewardError

METHODS = ("refl", "reward-weighted", "filtering", "raft")
PHIS = ("relu", "linear", "log-sigmoid")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
PREDICTIONS = ("auto", "epsilon", "v_prediction")
MEMORY = ("auto", "6", "8", "12", "24", "none")
NAME = re.compile(r"[^\W.][\w .+-]{0,99}")


class ConfigError(ImageRewardError):
    """A setting with a value that cannot work."""


@dataclass(frozen=True)
class Setting:
    """What a person should know about one field."""

    name: str
    label: str
    help: str
    group: str
    type: type
    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The command line's spelling."""
        return "--" + self.name.replace("_", "-")

    def check(self, value: Any) -> None:
        """Refuse a value of another type or outside the range."""
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        of_type = isinstance(value, self.type) and (self.type is bool or not isinstance(value, bool))
        if not of_type:
            raise ConfigError(f"{self.name} is {value!r}; expected {_words(self.type)}")
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.name} is {value!r}; choose one of {', '.join(self.choices)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{self.name} is {value}; expected a finite number")
        outside = (self.low is not None and value < self.low) or (self.high is not None and value > self.high)
        if outside:
            limits = (
                f"at least {self.low:.10g}"
                if self.high is None
                else f"between {self.low:.10g} and {self.high:.10g}"
            )
            raise ConfigError(f"{self.name} is {value}; it must be {limits}")


def _setting(default: Any, label: str, help: str, group: str, low: float | None = None, high: float | None = None,
             choices: tuple[str, ...] = ()) -> Any:  # fmt: skip
    about = {"label": label, "help": help, "group": group, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class TrainingConfig:
    """One run. The defaults are the paper's where the paper says something; docs/training.md says where not."""

    # ---- what
    checkpoint: str = _setting(
        "", "Checkpoint", "base model: .safetensors, .ckpt, or a diffusers folder", "Model"
    )
    vae: str = _setting("", "VAE", "another VAE file instead of the checkpoint's own", "Model")
    prediction: str = _setting("auto", "Prediction", "what the UNet predicts, where the file does not tell", "Model",
                               choices=PREDICTIONS)  # fmt: skip
    clip_skip: int = _setting(1, "Clip skip", "as in the WebUI; 2 for most anime models", "Model", 1, 12)
    prompts: str = _setting("", "Prompts", "text file with one prompt per line (or a JSON list)", "Data")
    images: str = _setting("", "Images", "folder of images with .txt captions for the prior, instead of the base's "
                           "own images", "Data")  # fmt: skip
    name: str = _setting("", "Name", "of the run and of the LoRA", "Output")
    output: str = _setting("runs", "Runs", "folder the run's folder is made in", "Output")
    lora_dir: str = _setting(
        "", "LoRA folder", "copy finished LoRA files here (the WebUI's models/Lora)", "Output"
    )

    # ---- the algorithm
    method: str = _setting(
        "refl",
        "Method",
        "ReFL is the one to use; the others are the paper's, to compare with",
        "Method",
        choices=METHODS,
    )
    scorers: str = _setting("ImageReward-v1.0", "Scorers", "the reward: one scorer, or a mix as name:weight,name:weight",
                            "Method")  # fmt: skip
    phi: str = _setting("relu", "Loss of the reward", "relu stops pushing at the cap, linear never does", "Method",
                        choices=PHIS)  # fmt: skip
    reward_cap: float = _setting(
        2.0, "Reward cap", "relu: a reward above this is good enough", "Method", -10, 10
    )
    reward_weight: float = _setting(1e-3, "Reward weight", "lambda of the paper", "Method", 0)
    prior_weight: float = _setting(
        0.0, "Prior weight", "denoising loss on images of the base (1 in the paper)", "Method", 0
    )
    kl_weight: float = _setting(
        1e-4, "Distance weight", "distance to the base's prediction on the same latents", "Method", 0
    )
    prior_images: int = _setting(
        64, "Prior images", "images the base makes once for the prior", "Method", 1, 100_000
    )
    keep_share: float = _setting(
        0.25, "Kept share", "filtering and raft: share of the images that is kept", "Method", 0.01, 1
    )
    rounds: int = _setting(
        1, "Rounds", "raft: times the images are made again by the current model", "Method", 1, 100
    )

    # ---- the images
    sampler: str = _setting(
        "ddpm", "Sampler", "how images are made during training", "Sampling", choices=SAMPLERS
    )
    steps: int = _setting(40, "Steps", "T: sampling steps from noise to image", "Sampling", 2, 1000)
    first_step: int = _setting(30, "First step", "T1: earliest step that may take the gradient, counted from 0",
                               "Sampling", 0, 999)  # fmt: skip
    last_step: int = _setting(
        39, "Last step", "T2: latest step that may take the gradient", "Sampling", 0, 999
    )
    guidance: float = _setting(
        1.0, "Guidance", "classifier-free guidance during training; 1 is none", "Sampling", 1, 30
    )
    width: int = _setting(0, "Width", "pixels; 0 takes the model's own size", "Sampling", 0, 4096)
    height: int = _setting(0, "Height", "pixels; 0 takes the model's own size", "Sampling", 0, 4096)

    # ---- the LoRA
    rank: int = _setting(8, "Rank", "of the LoRA", "LoRA", 1, 1024)
    alpha: float = _setting(8.0, "Alpha", "the LoRA is scaled by alpha / rank", "LoRA", 0.001, 1024)
    targets: str = _setting("attention+feed-forward", "Targets", "layers of the UNet that are trained", "LoRA",
                            choices=TARGETS)  # fmt: skip
    text_encoder: bool = _setting(False, "Text encoder", "train the text encoder as well", "LoRA")

    # ---- the optimiser
    learning_rate: float = _setting(
        3e-4, "Learning rate", "1e-5 is for a whole UNet; a LoRA takes more", "Optimiser", 1e-8, 1
    )
    updates: int = _setting(100, "Updates", "optimiser steps", "Optimiser", 1, 1_000_000)
    batch: int = _setting(64, "Batch", "images per update, over all devices", "Optimiser", 1, 65_536)
    micro_batch: int = _setting(
        0, "Micro-batch", "images at once on a device; 0 chooses by free memory", "Optimiser", 0, 4096
    )
    clip: float = _setting(1.0, "Gradient clip", "largest norm of a gradient", "Optimiser", 1e-6, 1e6)
    weight_decay: float = _setting(0.01, "Weight decay", "of AdamW", "Optimiser", 0, 1)
    seed: int = _setting(0, "Seed", "of everything random", "Optimiser", 0, 2**32 - 1)

    # ---- memory
    precision: str = _setting("auto", "Precision", "of the frozen networks; the LoRA always trains in fp32", "Memory",
                              choices=PRECISIONS)  # fmt: skip
    memory: str = _setting(
        "auto",
        "Memory preset",
        "GB of GPU memory to fit into; auto takes what is free",
        "Memory",
        choices=MEMORY,
    )
    gradient_checkpointing: bool = _setting(
        False, "Gradient checkpointing", "less memory, more time", "Memory"
    )
    cpu: bool = _setting(False, "CPU", "use no GPU", "Memory")

    # ---- guard rails and records
    guard: bool = _setting(True, "Guard rails", "stop when the reward rises and the judge falls", "Guard")
    judge: str = _setting("", "Judge", "a scorer the training never uses", "Guard")
    patience: int = _setting(
        2, "Patience", "checks in a row that must be bad before the run stops", "Guard", 1, 100
    )
    check_every: int = _setting(
        10, "Check every", "updates between two checks and samples", "Guard", 1, 100_000
    )
    check_images: int = _setting(
        16, "Check images", "images per check, of fixed prompts and seeds", "Guard", 2, 10_000
    )
    shown_images: int = _setting(
        4, "Shown images", "how many of them are written as samples", "Guard", 0, 100
    )
    save_every: int = _setting(
        10, "Save every", "updates between two states to resume from", "Guard", 1, 100_000
    )
    lora_every: int = _setting(
        0, "LoRA every", "updates between two LoRA files; 0 writes the final one", "Guard", 0, 100_000
    )

    def __post_init__(self) -> None:
        for setting in settings():
            setting.check(getattr(self, setting.name))
        if self.first_step > self.last_step:
            raise ConfigError(f"first_step is {self.first_step}, after last_step {self.last_step}: swap them")
        if self.last_step >= self.steps:
            raise ConfigError(
                f"last_step is {self.last_step}, but {self.steps} steps end at {self.steps - 1}"
            )
        if self.method == "refl" and self.reward_weight == 0:
            raise ConfigError("reward_weight is 0: nothing would be learned")

    @property
    def uses_prior(self) -> bool:
        """Whether images with captions are needed."""
        return self.method != "refl" or self.prior_weight > 0

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


def settings() -> tuple[Setting, ...]:
    """Return what is known about every field, in order."""
    types = get_type_hints(TrainingConfig)
    return tuple(_about(entry, types[entry.name]) for entry in fields(TrainingConfig))


def from_mapping(values: Mapping[str, Any]) -> TrainingConfig:
    """Build a config; an unknown key is an error that names the nearest known one."""
    known = {entry.name for entry in fields(TrainingConfig)}
    for key in values:
        if key not in known:
            import difflib

            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known settings: {', '.join(sorted(known))}"
            raise ConfigError(f"there is no setting {key!r}: {hint}")
    return TrainingConfig(**values)


def read_config(path: Path) -> TrainingConfig:
    """Read a config from a JSON file."""
    return from_mapping(read_values(path))


def read_values(path: Path) -> dict[str, Any]:
    """Read a JSON file of settings, not all of which need to be there."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as settings: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no settings: expected a JSON object")
    return values


def check_name(name: str) -> None:
    """Refuse a name that is no plain file name."""
    if not NAME.fullmatch(name) or name != name.strip() or name.endswith("."):
        raise ConfigError(f"{name!r} cannot be the name of a run: use letters, digits, spaces, and . _ - +")


def _about(entry: Field[Any], kind: type) -> Setting:
    default = None if entry.default is MISSING else entry.default
    return Setting(name=entry.name, type=kind, default=default, **entry.metadata)


def _words(kind: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
