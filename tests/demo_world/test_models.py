"""The shipped weights: a small sample of what `python -m demo.measure` measures in full."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("diffusers")

from demo import measure
from demo.build import MODELS
from demo.world import artist, configs, grammar, scorers
from demo.world.judge import judge
from imagereward_ext.scorers.base import Scorer
from imagereward_ext.scorers.loading import load_scorer

PROMPTS, EACH = 24, 4
NAMES = [training.name for training in scorers.TRAININGS]


class Sample(NamedTuple):
    prompts: list[str]
    images: list[list[Image.Image]]
    judged: np.ndarray


@pytest.fixture(scope="module")
def parts():
    return artist.load(MODELS)


@pytest.fixture(scope="module")
def sample(parts) -> Sample:
    prompts = measure.held_out_prompts(PROMPTS)
    images = measure.paint_held_out(parts, prompts, EACH)
    judged = [[judge(image, prompt) for image in row] for prompt, row in zip(prompts, images, strict=True)]
    return Sample(prompts, images, np.array(judged))


@pytest.fixture(scope="module", params=NAMES)
def scorer(request: pytest.FixtureRequest) -> Scorer:
    return load_scorer(str(MODELS / request.param), device="cpu")


def test_the_weights_are_small_enough_to_ship() -> None:
    files = [MODELS / f"{configs.NAME}.safetensors", *(MODELS / name / "model.safetensors" for name in NAMES)]
    sizes = [file.stat().st_size for file in files]
    assert sum(sizes) < 25e6
    assert all(file.with_name(f"{file.stem}.md").is_file() for file in files[:1])
    assert all((MODELS / f"{name}.md").is_file() for name in NAMES)


def test_the_model_draws_what_the_prompt_says_but_not_always(sample: Sample) -> None:
    assert 0.4 < sample.judged.mean() < 0.85
    other = [judge(row[0], sample.prompts[i - 1]) for i, row in enumerate(sample.images)]
    assert sample.judged[:, 0].mean() > np.mean(other) + 0.15


def test_a_seed_gives_the_same_image_in_any_batch(parts, sample: Sample) -> None:
    (alone,) = artist.paint(parts, [sample.prompts[1]], [10_000 + EACH])
    difference = np.abs(np.asarray(alone, int) - np.asarray(sample.images[1][0], int))
    assert difference.max() <= 2


def test_a_scorer_prefers_the_right_drawing(scorer: Scorer) -> None:
    rng = np.random.default_rng(9)
    right, wrong = [], []
    for prompt in measure.held_out_prompts(60):
        scene = grammar.parse(prompt)
        pair = [grammar.draw(each, rng) for each in (scene, grammar.corrupt(scene, rng, 2))]
        first, second = scorer.score(pair, prompt)
        right.append(first)
        wrong.append(second)
    assert np.mean(np.array(right) > np.array(wrong)) >= 0.8


def test_the_scorers_have_names_and_labels_of_their_own() -> None:
    loaded = [load_scorer(str(MODELS / name), device="cpu") for name in NAMES]
    assert [s.name for s in loaded] == NAMES
    assert len({s.label for s in loaded}) == len({s.digest for s in loaded}) == len(loaded)


@pytest.fixture(scope="module")
def figures() -> dict:
    return measure.measure(MODELS, prompts=200, drawings=1000)


@pytest.mark.slow
def test_the_judge_and_the_model_are_as_the_cards_say(figures: dict) -> None:
    assert figures["judge agrees with 1000 drawings"] >= 0.99
    assert 0.45 <= figures["judge, mean of 200 held-out prompts"].value <= 0.75


@pytest.mark.slow
def test_the_scorers_order_held_out_pairs(figures: dict) -> None:
    assert all(figures[f"held-out pairs, {name}"].value >= 0.85 for name in NAMES)


@pytest.mark.slow
def test_the_best_of_four_is_better_than_the_first(figures: dict) -> None:
    assert figures["gain of the best of 4 by demo-reward"].value >= 0.10
