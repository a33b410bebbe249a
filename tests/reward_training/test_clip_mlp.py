"""The recipe on frozen CLIP: embeddings once, the head alone learns, and the model finds its tower again."""

import json
import shutil

import pytest
import torch

from imagereward_ext.reward_training import clip_mlp
from imagereward_ext.reward_training.recipes import RewardTrainingError, make_recipe
from imagereward_ext.reward_training.starts import Start, make_model
from imagereward_ext.reward_training.train import train_reward
from imagereward_ext.scorers.clip_tower import ClipTower
from imagereward_ext.scorers.loading import load_scorer
from imagereward_ext.weights.spec import ScorerSpec
from imagereward_ext.weights.tensors import BrokenWeightsError, open_tensors
from tests.tiny import make_tiny_scorer_folder
from tests.tiny_clip import make_clip_folder

RECIPE = make_recipe("clip-mlp", {"epochs": 6, "learning_rate": 1e-3, "pairs_per_step": 32})


@pytest.fixture
def clip(tmp_path):
    return make_clip_folder(tmp_path / "home" / "clip")


@pytest.fixture
def counted(monkeypatch):
    """Count what goes through the towers."""
    counts = {"images": 0, "prompts": 0}
    embed_images, embed_texts = ClipTower.embed_images, ClipTower.embed_texts

    def images(self, inputs):
        counts["images"] += len(inputs)
        return embed_images(self, inputs)

    def texts(self, prompts):
        counts["prompts"] += len(prompts)
        return embed_texts(self, prompts)

    monkeypatch.setattr(ClipTower, "embed_images", images)
    monkeypatch.setattr(ClipTower, "embed_texts", texts)
    return counts


def learner(world, tmp_path, sets=None, recipe=RECIPE, **start):
    return make_model(
        recipe, Start(**start), sets or world.sets, ScorerSpec(folder=tmp_path / "home", download=False)
    )


def train(world, tmp_path, name, sets=None, recipe=RECIPE, **start):
    return train_reward(
        sets or world.sets,
        lambda sets: learner(world, tmp_path, sets, recipe, **start),
        recipe,
        tmp_path / "home" / name,
        cpu=True,
    )


def test_each_image_and_prompt_goes_through_the_towers_once(world, tmp_path, clip, counted):
    train(world, tmp_path, "mlp", tower=str(clip))
    prompts = [*world.sets.training, *world.sets.validation]
    images = {image for prompt in prompts for image in prompt.images}
    texts = {prompt.prompt for prompt in prompts}
    assert counted == {"images": len(images), "prompts": len(texts)}
    train(world, tmp_path, "again", tower=str(clip))
    assert counted == {"images": len(images), "prompts": len(texts)}, "a second run takes them from disk"


def test_each_file_of_embeddings_is_read_once_in_a_start(world, tmp_path, clip, monkeypatch):
    learner(world, tmp_path, tower=str(clip))
    opened = []

    def counted_open(path):
        opened.append(path)
        return open_tensors(path)

    monkeypatch.setattr("imagereward_ext.reward_training.embeddings.open_tensors", counted_open)
    learner(world, tmp_path, tower=str(clip))
    assert len(opened) == len(set(opened)) == 2


def test_a_broken_file_of_embeddings_may_be_removed_by_two_processes(world, tmp_path, clip, monkeypatch):
    learner(world, tmp_path, tower=str(clip))
    for path in (tmp_path / "home" / "cache" / "embeddings").rglob("*.safetensors"):
        path.write_bytes(b"")

    def removed_meanwhile(path):
        path.unlink()
        raise BrokenWeightsError(path, "it is empty")

    with monkeypatch.context() as patch:
        patch.setattr("imagereward_ext.reward_training.embeddings.open_tensors", removed_meanwhile)
        learner(world, tmp_path, tower=str(clip))


def test_an_interrupted_embedding_goes_on_and_moved_images_are_known(
    world, tmp_path, clip, counted, monkeypatch
):
    monkeypatch.setattr("imagereward_ext.reward_training.embeddings._AT_ONCE", 4)
    monkeypatch.setattr("imagereward_ext.reward_training.embeddings._IN_A_FILE", 8)
    counting = ClipTower.embed_images

    def fail_late(self, inputs):
        if counted["images"] >= 20:
            raise KeyboardInterrupt
        return counting(self, inputs)

    monkeypatch.setattr(ClipTower, "embed_images", fail_late)
    with pytest.raises(KeyboardInterrupt):
        learner(world, tmp_path, tower=str(clip))
    monkeypatch.setattr(ClipTower, "embed_images", counting)
    total = len({i for p in [*world.sets.training, *world.sets.validation] for i in p.images})
    learner(world, tmp_path, tower=str(clip))
    assert counted["images"] < total + 8, "what was written before the interruption is not computed again"

    files = list((tmp_path / "home" / "cache" / "embeddings").rglob("*.safetensors"))
    of_images = [
        file for file in files if json.loads(open_tensors(file).metadata["keys"])[0].startswith("image ")
    ]
    assert len(of_images) > 3
    before = counted["images"]
    of_images[0].write_bytes(of_images[0].read_bytes()[:50])
    learner(world, tmp_path, tower=str(clip))
    assert 0 < counted["images"] - before <= 8, "a broken file costs its own embeddings"


def test_only_the_head_learns_and_the_model_names_its_tower(world, tmp_path, clip):
    model = train(world, tmp_path, "mlp", tower=str(clip))
    scorer = load_scorer("mlp", device="cpu", folder=tmp_path / "home")
    own = open_tensors(clip / "model.safetensors")
    for name, weight in scorer.tower.model.named_parameters():
        assert torch.equal(weight, own[name])
    config = json.loads((model.folder / "config.json").read_text())
    assert config["settings"]["tower_digest"] == scorer.tower.digest
    shutil.rmtree(clip)  # a tower outside the catalogue was copied into the folder
    assert load_scorer("mlp", device="cpu", folder=tmp_path / "home").digest == scorer.digest


def test_its_scores_in_use_are_its_rewards_in_training(world, tmp_path, clip):
    """Through pixels, towers and head, standardised, it orders the held-out pairs as the trainer saw it."""
    from imagereward_ext.images import open_image

    model = train(world, tmp_path, "mlp", tower=str(clip))
    scorer = load_scorer(str(model.folder), device="cpu")
    right = total = 0
    for prompt in world.sets.validation:
        scores = scorer.score([open_image(path) for path in prompt.images], prompt.prompt)
        right += sum(scores[better] > scores[worse] for better, worse in prompt.pairs())
        total += len(prompt.pairs())
    assert right / total == pytest.approx(model.best.validation_accuracy)


def test_same_seed_same_head_and_another_run_can_go_on_from_it(world, tmp_path, clip):
    first = train(world, tmp_path, "first", tower=str(clip))
    second = train(world, tmp_path, "second", tower=str(clip))
    heads = [open_tensors(model.folder / "model.safetensors") for model in (first, second)]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0].shapes)
    onwards = train(world, tmp_path, "onwards", init=str(first.folder))
    assert onwards.best.validation_loss <= first.best.validation_loss + 1e-6


def test_starts_that_do_not_fit_are_refused(world, tmp_path, clip):
    reward = make_tiny_scorer_folder(tmp_path / "home" / "reward")
    with pytest.raises(RewardTrainingError, match="has no CLIP towers"):
        learner(world, tmp_path, tower=str(reward))
    with pytest.raises(RewardTrainingError, match="starts from a clip-mlp model"):
        learner(world, tmp_path, init=str(reward))
    with pytest.raises(RewardTrainingError, match="not from 'random'"):
        learner(world, tmp_path, init="random")
    with pytest.raises(RewardTrainingError, match="from the CLIP tower"):
        learner(world, tmp_path, architecture=tmp_path / "a.json")
    with pytest.raises(RewardTrainingError, match="brings its own towers"):
        make_model(make_recipe("imagereward"), Start(tower="CLIP"), world.sets)


def test_a_new_head_has_the_published_layers():
    head = clip_mlp._new_head(768, seed=0)
    assert [tuple(layer.weight.shape) for layer in head.linear] == [
        (1024, 1536), (256, 1024), (128, 256), (32, 128), (1, 32)
    ]  # fmt: skip
    head.train()
    ones = torch.ones(4, 768)
    assert not torch.equal(head(ones, ones), head(ones, ones)), "dropout in training"
    head.eval()
    assert torch.equal(head(ones, ones), head(ones, ones))
