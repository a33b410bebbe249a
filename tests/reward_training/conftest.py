from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagereward_ext.reward_training.image_reward import model_from_nothing
from imagereward_ext.reward_training.recipes import make_recipe
from imagereward_ext.reward_training.train import Data, RankingSets, TrainedModel, read_sets, train_reward
from tests.preferences import make_preferences
from tests.tiny import TINY, write_vocabulary

ARCHITECTURE = dataclasses.replace(TINY, vision_width=24, text_width=24)


@dataclass(frozen=True)
class World:
    """Rankings small enough to learn from in a second."""

    folder: Path
    data: Data
    sets: RankingSets
    vocabulary: Path

    def recipe(self, **changes):
        quick = {
            "frozen_share": 0.0,
            "pairs_per_step": 16,
            "epochs": 2,
            "learning_rate": 1e-3,
            "validations_per_epoch": 2,
        }
        return make_recipe("imagereward", {**quick, **changes})

    def learner(self, recipe):
        return model_from_nothing(ARCHITECTURE, self.vocabulary, recipe)

    def train(self, output: Path, recipe=None, **options) -> TrainedModel:
        recipe = recipe or self.recipe()
        return train_reward(self.sets, lambda sets: self.learner(recipe), recipe, output, cpu=True, **options)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("preferences")
    data = Data(
        training=make_preferences(folder / "training", prompts=16, seed=0, images=(3, 5)),
        validation=make_preferences(folder / "validation", prompts=8, seed=1, images=(3, 5)),
    )
    vocabulary = folder / "vocab.txt"
    write_vocabulary(vocabulary)
    return World(folder, data, read_sets(data), vocabulary)
