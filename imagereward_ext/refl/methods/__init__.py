"""How a run learns: one seam, one file per method.

A new method is a new file in this folder that ends in `METHOD = ...`; the file's name, with a hyphen for each
underscore, is what the setting calls it. The defaults are those of a method that denoises images of a pool.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

    from imagereward_ext.refl.algorithm import Algorithm
    from imagereward_ext.refl.config import TrainingConfig
    from imagereward_ext.refl.pool import Pool
    from imagereward_ext.training.engine import Figures, Optimise


class Method:
    """What differs between the methods."""

    rolls_out: ClassVar[bool] = False
    """Whether it learns from the reward's gradient, on images it makes of the run's prompts; a pool is its prior then,
    and nobody scores it."""
    in_rounds: ClassVar[bool] = False
    """Whether the pool is made anew in every round, by the model as trained so far; else once, by the base."""

    def images_per_prompt(self, config: TrainingConfig) -> int:
        """Return how many images of a prompt a pool holds: enough for the kept share to be one."""
        return max(1, round(1 / config.keep_share))

    def kept(self, pool: Pool, keep_share: float) -> Tensor | slice:
        """Choose the rows of a pool that are denoised."""
        return slice(None)

    def weights(self, rewards: Tensor) -> Tensor:
        """Return the weight of each image's denoising loss, (n,)."""
        return rewards.new_ones(rewards.shape)

    def passes(self, trained: float) -> float:
        """Return what a sample of a pool takes, in forward passes of the UNet; one with gradient counts ``trained``."""
        return trained

    def update(self, algorithm: Algorithm, step: int, optimise: Optimise) -> Figures:
        """Learn from one batch."""
        return optimise(partial(algorithm.pretraining, step), algorithm.config.batch)


def known_methods() -> tuple[str, ...]:
    """List what the setting may be, by the files of this folder; imports none of them."""
    return tuple(file.name.replace("_", "-") for file in iter_modules(__path__))


def find_method(name: str) -> Method:
    """Return the method of a name that the setting may be."""
    method: Method = import_module(f"{__name__}.{name.replace('-', '_')}").METHOD
    return method
