"""Training really learns: images whose quality is known by construction, judged on images never seen.

The published defaults are for pretrained towers of full size; these towers are small and start from nothing, so
the tests set their own learning rate.
"""

import dataclasses

import pytest

from imagereward_ext.reward_training import image_reward
from imagereward_ext.reward_training.recipes import make_recipe
from imagereward_ext.reward_training.starts import Start, make_model
from imagereward_ext.reward_training.train import Data, read_sets, train_reward
from imagereward_ext.weights.spec import ScorerSpec
from tests.preferences import make_preferences
from tests.tiny import TINY, write_vocabulary

TOWERS = dataclasses.replace(TINY, vision_width=48, text_width=32)


def read(folder, prompts, *, shuffled=False, seed=0, validation=80):
    return read_sets(
        Data(
            training=make_preferences(folder / "training", prompts, seed, shuffled=shuffled),
            validation=make_preferences(folder / "validation", validation, 1000 + seed),
        )
    )


def from_nothing(sets, folder, name="model", towers=TINY, **settings):
    write_vocabulary(folder / "vocab.txt")
    recipe = make_recipe("imagereward", {"frozen_share": 0.0, "learning_rate": 1e-3, **settings})
    return train_reward(
        sets,
        lambda sets: image_reward.model_from_nothing(towers, folder / "vocab.txt", recipe),
        recipe,
        folder / name,
        cpu=True,
    )


def test_a_small_network_learns_in_seconds_and_not_from_shuffled_ranks(tmp_path):
    settings = {"epochs": 2, "dropout": False, "warmup": 0.1, "validations_per_epoch": 1}
    learned = from_nothing(read(tmp_path / "a", 120, validation=40), tmp_path / "a", **settings)
    assert learned.best.validation_accuracy > 0.7
    shuffled = read(tmp_path / "b", 120, shuffled=True, validation=40)
    assert 0.25 < from_nothing(shuffled, tmp_path / "b", **settings).best.validation_accuracy < 0.7


@pytest.mark.slow
def test_the_imagereward_recipe_reaches_90_percent(tmp_path):
    """First from nothing on one set; then, as people will use it, from that model with 70 % of it frozen."""
    # Dropout at the rates of a network a thousand times larger would drown one of this size.
    settings = {"epochs": 9, "warmup": 0.05, "validations_per_epoch": 1, "dropout": False}
    pretrained = from_nothing(read(tmp_path / "a", 300), tmp_path / "a", towers=TOWERS, **settings)
    recipe = make_recipe("imagereward", {"learning_rate": 1e-3, "epochs": 5, "dropout": False})
    assert recipe.frozen_share == 0.7
    model = train_reward(
        read(tmp_path / "b", 200, seed=1),
        lambda sets: image_reward.model_from_scorer(ScorerSpec(str(pretrained.folder)), recipe),
        recipe,
        tmp_path / "model",
        cpu=True,
    )
    assert pretrained.best.validation_accuracy >= 0.9
    assert model.best.validation_accuracy >= 0.9


@pytest.mark.slow
def test_the_clip_mlp_recipe_reaches_90_percent(tmp_path):
    """On towers that learned beforehand which words go with which pictures, and stay as they are."""
    from tests.pretraining import pretrain_clip

    clip = pretrain_clip(tmp_path / "clip")
    recipe = make_recipe("clip-mlp", {"learning_rate": 1e-3, "pairs_per_step": 64})
    model = train_reward(
        read(tmp_path, 300),
        lambda sets: make_model(recipe, Start(tower=str(clip)), sets, ScorerSpec(folder=tmp_path)),
        recipe,
        tmp_path / "model",
        cpu=True,
    )
    assert model.best.validation_accuracy >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("recipe_name", ["imagereward", "clip-mlp"])
def test_shuffled_ranks_teach_nothing(tmp_path, recipe_name):
    """Held-out pairs are true ones: whoever learned anything real would leave the middle."""
    sets = read(tmp_path, 200, shuffled=True, validation=120)
    if recipe_name == "imagereward":
        accuracy = from_nothing(sets, tmp_path, towers=TOWERS, epochs=4).best.validation_accuracy
    else:
        from tests.pretraining import pretrain_clip

        clip = pretrain_clip(tmp_path / "clip", steps=100)
        recipe = make_recipe("clip-mlp", {"learning_rate": 1e-3, "epochs": 10})
        accuracy = train_reward(
            sets,
            lambda sets: make_model(recipe, Start(tower=str(clip)), sets, ScorerSpec(folder=tmp_path)),
            recipe,
            tmp_path / "model",
            cpu=True,
        ).best.validation_accuracy
    assert abs(accuracy - 0.5) < 0.15
