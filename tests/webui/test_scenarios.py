"""What a user of the WebUI meets, through nothing but its public API: the same file runs against a real WebUI.

WEBUI_URL=http://127.0.0.1:7860 WEBUI_SCORER=tiny python3 run.py test --host tests/webui
"""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time

import pytest
from PIL import Image

from tests.hosting import Answer, decoded, encoded

ON = {"ImageReward scoring": {"args": [True]}}
ANSWER = "ImageReward scores"
FIVE = {"batch_size": 2, "n_iter": 2, "save_images": True, "seed": 40}  # a grid and four images


def always_on(**request):
    return {"ImageReward scoring": {"args": [{"score": True, **request}]}}


def chosen(**request):
    return {"script_name": "ImageReward", "script_args": [request]}


def scores(answer):
    return answer.info["extra_generation_params"][ANSWER]["scores"]


def note(answer):
    return answer.info["extra_generation_params"][ANSWER].get("note", "")


def fields(infotext):
    """Read a parameter line that holds no quoted values."""
    return dict(pair.split(": ", 1) for pair in infotext.strip().split("\n")[-1].split(", "))


def texts(images):
    return [image.info.get("parameters") for image in images]


def pixels(image):
    """The colours alone: Forge hides the parameters of a saved PNG in its alpha channel."""
    return image.convert("RGB").tobytes()


def seeds_of(infotexts):
    return [int(fields(text)["Seed"]) for text in infotexts]


def aligned(answer):
    """Check that every list of the answer tells of the same images in the same order."""
    info = answer.info
    first = info["index_of_first_image"]
    assert len(info["infotexts"]) == len(answer.images) == len(scores(answer))
    own = info["infotexts"][first:]
    if not own:  # hosts read the first of each, so one stays
        return len(info["all_seeds"]) == len(info["all_prompts"]) == 1
    assert seeds_of(own) == info["all_seeds"]
    assert (
        len(info["all_prompts"]) == len(info["all_negative_prompts"]) == len(info["all_subseeds"]) == len(own)
    )
    for text, score, prompt in zip(own, scores(answer)[first:], info["all_prompts"], strict=True):
        assert float(fields(text)["ImageReward"]) == score
        assert text.startswith(prompt)
    assert texts(answer.images) == info["infotexts"]
    return True


@pytest.fixture
def four(webui):
    """Four scored images and a limit that two of them reach."""
    answer = webui.txt2img(**FIVE, alwayson_scripts=ON)
    ordered = sorted(scores(answer)[1:])
    answer.limit = (ordered[1] + ordered[2]) / 2
    for file in [*webui.files(), *webui.files("grids")]:
        file.unlink()
    return answer


# ---- scoring


def test_nothing_is_scored_unless_wished(webui):
    answer = webui.txt2img(**FIVE)
    assert ANSWER not in answer.info["extra_generation_params"]
    assert not any("ImageReward" in text for text in answer.info["infotexts"])


def test_every_image_is_scored_and_the_grid_is_not(webui):
    answer = webui.txt2img(**FIVE, alwayson_scripts=ON)
    assert len(answer.images) == 5 and aligned(answer)
    assert scores(answer)[0] is None and "ImageReward" not in answer.info["infotexts"][0]
    assert len(set(scores(answer)[1:])) == 4
    assert answer.info["extra_generation_params"][ANSWER]["scorer"] == "ImageReward"


def test_a_switch_in_settings_scores_everything(webui):
    webui.settings(imagereward_always_score=True)
    assert aligned(webui.txt2img(**FIVE))
    off = webui.txt2img(**FIVE, alwayson_scripts={"ImageReward scoring": {"args": [False]}})
    assert ANSWER not in off.info["extra_generation_params"]


def test_both_ways_in_give_the_same(webui):
    first = webui.txt2img(**FIVE, alwayson_scripts=ON)
    second = webui.txt2img(**FIVE, **chosen())
    assert scores(first) == scores(second)
    assert first.info["infotexts"] == second.info["infotexts"]


def test_the_score_is_that_of_the_image_for_its_own_plain_prompt(webui):
    answer = webui.txt2img(
        prompt="a (red:1.3) [fox], <lora:none:0.5> in snow", styles=["round"], alwayson_scripts=ON
    )
    plain = "a red fox, in snow"
    if (
        answer.info["all_prompts"][0] != "a (red:1.3) [fox], <lora:none:0.5> in snow"
    ):  # the host has the style
        plain = "a circle of a red fox, in snow"
    again = webui.post("/imagereward/v1/score", images=[encoded(answer.images[0])], prompts=plain)
    assert scores(answer)[0] == round(again["scores"][0], 4)
    other = webui.post("/imagereward/v1/score", images=[encoded(answer.images[0])], prompts="a blue sea")
    assert other["scores"] != again["scores"]


def test_a_text_of_ones_own_can_be_scored_instead(webui):
    webui.settings(imagereward_text="a blue sea")
    answer = webui.txt2img(prompt="a red fox", alwayson_scripts=ON)
    again = webui.post("/imagereward/v1/score", images=[encoded(answer.images[0])], prompts="a blue sea")
    assert scores(answer)[0] == round(again["scores"][0], 4)
    assert fields(answer.info["infotexts"][0])["ImageReward prompt"] == "a blue sea"


def test_all_other_parameters_stay_as_they_are(webui):
    without = webui.txt2img(**FIVE)
    scored = webui.txt2img(**FIVE, alwayson_scripts=ON)
    for plain, marked in zip(without.info["infotexts"], scored.info["infotexts"], strict=True):
        others = {key: value for key, value in fields(marked).items() if not key.startswith("ImageReward")}
        assert others == fields(plain)
        assert marked.split("\n")[:-1] == plain.split("\n")[:-1]
    assert [pixels(image) for image in without.images] == [pixels(image) for image in scored.images]


def test_png_info_reads_every_parameter_back(webui):
    answer = webui.txt2img(negative_prompt="ugly", alwayson_scripts=ON, prompt="a red fox, in (snow:1.2)")
    read = webui.post("/sdapi/v1/png-info", image=encoded_with_text(answer.images[0]))
    assert read["info"] == answer.info["infotexts"][0]
    if "parameters" in read:
        said = read["parameters"]
        assert (said["Prompt"], said["Negative prompt"]) == ("a red fox, in (snow:1.2)", "ugly")
        assert (said["Steps"], said["Seed"], said["Sampler"]) == ("2", "1", "Euler")
        assert float(said["ImageReward"]) == scores(answer)[0]


def encoded_with_text(image):
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("parameters", image.info["parameters"])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=text)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize("format_", ["png", "jpg", "webp"])
def test_the_score_is_in_the_saved_file_and_its_text(webui, format_):
    webui.settings(samples_format=format_, save_txt=True)
    answer = webui.txt2img(save_images=True, alwayson_scripts=ON)
    saved = {path.suffix: path for path in webui.files()}
    assert set(saved) == {f".{format_}", ".txt"}
    expected = answer.info["infotexts"][0]
    assert "ImageReward: " in expected
    assert saved[".txt"].read_text(encoding="utf-8").strip() == expected
    image = Image.open(saved[f".{format_}"])
    if format_ == "png":
        assert image.info["parameters"] == expected
    else:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
        assert comment.startswith(b"UNICODE\0")
        assert expected in (comment[8:].decode("utf-16-be"), comment[8:].decode("utf-16-le", "ignore"))


def test_the_score_can_be_in_the_file_name(webui):
    webui.settings(samples_filename_pattern="[seed]-[imagereward]")
    answer = webui.txt2img(save_images=True, alwayson_scripts=ON)
    assert webui.files()[0].stem.endswith(f"-1-{scores(answer)[0]:.4f}")
    webui.txt2img(save_images=True, seed=2)
    assert webui.files()[-1].stem.endswith("-2")


def test_decimals_are_a_setting(webui):
    webui.settings(imagereward_decimals=2)
    answer = webui.txt2img(alwayson_scripts=ON)
    assert len(fields(answer.info["infotexts"][0])["ImageReward"].split(".")[1]) == 2


def test_the_place_among_ones_own_can_be_written_for_other_browsers(webui):
    if webui.process is None:
        pytest.skip("needs the host's data folder")
    webui.settings(imagereward_aesthetic_score=True)
    told = webui.txt2img(alwayson_scripts=ON).info["extra_generation_params"][ANSWER]
    history = webui.process.data / "imagereward" / f"scores-ImageReward-{told['hash']}.txt"
    before = history.read_bytes()
    history.write_text("-5.00000\n" * 300 + "+5.00000\n" * 100)
    try:
        answer = webui.txt2img(alwayson_scripts=ON)
    finally:
        history.write_bytes(before)
    assert fields(answer.info["infotexts"][0])["aesthetic_score"] == "7.5"
    assert answer.info["extra_generation_params"][ANSWER]["percentiles"] == pytest.approx([0.75], abs=0.003)


def test_another_scorer_writes_under_its_own_name(webui):
    if webui.scorers is None:
        pytest.skip("needs a second scorer in the host")
    answer = webui.txt2img(alwayson_scripts=always_on(scorer="other"))
    assert "Other: " in answer.info["infotexts"][0] and "ImageReward: " not in answer.info["infotexts"][0]


# ---- filtering


def test_images_below_the_limit_are_not_shown_and_lie_in_the_rejected_folder(webui, four):
    webui.settings(save_txt=True)
    answer = webui.txt2img(**FIVE, alwayson_scripts=always_on(filter_low=True, limit=four.limit))
    assert aligned(answer) and len(answer.images) == 3
    assert all(score >= four.limit for score in scores(answer)[1:])
    assert note(answer).startswith("2 of 4 passed ")
    kept = [path for path in webui.files() if path.parent.name != "rejected"]
    gone = [path for path in webui.files() if path.parent.name == "rejected"]
    assert (
        sorted(path.suffix for path in kept)
        == sorted(path.suffix for path in gone)
        == [".png"] * 2 + [".txt"] * 2
    )
    for path in gone:
        text = Image.open(path).info["parameters"] if path.suffix == ".png" else path.read_text()
        assert float(fields(text)["ImageReward"]) < four.limit


def test_the_grid_is_drawn_again_from_what_is_left(webui, four):
    answer = webui.txt2img(**FIVE, alwayson_scripts=always_on(filter_low=True, limit=four.limit))
    grid, *images = answer.images
    parts = [
        pixels(grid.crop((x, y, x + 64, y + 64)))
        for y in range(0, grid.height, 64)
        for x in range(0, grid.width, 64)
    ]
    assert [pixels(image) for image in images] == parts[:2]
    saved = [path for path in webui.files("grids") if path.suffix in (".png", ".jpg")]
    assert len(saved) == 1, "the host's own grid of all images is not saved beside ours"


@pytest.mark.parametrize(
    ("rejected", "files"),
    [("move to the rejected folder", 4), ("save as usual, do not show", 4), ("do not save", 2)],
)
def test_what_happens_to_rejected_files(webui, four, rejected, files):
    request = always_on(filter_low=True, limit=four.limit, rejected=rejected)
    answer = webui.txt2img(**FIVE, alwayson_scripts=request)
    assert len(answer.images) == 3
    assert len(webui.files()) == files
    assert any(path.parent.name == "rejected" for path in webui.files()) == (
        rejected == "move to the rejected folder"
    )


def test_nothing_left_is_a_normal_result(webui, four):
    answer = webui.txt2img(**FIVE, alwayson_scripts=always_on(filter_low=True, limit=1e9))
    assert answer.images == [] and answer.info["infotexts"] == []
    best = max(scores(four)[1:])
    assert note(answer).startswith("0 of 4 passed 1e+09; best was ")
    told = re.search(r"best was (-?\d+\.\d+); the files are in the folder rejected$", note(answer))
    assert abs(float(told[1]) - best) <= 0.005
    assert len(webui.files()) == 4 and all(path.parent.name == "rejected" for path in webui.files())


def test_nothing_left_keeps_the_best_if_wished(webui, four):
    answer = webui.txt2img(**FIVE, **chosen(filter_low=True, limit=1e9, keep_one=True))
    assert scores(answer) == [max(scores(four)[1:])]
    assert "is kept" in note(answer)
    assert [path.parent.name == "rejected" for path in webui.files()].count(False) == 1


def test_the_best_k_and_their_files(webui, four):
    webui.settings(save_txt=True)
    answer = webui.txt2img(**FIVE, **chosen(keep_best=1))
    assert aligned(answer) and scores(answer) == [max(scores(four)[1:])]
    kept = [path for path in webui.files() if path.parent.name != "rejected"]
    assert sorted(path.suffix for path in kept) == [".png", ".txt"]
    assert Image.open(kept[0]).info["parameters"] == answer.info["infotexts"][0]
    assert len(webui.files()) == 8


def test_names_stay_unique_when_the_same_is_rejected_twice(webui):
    webui.settings(save_images_add_number=False, samples_filename_pattern="[seed]", save_txt=True)
    for _ in range(3):
        webui.txt2img(save_images=True, alwayson_scripts=always_on(filter_low=True, limit=1e9))
    assert sorted(path.name for path in webui.files()) == [
        *("1-1.png", "1-1.txt", "1-2.png", "1-2.txt", "1.png", "1.txt"),
    ]


def test_a_name_that_was_taken_stays_with_the_image_that_had_it(webui):
    webui.settings(save_images_add_number=False, samples_filename_pattern="[seed]")
    webui.settings(save_images_replace_action="Add number suffix")
    webui.txt2img(save_images=True)
    (kept,) = webui.files()
    content = kept.read_bytes()
    webui.txt2img(
        save_images=True, alwayson_scripts=always_on(filter_low=True, limit=1e9, rejected="do not save")
    )
    assert webui.files() == [kept] and kept.read_bytes() == content


def test_sorting_moves_all_lists_together(webui, four):
    answer = webui.txt2img(**FIVE, **chosen(sort=True))
    assert aligned(answer)
    assert scores(answer)[1:] == sorted(scores(four)[1:], reverse=True)
    assert len(webui.files()) == 4, "sorting rejects nothing"


def test_without_saving_nothing_is_written(webui, four):
    request = {**FIVE, "save_images": False}
    answer = webui.txt2img(**request, **chosen(filter_low=True, limit=four.limit))
    assert len(answer.images) == 2, "the host draws no grid either when nothing is saved"
    assert webui.files() == [] and webui.files("grids") == []


def test_masks_follow_their_image_and_hold_no_score(webui):
    webui.settings(return_mask=True, return_mask_composite=True, save_mask=True)
    picture = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    request = {"mask": encoded(mask), "denoising_strength": 0.7, "n_iter": 3, "save_images": True, "seed": 5}
    answer = webui.img2img(picture, **request, **chosen(keep_best=2, sort=True))
    assert (
        len(answer.images) == len(answer.info["infotexts"]) == 7
    )  # a grid, and twice image, mask, composite
    told = scores(answer)
    assert told[1] > told[4] and [told[i] for i in (0, 2, 3, 5, 6)] == [None] * 5
    assert ["ImageReward: " in text for text in answer.info["infotexts"]] == [
        False,
        True,
        False,
        False,
        True,
        False,
        False,
    ]
    assert answer.info["all_seeds"][0] == answer.info["all_seeds"][2] != answer.info["all_seeds"][3]
    for path in webui.files("img2img"):
        assert ("ImageReward: " in Image.open(path).info["parameters"]) == ("mask" not in path.stem)


# ---- several jobs


def test_generating_goes_on_until_enough_pass(webui, four):
    request = {**FIVE, "n_iter": 1}
    answer = webui.txt2img(**request, **chosen(limit=four.limit, until=3, tries=40))
    assert aligned(answer) and sum(score is not None for score in scores(answer)) >= 3
    seeds = answer.info["all_seeds"]
    assert seeds == sorted(seeds) and len(set(seeds)) == len(seeds) and seeds[0] >= 40
    made = int(note(answer).split(" of ")[1].split()[0])
    assert made % 2 == 0 and seeds[-1] < 40 + made
    assert len(webui.files()) == made


def test_the_cap_on_tries_is_told(webui):
    answer = webui.txt2img(seed=5, **chosen(limit=1e9, until=2, tries=3))
    assert answer.images == []
    assert note(answer).startswith("0 of 3 passed 1e+09; best was ")
    assert "stopped after 3 tries (the cap): 0 of the 2 wanted" in note(answer)


def test_variation_seeds_continue_and_the_seed_stays(webui):
    request = {"seed": 5, "subseed": 900, "subseed_strength": 0.4, "batch_size": 2}
    answer = webui.txt2img(**request, **chosen(limit=-1e9, until=6, tries=5))
    first = answer.info["index_of_first_image"]
    assert answer.info["all_seeds"] == [5] * 6
    assert answer.info["all_subseeds"] == [900, 901, 902, 903, 904, 905]
    assert len({pixels(image) for image in answer.images[first:]}) == 6


def test_tries_give_the_images_that_one_job_would(webui):
    one_job = webui.txt2img(seed=5, batch_size=2, n_iter=2)
    tries = webui.txt2img(seed=5, batch_size=2, n_iter=1, **chosen(limit=-1e9, until=4, tries=5))
    assert [pixels(i) for i in one_job.images[1:]] == [pixels(i) for i in tries.images[1:]]


def test_interrupt_ends_the_tries_and_unfinished_images_are_not_filtered(webui):
    answers = []
    request = {"steps": 20, "batch_size": 1, "seed": 5, "save_images": True}
    thread = threading.Thread(
        target=lambda: answers.append(webui.txt2img(**request, **chosen(limit=1e9, until=50, tries=500)))
    )
    thread.start()
    wait_for_progress(webui)
    webui.request("POST", "/sdapi/v1/interrupt")
    thread.join(timeout=120)
    (answer,) = answers
    assert "you stopped it" in note(answer)
    assert len(answer.images) <= 1 and scores(answer) in ([], [None])
    assert len(webui.files()) < 500


def wait_for_progress(webui, said=""):
    """Wait until something is being sampled, and the line beside the progress bar says so."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        progress = webui.get("/sdapi/v1/progress", skip_current_image=True)
        state = progress["state"]
        if state["job"] and state["sampling_step"] > 0 and said in (progress["textinfo"] or ""):
            return
        time.sleep(0.01)
    raise AssertionError("nothing was sampled")


@pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
def test_hires_fix_only_for_what_passes(webui, upscaler):
    request = {**FIVE, "denoising_strength": 0.4}
    small = webui.txt2img(**request, alwayson_scripts=ON)
    ordered = sorted(scores(small)[1:])
    limit = (ordered[1] + ordered[2]) / 2
    wanted = [
        seed for seed, score in zip(small.info["all_seeds"], scores(small)[1:], strict=True) if score >= limit
    ]
    for file in webui.files():
        file.unlink()
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": upscaler}
    hires["hr_additional_modules"] = ["Use same choices"]  # Forge's API fails without it; others ignore it
    answer = webui.txt2img(**request, **hires, **chosen(limit=limit, hires_for_passing=True))
    assert set(answer.info["all_seeds"]) <= set(wanted)
    first = answer.info["index_of_first_image"]
    assert {image.size for image in answer.images[first:]} <= {(128, 128)}
    assert aligned(answer)
    sizes = sorted(Image.open(path).size for path in webui.files())
    assert sizes == [(64, 64)] * 2 + [(128, 128)] * 2, "the small ones that failed are kept too"
    large = [path for path in webui.files() if Image.open(path).size == (128, 128)]
    for path in large:
        text = Image.open(path).info["parameters"]
        assert "Hires upscale: 2" in text and f"Hires upscaler: {upscaler}" in text
        passed = float(fields(text)["ImageReward"]) >= limit
        assert passed == (path.parent.name != "rejected"), "the last word has the score of the finished image"
    assert sorted(seeds_of(Image.open(path).info["parameters"] for path in large)) == sorted(wanted)


def test_interrupt_in_the_second_pass_costs_no_finished_small_image(webui):
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}
    hires |= {"hr_second_pass_steps": 100, "hr_additional_modules": ["Use same choices"]}
    answers = []
    request = {**FIVE, **hires, **chosen(limit=-1e9, hires_for_passing=True)}
    thread = threading.Thread(target=lambda: answers.append(webui.txt2img(**request)))
    thread.start()
    wait_for_progress(webui, "Hires fix for image 1 of 4")
    webui.request("POST", "/sdapi/v1/interrupt")
    thread.join(timeout=120)
    (answer,) = answers
    small = [path for path in webui.files() if Image.open(path).size == (64, 64)]
    assert sorted(seeds_of(Image.open(path).info["parameters"] for path in small)) == [40, 41, 42, 43]
    first = answer.info["index_of_first_image"]
    assert [image.size for image in answer.images[first:]].count((64, 64)) == 4


# ---- other scripts


def plot_arguments(webui, wanted):
    """Fill in the plot's fields by their labels, since hosts differ in which they have and in their order."""
    scripts = webui.get("/sdapi/v1/script-info")
    plot = next(s for s in scripts if s["name"] == "x/y/z plot" and not s["is_img2img"])
    left = dict(wanted)
    defaults = {"X values": [], "Y values": [], "Z values": []}  # of the dropdowns behind the text fields
    filled = [left.pop(arg["label"], defaults.get(arg["label"], arg["value"])) for arg in plot["args"]]
    assert not left, f"this host's plot has no {', '.join(left)}"
    return filled


def test_a_plot_shows_scores_in_its_cells_and_means_with_its_grid(webui):
    if not webui.has("X/Y/Z plot"):
        pytest.skip("this host has no X/Y/Z plot")
    wanted = {"X type": 1, "X values": "7,8,9", "Y type": 4, "Y values": "1,2", "Z type": 0}
    arguments = plot_arguments(
        webui, {**wanted, "Include Sub Images": True, "Use text inputs instead of dropdowns": True}
    )
    request = {"script_name": "X/Y/Z plot", "script_args": arguments, "seed": 7, "save_images": True}
    plain = webui.txt2img(**request)
    answer = webui.txt2img(**request, alwayson_scripts=ON)
    assert len(answer.images) == 7
    assert [pixels(image) for image in plain.images[1:]] == [pixels(image) for image in answer.images[1:]]
    assert pixels(plain.images[0]) != pixels(answer.images[0]), "the grid's cells show the scores"
    assert "ImageReward" not in answer.info["infotexts"][0]
    values = [float(fields(text)["ImageReward"]) for text in answer.info["infotexts"][1:]]
    grids = sorted(webui.files("grids"), key=lambda path: path.stat().st_mtime)
    said = Image.open(grids[-1]).info["parameters"].split("ImageReward row means: ")[1]
    rows, columns = said.split(", ImageReward column means: ")
    assert [float(mean) for mean in rows.split(" | ")] == pytest.approx(
        [sum(values[:3]) / 3, sum(values[3:]) / 3], abs=1e-4
    )
    assert len(columns.split(" | ")) == 3


LIMIT_AXIS, SCORER_AXIS = "[ImageReward] Lower score limit", "[ImageReward] Scorer"


def axes(webui):
    """List the axes of the host's plot."""
    for script in webui.get("/sdapi/v1/script-info"):
        if script["name"] == "x/y/z plot" and not script["is_img2img"]:
            return script["args"][0]["choices"]
    pytest.skip("this host has no X/Y/Z plot")


def test_our_axes_are_there_once(webui):
    assert [axes(webui).count(axis) for axis in (LIMIT_AXIS, SCORER_AXIS)] == [1, 1]


def plot_along(webui, axis, values):
    wanted = {"X type": axes(webui).index(axis), "X values": values, "Y type": 0, "Z type": 0}
    wanted |= {"Include Sub Images": True, "Use text inputs instead of dropdowns": True}
    arguments = plot_arguments(webui, wanted)
    return webui.txt2img(script_name="X/Y/Z plot", script_args=arguments, seed=7, save_images=True)


def test_an_axis_of_limits_scores_and_filters_each_cell(webui):
    answer = plot_along(webui, LIMIT_AXIS, "-1000, 1000")
    _, kept, blank = answer.images
    assert "ImageReward: " in answer.info["infotexts"][1] and pixels(kept) != pixels(blank)
    assert [path.parent.name == "rejected" for path in webui.files()].count(True) == 1


def test_an_axis_of_scorers_scores_each_cell_by_its_own(webui):
    if webui.scorers is None:
        pytest.skip("needs a second scorer in the host")
    first, second = plot_along(webui, SCORER_AXIS, "tiny, other").info["infotexts"][1:]
    assert "ImageReward: " in first and "Other: " not in first
    assert "Other: " in second and "ImageReward: " not in second


def test_both_scripts_are_registered_once_per_tab_under_different_titles(webui):
    titles = [(script["name"], script["is_img2img"]) for script in webui.get("/sdapi/v1/script-info")]
    for tab in (False, True):
        assert titles.count(("imagereward", tab)) == titles.count(("imagereward scoring", tab)) == 1


# ---- bad input


@pytest.mark.parametrize("limit", ["", "abc", "nan", None])
def test_a_limit_without_sense_costs_no_image(webui, limit):
    answer = webui.txt2img(**FIVE, **chosen(filter_low=True, limit=limit))
    assert len(answer.images) == 5 and None not in scores(answer)[1:]
    assert "nothing was filtered" in note(answer)
    answer = webui.txt2img(**{**FIVE, "n_iter": 1}, **chosen(limit=limit, until=8, tries=4))
    assert answer.info["all_seeds"] == list(range(40, 48)) and "nothing was filtered" in note(answer)
    assert not any(path.parent.name == "rejected" for path in webui.files())


@pytest.mark.parametrize(
    "prompt", ["", "word " * 2000, "🦊 лиса 狐狸 ثعلب", "<lora:only:1>", 'a\nb, c: d, "e"']
)
def test_any_prompt_is_scored(webui, prompt):
    answer = webui.txt2img(prompt=prompt, alwayson_scripts=ON)
    assert scores(answer)[0] is not None
    assert answer.info["infotexts"][0].count("ImageReward: ") == 1


@pytest.mark.slow
def test_a_batch_of_64(webui):
    answer = webui.txt2img(batch_size=64, steps=1, alwayson_scripts=ON)
    assert aligned(answer) and len(answer.images) == 64  # without saving, the host draws no grid
    assert None not in scores(answer)


def test_a_scorer_that_is_gone_costs_no_image_and_its_return_is_noticed(webui):
    if webui.scorers is None:
        pytest.skip("needs the host's scorer folder")
    webui.post("/imagereward/v1/unload")
    aside = webui.scorers.parent / "aside"
    (webui.scorers / "tiny").rename(aside)
    try:
        answer = webui.txt2img(**FIVE, **chosen(filter_low=True, limit=1e9))
        assert len(answer.images) == 5 and scores(answer) == [None] * 5
        assert "not scored" in note(answer) and "tiny" in note(answer)
    finally:
        aside.rename(webui.scorers / "tiny")
    assert aligned(webui.txt2img(**FIVE, alwayson_scripts=ON))


def test_weights_that_are_broken_cost_no_image(webui):
    if webui.scorers is None:
        pytest.skip("needs the host's scorer folder")
    webui.post("/imagereward/v1/unload")
    weights = webui.scorers / "tiny" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    try:
        answer = webui.txt2img(alwayson_scripts=ON)
        assert len(answer.images) == 1 and scores(answer) == [None] and "not scored" in note(answer)
    finally:
        for kept_aside in weights.parent.glob("model.safetensors*"):
            kept_aside.unlink()
        weights.write_bytes(content)


def test_a_rejected_folder_that_cannot_be_made_leaves_the_images_where_they_are(webui, four, tmp_path):
    (tmp_path / "blocked").write_text("a file in the way")
    webui.settings(imagereward_rejected_folder=str(tmp_path / "blocked"))
    answer = webui.txt2img(**FIVE, alwayson_scripts=always_on(filter_low=True, limit=four.limit))
    assert len(answer.images) == 3 and "could not be moved" in note(answer)
    assert len(webui.files()) == 4


def test_two_queued_jobs_do_not_mix(webui):
    answers = {}

    def generate(seed):
        answers[seed] = webui.txt2img(seed=seed, n_iter=2, alwayson_scripts=ON)

    threads = [threading.Thread(target=generate, args=(seed,)) for seed in (100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, answer in answers.items():
        assert aligned(answer) and answer.info["all_seeds"] == [seed, seed + 1]


def test_unloading_while_a_job_scores_costs_no_score(webui):
    done = threading.Event()
    answers = []

    def generate():
        answers.append(webui.txt2img(n_iter=6, alwayson_scripts=ON))
        done.set()

    thread = threading.Thread(target=generate)
    thread.start()
    while not done.is_set():
        webui.post("/imagereward/v1/unload")
        time.sleep(0.02)
    thread.join()
    assert aligned(answers[0]) and None not in scores(answers[0])[1:]


def test_an_unknown_option_is_named(webui):
    answer = webui.txt2img(alwayson_scripts=always_on(limt=0.5))
    assert "'limt'" in note(answer) and len(answer.images) == 1


# ---- routes


def test_models_and_unload(webui):
    webui.post("/imagereward/v1/unload")
    assert webui.get("/imagereward/v1/models")["loaded"] is None
    webui.txt2img(alwayson_scripts=ON)
    loaded = webui.get("/imagereward/v1/models")["loaded"]
    assert loaded["bytes"] > 0 and loaded["precision"] in ("fp32", "fp16")
    assert "unloaded" in webui.post("/imagereward/v1/unload")["message"]
    assert webui.post("/imagereward/v1/unload")["message"] == "No scorer was loaded."


def test_the_schema_is_in_the_docs(webui):
    schema = webui.get("/openapi.json")
    body = schema["paths"]["/imagereward/v1/score"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}


def test_uploaded_files_are_scored_like_base64(webui):
    answer = webui.txt2img(batch_size=2)
    images = answer.images
    as_text = webui.post(
        "/imagereward/v1/score", images=[encoded(i) for i in images], prompts=["a fox", "the sea"]
    )
    files = [
        ("images", (f"{n}.png", base64.b64decode(encoded(i)), "image/png")) for n, i in enumerate(images)
    ]
    as_files = webui.request(
        "POST", "/imagereward/v1/score", files=files, data=[("prompts", "a fox"), ("prompts", "the sea")]
    ).json()
    assert as_text == as_files and len(as_text["scores"]) == 2


def test_the_answer_of_a_job_is_json_throughout(webui):
    raw = webui.post("/sdapi/v1/txt2img", prompt="a fox", width=64, height=64, steps=1, alwayson_scripts=ON)
    assert isinstance(json.loads(raw["info"]), dict)
    assert decoded(raw["images"][0]).size == (64, 64)
    assert Answer(raw).info["extra_generation_params"][ANSWER]["scores"][0] is not None
