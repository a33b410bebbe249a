"""Diffusion-DPO on the model's own images: of each prompt's the best against the worst, by the reward.

The reward only chooses: neither it nor the decoder is in the gradient. :mod:`~imagereward_ext.refl.preference` is the loss.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from imagereward_ext.refl.methods import Method

if TYPE_CHECKING:
    from imagereward_ext.refl.algorithm import Algorithm
    from imagereward_ext.refl.config import TrainingConfig
    from imagereward_ext.training.engine import Figures, Optimise


class DPO(Method):
    """Learn from pairs. With one round the base makes all images, since a LoRA begins as nothing."""

    in_rounds = True

    def images_per_prompt(self, config: TrainingConfig) -> int:
        return config.images_per_prompt

    def passes(self, trained: float) -> float:
        return 2 * (trained + 1)  # both images, by the model and by the base

    def update(self, algorithm: Algorithm, step: int, optimise: Optimise) -> Figures:
        from imagereward_ext.refl.pairs import best_and_worst
        from imagereward_ext.refl.preference import preference

        assert algorithm.pool is not None
        pairs = best_and_worst(algorithm.pool)
        return optimise(partial(preference, algorithm, pairs, step), algorithm.config.batch)


METHOD = DPO()
