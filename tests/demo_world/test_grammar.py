from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from demo.world import grammar
from demo.world.grammar import Scene, Thing


def scenes(count: int, seed: int = 0, split: grammar.Split | None = None) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [grammar.random_scene(rng, split) for _ in range(count)]


def test_every_prompt_reads_back_as_its_scene() -> None:
    rng = np.random.default_rng(1)
    for scene in scenes(500):
        assert grammar.parse(grammar.describe(scene, grammar.random_style(rng))) == scene


@pytest.mark.parametrize(
    ("prompt", "scene"),
    [
        (
            "a large red circle on the left on a blue background",
            Scene((Thing("red", "circle", "large"),), "blue", "on the left"),
        ),
        ("Two GREEN triangles  on a white background, 4k", Scene((Thing("green", "triangle"),) * 2, "white")),
        (
            "a photo of an orange star above a black cross on a purple background",
            Scene((Thing("orange", "star"), Thing("black", "cross")), "purple", "above"),
        ),
        (
            "three small red crosses on a white background",
            Scene((Thing("red", "cross", "small"),) * 3, "white"),
        ),
    ],
)
def test_prompts_mean_what_they_say(prompt: str, scene: Scene) -> None:
    assert grammar.parse(prompt) == scene


def test_a_prompt_outside_the_grammar_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="a cat on a mat"):
        grammar.parse("a cat on a mat")


def test_the_same_seed_draws_the_same_picture() -> None:
    for scene in scenes(20):
        first, again, other = (grammar.draw(scene, np.random.default_rng(seed)) for seed in (3, 3, 4))
        assert first.tobytes() == again.tobytes()
        assert first.tobytes() != other.tobytes()
        assert first.size == (64, 64)
        assert first.mode == "RGB"


def test_edges_are_antialiased() -> None:
    scene = Scene((Thing("black", "circle", "large"),), "white")
    values = np.asarray(grammar.draw(scene, np.random.default_rng(0)).convert("L"), int)
    between = (values > values.min() + 30) & (values < values.max() - 30)
    assert 40 < between.sum() < 400


def test_the_splits_share_no_scene_and_style_carries_none_across() -> None:
    train = {grammar.parse(p) for p in islice(grammar.random_prompts(1, "train"), 400)}
    held_out = {grammar.parse(p) for p in islice(grammar.random_prompts(2, "held-out"), 400)}
    assert len(train) == len(held_out) == 400
    assert not train & held_out
    share = np.mean([grammar.split_of(scene) == "held-out" for scene in scenes(2000)])
    assert 0.15 < share < 0.25


def test_a_corrupted_scene_says_something_else_and_can_be_said() -> None:
    rng = np.random.default_rng(5)
    for scene in scenes(300):
        other = grammar.corrupt(scene, rng)
        assert other != scene
        assert grammar.parse(grammar.describe(other)) == other
        colours = {thing.colour for thing in other.things}
        assert other.background not in colours
