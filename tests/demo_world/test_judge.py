from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from demo import measure
from demo.world import grammar
from demo.world.grammar import Scene, Thing
from demo.world.judge import components, explain, judge, look

CIRCLE = Scene((Thing("red", "circle", "small"),), "blue", "on the left")


def drawn(scene: Scene, seed: int = 0) -> Image.Image:
    return grammar.draw(scene, np.random.default_rng(seed))


def test_agrees_with_the_grammar_on_drawings() -> None:
    assert measure.judge_agreement(150) >= 0.99


@pytest.mark.slow
def test_agrees_with_the_grammar_on_a_thousand_drawings() -> None:
    assert measure.judge_agreement(1000) >= 0.99


def test_still_agrees_when_edges_are_soft() -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        scene = grammar.random_scene(rng)
        soft = grammar.draw(scene, rng).filter(ImageFilter.GaussianBlur(1.0))
        assert judge(soft, scene) > 0.9, grammar.describe(scene)


def test_is_not_fooled_by_images_without_content() -> None:
    scores = measure.judge_on_nothing(prompts=60)
    assert len(scores) == 5
    assert max(scores.values()) < 0.1, scores


@pytest.mark.parametrize(
    ("fact", "wrong"),
    [
        ("background", Scene(CIRCLE.things, "green", CIRCLE.where)),
        ("colour", Scene((Thing("yellow", "circle", "small"),), "blue", CIRCLE.where)),
        ("shape", Scene((Thing("red", "square", "small"),), "blue", CIRCLE.where)),
        ("size", Scene((Thing("red", "circle", "large"),), "blue", CIRCLE.where)),
        ("place", Scene(CIRCLE.things, "blue", "on the right")),
    ],
)
def test_a_wrong_fact_is_the_one_that_fails(fact: str, wrong: Scene) -> None:
    right = explain(drawn(CIRCLE), CIRCLE)
    assert right.score == pytest.approx(1, abs=0.01)
    found = explain(drawn(CIRCLE), wrong)
    assert found.facts[fact] < 0.2
    assert all(held > 0.9 for name, held in found.facts.items() if name != fact)
    assert found.score < right.score - 0.05


def test_a_missing_or_further_thing_fails_the_count() -> None:
    two = Scene((Thing("green", "triangle"),) * 2, "white")
    three = Scene((Thing("green", "triangle"),) * 3, "white")
    assert explain(drawn(two), two).facts["count"] == 1
    assert explain(drawn(two), three).facts["count"] == pytest.approx(2 / 3)
    assert explain(drawn(three), two).facts["count"] == pytest.approx(1 / 2)


def test_a_relation_is_not_symmetric() -> None:
    star, square = Thing("yellow", "star"), Thing("black", "square")
    above = Scene((star, square), "red", "above")
    assert judge(drawn(above), above) > 0.95
    assert explain(drawn(above), Scene((square, star), "red", "above")).facts["place"] == 0


def test_takes_images_of_other_sizes_and_modes() -> None:
    picture = drawn(CIRCLE)
    assert judge(picture.resize((128, 128), Image.Resampling.LANCZOS), CIRCLE) > 0.95
    assert judge(picture.convert("RGBA"), CIRCLE) > 0.95


def test_what_is_seen_has_measures() -> None:
    view = look(drawn(CIRCLE))
    (circle,) = view.objects
    assert (view.background, circle.colour, circle.shape) == ("blue", "red", "circle")
    assert circle.radius("circle") == pytest.approx(12, rel=0.08)
    assert circle.centre[0] < 24


def test_components_are_connected_by_edges_alone() -> None:
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1], [1, 0, 0, 0]], bool)
    marks = components(mask)
    assert marks.max() == 3
    assert marks[0, 0] == marks[0, 1] != marks[1, 2] == marks[2, 3]
    assert (marks[~mask] == 0).all()
    assert components(np.ones((3, 3), bool)).tolist() == [[1] * 3] * 3
