"""Scoring beside other scripts, and what the user does to a job meanwhile; through the public API like test_scenarios.

The demo host has `tests/webui/companions` in it, which does what well-known extensions do. A real WebUI runs these
scenarios with its own scripts, with Dynamic Prompts if that is installed, and with the companions if they are.
"""

from __future__ import annotations

import os
import re
import threading

import pytest
from PIL import Image

from tests.hosting import encoded
from tests.webui.test_scenarios import (
    FIVE,
    ON,
    aligned,
    always_on,
    chosen,
    fields,
    note,
    pixels,
    scores,
    wait_for_progress,
)

PICTURE = Image.radial_gradient("L").resize((64, 64)).convert("RGB")


def need(webui, title):
    if not webui.has(title):
        pytest.skip(f"this host has no {title}")


def half_way(webui, **request):
    """Return a limit that two of four images reach."""
    answer = webui.txt2img(**{**FIVE, **request, "save_images": False}, alwayson_scripts=ON)
    ordered = sorted(scores(answer))
    return (ordered[1] + ordered[2]) / 2


def scores_by_themselves(webui, images, prompts):
    """Score finished images for given prompts, over the route: their colours, as the host showed them to us.

    What Forge hides in a saved file's alpha channel came later, and takes part when a transparent image is made smaller.
    """
    colours = [encoded(image.convert("RGB")) for image in images]
    answer = webui.post("/imagereward/v1/score", images=colours, prompts=prompts)
    return [round(score, 4) for score in answer["scores"]]


def check_own_prompts(webui, answer, prompts):
    """Check that every image was scored for its own prompt, and that prompts matter."""
    first = answer.info["index_of_first_image"]
    images = answer.images[first:]
    assert scores(answer)[first:] == scores_by_themselves(webui, images, prompts)
    assert scores(answer)[first:] != scores_by_themselves(webui, images, [prompts[0]] * len(prompts))


def dynamic_prompts(webui):
    """Return the title of Dynamic Prompts, which has its version in it; None where it is not installed."""
    names = [script["name"] for script in webui.get("/sdapi/v1/script-info")]
    return next((name for name in names if name.startswith("dynamic prompts")), None)


def need_wildcards(webui):
    need(webui, "Companion wildcards")
    if dynamic_prompts(webui):
        pytest.skip("Dynamic Prompts, on by default, writes over what the companion did to the prompts")


def with_companion(title, value, **more):
    return {"alwayson_scripts": {title: {"args": [value]}, **more}}


# ---- scripts that change prompts


def test_wildcards_are_resolved_before_scoring(webui):
    need_wildcards(webui)
    words = ["red fox", "blue sea", "tree", "snow"]
    request = with_companion("Companion wildcards", ",".join(words), **ON)
    answer = webui.txt2img(**FIVE, prompt="a __word__", **request)
    assert answer.info["all_prompts"] == [f"a {word}" for word in words] and aligned(answer)
    check_own_prompts(webui, answer, answer.info["all_prompts"])


def test_each_try_has_prompts_of_its_own(webui):
    need_wildcards(webui)
    request = with_companion("Companion wildcards", "red fox,blue sea")
    tries = chosen(limit=-1e9, until=4, tries=5, sort=True)
    answer = webui.txt2img(**{**FIVE, "n_iter": 1}, prompt="a __word__", **request, **tries)
    assert sorted(answer.info["all_prompts"]) == ["a blue sea"] * 2 + ["a red fox"] * 2 and aligned(answer)
    check_own_prompts(webui, answer, answer.info["all_prompts"])


def test_dynamic_prompts_are_resolved_before_scoring(webui):
    title = dynamic_prompts(webui)
    if title is None:
        pytest.skip("this host has no Dynamic Prompts")
    combinatorial = with_companion(title, True)["alwayson_scripts"]
    combinatorial[title]["args"] = [True, True]
    answer = webui.txt2img(
        **{**FIVE, "batch_size": 1, "n_iter": 1},
        prompt="a {red fox|blue sea|tree|snow}",
        alwayson_scripts={**combinatorial, **ON},
    )
    assert sorted(answer.info["all_prompts"]) == ["a blue sea", "a red fox", "a snow", "a tree"]
    assert aligned(answer)
    check_own_prompts(webui, answer, answer.info["all_prompts"])


def test_a_prompt_matrix_is_scored_and_keeps_every_image(webui):
    need(webui, "Companion matrix")
    request = {"script_name": "Companion matrix", "script_args": ["red fox,blue sea,tree"], "batch_size": 1}
    low = always_on(filter_low=True, limit=1e9, sort=True)
    answer = webui.txt2img(prompt="a", seed=3, save_images=True, **request, alwayson_scripts=low)
    assert answer.info["all_prompts"] == ["a red fox", "a blue sea", "a tree"] and len(answer.images) == 3
    check_own_prompts(webui, answer, answer.info["all_prompts"])
    assert "0 of 3 passed" in note(answer) and "needs every image" in note(answer)
    assert len(webui.files()) == 3 and all(path.parent.name == "rejected" for path in webui.files())


def test_the_hosts_own_prompt_matrix(webui):
    need(webui, "Prompt matrix")
    matrix = [False, False, "positive", "comma", 0]
    request = {"script_name": "Prompt matrix", "script_args": matrix, "save_images": True, "seed": 3}
    low = always_on(filter_low=True, limit=1e9, sort=True)
    answer = webui.txt2img(prompt="a fox|red|in snow", **request, alwayson_scripts=low)
    assert len(answer.images) == 5, "its grid with captions, and four images"
    prompts = ["a fox", "a fox, red", "a fox, in snow", "a fox, red, in snow"]
    assert answer.info["all_prompts"] == prompts
    expected = scores_by_themselves(webui, answer.images[1:], prompts)
    assert [float(fields(text)["ImageReward"]) for text in answer.info["infotexts"][1:]] == expected
    assert len(webui.files()) == 4 and all(path.parent.name == "rejected" for path in webui.files())


# ---- scripts that paint over finished images


def test_the_score_is_that_of_the_painted_image(webui):
    need(webui, "Companion face painter")
    plain = webui.txt2img(**FIVE, alwayson_scripts=ON)
    painted = webui.txt2img(**FIVE, **with_companion("Companion face painter", True, **ON))
    assert aligned(painted) and len(painted.images) == 5
    assert [pixels(a) == pixels(b) for a, b in zip(plain.images, painted.images, strict=True)] == [False] * 5
    assert scores(painted)[1:] == scores_by_themselves(webui, painted.images[1:], "a red circle")
    assert all(text.count("ImageReward: ") == 1 for text in painted.info["infotexts"][1:])


def test_painted_images_are_filtered_as_usual(webui):
    need(webui, "Companion face painter")
    painter = with_companion("Companion face painter", True)
    answer = webui.txt2img(**FIVE, **painter, **chosen(keep_best=1))
    assert len(answer.images) == 1 and aligned(answer)
    assert [path.parent.name == "rejected" for path in webui.files()].count(True) == 3


def test_what_a_painter_saves_besides_has_no_score_and_stays(webui):
    need(webui, "Companion face painter")
    webui.settings(samples_filename_pattern="[seed]-[imagereward]")
    painter = {"Companion face painter": {"args": [True, True]}}
    answer = webui.txt2img(**FIVE, alwayson_scripts={**painter, **always_on(keep_best=1)})
    assert aligned(answer)
    besides = [path for path in webui.files() if path.stem.endswith("-before")]
    assert len(besides) == 4 and not any(path.parent.name == "rejected" for path in besides)
    assert not any("ImageReward" in Image.open(path).info["parameters"] for path in besides)
    assert all(re.fullmatch(r"\d+-4[0-3]-before", path.stem) for path in besides), "a name without score"
    assert [path.parent.name == "rejected" for path in webui.files()].count(True) == 3


def test_only_what_passes_is_painted_once_in_full_size(webui):
    need(webui, "Companion face painter")
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.5}
    hires["hr_additional_modules"] = ["Use same choices"]
    request = with_companion("Companion face painter", True)
    limit = half_way(webui)
    webui.request("POST", "/companions/meter")
    webui.txt2img(**FIVE, **hires, **request, **chosen(limit=limit, hires_for_passing=True))
    assert webui.request("POST", "/companions/meter").json()["painted"] == 2


# ---- one job object for several images


def test_a_job_object_that_is_used_again_starts_anew(webui):
    titles = [s["name"] for s in webui.get("/sdapi/v1/script-info") if s["is_img2img"]]
    if "companion batch" not in titles:
        pytest.skip("this host has no Companion batch")
    batch = {"script_name": "Companion batch", "script_args": [3], "save_images": True}
    answer = webui.img2img(PICTURE, prompt="a fox", denoising_strength=0.9, **batch, alwayson_scripts=ON)
    told = [float(fields(text)["ImageReward"]) for text in answer.info["infotexts"]]
    assert len(set(told)) == 3 and told == scores_by_themselves(webui, answer.images, "a fox")
    saved = [
        float(fields(Image.open(path).info["parameters"])["ImageReward"]) for path in webui.files("img2img")
    ]
    assert saved == told
    low = always_on(filter_low=True, limit=1e9)
    answer = webui.img2img(PICTURE, prompt="a fox", denoising_strength=0.9, **batch, alwayson_scripts=low)
    assert len(answer.images) == 3, "the other script needs every image"
    assert [path.parent.name == "rejected" for path in webui.files("img2img")].count(True) == 3


# ---- Skip


def test_a_skipped_image_is_neither_scored_nor_filtered_and_the_rest_goes_on(webui):
    for seed in range(5):  # Skip may come after an image's last step: then it does nothing
        answer = skipped(webui, seed=seed, n_iter=3, **chosen(filter_low=True, limit=1e9))
        if answer.images:
            break
    assert scores(answer) == [None], "the one that was skipped is kept, the others are judged"
    assert "0 of 2 passed" in note(answer) and "cut short" in note(answer)


def test_after_a_skip_the_tries_go_on(webui):
    for seed in range(5):
        answer = skipped(webui, seed=100 * seed, n_iter=1, **chosen(limit=-1e9, until=2, tries=4))
        if None in scores(answer):
            break
    own = scores(answer)[answer.info["index_of_first_image"] :]
    assert own.count(None) == 1 and len(own) == 3
    assert "stopped after" not in note(answer)


MANY_STEPS = int(os.environ.get("WEBUI_STEPS", "60"))
"""They keep the host busy while somebody presses Skip; where a step takes seconds, a dozen do."""


def skipped(webui, **request):
    """Press Skip during the first image."""
    answers = []
    request = {"steps": MANY_STEPS, "batch_size": 1, "save_images": True, **request}
    thread = threading.Thread(target=lambda: answers.append(webui.txt2img(**request)))
    thread.start()
    wait_for_progress(webui)
    webui.request("POST", "/sdapi/v1/skip")
    thread.join(timeout=300)
    (answer,) = answers
    return answer


# ---- what gating saves


def test_hires_fix_for_half_of_the_images_costs_at_most_two_thirds(webui):
    """Work is counted where it is done: evaluations of the UNet, times latent pixels. Twice the size, half fail."""
    if not webui.has("Companion face painter"):
        pytest.skip("this host has no meter")
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Lanczos", "denoising_strength": 0.7}
    hires |= {"steps": 10, "hr_additional_modules": ["Use same choices"]}
    # Both passes with guidance, as AUTOMATIC1111 makes them: others guide the second for this alone.
    hires |= {"cfg_scale": 7, "hr_cfg": 7}
    limit = half_way(webui, steps=10)
    meter(webui)
    webui.txt2img(**{**FIVE, **hires}, **chosen(limit=limit, filter_low=True))
    finish_then_filter = meter(webui)
    webui.txt2img(**{**FIVE, **hires}, **chosen(limit=limit, hires_for_passing=True))
    gated = meter(webui)
    print(f"UNet work with gating: {gated}, finish then filter: {finish_then_filter}")
    assert 0 < gated <= 0.65 * finish_then_filter


def meter(webui):
    work = webui.request("POST", "/companions/meter").json()["work"]
    if work is None:
        pytest.skip("this host's UNet cannot be watched")
    return work
