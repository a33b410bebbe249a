"""Calibration: the mean and spread by which a scorer's scores become rewards."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from imagereward_ext.errors import ScoringError

Number = TypeVar("Number", float, Tensor)

_FLAT = 1e-6
"""A spread below this share of the scores themselves is single precision's rounding."""


@dataclass(frozen=True)
class Calibration:
    """What is taken out of a score to have mean 0 and spread 1 over images a base model makes."""

    mean: float
    std: float
    images: int = 0
    """How many images it was measured on; 0 when it was published."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean) or not (math.isfinite(self.std) and self.std > 0):
            raise ScoringError(
                f"a calibration has the mean {self.mean} and the spread {self.std}; "
                "expected finite numbers and a spread above 0"
            )

    def __call__(self, score: Number) -> Number:
        """Bring a score to the scale that all rewards share."""
        return (score - self.mean) / self.std

    @classmethod
    def of(cls, scores: Sequence[float], name: str) -> Calibration:
        """Measure a scorer's mean and spread; one that says the same of every image has no scale."""
        if bad := sum(not math.isfinite(score) for score in scores):
            raise ScoringError(f"{name} has no finite score for {bad} of {len(scores)} images; try fp32")
        mean, std = statistics.fmean(scores), statistics.pstdev(scores)
        if not std > _FLAT * max(abs(score) for score in scores):
            raise ScoringError(
                f"{name} gives all {len(scores)} images the same score ({mean:.6g}): "
                "it cannot be put on a scale"
            )
        return cls(mean, std, len(scores))


STANDARD = Calibration(0.0, 1.0)
"""That of a scorer whose scores are standardised already."""
