"""In a WebUI that trains: what its tab begins with; and its preview is what the WebUI makes with the LoRA."""

from __future__ import annotations

import time

import pytest
from PIL import Image, ImageChops

from imagereward_ext.webui.refl_tab import form
from tests.hosting import Client, RunningHost
from tests.webui.training_world import CHECKPOINT, FIELDS

TRAIN = "/imagereward/v1/train"
PATIENCE = 300  # seconds
ROUNDING = 2  # of 255: the host cuts where the training rounds
SETTINGS = {
    "name": "shown", "updates": 2, "learning_rate": 0.2, "sampler": "ddim", "guidance": 2.0, "judge": "", "compare": 0,
    "kl_weight": 0.0,
}  # fmt: skip


def largest_difference(one: Image.Image, other: Image.Image) -> int:
    extrema = ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getextrema()
    return max(high for _, high in extrema)


def test_the_tab_begins_with_what_stands_in_ui_config(training_webui: RunningHost) -> None:
    if training_webui.process is None:
        pytest.skip("needs a host whose ui-config.json is ours")
    components = Client(training_webui.url).get("/config")["components"]
    (file,) = (c["props"] for c in components if c["props"].get("elem_id") == "imagereward-refl-prompt_file")
    assert file["value"] == "mine.txt"


@pytest.mark.skipif(CHECKPOINT != form.LOADED, reason="the host draws with another checkpoint")
def test_the_preview_is_what_txt2img_makes_of_its_own_parameters(training_webui: RunningHost) -> None:
    host = training_webui
    client = Client(host.url)
    client.post(f"{TRAIN}/start", **FIELDS | SETTINGS)
    deadline = time.monotonic() + PATIENCE
    while (run := client.get(f"{TRAIN}/status", run="shown"))["run"]["state"] != "finished":
        assert run["run"]["state"] in ("waiting", "starting", "running"), run
        assert time.monotonic() < deadline, run
        time.sleep(0.1)
    preview = Image.open(host.data / "models" / "Lora" / f"{run['run']['lora']}.png")
    prompt, line = preview.info["parameters"].rsplit("\n", 1)
    said = dict(part.split(": ", 1) for part in line.split(", "))
    assert prompt.endswith(" <lora:shown-000002:1>")
    width, height = map(int, said["Size"].split("x"))
    asked = {
        "steps": int(said["Steps"]),
        "sampler_name": said["Sampler"],
        "cfg_scale": float(said["CFG scale"]),
        "seed": int(said["Seed"]),
        "width": width,
        "height": height,
    }
    made = client.txt2img(prompt=prompt, **asked).images[0]
    without = client.txt2img(prompt=prompt.replace(" <lora:shown-000002:1>", ""), **asked).images[0]
    assert largest_difference(made, preview) <= ROUNDING
    assert largest_difference(without, preview) > 3 * ROUNDING, "the LoRA does something"
