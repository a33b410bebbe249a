"""What the demo host does beyond the contract: interrupting, LoRA files, Reload UI, credentials, styles, weights."""

from __future__ import annotations

import time

import pytest
import torch
from PIL import Image

from tests.demo_host.checkpoint import write_checkpoint
from tests.demo_host.test_contract import names, nearly_same, only, parameters, recording, same
from tests.hosting import CREDENTIALS, RECORDER, Client


@pytest.fixture
def host(demo_host):
    return demo_host


@pytest.fixture
def client(host):
    client = Client(host.url, CREDENTIALS)
    client.forget_events()
    return client


# ---- credentials


def test_the_api_asks_for_credentials_and_the_page_does_not(host):
    for path in ("/sdapi/v1/options", "/sdapi/v1/progress"):
        assert Client(host.url).request("GET", path).status_code == 401
        assert Client(host.url, ("someone", "else")).request("GET", path).status_code == 401
        assert Client(host.url, CREDENTIALS).request("GET", path).status_code == 200
    assert Client(host.url).request("POST", "/sdapi/v1/txt2img", json={}).status_code == 401
    assert "hook_recorder.js" in Client(host.url).request("GET", "/").text


def test_the_page_serves_the_extensions_script_and_nothing_outside(host):
    client = Client(host.url)
    assert "hookRecorder" in client.request("GET", f"/file={RECORDER}/javascript/hook_recorder.js").text
    assert client.request("GET", "/file=/etc/hostname").status_code == 403


# ---- prompts


def test_styles_are_in_the_prompt_of_every_hook_and_infotext(client):
    answer = client.txt2img(prompt="cats", styles=["round", "old"], **recording())
    assert answer.info["all_prompts"] == ["a circle of cats, in oil"]
    assert answer.info["infotexts"][0].split("\n")[:2] == [
        "a circle of cats, in oil",
        "Negative prompt: square",
    ]
    assert only(client.events(), "process_batch")[0]["prompts"] == ["a circle of cats, in oil"]


def test_each_prompt_of_a_list_makes_its_own_image(client):
    cats = client.txt2img(prompt="cats", seed=5).images[0]
    both = client.txt2img(prompt=["dogs", "cats"], seed=4, batch_size=2)
    assert both.info["all_prompts"] == ["dogs", "cats"]
    assert nearly_same(both.images[1], cats)


def test_the_picture_is_the_one_diffusers_own_pipeline_makes(client, random_checkpoint):
    import diffusers

    pipeline = diffusers.StableDiffusionPipeline.from_single_file(
        str(random_checkpoint / "random.safetensors"),
        config=str(random_checkpoint / "random"),
        local_files_only=True,
        safety_checker=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(12))
    wish = {"num_inference_steps": 5, "guidance_scale": 4.0, "width": 64, "height": 64, "latents": latents}
    theirs = pipeline("a red circle", negative_prompt="blue", **wish).images[0]
    ours = client.txt2img(negative_prompt="blue", steps=5, cfg_scale=4, seed=12, sampler_name="DDIM").images[
        0
    ]
    assert nearly_same(ours, theirs)


# ---- LoRA


def test_a_lora_changes_the_picture_by_its_weight_and_leaves_the_model_as_it_was(client):
    before = client.txt2img(prompt="a circle").images[0]
    strong = client.txt2img(prompt="a circle<lora:strong:1>")
    weaker = client.txt2img(prompt="a circle<lora:strong:0.5>").images[0]
    nothing = client.txt2img(prompt="a circle<lora:strong:0>").images[0]
    after = client.txt2img(prompt="a circle").images[0]
    assert not nearly_same(strong.images[0], before)
    assert not nearly_same(strong.images[0], weaker)
    assert same(nothing, before)
    assert same(after, before)
    assert strong.info["infotexts"][0].startswith("a circle<lora:strong:1>\n")
    assert parameters(strong.info["infotexts"][0])["Lora hashes"].startswith('"strong: ')


def test_a_lora_that_is_not_there_costs_nobody_an_image(client):
    assert len(client.txt2img(prompt="a circle<lora:nowhere:1>").images) == 1


# ---- hires fix


def test_pixel_upscaling_and_a_given_first_pass(client):
    answer = client.txt2img(
        enable_hr=True, hr_upscaler="Lanczos", hr_resize_x=96, denoising_strength=0.5, steps=4, n_iter=2
    )
    assert [image.size for image in answer.images] == [(96, 96)] * 2
    assert parameters(answer.info["infotexts"][0])["Hires resize"] == "96x0"


# ---- settings, models, reload


def test_another_checkpoint_is_loaded_when_it_is_chosen(client, random_checkpoint):
    before = client.txt2img().images[0]
    write_checkpoint(random_checkpoint, "other", seed=9)
    client.request("POST", "/sdapi/v1/refresh-checkpoints")
    titles = [model["title"] for model in client.get("/sdapi/v1/sd-models")]
    other = next(title for title in titles if title.startswith("other"))
    answer = client.txt2img(override_settings={"sd_model_checkpoint": other})
    assert parameters(answer.info["infotexts"][0])["Model"] == "other"
    assert not nearly_same(answer.images[0], before)
    assert same(client.txt2img().images[0], before)


def test_reload_ui_executes_the_scripts_again_and_keeps_settings_and_model(client, host):
    client.post("/sdapi/v1/options", hook_recorder_option="kept")
    image = client.txt2img().images[0]
    said = len(host.log)
    client.forget_events()
    client.post("/sdapi/v1/server-restart")
    deadline = time.monotonic() + 60
    while "Startup time" not in host.log[said:] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert names(client.events()) == ["script_unloaded", "script_executed", "before_ui"]
    assert client.get("/sdapi/v1/options")["hook_recorder_option"] == "kept"
    assert same(client.txt2img().images[0], image)
    assert "Loaded" not in host.log[said:]
    assert "Traceback" not in host.log[said:]
    client.post("/sdapi/v1/options", hook_recorder_option="as it was")


def test_transparent_and_odd_sized_inputs_are_taken(client):
    picture = Image.new("RGBA", (50, 90), (255, 0, 0, 128))
    for mode in (0, 1, 2):
        assert client.img2img(picture, resize_mode=mode).images[0].size == (64, 64)


def test_arguments_that_are_no_list_are_refused(client):
    for wrong in ({"args": {}}, {"args": None}, []):
        body = {"prompt": "x", "steps": 1, "alwayson_scripts": {"Hook recorder": wrong}}
        answer = client.request("POST", "/sdapi/v1/txt2img", json=body)
        assert answer.status_code == 422
        assert "Script 'Hook recorder' takes" in answer.json()["detail"]


def test_the_routes_are_documented_beside_the_page(client):
    for page in ("/docs", "/redoc"):
        assert "/openapi.json" in client.request("GET", page).text
    assert "/sdapi/v1/txt2img" in client.get("/openapi.json")["paths"]
