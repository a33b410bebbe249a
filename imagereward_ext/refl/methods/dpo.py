"""Diffusion-DPO: of two images of a prompt, make the better one likelier than the base does, and the worse one less.

Wallace et al. 2023, "Diffusion Model Alignment Using Direct Preference Optimization", https://arxiv.org/abs/2311.12908,
equation 14. The images are the model's own, best and worst of several by the reward, which only chooses: neither it nor
the decoder is in the gradient. The base, the LoRA switched off, is the reference. What differs from the paper stands at
:meth:`~imagereward_ext.refl.algorithm.Algorithm.preference`.
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

        assert algorithm.pool is not None
        pairs = best_and_worst(algorithm.pool)
        return optimise(partial(algorithm.preference, step, pairs), algorithm.config.batch)


METHOD = DPO()
