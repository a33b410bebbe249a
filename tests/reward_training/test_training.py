"""What training promises: what learns, that runs repeat, that they go on, and what comes out."""

import dataclasses
import json
import os
import shutil
import signal
import statistics

import numpy as np
import pytest
import torch

from imagereward_ext.errors import ImageRewardError, UsageError, WeightsError
from imagereward_ext.images import open_image
from imagereward_ext.rankings import RankedPrompt
from imagereward_ext.reward_training import export, image_reward
from imagereward_ext.reward_training.image_reward import ImageRewardModel, frozen_parameters, new_network
from imagereward_ext.reward_training.pairs import Batch, pairs_of, steps_of_epoch
from imagereward_ext.reward_training.recipes import ImageRewardRecipe, RewardTrainingError
from imagereward_ext.reward_training.run_folder import RewardRunFolder
from imagereward_ext.reward_training.task import RankingTask
from imagereward_ext.reward_training.train import Data, read_sets, train_reward
from imagereward_ext.scorers.calibration import Calibration
from imagereward_ext.scorers.image_reward import Architecture, Network
from imagereward_ext.scorers.loading import load_scorer
from imagereward_ext.training.journal import Journal
from imagereward_ext.training.processes import Processes
from imagereward_ext.training.states import States
from imagereward_ext.weights.model_folder import read_config
from imagereward_ext.weights.spec import ScorerSpec
from imagereward_ext.weights.tensors import open_tensors
from tests.preferences import make_preferences
from tests.reward_training.conftest import ARCHITECTURE
from tests.tiny import make_tiny_scorer_folder, picture


def weights(folder):
    file = open_tensors(folder / "model.safetensors")
    return {name: file[name] for name in file.shapes}


def read_log(output):
    """Return what the held-out pairs said."""
    return measurements(output.with_name(f"{output.name}-training"))


def measurements(folder):
    return [event for event in Journal(folder / "events.jsonl").read() if event["kind"] == "check"]


def task_of(world, learner, recipe, folder):
    folder = RewardRunFolder(folder)
    folder.claim({})
    return RankingTask(
        learner, recipe, world.sets.training, world.sets.validation, folder, Processes(cpu=True)
    )


def largest_difference(first, second):
    return max(float((first[name] - second[name]).abs().max()) for name in first)


# -- what learns -------------------------------------------------------------------------------------------------


def test_the_published_freeze_is_the_lower_16_of_24_and_8_of_12_layers():
    with torch.device("meta"):
        network = Network(Architecture())
    frozen = {id(p) for p in frozen_parameters(network, 0.7)}
    names = {name for name, p in network.named_parameters() if id(p) in frozen}
    assert {name.split(".")[3] for name in names if name.startswith("vision.encoder")} == {
        str(n) for n in range(16)
    }
    assert {name.split(".")[3] for name in names if name.startswith("text.encoder")} == {
        str(n) for n in range(8)
    }
    assert "text.embeddings.word_embeddings.weight" in names
    assert "vision.embeddings.class_embedding" in names
    assert not any(name.startswith("head") or "post_layernorm" in name for name in names)


def test_gradient_reaches_what_is_not_frozen_and_nothing_else(world):
    recipe = world.recipe(frozen_share=0.5)
    learner = ImageRewardModel(new_network(ARCHITECTURE, 0), ARCHITECTURE, world.vocabulary, "test", recipe)
    image_reward._spread_evenly(learner._network, torch.Generator().manual_seed(0))
    batch = Batch.of(pairs_of(world.sets.training[:2]))
    batch.losses(learner.rewards(batch.cases)).mean().backward()
    for name, parameter in learner.network().named_parameters():
        is_frozen = "embeddings" in name or ".encoder.layer.0." in name or ".encoder.layers.0." in name
        assert parameter.requires_grad is not is_frozen, name
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        if name.endswith("key.bias") or name in ("head.6.bias", "head.7.bias"):
            continue  # adds the same to all keys (to both images of a pair), which the softmax (difference) takes out
        assert reached is not is_frozen, name


def test_frozen_weights_do_not_move_and_the_others_do(world, tmp_path):
    start = make_tiny_scorer_folder(tmp_path / "start", architecture=ARCHITECTURE)
    recipe = world.recipe(frozen_share=0.5, dropout=False, pairs_per_step=1000)  # all of them
    learner = image_reward.model_from_scorer(ScorerSpec(str(start)), recipe)
    before = {name: p.detach().clone() for name, p in learner.network().named_parameters()}
    task_of(world, learner, recipe, tmp_path).engine.update()
    for name, parameter in learner.network().named_parameters():
        if not name.endswith("key.bias"):
            assert torch.equal(before[name], parameter) is not parameter.requires_grad, name


def test_nothing_left_to_learn_and_random_weights_frozen_are_refused(world, tmp_path):
    with pytest.raises(RewardTrainingError, match="must all learn"):
        world.train(tmp_path / "m", world.recipe(frozen_share=0.7))


# -- runs repeat -------------------------------------------------------------------------------------------------


def test_same_seed_same_model_other_seed_other_model_and_global_state_untouched(world, tmp_path):
    torch.manual_seed(5)
    np.random.seed(5)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = world.train(tmp_path / "first")
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()
    torch.manual_seed(6)
    second = world.train(tmp_path / "second")
    other = world.train(tmp_path / "other", world.recipe(seed=1))
    assert largest_difference(weights(first.folder), weights(second.folder)) == 0
    assert largest_difference(weights(first.folder), weights(other.folder)) > 1e-3


def test_64_pairs_are_2_times_32_accumulated(world, tmp_path):
    """Also when the parts are uneven: every pair weighs the same in the update. Dropout off: it is drawn per part.

    Losses are compared, not weights: Adam turns the rounding noise of a gradient that is zero into a whole step.
    """
    recipe = world.recipe(pairs_per_step=64, dropout=False, epochs=4)
    world.train(tmp_path / "whole", recipe)
    whole = read_log(tmp_path / "whole")
    assert len(whole) > 4
    for at_once in (32, 23):
        world.train(tmp_path / f"{at_once}", dataclasses.replace(recipe, pairs_at_once=at_once))
        for one, other in zip(whole, read_log(tmp_path / f"{at_once}"), strict=True):
            assert other == pytest.approx(one, abs=2e-5)


def test_the_gradient_of_an_update_is_that_of_the_mean_over_its_pairs(world, tmp_path):
    recipe = world.recipe(dropout=False, pairs_at_once=5)
    learner = world.learner(recipe)
    batch = Batch.of(steps_of_epoch(world.sets.training, recipe.pairs_per_step, recipe.seed, epoch=0)[0])
    assert len(batch.better) == 16
    learner.network().eval()
    batch.losses(learner.rewards(batch.cases)).mean().backward()
    expected = {name: p.grad.clone() for name, p in learner.learning().items() if p.grad is not None}
    learner.network().zero_grad()
    engine = task_of(world, learner, recipe, tmp_path).engine
    engine.learner.step = lambda processes: 0.0  # what is asked for is the gradient
    engine.update()
    for name, gradient in expected.items():
        torch.testing.assert_close(learner.learning()[name].grad, gradient, atol=1e-6, rtol=1e-4)


class PowerCutError(Exception):
    """Ends a training without warning."""


def test_a_killed_run_goes_on_to_the_same_model(world, tmp_path):
    """With dropout on, and killed between two savings: what came after the last one is done again."""
    whole = world.train(tmp_path / "whole")
    saved = {line["step"] for line in read_log(tmp_path / "whole")}
    steps = whole.updates
    between = next(step for step in range(steps // 2, steps) if step not in saved)
    for last in (1, between, steps - 1):

        def cut(event, last=last):
            if (event["kind"], event["step"]) == ("update", last):
                raise PowerCutError

        with pytest.raises(PowerCutError):
            world.train(tmp_path / f"cut-{last}", listener=cut)
        resumed = world.train(tmp_path / f"cut-{last}")
        assert largest_difference(weights(whole.folder), weights(resumed.folder)) == 0
        assert (resumed.ending, resumed.best) == (whole.ending, whole.best)
        assert read_log(tmp_path / f"cut-{last}") == read_log(tmp_path / "whole")


def test_ctrl_c_saves_and_the_same_command_goes_on(world, tmp_path):
    whole = world.train(tmp_path / "whole")
    handler = signal.getsignal(signal.SIGINT)

    def press_ctrl_c(event):
        if (event["kind"], event["step"]) == ("update", 2):
            os.kill(os.getpid(), signal.SIGINT)

    messages = []
    stopped = world.train(tmp_path / "model", listener=press_ctrl_c, report=messages.append)
    assert signal.getsignal(signal.SIGINT) is handler
    assert stopped.folder is None
    assert not (tmp_path / "model").exists()
    assert stopped.ending.step < whole.updates
    assert any("goes on from there" in message for message in messages)
    events = []
    resumed = world.train(tmp_path / "model", listener=events.append)
    updates = [(event["step"], event["of"]) for event in events if event["kind"] == "update"]
    assert updates[0] == (stopped.ending.step + 1, whole.updates)
    assert largest_difference(weights(whole.folder), weights(resumed.folder)) == 0


def as_version_0_1_wrote(folder, learner):
    """Put what a training left into the places where version 0.1 kept it, and nothing else."""
    states, names = States(folder / "states"), list(learner.learning())
    newest = states.read(states.steps()[-1])
    best = states.read(newest.progress["best"]["step"])
    torch.save(
        {
            "step": newest.step,
            "weights": dict(zip(names, newest.parameters, strict=True)),
            "optimizer": newest.optimiser,
            "scaler": None,
            **newest.progress,
        },
        folder / "state.pt",
    )
    torch.save(dict(zip(names, best.parameters, strict=True)), folder / f"best-{best.step}.pt")
    lines = [{key: e[key] for key in e if key != "kind"} for e in measurements(folder)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shutil.rmtree(states.folder)
    (folder / "events.jsonl").unlink()


@pytest.mark.parametrize("last", [4, 7])
def test_a_run_of_version_0_1_goes_on(world, tmp_path, last):
    """Stopped right behind its best measurement, and between two of them."""
    whole = world.train(tmp_path / "whole")

    def stop(event):
        if (event["kind"], event["step"]) == ("update", last):
            (tmp_path / "m-training" / "stop").touch()

    stopped = world.train(tmp_path / "m", listener=stop)
    assert stopped.ending.step == last
    as_version_0_1_wrote(tmp_path / "m-training", world.learner(world.recipe()))
    resumed = world.train(tmp_path / "m")
    assert largest_difference(weights(whole.folder), weights(resumed.folder)) == 0
    assert resumed.best == whole.best
    assert read_log(tmp_path / "m") == read_log(tmp_path / "whole")
    left = sorted(path.name for path in (tmp_path / "m-training").iterdir())
    assert left == ["events.jsonl", "run.json"]


def test_a_damaged_state_of_version_0_1_says_what_to_do(world, tmp_path):
    world.train(tmp_path / "m")
    (tmp_path / "m-training" / "state.pt").write_bytes(b"PK")
    with pytest.raises(
        RewardTrainingError, match=r"m-training cannot be read: state.pt is damaged. Delete .*m-training to"
    ):
        world.train(tmp_path / "m")


def test_a_damaged_newest_state_does_not_stop_a_resume(world, tmp_path):
    whole = world.train(tmp_path / "whole")

    def cut(event):
        if (event["kind"], event["step"]) == ("update", whole.updates - 1):
            raise PowerCutError

    with pytest.raises(PowerCutError):
        world.train(tmp_path / "m", listener=cut)
    states = States(tmp_path / "m-training" / "states")
    newest = states.path(states.steps()[-1]) / "learner.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    resumed = world.train(tmp_path / "m")
    assert largest_difference(weights(whole.folder), weights(resumed.folder)) == 0


def test_running_out_of_memory_once_changes_nothing(world, tmp_path, monkeypatch):
    recipe = world.recipe(dropout=False)
    whole, rewards = world.train(tmp_path / "whole", recipe), ImageRewardModel.rewards

    def short_of_memory(self, cases):
        if self.network().training is recipe.dropout and torch.is_grad_enabled() and len(cases) > 12:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return rewards(self, cases)

    monkeypatch.setattr(ImageRewardModel, "rewards", short_of_memory)
    told = []
    short = world.train(tmp_path / "short", recipe, listener=told.append)
    assert short.best.validation_loss == pytest.approx(whole.best.validation_loss, abs=2e-5)
    assert "8 pairs at a time" in next(event["text"] for event in told if event["kind"] == "note")


def test_half_precision_is_refused_where_nothing_computes_in_it(world, tmp_path):
    with pytest.raises(UsageError, match="precision is fp16, which a CPU cannot train with here"):
        world.train(tmp_path / "m", world.recipe(precision="fp16"))


def test_a_folder_with_another_run_is_not_continued(world, tmp_path):
    def cut(event):
        raise PowerCutError

    with pytest.raises(PowerCutError):
        world.train(tmp_path / "m", listener=cut)
    with pytest.raises(
        RewardTrainingError, match=r"another run: its learning_rate is 0\.001, now it is 0\.002"
    ):
        world.train(tmp_path / "m", world.recipe(learning_rate=2e-3))


# -- what comes out ----------------------------------------------------------------------------------------------


def test_the_best_weights_are_kept_and_standardised_scores_come_out(world, tmp_path):
    model = world.train(tmp_path / "my-taste", label="Taste")
    log = read_log(tmp_path / "my-taste")
    # The start is measured too, but random weights are no result.
    assert min(line["validation_loss"] for line in log[1:]) == model.best.validation_loss
    assert log[0]["step"] == 0

    scorer = load_scorer(str(model.folder), device="cpu")
    assert (scorer.name, scorer.label) == ("my-taste", "Taste")
    images = [(open_image(path), p.prompt) for p in world.sets.validation for path in p.images]
    standard = [(open_image(path), p.prompt) for p in world.sets.reference for path in p.images]
    scores = scorer.score([image for image, _ in standard], [prompt for _, prompt in standard])
    assert statistics.fmean(scores) == pytest.approx(0, abs=1e-4)
    assert statistics.pstdev(scores) == pytest.approx(1, abs=1e-4)

    scores = iter(scorer.score([image for image, _ in images], [prompt for _, prompt in images]))
    right = total = 0
    for prompt in world.sets.validation:
        own = [next(scores) for _ in prompt.images]
        right += sum(own[better] > own[worse] for better, worse in prompt.pairs())
        total += len(prompt.pairs())
    assert right / total == pytest.approx(model.best.validation_accuracy)
    notes = read_config(model.folder).notes
    assert notes["recipe"] == "imagereward"
    assert notes["validation_accuracy"] == model.best.validation_accuracy
    assert not list((tmp_path / "my-taste-training").rglob("*.pt")), "the state is gone, the record stays"


def test_a_training_that_only_harms_leaves_the_start(world, tmp_path):
    """The best weights are those of the lowest validation loss, here the first, and not the last."""
    start = make_tiny_scorer_folder(tmp_path / "start", architecture=ARCHITECTURE)
    recipe = world.recipe(learning_rate=1.0, epochs=1)
    messages = []
    model = train_reward(
        world.sets,
        lambda sets: image_reward.model_from_scorer(ScorerSpec(str(start)), recipe),
        recipe,
        tmp_path / "m",
        cpu=True,
        report=messages.append,
    )
    assert model.best.step == 0
    assert largest_difference(weights(start), weights(model.folder)) == 0
    before, after = read_config(start), read_config(model.folder)
    assert (after.mean, after.std) == (before.mean, before.std), "the scale too"
    assert any("never improved" in message for message in messages)


def test_an_older_model_stays_until_the_new_one_is_whole(world, tmp_path, monkeypatch):
    first = world.train(tmp_path / "m", run=tmp_path / "run-1")
    before = weights(first.folder)

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(ImageRewardModel, "write_files", fail)
    with pytest.raises(OSError, match="disk full"):
        world.train(tmp_path / "m", world.recipe(seed=1), run=tmp_path / "run-2")
    assert largest_difference(before, weights(tmp_path / "m")) == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    monkeypatch.undo()
    replaced = world.train(tmp_path / "m", world.recipe(seed=1), run=tmp_path / "run-2")
    assert largest_difference(before, weights(replaced.folder)) > 0


@pytest.mark.parametrize("label", ["", "a: b", "a, b", "a\nb", '"', "Model"])
def test_a_label_that_would_break_an_image_s_parameters_is_refused_at_once(world, tmp_path, label):
    with pytest.raises(WeightsError, match="label"):
        world.train(tmp_path / "taste", label=label)
    assert not any(tmp_path.iterdir())


def test_a_folder_may_be_called_as_a_field_of_the_webui(world, tmp_path):
    model = world.train(tmp_path / "model")
    config = read_config(model.folder)
    assert (config.name, config.label) == ("model", "Reward model")


def test_an_older_model_stays_where_the_new_one_cannot_take_its_name(tmp_path, monkeypatch):
    target = tmp_path / "m"
    target.mkdir()
    (target / "weights").write_text("old")
    move = export.replace

    def busy(source, name):
        if name == target and source.suffix == ".part":
            raise PermissionError("another program has it open")
        move(source, name)

    monkeypatch.setattr(export, "replace", busy)
    with pytest.raises(PermissionError), export._replacing_folder(target) as part:
        (part / "weights").write_text("new")
    assert (target / "weights").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    monkeypatch.undo()
    with export._replacing_folder(target) as part:
        (part / "weights").write_text("new")
    assert (target / "weights").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_model_that_gives_one_reward_to_all_is_not_standardised():
    from imagereward_ext.reward_training.export import calibration_of

    with pytest.raises(RewardTrainingError, match="same reward"):
        calibration_of([0.5, 0.5, 0.5])
    assert calibration_of([1.0, 3.0]) == Calibration(2.0, 1.0, 2)


# -- data --------------------------------------------------------------------------------------------------------


def test_broken_images_are_skipped_and_listed(world, tmp_path):
    rankings = make_preferences(tmp_path / "set", prompts=8, seed=2)
    records = json.loads(rankings.read_text())
    gone, broken = (tmp_path / "set" / records[n]["generations"][0] for n in (0, 1))
    gone.unlink()
    broken.write_bytes(broken.read_bytes()[:100])
    sets = read_sets(Data(rankings, validation=rankings))
    assert {problem.image for problem in sets.skipped} == {gone, broken}
    messages = []
    recipe = world.recipe(epochs=1)
    train_reward(
        sets, lambda s: world.learner(recipe), recipe, tmp_path / "m", cpu=True, report=messages.append
    )
    listed = (tmp_path / "m-training" / "skipped.txt").read_text()
    assert str(gone) in listed
    assert str(broken) in listed
    assert any("Skipped 2 images" in message for message in messages)


def test_a_run_without_pairs_stops_with_a_reason(tmp_path):
    rankings = make_preferences(tmp_path / "set", prompts=4, seed=3)
    for path in (tmp_path / "set" / "images").iterdir():
        path.unlink()
    with pytest.raises(ImageRewardError, match=r"leaves no pair to learn from.*does not exist"):
        read_sets(Data(rankings))
    one = make_preferences(tmp_path / "one", prompts=1, seed=3)
    with pytest.raises(ImageRewardError, match=r"leaves no pair to measure on.*a second prompt"):
        read_sets(Data(one))
    assert read_sets(Data(one, validation=one)).validation


@pytest.mark.parametrize("images", [19, 20])
def test_few_images_set_no_scale(world, tmp_path, images):
    """What began as a scorer keeps its own scale then, even when it has learned; a new model has no other."""
    start = make_tiny_scorer_folder(tmp_path / "start", architecture=ARCHITECTURE)
    recipe = world.recipe(epochs=4)
    single = [
        RankedPrompt(p.id, p.prompt, (image,), (1,)) for p in world.sets.reference for image in p.images
    ]
    sets = dataclasses.replace(world.sets, reference=single[:images])
    learners = {
        "new": lambda _: world.learner(recipe),
        "own": lambda _: image_reward.model_from_scorer(ScorerSpec(str(start)), recipe),
    }
    for name, make in learners.items():
        told = []
        model = train_reward(sets, make, recipe, tmp_path / name, cpu=True, report=told.append)
        assert model.best.step > 0
        config, before = read_config(model.folder), read_config(start)
        keeps = images < 20 and name == "own"
        assert ((config.mean, config.std) == (before.mean, before.std)) is keeps
        assert config.notes["standardised_on_images"] == (0 if keeps else images)
        assert any("19 images are too few to set mean 0" in line for line in told) is (images < 20)


def test_few_validation_images_are_standardised_together_with_the_training_images(world, tmp_path):
    few = sum(len(p.images) for p in world.sets.validation)
    assert few < 100
    assert len(world.sets.reference) == len(world.sets.validation) + len(world.sets.training)


def test_the_start_must_fit_the_recipe(tmp_path, world):
    from tests.tiny_clip import make_clip_folder

    clip = make_clip_folder(tmp_path / "clip")
    with pytest.raises(RewardTrainingError, match="starts from an image-reward model"):
        image_reward.model_from_scorer(ScorerSpec(str(clip)), ImageRewardRecipe())


def test_images_come_from_the_store_once_and_in_the_order_asked_for(tmp_path):
    from imagereward_ext.reward_training.image_store import ImageStore

    paths = [tmp_path / f"{n}.png" for n in range(4)]
    for n, path in enumerate(paths):
        picture(n).save(path)
    loaded = []

    def prepare(image):
        loaded.append(1)
        return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)

    store = ImageStore(prepare)
    store.expect(paths)
    wanted = [paths[2], paths[0], paths[2]]
    first = store.take(wanted)
    assert torch.equal(first[0], first[2])
    assert torch.equal(first[1], torch.from_numpy(np.array(picture(0), dtype=np.float32)).permute(2, 0, 1))
    store.take(paths)
    assert len(loaded) == 4
    forgetful = ImageStore(prepare, kept_bytes=0)
    forgetful.take(paths)
    forgetful.take(paths)
    assert len(loaded) == 12


def test_prompts_of_single_images_train_nothing():
    assert list(pairs_of([RankedPrompt("1", "x", (picture,), (1,))])) == []
