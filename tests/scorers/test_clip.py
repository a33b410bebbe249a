"""CLIP's towers: against transformers' own way, shared between scorers, and the scorers on top of them."""

import dataclasses
import gc
import json
import math

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from imagereward_ext.errors import WeightsError
from imagereward_ext.scorers import clip_tower
from imagereward_ext.scorers.loading import load_scorer
from imagereward_ext.weights import catalogue
from imagereward_ext.weights.tensors import open_tensors
from tests import tiny_clip
from tests.tiny import picture


@pytest.fixture
def clip_folder(tmp_path):
    return tiny_clip.make_clip_folder(tmp_path / "clip")


def load(name, **options):
    return load_scorer(str(name), device="cpu", **options)


def reference_cosines(folder, images, prompts):
    """Cosines by transformers' whole-model forward, on preprocessed images and the tokenizer's own ids."""
    a = tiny_clip.TINY_CLIP
    config = CLIPConfig(
        text_config={
            "vocab_size": a.vocabulary_size,
            "hidden_size": a.text_width,
            "intermediate_size": 4 * a.text_width,
            "num_hidden_layers": a.text_layers,
            "num_attention_heads": a.text_heads,
            "max_position_embeddings": a.window,
            "eos_token_id": a.vocabulary_size - 1,
            "bos_token_id": a.vocabulary_size - 2,
        },
        vision_config={
            "hidden_size": a.vision_width,
            "intermediate_size": 4 * a.vision_width,
            "num_hidden_layers": a.vision_layers,
            "num_attention_heads": a.vision_heads,
            "image_size": a.image_size,
            "patch_size": a.patch_size,
        },
        projection_dim=a.shared_width,
    )
    model = CLIPModel(config).eval()
    file = open_tensors(folder / "model.safetensors")
    model.load_state_dict({name: file[name] for name in file.shapes}, strict=False)
    scorer = load(folder)
    pixels = torch.stack([scorer.preprocess(image) for image in images])
    ids = scorer.tower.tokenizer(prompts, torch.device("cpu"))
    with torch.no_grad():
        output = model(input_ids=ids, pixel_values=pixels)
    return (output.logits_per_image / model.logit_scale.exp()).diagonal()


def test_clip_is_the_cosine_that_transformers_computes(clip_folder):
    images, prompts = [picture(1), picture(2)], ["a red cat", "sky"]
    scorer = load(clip_folder)
    cosines = reference_cosines(clip_folder, images, prompts)
    assert scorer.score(images, prompts) == pytest.approx(((cosines - 0.1) / 0.5).tolist(), abs=1e-5)


def test_pickscore_is_the_cosine_times_its_learned_factor(tmp_path):
    plain = load(tiny_clip.make_clip_folder(tmp_path / "clip"))
    pick = load(tiny_clip.make_clip_folder(tmp_path / "pick", "pickscore"))
    cosine = plain.score([picture(1)], "a red cat")[0] * 0.5 + 0.1
    assert pick.score([picture(1)], "a red cat")[0] * 0.5 + 0.1 == pytest.approx(
        math.exp(2.0) * cosine, abs=1e-4
    )


def test_the_window_is_filled_as_clip_does(clip_folder):
    tokenizer = load(clip_folder).tower.tokenizer
    begin, end = tiny_clip.VOCABULARY_SIZE - 2, tiny_clip.VOCABULARY_SIZE - 1
    short, long = tokenizer(["a b", "abc " * 30], torch.device("cpu")).tolist()
    assert len(short) == len(long) == tiny_clip.TINY_CLIP.window
    assert short[0] == begin
    assert short[3:] == [end] * (len(short) - 3)
    assert long[-1] == end
    assert end not in long[1:-1]


def test_padding_never_changes_an_embedding(clip_folder):
    tower = load(clip_folder).tower
    ids = tower.tokenizer(["a b"], tower.device)
    with torch.no_grad():
        padded = tower.model.text_model(input_ids=ids).pooler_output
        exact = tower.model.text_model(input_ids=ids[:, :4]).pooler_output
    torch.testing.assert_close(padded, exact)


def test_a_tokenizer_of_another_model_is_refused(clip_folder):
    config = json.loads((clip_folder / "config.json").read_text())
    smaller = dataclasses.replace(tiny_clip.TINY_CLIP, vocabulary_size=50)
    tiny_clip.make_clip_folder(clip_folder, clip=smaller)
    with pytest.raises(WeightsError, match="belongs to another model"):
        load(clip_folder)
    assert config["settings"]["vocabulary_size"] != 50


def test_a_tower_is_loaded_once_and_goes_with_its_last_scorer(tmp_path, monkeypatch):
    loads = []
    monkeypatch.setattr(clip_tower, "_load", lambda *a, load=clip_tower._load: loads.append(1) or load(*a))
    aesthetic = tiny_clip.make_aesthetic_folder(tmp_path / "aesthetic")
    first, second = load(aesthetic), load(aesthetic)
    assert first.tower is second.tower
    assert len(loads) == 1
    other_type = load(aesthetic, precision="bf16")
    assert other_type.tower is not first.tower
    key = next(key for key, tower in clip_tower._towers.items() if tower is first.tower)
    del first, second
    gc.collect()
    assert key not in clip_tower._towers


def test_a_shared_tower_takes_all_its_scorers_along(tmp_path):
    folder = tiny_clip.make_aesthetic_folder(tmp_path / "aesthetic")
    first, second = load(folder), load(folder)
    first.to("meta")
    assert second.device == first.device == torch.device("meta")


def test_a_clip_mlp_on_another_tower_is_refused(tmp_path):
    folder = tiny_clip.make_clip_mlp_folder(tmp_path / "mlp")
    tower = load(folder).tower
    config = json.loads((folder / "config.json").read_text())
    config["settings"]["tower_digest"] = tower.digest
    (folder / "config.json").write_text(json.dumps(config))
    assert load(folder).digest
    config["settings"]["tower_digest"] = "0123456789"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="trained on a CLIP tower"):
        load(folder)


def test_a_clip_mlp_finds_the_catalogue_s_tower(tmp_path, monkeypatch):
    """A folder that names CLIP uses the file in the weights folder, and shares the tower with CLIP itself."""
    clip = tiny_clip.make_clip_folder(tmp_path / "made")
    home = tmp_path / "home"
    home.mkdir()
    (clip / "model.safetensors").rename(home / catalogue.CLIP_L.name)
    (clip / "tokenizer.json").rename(home / catalogue.CLIP_TOKENIZER.name)
    entry = dataclasses.replace(catalogue.ENTRIES["CLIP"], settings=dataclasses.asdict(tiny_clip.TINY_CLIP))
    monkeypatch.setitem(catalogue.ENTRIES, "CLIP", entry)
    folder = tiny_clip.make_clip_mlp_folder(home / "my-taste")
    config = json.loads((folder / "config.json").read_text())
    config["companions"] = {}
    config["settings"] = {"tower": "CLIP", "head_widths": config["settings"]["head_widths"]}
    (folder / "config.json").write_text(json.dumps(config))
    taste = load("my-taste", folder=home, download=False)
    assert taste.tower is load("CLIP", folder=home, download=False).tower


def test_real_sizes_are_those_published():
    """Counting parameters without memory: 427.6 million in ViT-L/14, 986.1 million in PickScore's ViT-H/14."""
    for name, millions in (("CLIP", 427.6), ("PickScore", 986.1)):
        settings = catalogue.ENTRIES[name].settings
        with torch.device("meta"):
            model = clip_tower._new_model(clip_tower.ClipArchitecture.from_settings(settings))
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_an_unknown_setting_is_an_error():
    with pytest.raises(WeightsError, match="no setting 'depth'"):
        clip_tower.ClipArchitecture.from_settings({"depth": 3})
