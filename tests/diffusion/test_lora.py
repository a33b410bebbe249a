from __future__ import annotations

import hashlib
import json

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from imagereward_ext.diffusion import checkpoint, lora, lora_file
from imagereward_ext.diffusion.checkpoint import CheckpointError
from imagereward_ext.diffusion.lora import LoraShape
from imagereward_ext.diffusion.lora_file import LoraOrigin
from imagereward_ext.diffusion.model_config import known
from tests.diffusion.tiny_models import tiny_config, tiny_parts

FAMILIES = ("sd1", "sd2", "sdxl")
SHAPE = LoraShape(rank=4, alpha=2.0, text_encoder=True)


def trained(parts, shape=SHAPE):
    """Put LoRA layers in and give B values, as if trained."""
    lora.inject(parts, shape, seed=0)
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parts.trainable():
            parameter.copy_(torch.randn(parameter.shape, generator=stream) * 0.2)
    return parts


def prediction(parts):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return parts.predict(latents, torch.tensor([5, 500]), parts.encode(["a cat", "dogs"]))


def origin(parts, shape=SHAPE):
    return LoraOrigin("nice-000010", parts.config, shape, "base.safetensors", "ab" * 32, "cd" * 4, 512, 512, "Made nicer.",
                      {"ss_steps": "10"})  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_merged_into_the_base_predicts_what_the_trained_layers_predict(family, tmp_path):
    parts = tiny_parts(tmp_path, family)
    base = prediction(parts)
    wanted = prediction(trained(parts))
    assert (wanted - base).abs().max() > 0.01
    path = tmp_path / "nice.safetensors"
    lora_file.write_lora(path, lora.trained_layers(parts), origin(parts))
    fresh = tiny_parts(tmp_path, family)
    layers = lora_file.read_lora(path, parts.config)
    with lora.merged(fresh, layers, 1.0):
        torch.testing.assert_close(prediction(fresh), wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(prediction(fresh), base, atol=0, rtol=0)
    with lora.merged(fresh, layers, 0.0):
        torch.testing.assert_close(prediction(fresh), base, atol=0, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_with_adapters_disabled_it_is_the_base_and_comes_back_after_an_error(family, tmp_path):
    parts = tiny_parts(tmp_path, family)
    base = prediction(parts)
    tuned = prediction(trained(parts))
    with pytest.raises(ZeroDivisionError), lora.adapters_disabled(parts):
        torch.testing.assert_close(prediction(parts), base, atol=0, rtol=0)
        _ = 1 / 0
    torch.testing.assert_close(prediction(parts), tuned, atol=0, rtol=0)
    assert all(p.requires_grad for p in parts.trainable())
    assert parts.trainable()


def test_merged_for_inference_they_say_the_same_and_the_base_comes_back_untouched(tmp_path):
    parts = trained(tiny_parts(tmp_path))
    tuned = prediction(parts)
    weights = [(p, p.data.data_ptr(), p.data.clone()) for m in parts.modules() for p in m.parameters()]
    with pytest.raises(ZeroDivisionError), lora.merged_for_inference(parts):
        for _, module in lora.components(parts):
            assert all(layer.disable_adapters for _, layer in lora.layers(module))
        torch.testing.assert_close(prediction(parts), tuned, atol=1e-5, rtol=0)
        _ = 1 / 0
    assert all(p.data.data_ptr() == place and torch.equal(p, data) for p, place, data in weights)
    torch.testing.assert_close(prediction(parts), tuned, atol=0, rtol=0)
    assert parts.trainable()


def test_merging_leaves_alone_what_is_disabled_or_would_be_rounded_away(tmp_path):
    parts = trained(tiny_parts(tmp_path))
    with lora.adapters_disabled(parts):
        base = prediction(parts)
        with lora.merged_for_inference(parts):
            torch.testing.assert_close(prediction(parts), base, atol=0, rtol=0)
        torch.testing.assert_close(prediction(parts), base, atol=0, rtol=0)
    torch.nn.Module.to(parts.unet, dtype=torch.bfloat16)
    tuned = prediction(parts)
    with lora.merged_for_inference(parts):
        torch.testing.assert_close(prediction(parts), tuned, atol=0, rtol=0)


def test_only_lora_layers_learn_and_they_start_as_nothing(tmp_path):
    state = torch.random.get_rng_state()
    parts = tiny_parts(tmp_path)
    parts.to(torch.device("cpu"), torch.bfloat16)
    base = prediction(parts)
    lora.inject(parts, LoraShape(rank=2), seed=3)
    torch.testing.assert_close(prediction(parts), base, atol=0, rtol=0)
    names = [n for m in parts.modules() for n, p in m.named_parameters() if p.requires_grad]
    assert names
    assert all("lora_" in name for name in names)
    assert all(p.dtype == torch.float32 for p in parts.trainable())
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("shape", "endings"),
    [
        (LoraShape(targets="attention"), {"to_q", "to_k", "to_v", "to_out.0"}),
        (LoraShape(), {"to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"}),
    ],
)
def test_the_targets_are_the_ones_asked_for(shape, endings, tmp_path):
    parts = tiny_parts(tmp_path)
    lora.inject(parts, shape, seed=0)
    found = lora.trained_layers(parts)
    assert set(found) == {"unet"}
    assert {e for e in endings for path in found["unet"] if path.endswith(e)} == endings
    assert all(path.endswith(tuple(endings)) for path in found["unet"])


def test_names_are_those_of_the_webuis():
    path = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    assert lora_file.to_file_name(known("sd1"), "unet", path) == (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    )
    text = "text_model.encoder.layers.0.self_attn.q_proj"
    assert (
        lora_file.to_file_name(known("sd2"), "text_0", text)
        == "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    )
    assert lora_file.to_file_name(known("sdxl"), "text_1", text).startswith("lora_te2_text_model_encoder")
    assert lora_file.to_file_name(known("sdxl"), "text_0", text).startswith("lora_te1_text_model_encoder")
    for component, inner in (("unet", "mid_block.attentions.0.transformer_blocks.3.ff.net.0.proj"),
                             ("unet", "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_out.0"),
                             ("text_1", "text_model.encoder.layers.11.mlp.fc2")):  # fmt: skip
        name = lora_file.to_file_name(known("sdxl"), component, inner)
        assert lora_file.from_file_name(known("sdxl"), name) == (component, inner)
    with pytest.raises(CheckpointError, match="renamed"):
        lora_file.to_file_name(known("sd1"), "text_0", "encoder.layers.0.self_attn.q_proj")


LAYER = "transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"down_blocks.0.attentions.0.{LAYER}", "lora_unet_input_blocks_1_1"),
        (f"down_blocks.1.attentions.0.{LAYER}", "lora_unet_input_blocks_3_1"),
        (f"up_blocks.0.attentions.1.{LAYER}", "lora_unet_output_blocks_1_1"),
        (f"up_blocks.1.attentions.0.{LAYER}", "lora_unet_output_blocks_2_1"),
        (f"mid_block.attentions.0.{LAYER}", "lora_unet_mid_block_attentions_0"),
    ],
)
def test_in_a_model_of_other_depth_blocks_have_the_checkpoints_own_numbers(path, name):
    """AUTOMATIC1111 would put the usual names, with two layers per block, into other blocks or none."""
    model = tiny_config("sd1")
    assert model.unet["layers_per_block"] == 1
    name += "_transformer_blocks_0_attn1_to_q"
    assert lora_file.to_file_name(model, "unet", path) == name
    assert lora_file.from_file_name(model, name) == ("unet", path)


def test_sdxl_files_with_the_checkpoints_own_numbers_are_read():
    for name, path in (
        ("lora_unet_input_blocks_8_1", "down_blocks.2.attentions.1"),
        ("lora_unet_middle_block_1", "mid_block.attentions.0"),
        ("lora_unet_output_blocks_5_1", "up_blocks.1.attentions.2"),
    ):
        name += "_transformer_blocks_0_attn1_to_q"
        assert lora_file.from_file_name(known("sdxl"), name) == ("unet", f"{path}.{LAYER}")


def test_metadata_card_and_preview_are_what_the_webuis_read(tmp_path):
    parts = trained(tiny_parts(tmp_path))
    path = tmp_path / "nice.safetensors"
    lora_file.write_lora(path, lora.trained_layers(parts), origin(parts), Image.new("RGB", (16, 16)))
    with safe_open(path, "pt") as file:
        said, names = file.metadata(), list(file.keys())
        rank = next(file.get_tensor(n).shape[0] for n in names if n.endswith("lora_down.weight"))
        alphas = {float(file.get_tensor(n)) for n in names if n.endswith(".alpha")}
    assert (rank, alphas) == (4, {2.0})
    expected = {"ss_base_model_version": "sd_v1", "ss_v2": "False", "ss_network_dim": "4", "ss_network_alpha": "2.0",
                "ss_network_module": "networks.lora", "ss_steps": "10", "modelspec.prediction_type": "epsilon",
                "modelspec.architecture": "stable-diffusion-v1/lora", "modelspec.sai_model_spec": "1.0.1",
                "modelspec.title": "nice-000010", "modelspec.resolution": "512x512"}  # fmt: skip
    assert expected.items() <= said.items()
    assert len(said["sshs_model_hash"]) == 64
    assert len(said["sshs_legacy_hash"]) == 8
    assert json.loads(path.with_suffix(".json").read_text())["sd version"] == "SD1"
    assert Image.open(path.with_suffix(".png")).size == (16, 16)


def test_the_hashes_are_those_that_kohyas_scripts_write(tmp_path):
    """Computed from the file alone: its header is written again by hand with nothing but the `ss_` entries."""
    parts = trained(tiny_parts(tmp_path), LoraShape(rank=256, alpha=2.0))
    path = tmp_path / "nice.safetensors"
    lora_file.write_lora(path, lora.trained_layers(parts), origin(parts))
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, tensors = json.loads(content[8 : 8 + size]), content[8 + size :]
    said = header["__metadata__"]
    assert said["sshs_model_hash"] == hashlib.sha256(tensors).hexdigest()
    header["__metadata__"] = {key: value for key, value in said.items() if key.startswith("ss_")}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    bare = len(text).to_bytes(8, "little") + text + tensors
    assert len(bare) > 0x110000, "the old hash must see something"
    assert said["sshs_legacy_hash"] == hashlib.sha256(bare[0x100000:0x110000]).hexdigest()[:8]


def test_the_base_is_named_by_both_of_its_hashes(tmp_path):
    file = tmp_path / "base.safetensors"
    file.write_bytes(bytes(range(256)) * 5000)
    assert (
        checkpoint.old_hash(file)
        == hashlib.sha256(file.read_bytes()[1048576 : 1048576 + 65536]).hexdigest()[:8]
    )
    assert checkpoint.old_hash(tmp_path) == ""
    said = lora_file.metadata(origin(tiny_parts(tmp_path)), {})
    assert (said["ss_sd_model_hash"], said["ss_new_sd_model_hash"]) == ("cd" * 4, "ab" * 32)


def test_a_lora_of_another_model_is_refused_and_leaves_the_base_alone(tmp_path):
    parts = trained(tiny_parts(tmp_path, "sdxl"))
    path = tmp_path / "xl.safetensors"
    lora_file.write_lora(path, lora.trained_layers(parts), origin(parts))
    with pytest.raises(CheckpointError, match="is no layer of a SD1 LoRA"):
        lora_file.read_lora(path, known("sd1"))
    other, base = tiny_parts(tmp_path, "sd1"), prediction(tiny_parts(tmp_path, "sd1"))
    layers = {"unet": lora_file.read_lora(path, parts.config)["unet"]}
    with pytest.raises(CheckpointError, match="does not fit"), lora.merged(other, layers, 1.0):
        pass
    torch.testing.assert_close(prediction(other), base, atol=0, rtol=0)
