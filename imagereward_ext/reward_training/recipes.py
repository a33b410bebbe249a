"""The settings of a training, with the published ones as defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from imagereward_ext.errors import ImageRewardError, UsageError
from imagereward_ext.settings import check, read_strictly, setting, with_default


class RewardTrainingError(ImageRewardError):
    """A training that cannot start, go on, or give a model."""


SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class Recipe:
    """What all recipes have in common."""

    name: ClassVar[str]
    architecture: ClassVar[str]

    pairs_per_step: int = setting(
        64, "Pairs per step", "pairs that one update learns from, over all processes", low=1
    )
    pairs_at_once: int | None = setting(
        None,
        "Pairs at once",
        "pairs that go through the network together, to save memory; the gradients are summed",
        low=1,
    )
    epochs: int = setting(10, "Epochs", "times every pair is seen", low=1)
    learning_rate: float = setting(1e-5, "Learning rate", "Adam's learning rate at its highest", above=0)
    schedule: str = setting(
        "cosine", "Schedule", "of the learning rate; cosine goes down to 0 at the end", choices=SCHEDULES
    )
    warmup: float = setting(
        0.0, "Warm-up", "share of the updates in which the learning rate rises", low=0, below=1
    )
    betas: tuple[float, float] = setting((0.9, 0.999), "Betas", "Adam's two decay rates", low=0, below=1)
    epsilon: float = setting(1e-8, "Epsilon", "Adam's epsilon", low=0)
    dropout: bool = setting(
        True, "Dropout", "drop activations at random while training, at the published rates"
    )
    validations_per_epoch: int = setting(
        4,
        "Validations per epoch",
        "how often the held-out pairs are measured; the best model is kept",
        low=1,
    )
    precision: str = setting(
        "fp32", "Precision", "of the computation; the weights stay in fp32", choices=("fp32", "fp16", "bf16")
    )
    seed: int = setting(0, "Seed", "decides the order of the prompts, the dropout and new weights")

    def __post_init__(self) -> None:
        check(self)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of the update number `step` (from 0) of `steps`."""
        rising = round(self.warmup * steps)
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        if self.schedule == "constant":
            return self.learning_rate
        done = (step - rising) / max(1, steps - rising)
        return self.learning_rate * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class ImageRewardRecipe(Recipe):
    """BLIP's towers, the lower 70 % of their layers frozen, and a new head (Xu et al. 2023, section 2.2)."""

    name: ClassVar[str] = "imagereward"
    architecture: ClassVar[str] = "image-reward"

    frozen_share: float = setting(
        0.7,
        "Frozen share",
        "share of both towers' layers, from below, that does not learn",
        low=0,
        high=1,
        aliases=("--freeze",),
    )


@dataclass(frozen=True)
class ClipMlpRecipe(Recipe):
    """Five layers over frozen CLIP embeddings of image and prompt, which are computed once."""

    name: ClassVar[str] = "clip-mlp"
    architecture: ClassVar[str] = "clip-mlp"

    pairs_per_step: int = with_default(Recipe, "pairs_per_step", 256)
    epochs: int = with_default(Recipe, "epochs", 20)
    schedule: str = with_default(Recipe, "schedule", "constant")
    betas: tuple[float, float] = with_default(Recipe, "betas", (0.9, 0.99))
    validations_per_epoch: int = with_default(Recipe, "validations_per_epoch", 1)


RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in (ImageRewardRecipe, ClipMlpRecipe)}


def make_recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Build a recipe by name with some settings changed; an unknown name or setting is an error."""
    if name not in RECIPES:
        raise UsageError(f"no recipe is called {name!r}; choose {' or '.join(RECIPES)}")
    return read_strictly(RECIPES[name], changes or {}, f"the recipe {name} has no setting")
