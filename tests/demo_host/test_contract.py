"""What an extension may rely on in a WebUI, as scenarios over HTTP.

They run against the demo host, and against a real AUTOMATIC1111 started with `--api` and the extension
`tests/demo_host/hook_recorder`, when $WEBUI_URL names it: the demo may not promise what the real one does not do.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from tests.hosting import decoded, encoded

RECORD = "Hook recorder"
ONE_IMAGE = [
    "postprocess_image",
    "postprocess_maskoverlay",
    "postprocess_image_after_composite",
]
SAVED_IMAGE = [*ONE_IMAGE, "before_image_saved", "image_saved"]
BATCH = [
    "before_process_batch",
    "process_batch",
    "process_before_every_sampling",
    "post_sample",
    "postprocess_batch",
    "postprocess_batch_list",
]


@pytest.fixture(scope="module")
def client(client_of_host):
    client = client_of_host
    # A fresh AUTOMATIC1111 takes back only what has been set once: these are the defaults.
    defaults = {
        "samples_format": "png",
        "save_txt": False,
        "return_mask": False,
        "CLIP_stop_at_last_layers": 1,
    }
    client.post("/sdapi/v1/options", **defaults)
    return client


@pytest.fixture(autouse=True)
def _forget(client):
    client.forget_events()


def recording(text="noted", keep=-1):
    return {"alwayson_scripts": {RECORD: {"args": [True, text, keep]}}}


def names(events):
    return [event["event"] for event in events]


def only(events, name):
    return [event for event in events if event["event"] == name]


def parameters(infotext):
    """The last line of an infotext, by key, in order."""
    return dict(re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', infotext.split("\n")[-1]))


# ---- order of hooks


def test_hooks_come_in_order_for_two_batches_of_two_with_saving_and_a_grid(client):
    client.txt2img(batch_size=2, n_iter=2, save_images=True, **recording())
    batch = [*BATCH, *SAVED_IMAGE, *SAVED_IMAGE]
    grid = ["before_image_saved", "image_saved"]
    assert names(client.events()) == ["before_process", "process", *batch, *batch, *grid, "postprocess"]


def test_without_saving_only_the_hooks_on_files_are_missing(client):
    client.txt2img(batch_size=2, **recording())
    assert names(client.events()) == [
        "before_process",
        "process",
        *BATCH,
        *ONE_IMAGE,
        *ONE_IMAGE,
        "postprocess",
    ]


def test_the_hooks_see_prompts_seeds_and_indices_of_their_batch(client):
    client.txt2img(batch_size=2, n_iter=2, seed=10, prompt="a <lora:none:1>cat", **recording())
    events = client.events()
    assert only(events, "process")[0]["seeds"] == [10, 11, 12, 13]
    assert [e["seeds"] for e in only(events, "before_process_batch")] == [[10, 11], [12, 13]]
    assert only(events, "before_process_batch")[0]["prompts"] == ["a <lora:none:1>cat"] * 2
    assert (
        only(events, "process_batch")[0]["prompts"] == ["a cat"] * 2
    )  # tags are out while the batch is made
    assert (
        only(events, "postprocess_batch_list")[0]["prompts"] == ["a <lora:none:1>cat"] * 2
    )  # and back after
    at = [(e["iteration"], e["index"]) for e in only(events, "postprocess_image")]
    assert at == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert only(events, "postprocess_batch")[0]["shape"] == [2, 3, 64, 64]


def test_hires_fix_has_two_samplings_and_before_hr_between_them(client):
    answer = client.txt2img(
        enable_hr=True,
        hr_scale=2,
        hr_upscaler="Latent",
        hr_second_pass_steps=2,
        denoising_strength=0.6,
        **recording(),
    )
    events = client.events()
    first = names(events).index("process_before_every_sampling")
    assert names(events)[first : first + 4] == [
        "process_before_every_sampling",
        "before_hr",
        "process_before_every_sampling",
        "post_sample",
    ]
    assert answer.images[0].size == (128, 128)
    found = parameters(answer.info["infotexts"][0])
    assert found["Size"] == "64x64"
    assert (found["Hires upscale"], found["Hires steps"], found["Hires upscaler"]) == ("2.0", "2", "Latent")
    assert found["Denoising strength"] == "0.6"


def test_a_script_that_is_not_wanted_still_gets_its_controls_own_values(client):
    client.txt2img()
    assert client.events() == []  # "Record hooks" is off by itself


def test_arguments_may_be_fewer_than_the_controls(client):
    client.txt2img(alwayson_scripts={RECORD: {"args": [True]}})
    assert only(client.events(), "before_process") == [
        {"event": "before_process", "text": "default", "keep": -1}
    ]


def test_a_failing_hook_costs_nobody_an_image(client):
    answer = client.txt2img(batch_size=2, **recording(text="raise"))
    assert len(answer.images) == 2


def test_the_dropdown_script_makes_the_job_itself(client):
    answer = client.txt2img(script_name="two JOBS", script_args=["a cat"], **recording())
    assert len(answer.images) == 2
    assert [text.split("\n")[0] for text in answer.info["infotexts"]] == ["a red circle", "a cat"]
    events = client.events()
    assert events[0] == {"event": "run", "second": "a cat"}
    assert Counter(names(events))["process"] == 2


def test_a_script_may_take_images_out_of_the_result(client):
    answer = client.txt2img(batch_size=3, **recording(keep=2))
    assert (len(answer.images), len(answer.info["infotexts"])) == (2, 2)
    assert client.txt2img(batch_size=2, **recording(keep=0)).images == []


# ---- infotext


def test_the_infotext_is_prompt_negative_prompt_and_one_line_of_parameters(client):
    answer = client.txt2img(prompt="a, b\nc", negative_prompt="d", cfg_scale=4, **recording(text="x: 1, y"))
    prompt, more, negative, line = answer.info["infotexts"][0].split("\n")
    assert (prompt, more, negative) == ("a, b", "c", "Negative prompt: d")
    start = "Steps: 2, Sampler: Euler, Schedule type: Automatic, CFG scale: 4.0, Seed: 1, Size: 64x64, Model hash: "
    assert line.startswith(start)
    keys = list(parameters(line))
    assert keys[6:] == ["Model hash", "Model", "Recorder text", "Recorder image", "Recorder list", "Version"]
    assert '"x: 1, y"' in line  # what holds a separator is quoted


def test_values_may_be_lists_and_callables_and_the_grid_has_its_own(client):
    answer = client.txt2img(batch_size=2, n_iter=2, save_images=True, **recording())
    assert answer.info["index_of_first_image"] == 1
    grid, *texts = [parameters(text) for text in answer.info["infotexts"]]
    assert [t["Recorder list"] for t in texts] == [
        "item 0",
        "item 1",
        "item 0",
        "item 1",
    ]  # the index in the batch
    assert [t["Recorder image"] for t in texts] == ["image 0", "image 1"] * 2
    assert "Recorder image" not in grid
    assert grid["Recorder list"] == "item 0"
    assert answer.info["extra_generation_params"]["Recorder image"] is None  # what JSON cannot say


def test_each_image_carries_its_infotext(client):
    answer = client.txt2img(batch_size=2, **recording())
    assert [image.info["parameters"] for image in answer.images] == answer.info["infotexts"]


def test_variations_name_their_seed(client):
    answer = client.txt2img(subseed=7, subseed_strength=0.25, batch_size=2)
    found = [parameters(text) for text in answer.info["infotexts"]]
    assert [f["Variation seed"] for f in found] == ["7", "8"]
    assert {f["Seed"] for f in found} == {"1"}
    assert found[0]["Variation seed strength"] == "0.25"


def test_png_info_reads_what_was_written_and_passes_it_through_the_parser(client):
    image = client.txt2img(negative_prompt="d", **recording(text="x: 1, y")).images[0]
    answer = client.post("/sdapi/v1/png-info", image=encoded_with_info(image))
    assert answer["info"] == image.info["parameters"]
    found = answer["parameters"]
    assert (found["Prompt"], found["Negative prompt"]) == ("a red circle", "d")
    assert (found["Size-1"], found["Size-2"], found["Recorder text"]) == ("64", "64", "x: 1, y")


def encoded_with_info(image):
    import base64
    import io

    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", image.info["parameters"])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def test_a_request_may_be_filled_from_an_infotext(client):
    first = client.txt2img(steps=3, cfg_scale=2.5, seed=99)
    body = {"infotext": first.info["infotexts"][0], "sampler_name": "Euler"}
    answer = client.post("/sdapi/v1/txt2img", **body)
    assert same(decoded(answer["images"][0]), first.images[0])


# ---- files


def saved_files(client):
    files = [Path(event["file"]) for event in only(client.events(), "image_saved")]
    if not all(file.is_absolute() and file.exists() for file in files):
        pytest.skip("the WebUI runs on another machine")
    return files


def test_files_are_numbered_and_named_after_their_seed_in_a_folder_of_the_day(client):
    client.txt2img(batch_size=2, seed=31, save_images=True, **recording())
    first, second, grid = saved_files(client)
    assert re.fullmatch(r"\d{5}-31\.png", first.name)
    assert re.fullmatch(r"\d{5}-32\.png", second.name)
    assert int(second.name[:5]) == int(first.name[:5]) + 1
    assert re.fullmatch(r"grid-\d{4}\.png", grid.name)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", first.parent.name)
    assert (first.parents[1].name, grid.parents[1].name) == ("txt2img-images", "txt2img-grids")


def test_the_saved_file_is_the_image_of_the_answer(client):
    answer = client.txt2img(save_images=True, **recording())
    (file,) = saved_files(client)
    with Image.open(file) as image:
        assert image.info["parameters"] == answer.info["infotexts"][0]
        assert same(image, answer.images[0])


@pytest.mark.parametrize("extension", ["jpg", "webp"])
def test_jpeg_and_webp_keep_the_infotext(client, extension):
    options = {"samples_format": extension, "save_txt": True}
    answer = client.txt2img(save_images=True, override_settings=options, **recording())
    (file,) = saved_files(client)
    assert file.suffix == f".{extension}"
    assert file.with_suffix(".txt").read_text(encoding="utf-8") == answer.info["infotexts"][0] + "\n"
    import base64

    found = client.post("/sdapi/v1/png-info", image=base64.b64encode(file.read_bytes()).decode())
    assert found["info"] == answer.info["infotexts"][0]


def test_settings_of_one_job_are_taken_back(client):
    before = client.get("/sdapi/v1/options")
    client.txt2img(override_settings={"samples_format": "jpg", "CLIP_stop_at_last_layers": 2})
    after = client.get("/sdapi/v1/options")
    assert after["samples_format"] == before["samples_format"]
    assert after.get("CLIP_stop_at_last_layers") == before.get("CLIP_stop_at_last_layers")


# ---- pictures


def same(a, b):
    return ImageChops.difference(a.convert("RGB"), b.convert("RGB")).getbbox() is None


def nearly_same(a, b):
    """Equal but for rounding: a batch may add up in another order than an image alone."""
    high = ImageChops.difference(a.convert("RGB"), b.convert("RGB")).getextrema()
    return max(top for _, top in high) <= 2


def test_the_same_seed_gives_the_same_image_and_another_seed_another(client):
    first, again, other = (client.txt2img(seed=seed).images[0] for seed in (5, 5, 6))
    assert same(first, again)
    assert not nearly_same(first, other)


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DDIM", "DPM++ 2M"])
def test_an_image_is_the_same_alone_and_in_a_batch(client, sampler):
    batch = client.txt2img(seed=20, batch_size=3, steps=4, sampler_name=sampler).images
    alone = client.txt2img(seed=22, steps=4, sampler_name=sampler).images[0]
    assert nearly_same(batch[2], alone)


def test_img2img_starts_from_its_image(client):
    red = Image.new("RGB", (64, 64), "red")
    weak, strong = (client.img2img(red, denoising_strength=s, steps=10).images[0] for s in (0.1, 1.0))
    nearest = client.img2img(red, denoising_strength=0.0, steps=10).images[0]
    assert difference(weak, nearest) < difference(strong, nearest)


def difference(a, b):
    histogram = ImageChops.difference(a.convert("RGB"), b.convert("RGB")).histogram()
    return sum(value % 256 * count for value, count in enumerate(histogram))


def test_outside_the_mask_inpainting_keeps_the_picture_and_masks_follow_their_image(client):
    red = Image.new("RGB", (64, 64), "red")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 64))
    answer = client.img2img(
        red,
        mask=encoded(mask),
        mask_blur=0,
        inpainting_fill=1,
        inpaint_full_res=False,
        denoising_strength=1.0,
        batch_size=2,
        override_settings={"return_mask": True},
        **recording(),
    )
    assert len(answer.images) == 4
    assert len(answer.info["infotexts"]) == 2  # a mask has none
    left = answer.images[0].crop((0, 0, 30, 64)).convert("RGB")
    assert all(abs(low - want) < 3 for (low, _), want in zip(left.getextrema(), (255, 0, 0), strict=True))
    assert answer.images[1].convert("L").getextrema() == (0, 255)


# ---- interrupting


class Job(threading.Thread):
    """A generation in the background."""

    def __init__(self, client, **request):
        super().__init__()
        self.client, self.request, self.answer = client, request, None
        self.start()

    def run(self):
        self.answer = self.client.txt2img(**self.request)

    def wait_for(self, condition):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.is_alive():
            progress = self.client.get("/sdapi/v1/progress")
            if condition(progress["state"]):
                return progress
            time.sleep(0.02)
        raise AssertionError("the job ended before it came so far")


def test_interrupt_returns_the_half_done_batch_through_all_hooks_and_does_not_save_it(client):
    job = Job(client, steps=150, n_iter=9, sampler_name="Euler", save_images=True, **recording())
    seen = job.wait_for(lambda s: s["job_no"] == 1 and s["sampling_step"] >= 10)
    client.post("/sdapi/v1/interrupt")
    job.join()
    events = client.events()
    assert 1 / 9 < seen["progress"] < 2 / 9
    assert seen["current_image"]  # the preview
    assert len(only(events, "postprocess_image")) == 2
    assert len(job.answer.info["infotexts"]) == 3  # the grid's, too
    assert len(saved_files(client)) == 2  # the finished image and the grid
    assert names(events)[-1] == "postprocess"
    assert client.get("/sdapi/v1/progress")["progress"] == 0


def test_skip_goes_on_with_the_next_batch(client):
    job = Job(client, steps=80, n_iter=3, sampler_name="Euler", **recording())
    job.wait_for(lambda s: s["job_no"] == 0 and s["sampling_step"] >= 10)
    client.request("POST", "/sdapi/v1/skip")
    job.join()
    assert len(job.answer.images) == 3
    assert len(only(client.events(), "postprocess_image")) == 3


# ---- the rest of the API


def test_unknown_scripts_are_refused_and_an_unknown_sampler_is_the_first_one(client):
    for script in ("no such script", "Two jobs"):  # a dropdown script cannot be always on
        body = {"prompt": "x", "steps": 1, "alwayson_scripts": {script: {"args": []}}}
        assert client.request("POST", "/sdapi/v1/txt2img", json=body).status_code == 422
    body = {"prompt": "x", "steps": 1, "script_name": "no such script"}
    assert client.request("POST", "/sdapi/v1/txt2img", json=body).status_code == 422
    assert client.txt2img(sampler_name="No such sampler").info["sampler_name"] == "DPM++ 2M"


def test_progress_is_nothing_when_nothing_runs(client):
    answer = client.get("/sdapi/v1/progress")
    assert answer["progress"] == 0
    assert {"job", "job_no", "job_count", "sampling_step", "interrupted", "skipped"} <= set(answer["state"])


def test_options_can_be_set_and_an_extensions_option_is_among_them(client):
    assert client.get("/sdapi/v1/options")["hook_recorder_option"] == "as it was"
    client.post("/sdapi/v1/options", hook_recorder_option="changed")
    try:
        assert client.get("/sdapi/v1/options")["hook_recorder_option"] == "changed"
    finally:
        client.post("/sdapi/v1/options", hook_recorder_option="as it was")


def test_scripts_are_listed_with_their_arguments(client):
    listed = client.get("/sdapi/v1/scripts")
    assert {"hook recorder", "two jobs"} <= set(listed["txt2img"])
    (info,) = [
        s for s in client.get("/sdapi/v1/script-info") if s["name"] == "hook recorder" and not s["is_img2img"]
    ]
    assert info["is_alwayson"] is True
    assert [(a["label"], a["value"]) for a in info["args"]] == [
        ("Record hooks", False),
        ("Text", "default"),
        ("Keep", -1),
    ]


def test_the_checkpoint_is_listed_with_its_file(client):
    (first, *_) = client.get("/sdapi/v1/sd-models")
    assert first["title"].startswith(first["model_name"])
    assert Path(first["filename"]).suffix in (".safetensors", ".ckpt")


def test_extras_upscales_and_keeps_the_parameters(client):
    image = client.txt2img().images[0]
    body = {"image": encoded_with_info(image), "upscaling_resize": 2, "upscaler_1": "Lanczos"}
    answer = client.post("/sdapi/v1/extra-single-image", **body)
    bigger = decoded(answer["image"])
    assert bigger.size == (128, 128)
    assert bigger.info["parameters"] == image.info["parameters"]
    assert bigger.info["postprocessing"] == "Postprocess upscale by: 2.0, Postprocess upscaler: Lanczos"
