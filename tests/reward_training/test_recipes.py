"""The published settings, and what happens to unknown ones."""

import math

import pytest

from imagereward_ext.errors import UsageError
from imagereward_ext.reward_training.recipes import ClipMlpRecipe, ImageRewardRecipe, make_recipe


def test_the_published_settings_are_the_defaults():
    published = ImageRewardRecipe()
    assert (published.learning_rate, published.schedule, published.pairs_per_step) == (1e-5, "cosine", 64)
    assert (published.frozen_share, published.dropout) == (0.7, True)
    mlp = ClipMlpRecipe()
    assert (mlp.learning_rate, mlp.schedule, mlp.pairs_per_step, mlp.epochs) == (1e-5, "constant", 256, 20)
    assert (mlp.betas, mlp.epsilon) == ((0.9, 0.99), 1e-8)


def test_unknown_recipes_and_settings_are_errors():
    with pytest.raises(UsageError, match="no recipe is called 'clip'"):
        make_recipe("clip")
    with pytest.raises(UsageError, match="no setting 'frozen_share'"):
        make_recipe("clip-mlp", {"frozen_share": 0.5})


@pytest.mark.parametrize(
    ("name", "value"),
    [("pairs_per_step", 0), ("pairs_at_once", 0), ("learning_rate", 0.0), ("schedule", "linear"), ("warmup", 1.0),
     ("precision", "int8"), ("frozen_share", 1.5), ("epochs", 0)],
)  # fmt: skip
def test_impossible_values_are_named(name, value):
    with pytest.raises(UsageError, match=f"{name} is {value!r}"):
        make_recipe("imagereward", {name: value})


def test_the_learning_rate_rises_then_falls_along_a_cosine():
    recipe = ImageRewardRecipe(learning_rate=1.0, warmup=0.1)
    rates = [recipe.learning_rate_at(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx((1 + math.cos(math.pi * 89 / 90)) / 2)
    constant = ImageRewardRecipe(learning_rate=1.0, schedule="constant")
    assert {constant.learning_rate_at(step, 7) for step in range(7)} == {1.0}
