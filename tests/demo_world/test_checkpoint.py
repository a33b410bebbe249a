from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")

from safetensors.torch import load_file

from demo.world import checkpoint, configs, diffusion
from imagereward_ext.diffusion.loading import load_parts


@pytest.fixture(scope="module")
def networks():
    from diffusers import AutoencoderKL

    unet, text = diffusion.networks(seed=0)
    torch.manual_seed(0)
    return {"unet": unet.eval(), "vae": AutoencoderKL(**configs.VAE).eval(), "text": text.eval()}


@pytest.fixture(scope="module")
def file(networks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint.write(tmp_path_factory.mktemp("models"), **networks, scale=0.75)


def assert_same(given: torch.nn.Module, loaded: torch.nn.Module) -> None:
    expected = {k.removeprefix("text_model."): v.half().float() for k, v in given.state_dict().items()}
    found = {k.removeprefix("text_model."): v.float() for k, v in loaded.state_dict().items()}
    assert set(expected) <= set(found)
    assert all(torch.equal(expected[k].flatten(), found[k].flatten()) for k in expected)


def test_the_projects_own_loader_opens_it(file: Path, networks) -> None:
    parts = load_parts(file)
    assert_same(networks["unet"], parts.unet)
    assert_same(networks["vae"], parts.vae)
    assert parts.config.resolution == 64
    assert parts.config.vae["scaling_factor"] == 0.75
    prompts = ["a red circle on a blue background", ""]
    ids = diffusion.token_ids(file.parent / configs.NAME / "tokenizer", prompts)
    with torch.inference_mode():
        expected = networks["text"](ids).last_hidden_state
        assert torch.allclose(parts.encode(prompts).states, expected, atol=5e-3)


def test_diffusers_opens_it_as_a_single_file(file: Path, networks) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_single_file(
        str(file), config=str(file.with_suffix("")), safety_checker=None, local_files_only=True
    )
    assert_same(networks["unet"], pipeline.unet)
    assert_same(networks["vae"], pipeline.vae)
    assert_same(networks["text"], pipeline.text_encoder)
    assert pipeline.vae.config.scaling_factor == 0.75
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red circle", num_inference_steps=2, height=64, width=64).images[0]
    assert image.size == (64, 64)


def test_names_and_types_are_those_of_a_webui_checkpoint(file: Path) -> None:
    tensors = load_file(file)
    prefixes = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model.")
    assert all(name.startswith(prefixes) for name in tensors)
    assert {str(t.dtype) for t in tensors.values()} == {"torch.float16", "torch.int64"}
    assert tensors["model.diffusion_model.input_blocks.0.0.weight"].shape[1] == 4
    assert tensors["first_stage_model.decoder.mid.attn_1.q.weight"].ndim == 4
    assert tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"].tolist() == [
        list(range(77))
    ]


def test_the_text_states_have_a_mean_to_divide_by(networks, file: Path) -> None:
    parts = load_parts(file)
    with torch.inference_mode():
        assert parts.encode(["a red circle on a blue background"]).states.mean().item() > 0.1
