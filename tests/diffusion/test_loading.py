from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from imagereward_ext.diffusion.checkpoint import CheckpointError, family_of, file_digest, inspect
from imagereward_ext.diffusion.loading import configuration, load_parts, probe_prediction
from imagereward_ext.diffusion.model_config import known
from imagereward_ext.diffusion.sampling import SamplingSettings, generate
from tests.diffusion.tiny_models import known_as, ldm_tensors, tiny_config, tiny_parts

FAMILIES = ("sd1", "sd2", "sdxl")
PROMPTS = ["a cat", "the dog of a man"]


def same_model(ours, theirs) -> None:
    t = torch.tensor([10, 700])
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first, second = ours.encode(PROMPTS), theirs.encode(PROMPTS)
        torch.testing.assert_close(first.states, second.states)
        torch.testing.assert_close(ours.predict(latents, t, first), theirs.predict(latents, t, second))
        torch.testing.assert_close(ours.decode(latents), theirs.decode(latents))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_single_file_gives_the_model_it_was_written_from(family, suffix, tmp_path, monkeypatch):
    parts = tiny_parts(tmp_path, family)
    known_as(parts.config, monkeypatch)
    path = tmp_path / f"model{suffix}"
    tensors = ldm_tensors(parts)
    if suffix == ".safetensors":
        save_file(tensors, path, {"modelspec.prediction_type": "epsilon"})
    else:
        torch.save({"state_dict": tensors, "global_step": 3}, path)
    loaded = load_parts(path, prediction="epsilon")
    assert loaded.config.family == family
    assert not loaded.trainable()
    same_model(loaded, parts)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_yaml_beside_the_file_gives_the_sizes(family, tmp_path):
    import yaml

    parts = tiny_parts(tmp_path, family)
    save_file(ldm_tensors(parts), tmp_path / "model.safetensors")
    unet = {"in_channels": 4, "out_channels": 4, "model_channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1,
            "attention_resolutions": [1], "num_heads": 2, "context_dim": 32, "transformer_depth": 1}  # fmt: skip
    dd = {"in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1, "z_channels": 4}
    params = {"image_size": 8, "scale_factor": 0.18215, "unet_config": {"params": unet}, "timesteps": 1000,
              "linear_start": 0.00085, "linear_end": 0.012, "first_stage_config": {"params": {"ddconfig": dd}},
              "cond_stage_config": {"target": "ldm.FrozenCLIPEmbedder", "params": {"heads": 2}}}  # fmt: skip
    if family == "sdxl":
        del params["unet_config"], params["cond_stage_config"], unet["num_heads"]
        unet |= {"attention_resolutions": [2], "transformer_depth": [1, 2], "context_dim": 96, "adm_in_channels": 112,
                 "num_head_channels": 32, "use_linear_in_transformer": True, "addition_time_embed_dim": 8}  # fmt: skip
        embedders = [
            {"params": {"heads": 2}},
            {"params": {"heads": 2}},
            {"target": "ConcatTimestepEmbedderND"},
        ]
        params |= {
            "network_config": {"params": unet},
            "conditioner_config": {"params": {"emb_models": embedders}},
        }
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"model": {"params": params}}))
    loaded = load_parts(tmp_path / "model.safetensors")
    assert loaded.config.resolution == 16
    same_model(loaded, parts)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_diffusers_folder_gives_the_same_model(family, tmp_path):
    parts = tiny_parts(tmp_path / "model", family, prediction="v_prediction")
    folder = tmp_path / "model"
    parts.unet.save_pretrained(folder / "unet")
    parts.vae.save_pretrained(folder / "vae")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(
        json.dumps({"prediction_type": "v_prediction"})
    )
    for name, encoder in zip(("text_encoder", "text_encoder_2"), parts.text_encoders, strict=False):
        (folder / name).mkdir()
        c = encoder.shape
        (folder / name / "config.json").write_text(json.dumps({
            "hidden_size": c.hidden_size, "intermediate_size": c.intermediate_size, "num_hidden_layers": c.layers,
            "num_attention_heads": c.heads, "vocab_size": c.vocabulary, "max_position_embeddings": c.positions,
            "hidden_act": c.activation, "projection_dim": c.projection}))  # fmt: skip
        # As transformers 5 writes a CLIPTextModel: without the text_model level.
        save_file({k.removeprefix("text_model."): v.contiguous() for k, v in encoder.state_dict().items()},
                  folder / name / "model.safetensors")  # fmt: skip
    loaded = load_parts(folder)
    assert (loaded.config.family, loaded.config.noise.prediction) == (family, "v_prediction")
    same_model(loaded, parts)
    assert len(file_digest(folder)) == 64


def test_another_vae_replaces_the_one_in_the_file(tmp_path, monkeypatch):
    parts, other = tiny_parts(tmp_path), tiny_parts(tmp_path, seed=1)
    known_as(parts.config, monkeypatch)
    save_file(ldm_tensors(parts), tmp_path / "model.safetensors")
    vae = {
        k.removeprefix("first_stage_model."): v
        for k, v in ldm_tensors(other).items()
        if k.startswith("first_")
    }
    save_file(vae, tmp_path / "vae.safetensors")
    loaded = load_parts(tmp_path / "model.safetensors", vae=tmp_path / "vae.safetensors")
    latents = torch.ones(1, 4, 8, 8)
    torch.testing.assert_close(loaded.decode(latents), other.decode(latents))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_one_trial_tells_noise_from_velocity(prediction, tmp_path):
    parts = tiny_parts(tmp_path, "sd2")

    def predicts_its_input(latents, *_args, **_kwargs):
        noise_like = latents + 0.1
        return (noise_like if prediction == "epsilon" else torch.ones_like(latents),)

    parts.unet.forward = predicts_its_input
    assert probe_prediction(parts) == prediction


@pytest.mark.parametrize("family", FAMILIES)
def test_the_known_configurations_build_the_published_models(family):
    from diffusers import AutoencoderKL, UNet2DConditionModel

    published = {"sd1": 859_520_964, "sd2": 865_910_724, "sdxl": 2_567_463_684}
    with torch.device("meta"):
        unet = UNet2DConditionModel(**known(family).unet)
        vae = AutoencoderKL(**known(family).vae)
    assert sum(p.numel() for p in unet.parameters()) == published[family]
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    assert known("sd2").predicting("v_prediction").resolution == 768


def keys(*names, channels=4):
    tensors = {name: torch.zeros(1) for name in names}
    tensors["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(32, channels, 3, 3)
    return tensors


REFUSED = {
    "inpainting": (keys("cond_stage_model.transformer.x", channels=9), "inpainting model"),
    "refiner": (keys("conditioner.embedders.0.model.x"), "SDXL refiner"),
    "lora": ({"lora_unet_a.lora_up.weight": torch.zeros(1)}, "is a LoRA"),
    "peft": ({"unet.a.lora_A.weight": torch.zeros(1)}, "is a LoRA"),
    "flux": ({"double_blocks.0.x": torch.zeros(1)}, "Flux"),
    "vae": ({"encoder.conv_in.weight": torch.zeros(1)}, "is a VAE"),
    "unknown": ({"x": torch.zeros(1)}, "unknown layout"),
    "bare UNet": (keys(), "no text encoder"),
    "tiny without yaml": (keys("cond_stage_model.transformer.x"), "put its .yaml beside it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_in_one_line(name, tmp_path):
    tensors, words = REFUSED[name]
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as error:
        configuration(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_broken_files_are_refused_in_one_line(tmp_path):
    whole = tmp_path / "whole.safetensors"
    save_file(keys("cond_stage_model.transformer.x"), whole)
    content = whole.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-100])
    (tmp_path / "noise.safetensors").write_bytes(b"no header at all")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "long.safetensors").write_bytes(struct.pack("<Q", 2**62))
    (tmp_path / "noise.ckpt").write_bytes(b"no pickle at all")
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    expected = {"cut.safetensors": "100 bytes are missing", "noise.safetensors": "damaged", "empty.safetensors": "damaged",
                "long.safetensors": "damaged", "noise.ckpt": "cannot be read safely", "picture.png": "not a checkpoint",
                "folder": "no diffusers folder", "absent.ckpt": "does not exist"}  # fmt: skip
    for name, words in expected.items():
        with pytest.raises(CheckpointError, match=words) as error:
            configuration(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_pickle_that_runs_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    torch.save({"state_dict": Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(CheckpointError, match="holds code"):
        configuration(tmp_path / "trap.ckpt")
    assert not (tmp_path / "ran").exists()


def test_a_missing_layer_is_named(tmp_path, monkeypatch):
    parts = tiny_parts(tmp_path)
    known_as(parts.config, monkeypatch)
    tensors = ldm_tensors(parts)
    del tensors["model.diffusion_model.out.2.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 tensors are missing, conv_out.weight"):
        load_parts(tmp_path / "model.safetensors")


def test_the_vocabulary_is_missed_in_one_line_without_a_network(tmp_path, monkeypatch):
    from imagereward_ext.diffusion import tokenizer

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(tokenizer, "_archives", lambda: iter(()))
    with pytest.raises(CheckpointError, match="folder named tokenizer beside model"):
        tokenizer.find_tokenizer(tmp_path / "model.ckpt", download=False)


def test_the_families_are_told_from_the_keys(tmp_path):
    for name, family in {"cond_stage_model.transformer.x": "sd1", "cond_stage_model.model.x": "sd2",
                         "conditioner.embedders.1.model.x": "sdxl"}.items():  # fmt: skip
        path = tmp_path / f"{family}.safetensors"
        save_file(keys(name), path)
        assert family_of(inspect(path)) == family


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_every_sampler_finds_the_image_of_a_perfect_model(sampler, prediction, tmp_path):
    parts = tiny_parts(tmp_path, prediction=prediction)
    clean = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))

    def perfect(latents, t, _cond):
        alpha, sigma = parts.schedule.at(t)
        noise = (latents - alpha * clean) / sigma
        prediction = parts.schedule.target(clean, noise, t)
        torch.testing.assert_close(
            parts.schedule.clean(prediction, latents, t), clean.expand_as(latents), atol=1e-2, rtol=0
        )
        return prediction

    parts.predict = perfect
    settings = SamplingSettings(sampler=sampler, steps=20, width=16, height=16)
    cond = parts.encode(["a"])
    pixels = next(generate(parts, cond, None, settings, [3]))
    torch.testing.assert_close(pixels, parts.decode(clean)[0], atol=0.05, rtol=0)


def test_a_sample_is_the_same_in_any_batch_and_guidance_one_is_none(tmp_path):
    parts = tiny_parts(tmp_path, "sdxl")
    settings = SamplingSettings(sampler="ddpm", steps=3, width=16, height=16)
    cond = parts.encode(["a", "b", "c"])
    together = list(generate(parts, cond, None, settings, [1, 2, 3], batch=3))
    alone = list(generate(parts, cond, parts.encode(["", "", ""]), settings, [1, 2, 3], batch=1))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_odd_sizes_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="multiples of 4"):
        tiny_parts(tmp_path).latent_shape(18, 16)


def test_tiny_configurations_survive_json():
    config = tiny_config("sdxl")
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_vocabulary_is_built_from_the_file_the_webuis_packages_carry(tmp_path, monkeypatch):
    import gzip

    from imagereward_ext.diffusion import tokenizer

    archive = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    archive.write_bytes(gzip.compress(b'"bpe" 1\na n\nan d</w>\n'))
    monkeypatch.setattr(tokenizer, "MERGES", 2)
    vocabulary, merges = tokenizer.vocabulary_of(archive)
    # The places of published CLIP: "!" is 0, "!</w>" is 256, merges follow the 512 letters, the marks come last.
    assert [vocabulary[w] for w in ("!", "!</w>", "an", "and</w>", "<|startoftext|>")] == [
        0,
        256,
        512,
        513,
        514,
    ]
    assert merges == ["a n", "an d</w>"]
    monkeypatch.setattr(tokenizer, "_archives", lambda: iter((archive,)))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    found = tokenizer.find_tokenizer(tmp_path / "model.ckpt", download=False)
    assert found.tokens("AND") == [513]
    assert found.window("and", 5, pad=0) == [514, 513, 515, 0, 0]


@pytest.mark.parametrize(("family", "alike", "other"), [("sd1", 1, 2), ("sdxl", 2, 3)])
def test_clip_skip_counts_as_in_the_webuis(family, alike, other, tmp_path):
    """Stable Diffusion XL leaves a layer out anyway: there 1 and 2 are the same."""
    parts = tiny_parts(tmp_path, family)
    usual = parts.encode(["a cat"]).states
    parts.clip_skip = alike
    torch.testing.assert_close(parts.encode(["a cat"]).states, usual, atol=0, rtol=0)
    parts.clip_skip = other
    assert not torch.allclose(parts.encode(["a cat"]).states, usual)


def test_no_negative_prompt_is_zeros_for_stable_diffusion_xl(tmp_path):
    from imagereward_ext.refl.encodings import Encodings

    for family, zeros in (("sd1", False), ("sdxl", True)):
        parts = tiny_parts(tmp_path / family, family)
        _, negative = Encodings(parts, ["a cat"], trained=True).with_negative(["a cat"], 7.0)
        assert bool(negative.states.any()) != zeros
        if negative.pooled is not None:
            assert not negative.pooled.any()
        _, given = Encodings(parts, ["a cat"], "a dog", trained=True).with_negative(["a cat"], 7.0)
        assert given.states.any()
