"""ReFL, Algorithm 1 of the paper: :meth:`~imagereward_ext.refl.algorithm.Algorithm.both_updates` is its body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagereward_ext.refl.methods import Method

if TYPE_CHECKING:
    from imagereward_ext.refl.algorithm import Algorithm
    from imagereward_ext.refl.config import TrainingConfig
    from imagereward_ext.training.engine import Figures, Optimise


class ReFL(Method):
    """Follow the reward's gradient; the prior denoises all images of the base alike."""

    rolls_out = True

    def images_per_prompt(self, config: TrainingConfig) -> int:
        return 1

    def update(self, algorithm: Algorithm, step: int, optimise: Optimise) -> Figures:
        return algorithm.both_updates(step, optimise)


METHOD = ReFL()
