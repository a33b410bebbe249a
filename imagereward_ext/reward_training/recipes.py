"""The settings of a training, with the published ones as defaults."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from imagereward_ext.errors import ImageRewardError, UsageError


class RewardTrainingError(ImageRewardError):
    """A training that cannot start, go on, or give a model."""


SCHEDULES = ("cosine", "constant")
PRECISIONS = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}
"""Our word for each of accelerate's mixed precisions; the weights that learn stay in single precision."""

R = TypeVar("R", bound="Recipe")


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Recipe:
    """What all recipes have in common."""

    name: ClassVar[str]
    architecture: ClassVar[str]

    pairs_per_step: int = _setting(64, "pairs that one update learns from, over all processes")
    pairs_at_once: int | None = _setting(
        None, "pairs that go through the network together, to save memory; the gradients are summed"
    )
    epochs: int = _setting(10, "times every pair is seen")
    learning_rate: float = _setting(1e-5, "Adam's learning rate at its highest")
    schedule: str = _setting("cosine", "cosine (down to 0 at the end) or constant")
    warmup: float = _setting(0.0, "share of the updates in which the learning rate rises")
    betas: tuple[float, float] = _setting((0.9, 0.999), "Adam's two decay rates")
    epsilon: float = _setting(1e-8, "Adam's epsilon")
    dropout: bool = _setting(True, "drop activations at random while training, at the published rates")
    validations_per_epoch: int = _setting(
        4, "how often the held-out pairs are measured; the best model is kept"
    )
    precision: str = _setting("fp32", "fp32, fp16 or bf16")
    seed: int = _setting(0, "decides the order of the prompts, the dropout and new weights")

    def __post_init__(self) -> None:
        for name in ("pairs_per_step", "epochs", "validations_per_epoch"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        if self.pairs_at_once is not None:
            _require(self.pairs_at_once >= 1, "pairs_at_once", self.pairs_at_once, "1 or more")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        _require(0 <= self.warmup < 1, "warmup", self.warmup, "a share from 0 to below 1")
        _require(self.schedule in SCHEDULES, "schedule", self.schedule, " or ".join(SCHEDULES))
        _require(self.precision in PRECISIONS, "precision", self.precision, ", ".join(PRECISIONS))

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

    frozen_share: float = _setting(0.7, "share of both towers' layers, from below, that does not learn")

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.frozen_share <= 1, "frozen_share", self.frozen_share, "a share from 0 to 1")


@dataclass(frozen=True)
class ClipMlpRecipe(Recipe):
    """Five layers over frozen CLIP embeddings of image and prompt, which are computed once."""

    name: ClassVar[str] = "clip-mlp"
    architecture: ClassVar[str] = "clip-mlp"

    pairs_per_step: int = _setting(256, "pairs that one update learns from, over all processes")
    epochs: int = _setting(20, "times every pair is seen")
    schedule: str = _setting("constant", "cosine (down to 0 at the end) or constant")
    betas: tuple[float, float] = _setting((0.9, 0.99), "Adam's two decay rates")
    validations_per_epoch: int = _setting(
        1, "how often the held-out pairs are measured; the best model is kept"
    )


RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in (ImageRewardRecipe, ClipMlpRecipe)}


def make_recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Build a recipe by name with some settings changed; an unknown name or setting is an error."""
    if name not in RECIPES:
        raise UsageError(f"no recipe is called {name!r}; choose {' or '.join(RECIPES)}")
    recipe = RECIPES[name]
    changes = dict(changes or {})
    known = [item.name for item in dataclasses.fields(recipe)]
    if unknown := sorted(set(changes) - set(known)):
        raise UsageError(f"the recipe {name} has no setting {unknown[0]!r}; it has {', '.join(known)}")
    return recipe(**changes)


def _require(condition: bool, name: str, value: Any, expected: str) -> None:
    if not condition:
        raise UsageError(f"{name} is {value!r}; expected {expected}")
