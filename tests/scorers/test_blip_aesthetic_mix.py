"""The scorers whose sums are short enough to be done again by hand."""

import dataclasses
import hashlib
import json
import math

import pytest
import torch
import torch.nn.functional as F

from imagereward_ext.errors import ScoringError, WeightsError
from imagereward_ext.scorers.blip import load_towers
from imagereward_ext.scorers.image_reward import Network
from imagereward_ext.scorers.loading import find_source, load_scorer
from imagereward_ext.weights import catalogue
from imagereward_ext.weights.spec import ScorerSpec
from imagereward_ext.weights.tensors import open_tensors
from tests import tiny, tiny_clip
from tests.tiny import picture


def load(folder):
    return load_scorer(str(folder), device="cpu")


def test_blip_s_text_tower_does_not_look_at_the_image(tmp_path):
    """So the score is a cosine of two vectors that each depend on one side only."""
    scorer = load(tiny_clip.make_blip_folder(tmp_path / "blip"))
    network = next(scorer.modules())
    inputs = torch.stack([scorer.preprocess(picture(seed)) for seed in range(3)])
    tokens = scorer._tokenizer(["a cat", "red sky", "tree"], torch.device("cpu"))
    with torch.no_grad():
        first = network.vision(pixel_values=inputs).last_hidden_state[:, 0]
        images = F.linear(first, network.vision_proj.weight, network.vision_proj.bias)
        hidden = network.text(input_ids=tokens.ids, attention_mask=tokens.mask, is_decoder=False)
        texts = F.linear(hidden.last_hidden_state[:, 0], network.text_proj.weight, network.text_proj.bias)
    cosines = F.cosine_similarity(images, texts)
    scores = scorer.score([picture(seed) for seed in range(3)], ["a cat", "red sky", "tree"])
    assert scores == pytest.approx(((cosines - 0.1) / 0.5).tolist(), abs=1e-5)


def test_blip_s_names_are_those_of_its_published_file(tmp_path):
    names = set(open_tensors(tiny_clip.make_blip_folder(tmp_path / "blip") / "model.safetensors").shapes)
    assert "visual_encoder.blocks.1.attn.qkv.weight" in names
    assert "text_encoder.encoder.layer.0.crossattention.self.query.weight" in names
    assert {"vision_proj.weight", "text_proj.bias"} <= names


def test_an_image_reward_can_begin_with_blip_s_towers(tmp_path, monkeypatch):
    folder = tiny_clip.make_blip_folder(tmp_path / "blip")
    entry = catalogue.ENTRIES["BLIP"]
    (folder / "model.safetensors").rename(tmp_path / "blip-large.safetensors")
    (folder / "vocab.txt").rename(tmp_path / catalogue.BERT_VOCABULARY.name)
    network = Network(tiny.TINY)
    head = [weight.clone() for weight in network.head.parameters()]
    digest = load_towers(network, find_source(ScorerSpec("BLIP", tmp_path, download=False)))
    file = open_tensors(tmp_path / "blip-large.safetensors")
    assert len(digest) == 10
    torch.testing.assert_close(
        network.vision.encoder.layers[1].self_attn.qkv.weight, file["visual_encoder.blocks.1.attn.qkv.weight"]
    )
    torch.testing.assert_close(
        network.text.embeddings.word_embeddings.weight, file["text_encoder.embeddings.word_embeddings.weight"]
    )
    assert all(torch.equal(a, b) for a, b in zip(head, network.head.parameters(), strict=True))
    assert entry.weights.name == "blip-large.pth"


def test_aesthetic_is_one_linear_map_of_the_normalised_embedding(tmp_path):
    folder = tiny_clip.make_aesthetic_folder(tmp_path / "aesthetic")
    scorer = load(folder)
    file = open_tensors(folder / "model.safetensors")
    with torch.no_grad():
        value = scorer.embed(scorer.preprocess(picture(4))[None])
    assert value.norm().item() == pytest.approx(1, abs=1e-5)
    for layer in (0, 2, 4, 6, 7):
        value = F.linear(value, file[f"layers.{layer}.weight"], file[f"layers.{layer}.bias"])
    assert scorer.score([picture(4)], "ignored") == pytest.approx([(value.item() - 0.1) / 0.5], abs=1e-5)


def test_a_mix_is_the_weighted_sum_of_standardised_parts(tmp_path):
    folder = tiny_clip.make_mix_folder(tmp_path / "mix")
    clip, reward = load(folder / "parts" / "clip"), load(folder / "parts" / "reward")
    image, prompt = picture(5), "a red cat"
    total = 0.7 * (clip.score([image], prompt)[0] - 0.2) / 0.1 - 0.3 * reward.score([image], prompt)[0] / 2.0
    mixed = load(folder).score([image], prompt)
    assert mixed == pytest.approx([(total - 0.1) / 0.5], abs=1e-4)


def test_a_mix_keeps_the_digest_that_stands_in_files(tmp_path):
    folder = tiny_clip.make_mix_folder(tmp_path / "mix")
    clip, reward = load(folder / "parts" / "clip"), load(folder / "parts" / "reward")
    content = json.dumps([[clip.digest, 0.7, 0.2, 0.1], [reward.digest, -0.3, 0.0, 2.0]])
    assert load(folder).digest == hashlib.sha256(content.encode()).hexdigest()[:10]


def change(folder, edit):
    config = json.loads((folder / "config.json").read_text())
    edit(config["settings"]["parts"])
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("lost", ["mean", "std"])
def test_a_mix_without_measures_refuses_and_says_how_to_measure(tmp_path, lost):
    folder = tiny_clip.make_mix_folder(tmp_path / "mix")
    change(folder, lambda parts: parts[0].pop(lost))
    with pytest.raises(ScoringError, match=r"mean and spread of .*evaluate calibrate .* --scorer .*=0\.7"):
        load(folder)


def test_a_mix_measured_with_other_weights_refuses(tmp_path):
    folder = tiny_clip.make_mix_folder(tmp_path / "mix")
    change(folder, lambda parts: parts[1].update(digest="0123456789"))
    with pytest.raises(ScoringError, match="other weights"):
        load(folder)


def test_a_mix_of_mixes_or_with_odd_parts_is_refused(tmp_path):
    inner = tiny_clip.make_mix_folder(tmp_path / "inner")
    outer = tiny_clip.make_mix_folder(tmp_path / "outer")
    change(outer, lambda parts: parts[0].update(scorer=str(inner)))
    with pytest.raises(WeightsError, match="mix itself"):
        load(outer)
    change(outer, lambda parts: parts[0].update(wieght=1))
    with pytest.raises(WeightsError, match="'wieght'"):
        load(outer)
    change(inner, lambda parts: parts[0].update(weight=math.nan))
    with pytest.raises(WeightsError, match="weight of"):
        load(inner)


def test_parts_that_share_a_tower_are_counted_once(tmp_path):
    folder = tiny_clip.make_mix_folder(tmp_path / "mix")
    aesthetic = str(tiny_clip.make_aesthetic_folder(tmp_path / "aesthetic"))
    change(folder, lambda parts: [part.update(scorer=aesthetic) for part in parts])
    assert len(list(load(folder).modules())) == 3  # one tower, two heads


def test_a_scorer_that_is_on_no_hub_comes_from_its_own_server(tmp_path, monkeypatch):
    """LAION's head is on GitHub: it is fetched from there, once, and converted like any pickle."""
    made = tiny_clip.make_aesthetic_folder(tmp_path / "made")
    home = tmp_path / "home"
    home.mkdir()
    (made / "tower.safetensors").rename(home / catalogue.CLIP_L.name)
    (made / "tokenizer.json").rename(home / catalogue.CLIP_TOKENIZER.name)
    head = open_tensors(made / "model.safetensors")
    server = tmp_path / "server"
    server.mkdir()
    torch.save({name: head[name] for name in head.shapes}, server / "head.pth")
    entry = catalogue.ENTRIES["Aesthetic"]
    weights = dataclasses.replace(entry.weights, url=(server / "head.pth").as_uri())
    settings = {**dataclasses.asdict(tiny_clip.TINY_CLIP), "head_widths": [12, 10, 8, 6]}
    monkeypatch.setitem(
        catalogue.ENTRIES,
        "Aesthetic",
        dataclasses.replace(entry, weights=weights, settings=settings, mean=0.1, std=0.5),
    )
    scorer = load_scorer("aesthetic", device="cpu", folder=home)
    score = scorer.score([picture(4)], "ignored")
    (server / "head.pth").unlink()
    again = load_scorer("aesthetic", device="cpu", folder=home)
    assert again.score([picture(4)], "ignored") == score
    assert not list(home.glob("*.part"))
