"""Reward: a scorer with its calibration.

A score is what a person sees, in the model's own units: a cosine of 0.25, a rating of 6.2, a standardised 0.9. A
reward is the same judgement with mean 0 and spread 1 over images that a base model makes, higher is better. Trainings,
mixes and guard rails take rewards and nothing else, so a cap of 2 and a weight of 0.5 mean the same for every model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from imagereward_ext.errors import ScoringError
from imagereward_ext.scorers.base import Progress, Scorer
from imagereward_ext.scorers.calibration import Calibration


@dataclass(frozen=True)
class Reward:
    """A scorer on the scale that all rewards share."""

    scorer: Scorer
    calibration: Calibration

    @classmethod
    def published(cls, scorer: Scorer) -> Reward:
        """Calibrate a scorer by what was published with it."""
        if scorer.calibration is None:
            raise ScoringError(
                f"no mean and spread were published with {scorer.name}: they have to be measured"
            )
        return cls(scorer, scorer.calibration)

    def __call__(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        """Reward pixels (b, 3, h, w) in [0, 1] as (b,), where they are, with the gradient to them."""
        return self.calibration(self.scorer.score_pixels(pixels, prompts)).to(pixels.device)

    def of(
        self, images: Sequence[Image.Image], prompts: str | Sequence[str], progress: Progress | None = None
    ) -> list[float]:
        """Reward people's images, in input order."""
        return [self.calibration(score) for score in self.scorer.score(images, prompts, progress)]


@torch.no_grad()
def calibrate(scorer: Scorer, pixels: Tensor, prompts: Sequence[str], at_once: int = 4) -> Reward:
    """Measure a scorer on images of the base model, (n, 3, h, w) in [0, 1], each under its own prompt."""
    parts = [
        scorer.score_pixels(pixels[start : start + at_once], prompts[start : start + at_once])
        for start in range(0, len(pixels), at_once)
    ]
    return Reward(scorer, Calibration.of(torch.cat(parts).float().tolist(), scorer.name))
