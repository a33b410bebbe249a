"""Scoring beside the ADetailer extension itself, with a detector that finds the shapes the demo checkpoint draws.

WEBUI_DETECTOR names that detector, a `.pt` in the host's models/adetailer; elsewhere a companion stands in for
ADetailer (test_with_other_scripts.py).
"""

from __future__ import annotations

import os
import re
import threading

import pytest
from PIL import Image

from tests.webui.test_scenarios import (
    FIVE,
    ON,
    aligned,
    always_on,
    axes,
    chosen,
    fields,
    note,
    pixels,
    plot_arguments,
    scores,
    seeds_of,
    wait_for_progress,
)
from tests.webui.test_with_other_scripts import dynamic_prompts, scores_by_themselves

DETECTOR = os.environ.get("WEBUI_DETECTOR")
CIRCLE = "a red circle on a blue background"
FOUND = {**FIVE, "prompt": CIRCLE, "steps": 10, "cfg_scale": 1}
"""Images on which the detector finds something."""
HIRES = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Lanczos", "denoising_strength": 0.5}

pytestmark = pytest.mark.skipif(not DETECTOR, reason="WEBUI_DETECTOR names no detector of ADetailer")


def painted(*also, **more):
    """Ask ADetailer to paint, and other always-on scripts for what they do."""
    unit = {"ad_model": DETECTOR, "ad_confidence": 0.1, "ad_denoising_strength": 0.6, **more}
    together = {"ADetailer": {"args": [True, False, unit]}}
    for scripts in also:
        together |= scripts
    return {"alwayson_scripts": together}


def text_of(path):
    return Image.open(path).info["parameters"]


def told(path):
    """Read the score in a saved file."""
    return float(fields(text_of(path))["ImageReward"])


def check_scores(webui, told, images, prompts=CIRCLE):
    """Check that these are the scores of finished images, which alone or in a batch may differ in the last decimal."""
    assert told == pytest.approx(scores_by_themselves(webui, images, prompts), abs=1e-3)
    assert len(set(told)) == len(told)


@pytest.fixture(params=[True, False], ids=["filtered-scripts", "all-scripts"])
def inner_scripts(webui, request):
    """With either value of ADetailer's setting which scripts its own jobs run: with the second one, ours is there."""
    webui.settings(ad_only_selected_scripts=request.param)


WAYS = {
    "settings": (lambda webui: webui.settings(imagereward_always_score=True), painted, {}),
    "panel": (lambda webui: None, lambda: painted(ON), {}),
    "script": (lambda webui: None, painted, chosen()),
}


@pytest.mark.usefixtures("inner_scripts")
@pytest.mark.parametrize("way", WAYS)
def test_the_score_is_that_of_the_painted_image(webui, way):
    prepare, scripts, more = WAYS[way]
    prepare(webui)
    plain = webui.txt2img(**{**FOUND, "save_images": False})
    answer = webui.txt2img(**FOUND, **scripts(), **more)
    assert len(answer.images) == 5 and aligned(answer)
    pairs = zip(plain.images[-4:], answer.images[1:], strict=True)
    assert [pixels(a) == pixels(b) for a, b in pairs] == [False] * 4, "ADetailer painted"
    files = webui.files()
    assert [pixels(Image.open(file)) for file in files] == [pixels(image) for image in answer.images[1:]]
    assert scores(answer)[0] is None and scores(answer)[1:] == [told(file) for file in files]
    check_scores(webui, scores(answer)[1:], [Image.open(file) for file in files])
    assert all(text_of(file).count("ImageReward: ") == 1 for file in files)
    assert "ImageReward" not in answer.info["infotexts"][0]
    assert note(answer) == ""


@pytest.mark.usefixtures("inner_scripts")
def test_what_is_below_the_limit_moves_with_its_file(webui):
    answer = webui.txt2img(**FOUND, **painted(ON))
    ordered = sorted(scores(answer)[1:])
    for file in [*webui.files(), *webui.files("grids")]:
        file.unlink()
    limit = (ordered[1] + ordered[2]) / 2
    low = webui.txt2img(**FOUND, **painted(always_on(filter_low=True, limit=limit, sort=True)))
    assert scores(low)[1:] == [ordered[3], ordered[2]] and aligned(low) and "2 of 4 passed" in note(low)
    away = [path for path in webui.files() if path.parent.name == "rejected"]
    assert sorted(told(path) for path in away) == ordered[:2]
    assert sorted(told(path) for path in webui.files() if path not in away) == ordered[2:]
    assert len(webui.files("grids")) == 1


@pytest.mark.usefixtures("inner_scripts")
def test_generating_goes_on_until_enough_painted_images_pass(webui):
    answer = webui.txt2img(**{**FOUND, "n_iter": 4, "save_images": False}, **painted(ON))
    first = answer.info["index_of_first_image"]
    by_seed = dict(zip(answer.info["all_seeds"], scores(answer)[first:], strict=True))
    ordered = sorted(by_seed.values())
    limit = (ordered[-4] + ordered[-3]) / 2  # three of eight pass
    request = {**FOUND, "n_iter": 1}
    answer = webui.txt2img(**request, **painted(), **chosen(limit=limit, until=3, tries=4))
    passing = {seed: score for seed, score in by_seed.items() if score >= limit}
    first = answer.info["index_of_first_image"]
    assert dict(zip(answer.info["all_seeds"], scores(answer)[first:], strict=True)) == passing
    assert aligned(answer)
    check_scores(webui, scores(answer)[first:], answer.images[first:])


def test_what_passes_is_painted_once_and_in_full_size(webui):
    small = webui.txt2img(**{**FOUND, "save_images": False}, alwayson_scripts=ON)
    ordered = sorted(scores(small))
    limit = (ordered[-3] + ordered[-2]) / 2
    webui.settings(ad_save_images_before=True)
    webui.txt2img(**FOUND, **HIRES, **painted(), **chosen(limit=limit, hires_for_passing=True))
    before = [path for path in webui.files() if path.stem.endswith("-ad-before")]
    assert [Image.open(path).size for path in before] == [(128, 128)] * 2
    saved = [path for path in webui.files() if path not in before]
    finished = [path for path in saved if Image.open(path).size == (128, 128)]
    assert len(finished) == 2
    check_scores(webui, [told(path) for path in finished], [Image.open(path) for path in finished])
    assert all(text_of(path).count("ImageReward: ") == 1 for path in saved)


def test_what_adetailer_saves_besides_has_no_score_and_stays(webui):
    webui.settings(ad_save_images_before=True, ad_save_previews=True)
    webui.settings(samples_filename_pattern="[seed]-[imagereward]")
    answer = webui.txt2img(**FOUND, **painted(always_on(keep_best=1)))
    assert aligned(answer)
    besides = [path for path in webui.files() if "-ad-" in path.stem]
    assert len(besides) == 8, "a preview and the image before, of each"
    assert not any("ImageReward" in text_of(path) for path in besides)
    assert all(re.fullmatch(r"\d+-4[0-3]-ad-(preview|before)", path.stem) for path in besides), (
        "a name without"
    )
    assert not any(path.parent.name == "rejected" for path in besides)
    own = [path for path in webui.files() if path not in besides]
    assert len(own) == 4 and [path.parent.name == "rejected" for path in own].count(True) == 3
    assert all(path.stem.endswith(f"{told(path):.4f}") for path in own)


@pytest.mark.usefixtures("inner_scripts")
@pytest.mark.parametrize("skip", [False, True])
def test_img2img(webui, skip):
    """With `skip`, ADetailer paints over the picture itself and leaves the host's own work out."""
    picture = webui.txt2img(**{**FOUND, "save_images": False, "batch_size": 1, "n_iter": 1}).images[0]
    request = painted(always_on(keep_best=3))
    request["alwayson_scripts"]["ADetailer"]["args"][1] = skip
    answer = webui.img2img(picture, **{**FOUND, "denoising_strength": 0.5}, **request)
    assert aligned(answer) and len(answer.images) == 4
    assert len(set(scores(answer)[1:])) == 3
    files = webui.files("img2img")
    check_scores(webui, [told(file) for file in files], [Image.open(file) for file in files])
    assert [path.parent.name == "rejected" for path in files].count(True) == 1


def test_interrupt_while_it_paints(webui):
    answers = []
    scripts = painted(always_on(filter_low=True, limit=1e9), ad_use_steps=True, ad_steps=150)
    thread = threading.Thread(target=lambda: answers.append(webui.txt2img(**FOUND, **scripts)))
    thread.start()
    wait_for_painting(webui)
    webui.request("POST", "/sdapi/v1/interrupt")
    thread.join(timeout=120)
    (answer,) = answers
    own = scores(answer)[answer.info["index_of_first_image"] :]
    assert own and set(own) == {None} and "cut short" in note(answer)
    assert not any(path.parent.name == "rejected" for path in webui.files())
    assert aligned(webui.txt2img(**FOUND, **painted(ON))), "the host goes on"


def wait_for_painting(webui):
    """Wait for a job of more steps than the image's own."""
    wait_for_progress(webui)
    for _ in range(3000):
        state = webui.get("/sdapi/v1/progress", skip_current_image=True)["state"]
        if state["sampling_steps"] > 60 and state["sampling_step"] > 2:
            return
    raise AssertionError("nothing was painted")


@pytest.mark.usefixtures("inner_scripts")
def test_a_plot_over_its_strength_scores_each_cell(webui):
    axis = "[ADetailer] Inpaint denoising strength 1st"
    wanted = {"X type": axes(webui).index(axis), "X values": "0.2,0.5,0.8", "Y type": 0, "Z type": 0}
    wanted |= {"Include Sub Images": True, "Use text inputs instead of dropdowns": True}
    plot = {"script_name": "X/Y/Z plot", "script_args": plot_arguments(webui, wanted)}
    answer = webui.txt2img(**{**FOUND, "batch_size": 1, "n_iter": 1}, **plot, **painted(ON))
    own = [float(fields(text)["ImageReward"]) for text in answer.info["infotexts"][1:]]
    check_scores(webui, own, answer.images[1:])
    assert "ImageReward: " not in answer.info["infotexts"][0]
    assert answer.info["extra_generation_params"]["ImageReward scores"]["cells"] == [[own]]


# ---- with Dynamic Prompts


COLOURS = "a {red|blue|green|yellow} circle on a black background"


def wild(webui, *arguments):
    """Switch Dynamic Prompts on, with its first few arguments."""
    title = dynamic_prompts(webui)
    if title is None:
        pytest.skip("this host has no Dynamic Prompts")
    return {title: {"args": [True, *arguments]}}


def check_scores_for_own_prompts(webui, answer):
    """Check that prompts differ, that every image was scored for its own, and that this matters."""
    first = answer.info["index_of_first_image"]
    prompts, images = answer.info["all_prompts"], answer.images[first:]
    assert aligned(answer) and len(set(prompts)) > 1
    check_scores(webui, scores(answer)[first:], images, prompts)
    others = scores_by_themselves(webui, images, [prompts[0]] * len(prompts))
    assert scores(answer)[first:] != pytest.approx(others, abs=1e-3)


def test_painted_images_are_scored_for_the_prompts_dynamic_prompts_chose(webui):
    request = {**FOUND, "prompt": COLOURS}
    answer = webui.txt2img(**request, **painted(ON, wild(webui)))
    check_scores_for_own_prompts(webui, answer)
    assert seeds_of(text_of(file) for file in webui.files()) == answer.info["all_seeds"]


def test_painted_combinations(webui):
    request = {**FOUND, "prompt": COLOURS, "n_iter": 1}
    low = always_on(keep_best=3, sort=True)
    answer = webui.txt2img(**request, **painted(low, wild(webui, True)))
    assert len(set(answer.info["all_prompts"])) == 3
    check_scores_for_own_prompts(webui, answer)
    assert [path.parent.name == "rejected" for path in webui.files()].count(True) == 1


def test_each_try_has_prompts_of_its_own(webui):
    request = {**FOUND, "prompt": COLOURS, "n_iter": 1}
    tries = chosen(limit=-1e9, until=6, tries=5)
    answer = webui.txt2img(**request, **painted(wild(webui)), **tries)
    assert len(answer.images) == 7
    check_scores_for_own_prompts(webui, answer)


def test_the_second_pass_keeps_the_prompt_that_was_chosen(webui):
    request = {**FOUND, **HIRES, "prompt": COLOURS}
    answer = webui.txt2img(**request, **painted(wild(webui)), **chosen(limit=-1e9, hires_for_passing=True))
    assert {image.size for image in answer.images[1:]} == {(128, 128)}
    check_scores_for_own_prompts(webui, answer)
