"""A training on a scorer that nobody standardised: measured on the base's images, and remembered."""

import json

import pytest
import torch

from imagereward_ext.diffusion.checkpoint import read_tensors
from imagereward_ext.errors import ImageRewardError, ScoringError
from imagereward_ext.refl import calibration
from imagereward_ext.refl.rewards import WeightedScorer
from imagereward_ext.refl.training import resume, train
from imagereward_ext.scorers import Calibration
from imagereward_ext.training.processes import Processes
from tests.refl.world import Taste, silent, tiny_config

IMAGES = 6


class Rating(Taste):
    """A taste in units of its own, of which no mean and spread was published."""

    calibration = None

    def __init__(self, factor=1.0, shift=0.0, name="red"):
        super().__init__(name, (1, 0, 0))
        self.factor, self.shift = factor, shift

    def score_pixels(self, pixels, prompts):
        return self.factor * super().score_pixels(pixels, prompts) + self.shift


@pytest.fixture(autouse=True, scope="module")
def few_images():
    patch = pytest.MonkeyPatch()
    patch.setattr(calibration, "CALIBRATION_IMAGES", IMAGES)
    yield
    patch.undo()


def loading(scorer):
    return lambda name: scorer


SMALL = {"updates": 2, "batch": 2, "micro_batch": 2, "check_images": 2}


def run(folder, name, scorer, report=silent):
    return train(tiny_config(folder, name=name, **SMALL), loading(scorer), report)


def run_one_update(folder, name, scorer):
    def ask_to_stop(event):
        if event["kind"] == "update":
            (folder / "runs" / name / "stop").touch()

    return run(folder, name, scorer, ask_to_stop)


def go_on(folder, name, scorer, report=silent):
    return resume(str(folder / "runs"), name, {}, loading(scorer), report)


def kept(outcome):
    return json.loads((outcome.folder / "config.json").read_text())["calibrations"]


def same(first, second, atol):
    a, b = read_tensors(first.lora), read_tensors(second.lora)
    assert any(tensor.abs().max() > 1e-4 for key, tensor in a.items() if "lora_up" in key)
    for key in a:
        torch.testing.assert_close(a[key], b[key], atol=atol, rtol=0, msg=key)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def whole(folder):
    notes = []
    outcome = run(folder, "whole", Rating(), lambda event: notes.append(event.get("text", "")))
    return outcome, notes


def test_the_scale_is_measured_told_and_kept(whole):
    outcome, notes = whole
    (scale,) = kept(outcome).values()
    assert scale["images"] == IMAGES
    assert scale["std"] > 0 and scale["digest"] == "0" * 10
    assert any(note.startswith(f"red was measured on {IMAGES} images of the base") for note in notes)


def test_units_do_not_matter(whole, folder):
    """Shifted by 20, far above the cap, and stretched by 3: the same LoRA."""
    outcome = run(folder, "stretched", Rating(3.0, 20.0))
    scale, plain = kept(outcome)["red"], kept(whole[0])["red"]
    assert scale["std"] == pytest.approx(3 * plain["std"], rel=1e-3)
    # Adam turns the rounding of numbers around 20 into steps where a gradient is about zero; a wrong one is 1e-3.
    same(whole[0], outcome, atol=5e-5)


def test_a_judge_is_brought_to_the_same_scale(folder):
    judge = Rating(-3.0, 20.0, "judge")
    scorers = {"red": Rating(), "judge": judge}
    checks = []
    config = tiny_config(folder, name="judged", **{**SMALL, "updates": 1, "judge": "judge"})
    outcome = train(config, scorers.__getitem__, lambda e: e["kind"] == "check" and checks.append(e))
    assert set(kept(outcome)) == {"red", "judge"}
    assert abs(checks[0]["judge"]) < 2
    assert checks[0]["judge"] == pytest.approx(-checks[0]["reward"], abs=1e-2)


def test_a_resumed_run_goes_on_by_the_numbers_it_began_with(whole, folder, monkeypatch):
    run_one_update(folder, "resumed", Rating())
    monkeypatch.setattr(calibration, "measured", lambda *a: pytest.fail("measured again"))
    outcome = go_on(folder, "resumed", Rating())
    assert kept(outcome) == kept(whole[0])
    same(whole[0], outcome, atol=0)


def test_a_resumed_run_wants_the_weights_that_were_measured(folder):
    run_one_update(folder, "other", Rating())
    other = Rating()
    other.digest = "f" * 10
    with pytest.raises(ImageRewardError, match=r"red is not the scorer this run began with .*bring the same"):
        go_on(folder, "other", other)


def test_a_run_begun_before_anything_was_measured_goes_on_as_it_was(folder):
    """Its reward was the score itself, and the states it resumes from belong to that."""
    outcome = run_one_update(folder, "older", Rating(3.0, 20.0))
    file = outcome.folder / "config.json"
    content = json.loads(file.read_text())
    del content["calibrations"]
    file.write_text(json.dumps(content))
    checks = []
    go_on(folder, "older", Rating(3.0, 20.0), lambda e: e["kind"] == "check" and checks.append(e))
    assert checks[-1]["reward"] > 10


def test_a_reward_flat_at_the_start_is_refused(folder):
    with pytest.raises(
        ScoringError, match=f"a reward flat at the start is refused: .*red gives all {IMAGES} images"
    ):
        run(folder, "flat", Rating(0.0, 5.0))
    assert not (folder / "runs" / "flat").exists()


class Second(Processes):
    """The second of two processes, which hears what the main one measured."""

    count, index, main = 2, 1, False

    def __init__(self, said):
        super().__init__(cpu=True)
        self.said = said

    def collect(self, items):
        return [self.said, *items]


def test_every_process_goes_on_by_the_main_one_s_numbers():
    entry = WeightedScorer("red", Rating(), 1.0)
    images, prompts = torch.rand(4, 3, 8, 8), ["a"] * 4
    said = {"red": Calibration(1.0, 2.0, 32)}
    assert calibration.measured([entry], images, prompts, 4, Second(said)) == said
    with pytest.raises(ScoringError, match="flat at the start"):
        calibration.measured([entry], images, prompts, 4, Second(ScoringError("red is flat")))
