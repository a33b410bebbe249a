"""Models that score images: one seam (:mod:`~imagereward_ext.scorers.base`), one file per model."""

from __future__ import annotations

from imagereward_ext.scorers.base import Ranking, Scorer
from imagereward_ext.scorers.loading import load_scorer

__all__ = ["Ranking", "Scorer", "load_scorer"]
