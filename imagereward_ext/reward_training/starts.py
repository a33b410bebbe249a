"""Where a training starts: a published model, a user's own one, BLIP's towers, or random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imagereward_ext.reward_training import clip_mlp, image_reward
from imagereward_ext.reward_training.recipes import (
    ClipMlpRecipe,
    ImageRewardRecipe,
    Recipe,
    RewardTrainingError,
)
from imagereward_ext.reward_training.reward_model import RewardModel
from imagereward_ext.reward_training.train import RankingSets
from imagereward_ext.scorers.image_reward import Architecture
from imagereward_ext.weights import catalogue
from imagereward_ext.weights.spec import ScorerSpec
from imagereward_ext.wording import Say


@dataclass(frozen=True)
class Start:
    """What the first weights are."""

    init: str | None = None
    """A scorer's name, a model folder, `blip`, or `random`; None for the recipe's own."""
    architecture: Path | None = None
    """For `random`: a JSON file with the sizes of the network; absent ones are those of ImageReward v1.0."""
    vocabulary: Path | None = None
    """For `random`: a BERT vocabulary; BERT's own when None."""
    tower: str | None = None
    """For the recipe clip-mlp: the scorer whose CLIP towers give the embeddings; CLIP when None."""


def make_model(
    recipe: Recipe,
    start: Start,
    sets: RankingSets,
    weights: ScorerSpec | None = None,
    report: Say | None = None,
) -> RewardModel:
    """Build what the recipe trains; whatever scorer `weights` names, files come from its places."""
    weights = weights or ScorerSpec()
    if isinstance(recipe, ImageRewardRecipe):
        if start.tower is not None:
            raise RewardTrainingError(
                "the recipe imagereward brings its own towers: leave the CLIP tower out"
            )
        return _image_reward(recipe, start, weights, report)
    assert isinstance(recipe, ClipMlpRecipe)
    if start.architecture or start.vocabulary:
        raise RewardTrainingError(
            "the recipe clip-mlp takes its sizes and its vocabulary from the CLIP tower"
        )
    return clip_mlp.make_model(recipe, start.init, start.tower, sets, weights, report)


def _image_reward(
    recipe: ImageRewardRecipe, start: Start, weights: ScorerSpec, report: Say | None
) -> RewardModel:
    init = start.init or "blip"
    if init != "random" and (start.architecture or start.vocabulary):
        raise RewardTrainingError(
            f"an architecture or a vocabulary is for random weights; the start is {init}"
        )
    if init == "random":
        architecture = (
            image_reward.read_architecture(start.architecture) if start.architecture else Architecture()
        )
        vocabulary = start.vocabulary or weights.obtain(catalogue.BERT_VOCABULARY, report)
        return image_reward.model_from_nothing(architecture, vocabulary, recipe)
    if init == "blip":
        return image_reward.model_from_blip(recipe, weights, report)
    return image_reward.model_from_scorer(weights.another(init), recipe, report)
