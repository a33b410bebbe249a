"""The demo host's page in a browser: what a person does in it, and what it offers to an extension's script."""

from __future__ import annotations

import os
import re
import shutil

import pytest
from PIL import Image

from tests.hosting import CREDENTIALS, Client

pytestmark = pytest.mark.browser
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def host(demo_host):
    return demo_host


@pytest.fixture
def page(chromium, host):
    page = chromium.new_page(viewport={"width": 1400, "height": 1100})
    page.set_default_timeout(30000)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(host.url)
    page.wait_for_selector("#txt2img_prompt textarea")
    page.wait_for_function("window.hookRecorder?.loaded && opts.hook_recorder_option")
    yield page
    page.close()
    assert errors == []


def set_number(page, elem_id, value):
    page.locator(f"#{elem_id} input[type=number]").first.fill(str(value))
    page.keyboard.press("Tab")


def number(page, elem_id):
    return float(page.locator(f"#{elem_id} input[type=number]").first.input_value())


def open_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def generate(page, tab="txt2img", thumbnails=1):
    page.click(f"#{tab}_generate")
    done = f"document.querySelectorAll('#{tab}_gallery .thumbnail-item').length >= {thumbnails}"
    page.wait_for_function(done)
    page.wait_for_function(f"document.querySelector('#html_info_{tab}')?.innerText.includes('Steps:')")


def test_generating_shows_the_images_and_each_ones_infotext(page):
    page.fill("#txt2img_prompt textarea", "a red circle")
    set_number(page, "txt2img_seed", 40)
    set_number(page, "txt2img_batch_count", 3)
    set_number(page, "txt2img_steps", 3)
    generate(page, thumbnails=4)
    assert "Seed: 40, " in page.inner_text("#html_info_txt2img")
    page.locator("#txt2img_gallery .thumbnail-item.thumbnail-small").nth(3).click()
    page.wait_for_function("document.querySelector('#html_info_txt2img').innerText.includes('Seed: 42, ')")
    size = page.evaluate("document.querySelector('#txt2img_gallery .thumbnail-item img').naturalWidth")
    assert size in (64, 128)  # the file itself, not a thumbnail; the grid is two wide


def test_the_page_offers_what_extensions_scripts_use(page):
    assert page.evaluate("window.hookRecorder") == {"loaded": 1, "gallery": True, "byId": True}
    assert page.evaluate("opts.hook_recorder_option") == "as it was"
    wanted = """txt2img_prompt txt2img_neg_prompt txt2img_generate txt2img_gallery txt2img_results html_info_txt2img
        html_log_txt2img generation_info_txt2img txt2img_script_container script_list tab_txt2img tab_img2img tab_extras
        tab_pnginfo tab_settings tab_hook_recorder pnginfo_image settings_json quicksettings footer"""
    assert [name for name in wanted.split() if page.query_selector(f"#{name}") is None] == []
    assert "trying and testing" in page.inner_text("#footer")


def test_interrupt_and_progress_show_while_a_job_runs(page):
    assert not page.is_visible("#txt2img_interrupt")
    set_number(page, "txt2img_steps", 150)
    set_number(page, "txt2img_batch_count", 50)
    page.click("#txt2img_generate")
    page.wait_for_selector(".progressDiv")
    page.wait_for_selector(".livePreview img")
    page.click("#txt2img_interrupt")
    page.wait_for_selector(".progressDiv", state="detached")
    assert not page.is_visible("#txt2img_interrupt")
    page.wait_for_selector("#txt2img_gallery .thumbnail-item")


def test_a_saved_image_goes_through_png_info_back_into_the_controls(page, host):
    page.fill("#txt2img_prompt textarea", "a blue, star")
    page.fill("#txt2img_neg_prompt textarea", "blurry")
    set_number(page, "txt2img_seed", 77)
    set_number(page, "txt2img_steps", 4)
    page.get_by_label("Record hooks").first.check()
    page.get_by_label("Text", exact=True).first.fill("x: 1, y")
    generate(page)
    (saved,) = [path for path in host.outputs() if path.name.endswith("-77.png")]
    page.reload()
    page.wait_for_selector("#txt2img_prompt textarea")
    open_tab(page, "PNG Info")
    page.set_input_files("#pnginfo_image input[type=file]", str(saved))
    page.wait_for_selector("#pnginfo_html_info >> text=a blue, star")
    page.click("#txt2img_tab")
    page.wait_for_function("document.querySelector('#txt2img_prompt textarea').value === 'a blue, star'")
    assert page.is_visible("#txt2img_generate")
    assert page.input_value("#txt2img_neg_prompt textarea") == "blurry"
    assert (number(page, "txt2img_seed"), number(page, "txt2img_steps")) == (77, 4)
    assert page.get_by_label("Text", exact=True).first.input_value() == "x: 1, y"


def test_an_image_goes_from_txt2img_to_img2img(page):
    page.fill("#txt2img_prompt textarea", "a green square")
    set_number(page, "txt2img_steps", 2)
    generate(page)
    page.click("#txt2img_send_to_img2img")
    page.wait_for_selector("#img2img_generate", state="visible")
    page.wait_for_function("document.querySelector('#img2img_prompt textarea').value === 'a green square'")
    page.wait_for_timeout(1000)
    set_number(page, "img2img_steps", 2)
    generate(page, "img2img")
    assert "Denoising strength: 0.75" in page.inner_text("#html_info_img2img")


def test_a_selected_image_is_saved_and_upscaled(page, host):
    set_number(page, "txt2img_steps", 2)
    set_number(page, "txt2img_seed", 500)
    generate(page)
    page.click("#save_txt2img")
    page.wait_for_selector("#html_log_txt2img >> text=Saved: 00000-500.png")
    assert [path.name for path in (host.data / "log" / "images").iterdir()] == ["00000-500.png"]
    page.click("#txt2img_upscale")
    page.wait_for_selector("#html_info_txt2img >> text=Hires upscale: 2")
    assert "Seed: 500" in page.inner_text("#html_info_txt2img")


def test_extras_works_through_a_folder(page, tmp_path):
    for name in ("one", "two"):
        Image.new("RGB", (16, 16), "red").save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no image")
    open_tab(page, "Extras")
    page.get_by_role("tab", name="Batch from Directory").click()
    page.fill("#extras_batch_input_dir textarea, #extras_batch_input_dir input", str(tmp_path))
    page.fill("#extras_batch_output_dir textarea, #extras_batch_output_dir input", str(tmp_path / "out"))
    page.locator("#extras_upscale_enabled input").check()
    page.click("#extras_generate")
    page.wait_for_function("document.querySelectorAll('#extras_gallery .thumbnail-item').length >= 2")
    made = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in made] == ["one.png", "two.png"]
    with Image.open(made[0]) as image:
        assert image.size == (32, 32)
        assert image.info["extras"].startswith("Postprocess upscale by: 2")


def test_settings_are_applied_and_reload_ui_brings_the_page_back(page, host):
    open_tab(page, "Settings")
    page.get_by_role("tab", name="Hook recorder").last.click()
    page.fill("#setting_hook_recorder_option textarea, #setting_hook_recorder_option input", "another")
    page.click("#settings_submit")
    page.wait_for_selector("#settings_result >> text=1 settings changed: hook_recorder_option")
    assert re.search(r'"hook_recorder_option": "another"', (host.data / "config.json").read_text())
    page.click("#settings_restart_gradio")
    page.wait_for_function(
        "window.hookRecorder?.loaded && opts.hook_recorder_option === 'another'", timeout=60000
    )
    page.wait_for_selector("#txt2img_prompt textarea")
    Client(host.url, CREDENTIALS).post("/sdapi/v1/options", hook_recorder_option="as it was")
