"""Models that score images: one seam (:mod:`~imagereward_ext.scorers.base`), one file per model."""

from __future__ import annotations

from imagereward_ext.scorers.base import Ranking, Scorer
from imagereward_ext.scorers.calibration import STANDARD, Calibration
from imagereward_ext.scorers.loading import load_scorer
from imagereward_ext.scorers.reward import Reward, calibrate
from imagereward_ext.weights.spec import ScorerSpec

__all__ = ["STANDARD", "Calibration", "Ranking", "Reward", "Scorer", "ScorerSpec", "calibrate", "load_scorer"]
