"""Rewards: whatever units a model scores in, what a training pulls at has mean 0 and spread 1."""

import json
import math
import statistics

import numpy as np
import pytest
import torch

from imagereward_ext.errors import ScoringError, WeightsError
from imagereward_ext.refl.losses import phi
from imagereward_ext.scorers import STANDARD, Calibration, Reward, Scorer, calibrate, load_scorer
from imagereward_ext.scorers.mix import WeightedReward, mixed
from imagereward_ext.weights import catalogue
from tests.scorers.test_contract import FACTORIES, PROMPTS
from tests.tiny import picture
from tests.tiny_clip import make_aesthetic_folder, make_clip_folder

IMAGES = [picture(seed, (32, 32)) for seed in range(len(PROMPTS))]


def pixels_of(images):
    arrays = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]
    return torch.stack(arrays).float() / 255


def unpublished(folder):
    """Take the mean and spread out of a model folder: it scores in its own units then."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mean": 0.0, "std": 1.0}))
    return load_scorer(str(folder), device="cpu")


class InOtherUnits(Scorer):
    """A scorer whose numbers are stretched and shifted."""

    label, digest = "Other", "1" * 10

    def __init__(self, scorer, factor, shift):
        self.name, self.device, self.dtype = f"{scorer.name} in other units", scorer.device, scorer.dtype
        self._scorer, self._factor, self._shift = scorer, factor, shift

    def score(self, images, prompts, progress=None):
        scores = self._scorer.score(images, prompts, progress)
        return [self._factor * score + self._shift for score in scores]

    def score_pixels(self, pixels, prompts):
        return self._factor * self._scorer.score_pixels(pixels, prompts) + self._shift

    def modules(self):
        yield from self._scorer.modules()


@pytest.fixture(scope="module", params=sorted(FACTORIES))
def raw(request, tmp_path_factory):
    """Every architecture, as it is where nobody published a mean and spread."""
    return unpublished(FACTORIES[request.param](tmp_path_factory.mktemp("raw") / request.param))


def gradients(reward):
    """Return each image's share of the gradient, through the loss that a training takes."""
    pixels = pixels_of(IMAGES).requires_grad_()
    phi("relu", 2.0)(reward(pixels, PROMPTS)).sum().backward()
    return pixels.grad.flatten(1).abs().sum(1)


def test_every_architecture_pushes_at_the_start_of_a_training(raw):
    assert raw.calibration is None
    reward = calibrate(raw, pixels_of(IMAGES), PROMPTS, at_once=2)
    assert (gradients(reward) > 0).all()
    rewards = reward(pixels_of(IMAGES), PROMPTS).tolist()
    assert statistics.fmean(rewards) == pytest.approx(0, abs=1e-2)
    assert statistics.pstdev(rewards) == pytest.approx(1, abs=1e-2)
    assert reward.calibration.images == len(IMAGES)


def test_ratings_above_the_cap_push_nothing_before_they_are_calibrated(raw):
    ratings = InOtherUnits(raw, 3.0, 100.0)
    assert (gradients(Reward(ratings, STANDARD)) == 0).all()
    pushed = gradients(calibrate(ratings, pixels_of(IMAGES), PROMPTS))
    plain = gradients(calibrate(raw, pixels_of(IMAGES), PROMPTS))
    torch.testing.assert_close(pushed, plain, rtol=2e-3, atol=0)


def test_a_standardised_score_is_its_reward_to_the_last_bit(tiny_folder):
    scorer = load_scorer(str(tiny_folder), device="cpu")
    reward = mixed([WeightedReward(Reward.published(scorer), 1.0)])
    assert reward.scorer is scorer
    assert torch.equal(reward(pixels_of(IMAGES), PROMPTS), scorer.score_pixels(pixels_of(IMAGES), PROMPTS))
    assert reward.of(IMAGES, PROMPTS) == scorer.score(IMAGES, PROMPTS)


def test_the_catalogue_calibrates_what_was_published_and_nothing_else():
    known = {name for name, entry in catalogue.ENTRIES.items() if (entry.mean, entry.std) != (0.0, 1.0)}
    assert known == {"ImageReward-v1.0"}


def test_what_was_never_measured_is_no_reward(raw):
    with pytest.raises(ScoringError, match="they have to be measured"):
        Reward.published(raw)


def test_weights_of_a_mix_mean_what_they_say(tmp_path):
    """Twice the weight is twice the say, though one of them rates in tens and the other in hundredths."""
    first = InOtherUnits(unpublished(make_clip_folder(tmp_path / "clip")), 0.01, 0.2)
    second = InOtherUnits(unpublished(make_aesthetic_folder(tmp_path / "aesthetic")), 40.0, 60.0)
    a, b = (calibrate(scorer, pixels_of(IMAGES), PROMPTS) for scorer in (first, second))
    mix = mixed([WeightedReward(a, 1.0), WeightedReward(b, -0.5)])
    pixels = pixels_of(IMAGES)
    total = a(pixels, PROMPTS) - 0.5 * b(pixels, PROMPTS)
    torch.testing.assert_close(mix(pixels, PROMPTS), total)
    assert mix.of(IMAGES, PROMPTS) == pytest.approx(total.tolist(), abs=5e-3)
    spreads = [statistics.pstdev(part.reward(pixels, PROMPTS).tolist()) for part in mix.scorer.parts]
    assert spreads == pytest.approx([1, 1], abs=1e-2)
    nested = mixed([WeightedReward(mix, 0.5), WeightedReward(a, 0.5)])
    torch.testing.assert_close(nested(pixels, PROMPTS), 0.5 * total + 0.5 * a(pixels, PROMPTS))


@pytest.mark.parametrize("weight", [0.0, math.nan, math.inf])
def test_a_weight_that_weighs_nothing_is_refused(tiny_folder, weight):
    with pytest.raises(WeightsError, match="the weight of tiny"):
        WeightedReward(Reward.published(load_scorer(str(tiny_folder), device="cpu")), weight)


def test_a_flat_or_broken_scorer_has_no_scale(tiny_folder):
    scorer = load_scorer(str(tiny_folder), device="cpu")
    same = pixels_of([IMAGES[0]] * 4)
    with pytest.raises(ScoringError, match="tiny gives all 4 images the same score"):
        calibrate(scorer, same, "a red circle,a red circle,a red circle,a red circle".split(","))
    with pytest.raises(ScoringError, match="has no finite score for 5 of 5 images"):
        calibrate(InOtherUnits(scorer, math.nan, 0.0), pixels_of(IMAGES), PROMPTS)


@pytest.mark.parametrize(("mean", "std"), [(math.nan, 1.0), (0.0, 0.0), (0.0, -1.0), (0.0, math.inf)])
def test_a_calibration_is_finite_and_has_a_spread(mean, std):
    with pytest.raises(ScoringError, match="a calibration has the mean"):
        Calibration(mean, std)
