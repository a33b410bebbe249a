"""Every scorer of a run on one scale: published, or measured on images of the untrained model before the first update.

The run keeps what was measured, so that a resumed one goes on by the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from imagereward_ext.diffusion.lora import adapters_disabled
from imagereward_ext.diffusion.parts import DiffusionParts
from imagereward_ext.diffusion.sampling import SamplingSettings, generate
from imagereward_ext.errors import ScoringError, WeightsError
from imagereward_ext.refl.encodings import Encodings
from imagereward_ext.refl.rewards import WeightedScorer
from imagereward_ext.scorers.calibration import STANDARD, Calibration
from imagereward_ext.scorers.reward import calibrate
from imagereward_ext.training.processes import Processes
from imagereward_ext.training.randomness import derived_seed
from imagereward_ext.wording import Say

CALIBRATION_IMAGES = 32
"""Enough to tell a spread within an eighth."""


def published(scorers: Sequence[WeightedScorer]) -> dict[str, Calibration]:
    """Return the calibrations that came with the scorers, by name; whatever is missing has to be measured."""
    known = ((entry.name, entry.scorer.calibration) for entry in scorers)
    return {name: calibration for name, calibration in known if calibration is not None}


def kept(scorers: Sequence[WeightedScorer], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Calibration]:
    """Take up what a run keeps. One that was begun before anything was measured goes on by its raw scores."""
    found: dict[str, Calibration] = {}
    for entry in scorers:
        values = dict(facts.get(entry.name, {}))
        digest = values.pop("digest", entry.scorer.digest)
        if digest != entry.scorer.digest:
            raise WeightsError(
                f"{entry.name} is not the scorer this run began with ({digest}, now {entry.scorer.digest}): "
                "bring the same weights back"
            )
        found[entry.name] = Calibration(**values) if values else entry.scorer.calibration or STANDARD
    return found


def facts_of(
    scorers: Sequence[WeightedScorer], calibrations: Mapping[str, Calibration]
) -> dict[str, dict[str, Any]]:
    """Return what a run keeps of its calibrations, with the weights they belong to."""
    return {
        entry.name: {**asdict(calibrations[entry.name]), "digest": entry.scorer.digest} for entry in scorers
    }


def measured(
    scorers: Sequence[WeightedScorer],
    images: Tensor,
    prompts: Sequence[str],
    at_once: int,
    processes: Processes,
) -> dict[str, Calibration]:
    """Measure on the untrained model's images. The main process does, and all go on by its numbers.

    A reward that is the same for all of them shows no way up, and is refused.
    """
    answer: list[dict[str, Calibration] | ScoringError] = []
    if processes.main:
        try:
            answer = [
                {
                    entry.name: calibrate(entry.scorer, images, prompts, at_once).calibration
                    for entry in scorers
                }
            ]
        except ScoringError as error:
            answer = [error]  # for all: nobody is to wait for the others in vain
    (found,) = processes.collect(answer)
    if isinstance(found, ScoringError):
        raise ScoringError(f"a reward flat at the start is refused: on the base's images, {found}")
    return found


def tell(measurements: Mapping[str, Calibration], note: Say) -> None:
    """Say what was measured."""
    for name, scale in measurements.items():
        note(
            f"{name} was measured on {scale.images} images of the base: mean {scale.mean:.4g}, spread {scale.std:.4g}"
        )


@torch.no_grad()
def base_images(
    parts: DiffusionParts,
    encodings: Encodings,
    prompts: Sequence[str],
    settings: SamplingSettings,
    seed: int,
    at_once: int,
    processes: Processes,
) -> Tensor:
    """Make images by the untrained model, (n, 3, h, w) in [0, 1] on the CPU, each process a share of them."""
    rows = processes.share(len(prompts))
    cond, negative = encodings.with_negative([prompts[row] for row in rows], settings.guidance)
    seeds = [derived_seed(seed, "calibration", row) for row in rows]
    with adapters_disabled(parts):
        pixels = generate(parts, cond, negative, settings, seeds, at_once)
        return torch.stack(processes.collect([image.float().cpu() for image in pixels]))
