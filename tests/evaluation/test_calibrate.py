"""Mean and spread on one's own images, and the mix that is made of them."""

import statistics

import pytest
from PIL.PngImagePlugin import PngInfo

from imagereward_ext.compute import Compute
from imagereward_ext.errors import ImageRewardError, WeightsError
from imagereward_ext.evaluation.calibrate import measure, own_images, write_mix
from imagereward_ext.evaluation.lazy import open_scorer
from imagereward_ext.evaluation.scoring import score_items
from imagereward_ext.images import open_image
from imagereward_ext.scorers.loading import load_scorer
from imagereward_ext.weights.spec import ScorerSpec
from tests.evaluation.conftest import scores_from
from tests.tiny import make_tiny_scorer_folder, picture
from tests.tiny_clip import make_clip_folder


@pytest.fixture
def images(tmp_path):
    """Images as the WebUI saves them, two of them without a prompt."""
    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(22):
        info = PngInfo()
        info.add_text("parameters", f"a (red:1.2) cat {n}\nSteps: 20, Sampler: Euler a, Seed: {n}")
        picture(n).save(folder / f"{n:02}.png", pnginfo=None if n < 2 else info)
    return folder


def test_images_come_with_the_prompts_they_carry(images):
    items, without_prompt = own_images(images)
    assert (len(items), without_prompt) == (20, 2)
    assert items[0].prompt == "a red cat 2"
    assert len(own_images(images, prompt="anything")[0]) == 22
    for path in sorted(images.iterdir())[:5]:
        path.unlink()
    with pytest.raises(ImageRewardError, match="17 images with a prompt"):
        own_images(images)


def test_a_mix_has_mean_0_and_spread_1_on_the_measured_images(images, tmp_path):
    folders = [str(make_clip_folder(tmp_path / "clip")), str(make_tiny_scorer_folder(tmp_path / "reward"))]
    cache = tmp_path / "cache"
    scorers = [open_scorer(ScorerSpec(folder), Compute("cpu")) for folder in folders]
    items, _ = own_images(images)
    scores = score_items(items, scorers, cache)
    measured = measure(scores)
    assert measured["clip"].mean == pytest.approx(statistics.fmean(scores.of("clip", items)))
    folder = write_mix(tmp_path / "my-mix", folders, [0.7, -0.3], scorers, scores)
    mix = load_scorer(str(folder), device="cpu")
    values = mix.score([open_image(item.image) for item in items], [item.prompt for item in items])
    assert statistics.fmean(values) == pytest.approx(0, abs=1e-4)
    assert statistics.pstdev(values) == pytest.approx(1, abs=1e-4)
    assert [part.weight for part in mix.parts] == [0.7, -0.3]


def test_a_mix_may_lie_in_a_folder_called_as_a_field_of_the_webui(images, tmp_path):
    reference = str(make_tiny_scorer_folder(tmp_path / "reward"))
    cache = tmp_path / "cache"
    scorers = [open_scorer(ScorerSpec(reference), Compute("cpu"))]
    scores = score_items(own_images(images)[0], scorers, cache)
    folder = write_mix(tmp_path / "Model", [reference], [1.0], scorers, scores)
    assert load_scorer(str(folder), device="cpu").label == "Reward Model"
    with pytest.raises(WeightsError, match="the label"):
        write_mix(tmp_path / "other", [reference], [1.0], scorers, scores, "Model")


def test_a_scorer_without_spread_cannot_be_put_on_a_scale(tmp_path):
    table = {(tmp_path / f"{n}", "x"): 0.5 for n in range(30)}
    with pytest.raises(ImageRewardError, match="same score"):
        measure(scores_from({"flat": table}))
