"""What every scorer promises, whatever it is made of."""

import math

import numpy as np
import pytest
import torch

from imagereward_ext.errors import ScoringError
from imagereward_ext.scorers.loading import architectures, load_scorer
from tests import tiny_clip
from tests.tiny import make_tiny_scorer_folder, picture

FACTORIES = {
    "image-reward": make_tiny_scorer_folder,
    "clip": tiny_clip.make_clip_folder,
    "blip": tiny_clip.make_blip_folder,
    "aesthetic": tiny_clip.make_aesthetic_folder,
    "clip-mlp": tiny_clip.make_clip_mlp_folder,
    "pickscore": lambda folder: tiny_clip.make_clip_folder(folder, "pickscore"),
    "mix": tiny_clip.make_mix_folder,
}
READS_NO_PROMPT = {"aesthetic"}
PROMPTS = ["a red circle", "a blue house in the snow", "a cat, two dogs", "sky", "a photo of the sea"]


def test_every_architecture_is_under_contract():
    assert set(FACTORIES) == set(architectures())


@pytest.fixture(scope="module", params=FACTORIES)
def architecture(request):
    return request.param


@pytest.fixture(scope="module")
def scorer(architecture, tmp_path_factory):
    folder = FACTORIES[architecture](tmp_path_factory.mktemp("models") / architecture)
    return load_scorer(str(folder), device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def images():
    sizes = [(48, 40), (32, 32), (33, 70), (90, 35), (40, 40)]
    return [picture(seed, size) for seed, size in enumerate(sizes)]


def close(values):
    return pytest.approx(values, abs=1e-4)


def test_half_a_letter_in_a_prompt_stops_no_batch(scorer, images):
    halves, whole = (
        scorer.score(images[:2], [f"{letter} cat", "sky"]) for letter in "\ud800\N{REPLACEMENT CHARACTER}"
    )
    assert halves == close(whole)
    assert scorer.unread("\ud800 cat") == ""


def test_one_finite_number_for_each_image(scorer, images):
    scores = scorer.score(images, PROMPTS)
    assert len(scores) == len(images)
    assert all(isinstance(score, float) and math.isfinite(score) for score in scores)
    assert len(set(scores)) == len(scores), "different images get different scores"
    assert len(scorer.score(images[:1], PROMPTS[0])) == 1
    assert scorer.score([], []) == []


def test_a_batch_gives_what_single_images_give(scorer, images):
    singles = [scorer.score([image], prompt)[0] for image, prompt in zip(images, PROMPTS, strict=True)]
    assert scorer.score(images, PROMPTS) == close(singles)


def test_order_does_not_matter(scorer, images):
    forwards = scorer.score(images, PROMPTS)
    assert scorer.score(images[::-1], PROMPTS[::-1])[::-1] == close(forwards)


def test_the_prompt_matters_where_it_is_read(scorer, architecture, images):
    scores = scorer.score([images[0]] * len(PROMPTS), PROMPTS)
    different = len({round(score, 5) for score in scores})
    assert different == (1 if architecture in READS_NO_PROMPT else len(PROMPTS))


def test_the_prompt_beyond_the_window_is_told(scorer, architecture):
    long = "a red circle " * 40
    unread = scorer.unread(long)
    assert scorer.unread("sky") == ""
    if architecture in READS_NO_PROMPT:
        assert unread == ""
    else:
        assert unread
        assert long.strip().endswith(unread)
    if architecture not in {*READS_NO_PROMPT, "mix"}:  # a mix tells what any one of its parts leaves unread
        image = picture(0)
        read = long.strip().removesuffix(unread)
        assert scorer.score([image], read + unread)[0] == close(
            scorer.score([image], read + "sky sky sky")[0]
        )


def test_gradient_reaches_every_image_and_no_weight(scorer, images):
    pixels = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rewards = scorer.score_pixels(pixels, PROMPTS[:3])
    assert rewards.shape == (3,)
    assert rewards.dtype == torch.float32
    rewards.sum().backward()
    assert torch.isfinite(pixels.grad).all()
    assert (pixels.grad.flatten(1).abs().sum(1) > 0).all()
    weights = [weight for module in scorer.modules() for weight in module.parameters()]
    assert weights
    assert all(weight.grad is None and not weight.requires_grad for weight in weights)


def test_reward_of_one_image_is_its_reward_in_a_batch(scorer):
    pixels = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    together = scorer.score_pixels(pixels, PROMPTS[:3])
    alone = [scorer.score_pixels(pixels[i : i + 1], PROMPTS[i]) for i in range(3)]
    assert torch.cat(alone).tolist() == close(together.tolist())


def test_both_paths_agree_on_an_image_of_the_network_s_size(scorer):
    image = picture(3, (32, 32))
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    assert scorer.score_pixels(values, PROMPTS[0]).tolist() == close(scorer.score([image], PROMPTS[0]))


def test_progress_counts_every_image_once(scorer, images):
    finished = []
    scorer.score(images, PROMPTS, progress=finished.append)
    assert sum(finished) == len(images)


def test_wrong_counts_and_shapes_are_refused(scorer, images):
    with pytest.raises(ScoringError, match="prompts"):
        scorer.score(images, PROMPTS[:2])
    with pytest.raises(ScoringError, match="shape"):
        scorer.score_pixels(torch.rand(3, 40, 40), "sky")


def test_identity_and_size(scorer, architecture):
    assert scorer.name
    assert scorer.label
    assert len(scorer.digest) == 10
    assert scorer.size_in_bytes() > 1000
    assert str(scorer.device) == "cpu"
    scorer.to("cpu")
    assert str(scorer.device) == "cpu"


def test_loading_again_gives_the_same_scores_and_digest(architecture, scorer, images, tmp_path):
    again = load_scorer(str(FACTORIES[architecture](tmp_path / architecture)), device="cpu")
    assert again.score(images, PROMPTS) == close(scorer.score(images, PROMPTS))
    if architecture != "mix":  # its parts' paths differ here
        assert again.digest == scorer.digest
