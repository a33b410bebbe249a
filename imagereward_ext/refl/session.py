"""Everything a run works with, loaded and placed: the model, the reward, the judge, the prompts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from imagereward_ext.compute import diffusion_type
from imagereward_ext.diffusion import lora
from imagereward_ext.diffusion.loading import load_parts
from imagereward_ext.diffusion.model_config import DiffusionConfig
from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.diffusion.placement import place
from imagereward_ext.diffusion.prompts import read_prompts
from imagereward_ext.diffusion.sampling import SamplingSettings
from imagereward_ext.refl import calibration
from imagereward_ext.refl.config import TrainingConfig
from imagereward_ext.refl.encodings import Encodings
from imagereward_ext.refl.fit import Fit, fit, free_memory
from imagereward_ext.refl.methods import find_method
from imagereward_ext.refl.pool import captioned_images
from imagereward_ext.refl.rewards import (
    LoadScorer,
    WeightedScorer,
    checkpoint_layers,
    load_scorers,
    mixed_reward,
    parse_mix,
)
from imagereward_ext.scorers.reward import Reward
from imagereward_ext.settings import FieldError, schema
from imagereward_ext.training.learner import Learner, adamw
from imagereward_ext.training.processes import Processes
from imagereward_ext.training.randomness import derived_seed, shuffled_index
from imagereward_ext.wording import Say

FEWEST_PROMPTS = 2


@dataclass
class Session:
    """The loaded pieces of one run."""

    config: TrainingConfig
    parts: DiffusionParts
    reward: Reward
    judge: Reward | None
    learner: Learner
    encodings: Encodings
    captions: list[str]
    """The prompts of the pool."""
    checked: list[str]
    """The prompts of every check."""
    settings: SamplingSettings
    fit: Fit
    calibrations: dict[str, dict[str, Any]]
    """The scale of every scorer, as the run keeps it."""


def read_inputs(config: TrainingConfig) -> list[str]:
    """Read the prompts and look at every input, so that what is wrong is said before anything is loaded."""
    check_inputs(config)
    if not config.prompts:
        raise FieldError("prompts", "no prompts were given: name a text file with --prompts")
    return read_prompts(Path(config.prompts).expanduser(), FEWEST_PROMPTS)


def check_inputs(config: TrainingConfig) -> None:
    """Look at every input but the prompts."""
    if not config.checkpoint:
        raise FieldError("checkpoint", "no checkpoint was given: name the base model with --checkpoint")
    if config.vae and not Path(config.vae).expanduser().is_file():
        raise FieldError("vae", f"the VAE {config.vae} does not exist")
    names = [name for name, _ in parse_mix(config.scorers)]
    if config.judge in names:
        raise FieldError(
            "judge",
            f"the judge {config.judge} is also the reward: it must be a scorer the training never uses",
        )
    if config.images:
        captioned_images(Path(config.images))
    for field in ("output", "lora_dir"):
        if folder := getattr(config, field):
            _refuse_unwritable(field, Path(folder).expanduser())


def _refuse_unwritable(field: str, folder: Path) -> None:
    """Say now what would otherwise be found out when the training is done."""
    there = next(
        place for place in (folder.absolute(), *folder.absolute().parents) if os.access(place, os.F_OK)
    )
    if not there.is_dir():
        raise FieldError(field, f"{folder} cannot be written: {there} is no folder")
    if not os.access(there, os.W_OK):
        raise FieldError(field, f"{folder} cannot be written: no permission")


def load_session(
    config: TrainingConfig,
    prompts: list[str],
    processes: Processes,
    load: LoadScorer,
    note: Say,
    kept: Mapping[str, Any] | None = None,
) -> Session:
    """Load everything, freeze it, and put the LoRA in. ``kept`` are the facts that a resumed run began with."""
    share = len(processes.share(config.batch))
    _refuse_idle_processes(config, processes.count)
    prediction: Any = None if config.prediction == "auto" else config.prediction
    vae = Path(config.vae).expanduser() if config.vae else None
    dtype = diffusion_type(processes.device, config.precision)
    parts = load_parts(Path(config.checkpoint).expanduser(), vae, prediction, config.clip_skip, dtype)
    free = [
        gigabytes for gigabytes in processes.collect([free_memory(processes.device)]) if gigabytes is not None
    ]
    fitted = fit(config, parts.config, min(free, default=None), share)  # all make images of one size
    fitted = replace(fitted, **(kept or {}).get("fit", {}))
    settings = config.sampling(fitted.resolution)
    parts.latent_shape(settings.height, settings.width)  # refuses odd sizes
    place(parts, processes.device, dtype)
    parts.use_low_memory_layers()
    lora.inject(parts, config.lora_shape(), derived_seed(config.seed, "lora"))
    scorers = load_scorers(config.scorers, load)
    judge = WeightedScorer(config.judge, load(config.judge), 1) if config.judge and processes.main else None
    if fitted.checkpointing or config.gradient_checkpointing:
        parts.checkpoint_gradients()
        checkpoint_layers(scorer_networks(scorers))
    half = any(p.dtype == torch.float16 for module in networks(parts, scorers) for p in module.parameters())
    optimiser = adamw(parts.trainable(), config.learning_rate, config.weight_decay, fitted.eight_bit)
    learner = Learner(optimiser, config.clip, half)
    captions = [text for _, text in captioned_images(Path(config.images))] if config.images else prompts
    checked = evenly(prompts, config.check_images)
    encodings = Encodings(parts, prompts, trained=config.text_encoder)
    rated = [*scorers, *([judge] if judge else [])]
    # The judge is the main process's alone, but all make the images.
    measure = kept is None and processes.any(any(entry.scorer.calibration is None for entry in rated))
    asked = evenly(prompts, max(calibration.CALIBRATION_IMAGES, processes.count)) if measure else []
    encodings.prepare([*visited(config, prompts), *checked, *pool_prompts(config, captions), *asked])
    warn_about_long_prompts(parts, prompts, note)
    if kept is not None:
        scales = calibration.kept(rated, kept.get("calibrations", {}))
    else:
        scales = calibration.published(rated)
    if asked:
        images = calibration.base_images(
            parts, encodings, asked, settings, config.seed, fitted.micro_batch, processes
        )
        unknown = [entry for entry in rated if entry.name not in scales]
        measured = calibration.measured(unknown, images, asked, fitted.micro_batch, processes)
        if processes.main:
            calibration.tell(measured, note)
        scales |= measured
    return Session(
        config=config,
        parts=parts,
        reward=mixed_reward(scorers, scales),
        judge=Reward(judge.scorer, scales[judge.name]) if judge else None,
        learner=learner,
        encodings=encodings,
        captions=captions,
        checked=checked,
        settings=settings,
        fit=fitted,
        calibrations=calibration.facts_of(rated, scales),
    )


def _refuse_idle_processes(config: TrainingConfig, processes: int) -> None:
    """Every process has images to make, in an update, a check and the pool alike."""
    made = ["batch", "check_images"] + ["prior_images"] * (config.uses_prior and not config.images)
    for name in made:
        if getattr(config, name) < processes:
            problem = f"is {getattr(config, name)}, fewer than the {processes} processes"
            raise schema(TrainingConfig)[name].error(problem)


def scorer_networks(scorers: Sequence[WeightedScorer]) -> list[torch.nn.Module]:
    """List the scorers' networks, each once: several may stand on one tower."""
    found = (module for entry in scorers for module in entry.scorer.modules())
    return list({id(module): module for module in found}.values())


def networks(parts: DiffusionParts, scorers: Sequence[WeightedScorer]) -> Iterator[torch.nn.Module]:
    """Yield everything that the gradient flows through: a scorer in fp16 alone already needs loss scaling."""
    yield from parts.modules()
    yield from scorer_networks(scorers)


def visited(config: TrainingConfig, prompts: Sequence[str]) -> list[str]:
    """Return the prompts that the run will meet."""
    if not find_method(config.method).rolls_out:
        return []
    count = min(len(prompts), config.updates * config.batch)
    if count == len(prompts):
        return list(prompts)
    return [prompts[shuffled_index(config.seed, position, len(prompts))] for position in range(count)]


def pool_prompts(config: TrainingConfig, captions: Sequence[str]) -> list[str]:
    """Return the prompts of the pool's images, one for each image in the pool's order."""
    if not config.uses_prior:
        return []
    if config.images:
        return list(captions)
    each = find_method(config.method).images_per_prompt(config)
    return [
        captions[shuffled_index(config.seed, row // each, len(captions))]
        for row in range(config.prior_images)
    ]


def evenly(prompts: Sequence[str], count: int) -> list[str]:
    """Pick prompts at even distances; from the start again when there are too few."""
    if len(prompts) >= count:
        return [prompts[i * len(prompts) // count] for i in range(count)]
    return [prompts[i % len(prompts)] for i in range(count)]


def warn_about_long_prompts(parts: DiffusionParts, prompts: Sequence[str], note: Say) -> None:
    """Say it when prompts are longer than the text encoder's window."""
    room = min(text.positions for text in parts.config.text_encoders) - 2
    long = sum(len(parts.tokenizer.tokens(prompt)) > room for prompt in prompts)
    if long:
        note(
            f"{long} of {len(prompts)} prompts have more than {room} tokens; the text encoder reads the first {room}"
        )


def kept_facts(fitted: Fit) -> dict[str, Any]:
    """Return what a resumed run takes over, however much memory is free then."""
    return {"resolution": fitted.resolution, "eight_bit": fitted.eight_bit}


def model_facts(model: DiffusionConfig) -> dict[str, Any]:
    """Return what the run folder keeps about the model."""
    return {"family": model.family, "resolution": model.resolution, "prediction": model.noise.prediction}


def lora_name(name: str, step: int) -> str:
    """Return the name of the LoRA of a step: never the same twice, since hosts cache files by name."""
    return f"{name}-{step:06d}"
