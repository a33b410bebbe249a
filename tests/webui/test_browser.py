"""What a person sees, in a real browser. Runs against the demo host, or against a real WebUI at $WEBUI_URL."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from PIL import Image

from imagereward_ext.metadata import records
from tests.hosting import encoded
from tests.webui.test_scenarios import ANSWER, ON, fields, scores
from tests.webui.test_with_adetailer import CIRCLE, DETECTOR, told
from tests.webui.test_with_other_scripts import dynamic_prompts

pytestmark = pytest.mark.browser

SECONDS = 1000  # Playwright counts milliseconds
PATIENCE = 90 * SECONDS


@pytest.fixture
def page(chromium, webui) -> Iterator[object]:
    """The WebUI's page; a test fails when the browser's console shows an error of ours."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1400})
    page.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    open_page(page, webui)
    yield page
    page.close()
    assert [text for text in complaints if "imagereward" in text.lower()] == []


def open_page(page, webui):
    page.goto(webui.url)
    page.wait_for_selector("#txt2img_generate", state="visible")
    page.wait_for_function("document.querySelector('#txt2img_prompt textarea') !== null")
    page.wait_for_function("typeof opts === 'object' && Object.keys(opts).length > 0")
    if webui.process is None:
        page.wait_for_timeout(
            1500
        )  # others than the demo's fill in more of their defaults after the settings


def generate(page, count=2, prompt="a red fox", steps=2, tab="txt2img"):
    before = sources(page, tab)
    page.fill(f"#{tab}_prompt textarea", prompt)
    for name, value in {"batch_count": count, "steps": steps, "width": 64, "height": 64}.items():
        field = page.locator(f"#{tab}_{name} input[type=number]").first
        field.fill(str(value))
        field.blur()
    page.click(f"#{tab}_generate")
    return before


def sources(page, tab="txt2img"):
    return page.evaluate(
        f"Array.from(document.querySelectorAll('#{tab}_gallery .thumbnail-item img')).map(i => i.src).join()"
    )


def wait_for_images(page, before="", tab="txt2img"):
    page.wait_for_function(
        f"""before => {{
            const now = Array.from(document.querySelectorAll('#{tab}_gallery .thumbnail-item img')).map(i => i.src);
            return now.length && now.join() !== before;
        }}""",
        arg=before,
    )


def badges(page, tab="txt2img"):
    """Read the badges, one per thumbnail; "" where there is none."""
    return page.evaluate(
        f"""() => {{
            const all = Array.from(document.querySelectorAll('#{tab}_gallery .thumbnail-item'));
            const small = all.filter(item => item.classList.contains('thumbnail-small'));
            return (small.length ? small : all).map(i => i.querySelector('.imagereward-badge')?.textContent ?? '');
        }}"""
    )


def wait_for_badges(page, count, tab="txt2img"):
    deadline = time.monotonic() + PATIENCE / SECONDS  # a host may load its checkpoint only now
    while time.monotonic() < deadline:
        if sum(bool(text) for text in badges(page, tab)) == count:
            return badges(page, tab)
        page.wait_for_timeout(100)
    raise AssertionError(f"{badges(page, tab)} are not {count} badges")


def select(page, index, tab="txt2img"):
    small = page.locator(f"#{tab}_gallery .thumbnail-item.thumbnail-small")
    items = small if small.count() else page.locator(f"#{tab}_gallery .thumbnail-item")
    items.nth(index).click()


def line(page, tab="txt2img"):
    return page.locator(f"#imagereward-{tab}-line").inner_text()


def choose_script(page, title="ImageReward", tab="txt2img"):
    page.locator(f"#tab_{tab} #script_list input").first.click()
    # An option has the role "option" in gradio 4, "button" in gradio 3; the label is the same.
    page.locator(f'ul.options li[aria-label="{title}"]').locator("visible=true").first.click()
    page.wait_for_selector(f"#imagereward-{tab}-script-limit input", state="visible")


def set_number(page, elem_id, value):
    field = page.locator(f"#{elem_id} input[type=number], #{elem_id} input").first
    field.fill(str(value))
    field.blur()


def open_tab(page, name):
    page.locator("#tabs > .tab-nav button, #tabs button[role=tab]", has_text=name).first.click()


# ---- under the gallery


def test_every_thumbnail_has_a_badge_and_the_selected_image_a_line(page, webui):
    webui.settings(imagereward_always_score=True)
    generate(page, count=3)
    shown = wait_for_badges(page, 3)
    assert shown[0] == "", "the grid has none"
    told = set()
    for index in (1, 2, 3):
        select(page, index)
        page.wait_for_function(
            """badge => {
                const score = /-?[0-9]+[.][0-9]+/.exec(document.querySelector('#imagereward-txt2img-line').textContent);
                return score && Math.abs(Number(score[0]) - Number(badge)) <= 0.0051;
            }""",
            arg=shown[index],
        )
        assert re.match(r"ImageReward -?\d+\.\d+", line(page))
        page.wait_for_function(
            "document.querySelector('#html_info_txt2img').innerText.includes('ImageReward: ')"
        )
        told.add(line(page))
    assert len(told) >= len({*shown[1:]})  # a badge has two decimals, a line four
    select(page, 0)
    page.wait_for_function("document.querySelector('#imagereward-txt2img-line').textContent === ''")


def test_both_galleries_and_nothing_without_scores(page, webui, tmp_path):
    webui.settings(imagereward_always_score=True)
    picture = tmp_path / "start.png"
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(picture)
    open_tab(page, "img2img")
    page.set_input_files("#img2img_image input[type=file]", str(picture))
    page.wait_for_timeout(1500)
    generate(page, count=1, tab="img2img")
    wait_for_badges(page, 1, "img2img")
    webui.settings(imagereward_always_score=False)
    before = generate(page, count=1, tab="img2img", prompt="a blue sea")
    wait_for_images(page, before, "img2img")
    wait_for_badges(page, 0, "img2img")


@pytest.mark.skipif(not DETECTOR, reason="WEBUI_DETECTOR names no detector of ADetailer")
def test_painted_images_with_every_panel_open(page, webui):
    webui.settings(imagereward_always_score=True, ad_save_images_before=True)
    page.locator("#script_txt2img_adetailer_ad_main_accordion .label-wrap").first.click()
    page.locator("#script_txt2img_adetailer_ad_main_accordion-visible-checkbox").check()
    page.locator("#script_txt2img_adetailer_ad_model input").first.click()
    page.locator(f'ul.options li[aria-label="{DETECTOR}"]').locator("visible=true").first.click()
    page.locator("#imagereward-txt2img-every .label-wrap").first.click()
    if dynamic_prompts(webui):
        page.locator("#sddp-dynamic-prompting .label-wrap").first.click()
    set_number(page, "txt2img_seed", 40)
    generate(page, count=3, prompt=CIRCLE, steps=10)
    shown = wait_for_badges(page, 3)
    saved = [path for path in webui.files() if "-ad-" not in path.stem]
    assert len(webui.files()) > len(saved), "ADetailer painted"
    assert [float(text) for text in shown[1:]] == pytest.approx([told(path) for path in saved], abs=0.0051)


def test_nothing_runs_while_nothing_changes(page, webui):
    webui.settings(imagereward_always_score=True)
    generate(page, count=2)
    wait_for_badges(page, 2)
    page.wait_for_timeout(1000)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.evaluate(
        """() => { window.redrawn = 0; new MutationObserver(list => { window.redrawn += list.length; })
            .observe(document.querySelector('#txt2img_gallery_container'), {childList: true, subtree: true}); }"""
    )
    page.wait_for_timeout(3000)
    assert page.evaluate("window.redrawn") == 0
    assert [url for url in requests if "imagereward" in url] == []


# ---- the script


def test_the_message_when_nothing_passes(page, webui):
    choose_script(page)
    page.locator("#imagereward-txt2img-script-filter_low input").check()
    set_number(page, "imagereward-txt2img-script-limit", 5)
    generate(page, count=2)
    page.wait_for_function("document.querySelector('#html_log_txt2img').innerText.includes('passed')")
    told = page.locator("#html_log_txt2img").first.inner_text()
    assert re.search(r"ImageReward: 0 of 2 passed 5\.00; best was -?\d\.\d\d", told)
    assert page.locator("#txt2img_gallery .thumbnail-item").count() == 0
    assert "Error" not in told


def test_a_limit_says_what_share_of_ones_own_images_it_rejects(page, webui):
    choose_script(page)
    set_number(page, "imagereward-txt2img-script-limit", 0.4)
    page.wait_for_function(
        "document.querySelector('#imagereward-txt2img-script-share').innerText.includes('scored images')"
    )
    first = page.locator("#imagereward-txt2img-script-share").first.inner_text()
    assert re.search(r"After \d+ more scored images|\d+% of your \d+ scored images are below 0.4", first)
    if "are below" in first:
        set_number(page, "imagereward-txt2img-script-limit", -5)
        page.wait_for_function(
            "document.querySelector('#imagereward-txt2img-script-share').innerText.startsWith('0% of your')"
        )


def test_a_limit_may_be_typed_with_a_comma(page, webui):
    choose_script(page)
    page.locator("#imagereward-txt2img-script-filter_low input").check()
    page.locator("#imagereward-txt2img-script-limit input").first.fill("")
    page.locator("#imagereward-txt2img-script-limit input").first.press_sequentially("5,5")
    generate(page, count=1)
    page.wait_for_function("document.querySelector('#html_log_txt2img').innerText.includes('passed 5.50')")


def test_what_the_panel_says_is_there_from_the_start_and_follows_each_generation(page, webui):
    choose_script(page)
    share = "document.querySelector('#imagereward-txt2img-script-share').innerText"
    page.wait_for_function(f"{share}.includes('scored images')")
    before = page.evaluate(share)
    page.click("#imagereward-txt2img-script-unload")
    status = "document.querySelector('#imagereward-txt2img-script-status').innerText"
    page.wait_for_function(f"/No scorer was loaded|are free again/.test({status})")
    generate(page, count=2)
    wait_for_badges(page, 2)
    page.wait_for_function(f"{status}.includes('is loaded on')")
    page.wait_for_function(f"before => {share} !== before", arg=before)


def test_unload_and_its_status_line(page, webui):
    webui.txt2img(alwayson_scripts=ON)
    choose_script(page)
    status = page.locator("#imagereward-txt2img-script-status").first  # gradio 3 gives two elements the id
    page.click("#imagereward-txt2img-script-show-status")
    page.wait_for_function(
        "document.querySelector('#imagereward-txt2img-script-status').innerText.includes('is loaded on')"
    )
    assert re.search(r"is loaded on \S+: fp(32|16), \d+ MB", status.inner_text())
    for message in ("MB are free again", "No scorer was loaded"):
        page.click("#imagereward-txt2img-script-unload")
        page.wait_for_function(
            "t => document.querySelector('#imagereward-txt2img-script-status').innerText.includes(t)",
            arg=message,
        )
    assert webui.get("/imagereward/v1/models")["loaded"] is None


# ---- the gallery's own buttons


def served(page, index, tab="txt2img"):
    """Fetch the picture behind a thumbnail as the browser does, with the parameters in it."""
    small = page.locator(f"#{tab}_gallery .thumbnail-item.thumbnail-small")
    items = small if small.count() else page.locator(f"#{tab}_gallery .thumbnail-item")
    answer = page.request.get(items.nth(index).locator("img").first.get_attribute("src"))
    return Image.open(io.BytesIO(answer.body()))


def test_reuse_seed_takes_the_seed_of_the_image_that_is_shown(page, webui):
    choose_script(page)
    page.locator("#imagereward-txt2img-script-sort input").check()
    generate(page, count=3)
    shown = wait_for_badges(page, 3)
    seeds = []
    for index in (1, 2, 3):
        said = fields(served(page, index).info["parameters"])
        assert abs(float(said["ImageReward"]) - float(shown[index])) <= 0.0051
        select(page, index)
        page.click("#txt2img_reuse_seed")
        page.wait_for_function(
            "seed => document.querySelector('#txt2img_seed input').value === seed", arg=said["Seed"]
        )
        seeds.append(int(said["Seed"]))
    assert max(seeds) - min(seeds) == 2, "three images of one job"
    assert [float(badge) for badge in shown[1:]] == sorted(
        (float(badge) for badge in shown[1:]), reverse=True
    )


def test_the_hires_button_replaces_an_image_and_its_score(page, webui):
    # Forge's button cannot encode an image with the alpha channel in which Forge hides its parameters; nor reForge's.
    hiding = {"stealth_pnginfo_option", "stealth_pnginfo_opt"} & webui.get("/sdapi/v1/options").keys()
    webui.settings(**dict.fromkeys(hiding, "None"))
    webui.settings(imagereward_always_score=True)
    generate(page, count=2)
    wait_for_badges(page, 2)
    upscale(page, 2)
    check_upscaled(page, 2)
    choose_script(page)  # a limit is for what a job makes by itself, not for the one image somebody picked
    page.locator("#imagereward-txt2img-script-filter_low input").check()
    set_number(page, "imagereward-txt2img-script-limit", 5)
    upscale(page, 1)
    check_upscaled(page, 1)


def upscale(page, index):
    before = sources(page)
    select(page, index)
    page.click("#txt2img_upscale")
    wait_for_images(page, before)


def check_upscaled(page, index):
    badge = wait_for_badges(page, 2)[index]
    image = served(page, index)
    assert image.size == (128, 128)
    assert abs(float(fields(image.info["parameters"])["ImageReward"]) - float(badge)) <= 0.0051


def test_batch_img2img_scores_every_picture(page, webui, tmp_path):
    if page.locator("#img2img_batch_input_dir").count() == 0:
        pytest.skip("this host has no batch img2img")
    webui.settings(imagereward_always_score=True)
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.radial_gradient("L").resize((64, 64)).rotate(90 * number).convert("RGB").save(
            tmp_path / "in" / f"{number}.png"
        )
    open_tab(page, "img2img")
    page.locator("#mode_img2img button", has_text="Batch").first.click()
    source = page.locator("#img2img_batch_source button", has_text="From directory")
    if source.count():  # reForge knows no other
        source.first.click()
    for name, folder in {"input": "in", "output": "out"}.items():
        field = page.locator(f"#img2img_batch_{name}_dir textarea").first
        field.fill(str(tmp_path / folder))
        field.blur()
    generate(page, count=1, tab="img2img", steps=4)
    wait_for_badges(page, 3, "img2img")
    made = sorted((tmp_path / "out").glob("*.png"))
    assert len(made) == 3
    for path in made:
        said = fields(Image.open(path).info["parameters"])
        again = webui.post("/imagereward/v1/score", images=[_base64(path)], prompts="a red fox")
        assert float(said["ImageReward"]) == round(again["scores"][0], 4)


# ---- around it


def saved_image(webui, name, **request):
    answer = webui.txt2img(
        prompt="a red fox, in (snow:1.2)", negative_prompt="ugly", seed=77, steps=3, **request
    )
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("parameters", answer.info["infotexts"][0])
    path = webui.outputs / name
    answer.images[0].save(path, pnginfo=text)
    return answer, path


def test_png_info_shows_the_score_and_send_restores_every_parameter(page, webui):
    answer, path = saved_image(webui, "scored.png", alwayson_scripts=ON)
    open_tab(page, "PNG Info")
    page.set_input_files("#pnginfo_image input[type=file]", str(path))
    page.wait_for_function(
        "document.querySelector('#imagereward-pnginfo-line')?.innerText.includes('ImageReward: ')"
    )
    assert f"{scores(answer)[0]:.4f}" in page.locator("#imagereward-pnginfo-line").first.inner_text()
    page.locator("#tab_pnginfo button", has_text="txt2img").first.click()
    page.wait_for_function(
        "document.querySelector('#txt2img_prompt textarea').value === 'a red fox, in (snow:1.2)'"
    )
    assert page.locator("#txt2img_neg_prompt textarea").input_value() == "ugly"
    assert page.locator("#txt2img_steps input[type=number]").first.input_value() == "3"
    assert page.locator("#txt2img_seed input").first.input_value() == "77"


def test_an_image_without_a_score_can_be_scored_in_png_info(page, webui):
    _, path = saved_image(webui, "plain.png")
    open_tab(page, "PNG Info")
    page.set_input_files("#pnginfo_image input[type=file]", str(path))
    page.wait_for_function(
        "document.querySelector('#imagereward-pnginfo-line')?.innerText.includes('no score yet')"
    )
    page.click("#imagereward-pnginfo-score")
    page.wait_for_function(
        "/ImageReward: -?[0-9]+[.][0-9]{4}/.test(document.querySelector('#imagereward-pnginfo-line').innerText)"
    )


def test_the_save_button_writes_score_and_table(page, webui, tmp_path):
    webui.settings(imagereward_always_score=True, outdir_save=str(tmp_path / "kept"))
    generate(page, count=1)
    wait_for_badges(page, 1)
    page.click("#save_txt2img")
    table = tmp_path / "kept" / "imagereward.csv"
    deadline = time.monotonic() + 30
    while not table.exists() and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    (row,) = csv.DictReader(table.open(newline="", encoding="utf-8"))
    image = Image.open(tmp_path / "kept" / row["filename"])
    assert fields(image.info["parameters"])["ImageReward"] == row["score"]
    assert row["prompt"] == "a red fox"


def test_extras_score_an_image_by_its_own_prompt(page, webui, tmp_path):
    answer, path = saved_image(webui, "plain.png")
    webui.settings(outdir_extras_samples=str(tmp_path / "extras"))
    open_tab(page, "Extras")
    page.set_input_files("#extras_image input[type=file]", str(path))
    page.wait_for_timeout(1500)
    page.locator("#imagereward-extras-enable input").check()
    page.click("#extras_generate")
    deadline = time.monotonic() + 60
    while not (found := list((tmp_path / "extras").rglob("*.png"))) and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    (made,) = found
    said = fields(Image.open(made).info["parameters"].split("\n")[-1])
    again = webui.post("/imagereward/v1/score", images=[_base64(made)], prompts="a red fox, in snow")
    assert float(said["ImageReward"]) == round(again["scores"][0], 4)
    assert said["Seed"] == "77" and ANSWER not in answer.info["extra_generation_params"]


@pytest.mark.parametrize("format_", ["png", "jpg"])
def test_extras_score_a_whole_folder_and_the_scores_can_be_read_again(page, webui, tmp_path, format_):
    webui.settings(samples_format=format_, imagereward_decimals=3)
    folder = tmp_path / "in"
    folder.mkdir()
    _, path = saved_image(webui, "plain.png")
    path.rename(folder / "1.png")
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(folder / "2.png")
    open_tab(page, "Extras")
    page.locator("#mode_extras button", has_text="Batch from Directory").first.click()
    for name, place in {"input": folder, "output": tmp_path / "out"}.items():
        page.fill(f"#extras_batch_{name}_dir textarea, #extras_batch_{name}_dir input", str(place))
    page.locator("#imagereward-extras-enable input").check()
    page.fill("#imagereward-extras-prompt textarea, #imagereward-extras-prompt input", "a blue sea")
    page.click("#extras_generate")
    deadline = time.monotonic() + 60
    while len(made := sorted((tmp_path / "out").glob(f"*.{format_}"))) < 2 and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    values = [mark.value for path in made for mark in records.read(path).marks()]
    shown = wait_for_badges(page, 2, "extras")
    assert [abs(float(badge) - value) <= 0.0051 for badge, value in zip(shown, values, strict=True)] == [
        True
    ] * 2
    for index, value in enumerate(values):
        select(page, index, "extras")
        page.wait_for_function(
            "score => document.querySelector('#imagereward-extras-line').textContent.includes(score)",
            arg=f"{value:.3f}",
        )
    last = "getComputedStyle(document.querySelector('#html_info_x_extras'), '::before').content"
    assert "The last image" in page.evaluate(last)
    for path, prompt in zip(made, ["a red fox, in snow", "a blue sea"], strict=True):
        (mark,) = records.read(path).marks()
        image = folder / path.with_suffix(".png").name  # what was scored; a JPEG is a little different
        again = webui.post("/imagereward/v1/score", images=[_base64(image)], prompts=prompt)
        assert mark.value == round(again["scores"][0], 3)


def _base64(path: Path) -> str:
    """Encode the colours alone: Forge hides the parameters of a saved PNG in its alpha channel."""
    return encoded(Image.open(path).convert("RGB"))


def test_reload_ui_keeps_the_scorer_and_registers_once(page, webui):
    webui.txt2img(alwayson_scripts=ON)
    assert webui.get("/imagereward/v1/models")["loaded"] is not None
    open_tab(page, "Settings")
    said = len(webui.process.log) if webui.process else 0
    page.locator("#settings_restart_gradio").click()
    wait_for_the_api(webui, said)
    open_page(page, webui)
    titles = [(script["name"], script["is_img2img"]) for script in webui.get("/sdapi/v1/script-info")]
    for tab in (False, True):
        assert titles.count(("imagereward", tab)) == titles.count(("imagereward scoring", tab)) == 1
    assert webui.get("/imagereward/v1/models")["loaded"] is not None
    assert webui.txt2img(alwayson_scripts=ON).info["infotexts"][0].count("ImageReward: ") == 1


def wait_for_the_api(webui, said):
    """Wait until the host, which takes its server down and up again, answers as a whole.

    The demo's host says when, after so much of its log; another one has begun to go down after some seconds.
    """
    deadline = time.monotonic() + 180
    if webui.process is None:
        time.sleep(5)
    else:
        while "Startup time" not in webui.process.log[said:] and time.monotonic() < deadline:
            time.sleep(0.1)
    while time.monotonic() < deadline:
        try:
            webui.get("/sdapi/v1/script-info")
            webui.get("/imagereward/v1/version")
        except (AssertionError, requests.ConnectionError):
            time.sleep(2)  # not up yet, or up without its API
        else:
            return
    raise AssertionError("the host did not come back")
