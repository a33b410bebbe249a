"""The ReFL tab as a person uses it: a real browser, a real host, real (tiny) trainings.

Runs against the demo host, or against a real WebUI at $WEBUI_URL whose data folder is $WEBUI_DATA.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator

import pytest

from tests.hosting import Client, RunningHost
from tests.webui.test_browser import open_tab as choose_tab
from tests.webui.training_world import FIELDS, training_host

pytestmark = pytest.mark.browser

PATIENCE = 240  # seconds; a training process alone takes some to import its libraries
RUN = "#imagereward-refl-run"
ENDLESS = 100_000
"""Updates of a run that a test ends by itself, so that a busy machine cannot let it finish before."""
WATCH_TITLES = """() => {
    const title = document.querySelector('.imagereward-refl-title');
    window.titles = [title.textContent];
    new MutationObserver(() => window.titles.push(title.textContent)).observe(title, {childList: true, characterData: true, subtree: true});
}"""
SCREENSHOTS = os.environ.get("SCREENSHOTS")
SETTLED = """() => scrollY === 0 && [...document.images].every(
    image => image.complete || image.getBoundingClientRect().top > innerHeight)"""
"""Whether every picture in sight is there."""


@pytest.fixture
def host(training_webui: RunningHost) -> RunningHost:
    return training_webui


@pytest.fixture
def page(chromium, host) -> Iterator[object]:
    page = chromium.new_page(viewport={"width": 1500, "height": 1700})
    page.set_default_timeout(PATIENCE * 1000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"{error}\n{error.stack}"))
    open_tab(page, host.url)
    yield page
    page.close()
    if host.process is None:  # AUTOMATIC1111's own page has errors, with no extension at all
        complaints = [complaint for complaint in complaints if "imagereward" in complaint]
    assert complaints == []


def open_tab(page, url):
    page.goto(url, wait_until="domcontentloaded")
    page.wait_for_selector("#txt2img_generate", state="visible")
    page.wait_for_function(
        "typeof opts === 'object' && Object.keys(opts).length > 0"
    )  # the host is done with it
    choose_tab(page, "ReFL")
    page.wait_for_selector(f"{RUN} .imagereward-refl-title")


def load_preset(page, **fields):
    page.locator("#imagereward-refl-preset .label-wrap").first.click()
    page.fill("#imagereward-refl-preset-text textarea", json.dumps(FIELDS | fields))
    page.click("#imagereward-refl-preset-load")
    page.get_by_text("The preset is loaded.").wait_for()


def start(page, name, **fields):
    load_preset(page, **fields)
    page.fill("#imagereward-refl-name textarea, #imagereward-refl-name input", name)
    page.click("#imagereward-refl-start")


def text(page, name, words=None):
    """Find one of the tab's texts; gradio 3 gives their id to two elements, one inside the other."""
    return page.locator(f"#imagereward-refl-{name}", has_text=words).first


def until(page, name, *states):
    titles = [f"{name}: {state}" for state in states]
    page.wait_for_function(
        "titles => titles.includes(document.querySelector('.imagereward-refl-title')?.textContent)",
        arg=titles,
    )


def until_update(page, number):
    page.wait_for_function(
        "number => Number(/update (\\d+) of/.exec("
        "document.querySelector('.imagereward-refl-numbers')?.textContent)?.[1] ?? 0) >= number",
        arg=number,
    )


def update(page):
    return int(re.search(r"update (\d+) of", page.inner_text(f"{RUN} .imagereward-refl-numbers"))[1])


def shot(page, name):
    if SCREENSHOTS:
        page.evaluate("window.scrollTo(0, 0)")
        page.wait_for_function(SETTLED)
        page.screenshot(path=f"{SCREENSHOTS}/{name}.png")


def points(page):
    return len((page.locator(f"{RUN} polyline").first.get_attribute("points") or "").split())


def bar(page):
    return page.evaluate("document.querySelector('.imagereward-refl-bar div').style.width")


def pid(host, name):
    return json.loads((host.data / "imagereward" / "runs" / name / "lock").read_text())["pid"]


def test_setup_tells_the_plan_and_what_is_wrong_beside_the_field(page):
    load_preset(page)
    text(page, "plan-text", "trained parameters, 12 updates of 2 images").wait_for()
    strength = text(page, "strength-text")
    strength.get_by_text("normal, with your own numbers: 12 updates").wait_for()
    page.click("#imagereward-refl-strength label:has-text('gentle')")
    strength.get_by_text("gentle: 50 updates at a learning rate of 0.0001").wait_for()
    page.click("#imagereward-refl-preset-save")
    page.wait_for_function(
        "() => document.querySelector('#imagereward-refl-preset-text textarea').value.includes('\"updates\": 50')"
    )
    page.locator("#imagereward-refl-advanced .label-wrap").first.click()
    rank = page.locator("#imagereward-refl-rank input")
    rank.fill("0")
    rank.blur()
    problem = page.locator("#imagereward-refl-rank .imagereward-refl-problem")
    problem.wait_for()
    assert "it must be between 1 and 1024" in problem.inner_text()
    page.click("#imagereward-refl-start")
    text(page, "message", "rank").wait_for()
    shown = page.locator("#imagereward-refl-message .imagereward-warning").first
    assert shown.evaluate("it => getComputedStyle(it).color") == "rgb(192, 57, 43)", (
        "red, whatever gradio says"
    )
    assert rank.input_value() == "0", "nothing that was typed is lost"
    rank.fill("2")
    rank.blur()
    problem.wait_for(state="detached")


def test_the_plan_is_called_old_as_soon_as_a_field_changes(page):
    load_preset(page)
    text(page, "plan-text", "trained parameters, 12 updates").wait_for()
    page.locator("#imagereward-refl-advanced .label-wrap").first.click()
    number = page.locator("#imagereward-refl-updates input")
    old = page.locator("#imagereward-refl-plan-text").get_by_text("12 updates")
    working = page.locator("#imagereward-refl-plan-text.imagereward-refl-pending").first
    number.fill("13")
    assert (working.count(), old.is_visible()) == (1, False)
    text(page, "plan-text", "trained parameters, 13 updates").wait_for()
    number.fill("14")
    number.fill("13")  # the plan of the same words comes again
    working.wait_for(state="attached")
    working.wait_for(state="detached")
    text(page, "plan-text", "trained parameters, 13 updates").wait_for()


@pytest.mark.skipif("WEBUI_URL" in os.environ, reason="needs a host whose ui-config.json is ours")
def test_the_tab_shows_the_fields_of_the_source_that_the_host_began_with(page):
    page.locator("#imagereward-refl-prompt_file").first.wait_for()
    page.locator("#imagereward-refl-theme").first.wait_for(state="hidden")


def test_a_training_is_watched_found_again_stopped_and_resumed(page, host):
    start(page, "watched", updates=ENDLESS, check_every=20)
    until(page, "watched", "running")
    until_update(page, 2)
    before, share = points(page), bar(page)
    until_update(page, before + 2)
    assert points(page) > before
    assert float(bar(page)[:-1]) > float(share[:-1])

    open_tab(page, host.url)  # a reload in the middle finds the run and its whole curve again
    until(page, "watched", "running")
    until_update(page, 5)
    assert points(page) >= 5
    page.click("#imagereward-refl-stop")
    until(page, "watched", "stopped")
    done = update(page)
    page.click("#imagereward-refl-resume")
    until(page, "watched", "running")
    until_update(page, done + 2)
    page.click("#imagereward-refl-stop")
    until(page, "watched", "stopped")


def test_a_finished_training_is_reported_compared_again_and_used(page, host):
    start(page, "nicer", updates=4)
    until(page, "nicer", "finished")
    result = text(page, "result")
    result.get_by_text("Too few prompts to recommend a weight (2 prompts, all of them trained on").wait_for()
    text(page, "message", "begins as soon as").wait_for(state="hidden")
    page.wait_for_function(
        "() => [...document.querySelectorAll('#imagereward-refl-result img')].some(i => i.naturalWidth > 0)"
    )
    page.locator("#imagereward-refl-folder").wait_for()
    page.click("#imagereward-refl-refresh-loras")
    if page.locator("#txt2img_lora_cards").count():
        page.locator("#txt2img_lora_cards .card[data-name='nicer-000004']").wait_for(state="attached")
    reply = page.locator("#imagereward-refl-result .imagereward-refl-reply")
    reply.get_by_text("LoRA").wait_for()
    refusal = json.dumps({"detail": "this machine has no file manager"})
    page.route(
        "**/train/folder",
        lambda route: route.fulfill(status=422, body=refusal, content_type="application/json"),
    )
    page.click("#imagereward-refl-folder")
    reply.get_by_text("this machine has no file manager").wait_for()

    page.fill("#imagereward-refl-prompt_text textarea", "a black swan\na grey wolf\na brown bear")
    page.locator("#imagereward-refl-advanced .label-wrap").first.click()
    count = page.locator("#imagereward-refl-compare input")
    count.fill("3")
    count.blur()
    page.click("#imagereward-refl-compare-again")
    text(page, "compare-message", "nicer will be compared again").wait_for()
    result.get_by_text("3 prompts", exact=False).wait_for()
    told = json.loads((host.data / "imagereward/runs/nicer/comparison/comparison.json").read_text())
    assert told["prompts"] == ["a black swan", "a grey wolf", "a brown bear"]

    page.click("#imagereward-refl-use")
    assert "<lora:nicer-000004:" in page.input_value("#txt2img_prompt textarea")
    for field, value in {"width": 64, "height": 64, "steps": 2}.items():
        number = page.locator(f"#txt2img_{field} input[type=number]").first
        number.fill(str(value))
        number.blur()
    page.click("#txt2img_generate")
    page.wait_for_selector("#txt2img_gallery img")


def write_past_run(host, name):
    """Write the folder of a finished run that was compared."""
    folder = host.data / "imagereward" / "runs" / name
    (folder / "comparison").mkdir(parents=True)
    candidate = {"mean": {"tiny": 0.5}, "difference": {}, "win_rate": {}}
    report = {"recommended": {name: 0.5}, "candidates": {name: candidate}, "prompts": ["a cat"]}
    (folder / "comparison" / "comparison.json").write_text(json.dumps(report))
    (folder / "config.json").write_text(json.dumps({"config": {"updates": 1}}))
    (folder / f"{name}-000001.safetensors").touch()
    end = {
        "kind": "end",
        "step": 1,
        "ending": "finished",
        "reason": "done",
        "lora": f"{name}-000001.safetensors",
    }
    (folder / "events.jsonl").write_text(json.dumps(end) + "\n")


def choose_while_held(page, host, route, held_run, other):
    """Choose a run, whose answers of one route are held back, and then the other one; return what is held."""
    for name in (held_run, other):
        write_past_run(host, name)
    open_tab(page, host.url)
    row = "#imagereward-refl-run tr[data-run={}]"
    page.locator(row.format(held_run)).wait_for()
    held = []
    page.route(f"**/train/{route}?run={held_run}*", lambda request: held.append(request))
    with page.expect_request(f"**/train/{route}?run={held_run}*"):
        page.click(row.format(held_run))
    page.click(row.format(other))
    text(page, "result").get_by_text(f"Result: {other}-000001").wait_for()
    return held


def test_a_report_that_comes_late_does_not_replace_that_of_the_run_chosen_since(page, host):
    held = choose_while_held(page, host, "report", "late", "early")
    with page.expect_response("**/train/report?run=late*"):
        held[0].continue_()
    with page.expect_response("**/train/status*"):
        pass
    assert text(page, "result").get_by_text("Result: early-000001").count() == 1


def test_an_answer_that_comes_late_does_not_show_a_run_that_is_chosen_no_more(page, host):
    held = choose_while_held(page, host, "status", "second", "first")
    page.evaluate(WATCH_TITLES)
    for request in held:
        with page.expect_response("**/train/status?run=second*"):
            request.continue_()
    with page.expect_response("**/train/status?run=first*"):
        pass
    assert held
    assert page.evaluate("window.titles") == ["first: finished"]


def test_a_page_opened_later_proposes_a_name_that_is_free(page, host):
    field = "#imagereward-refl-name textarea, #imagereward-refl-name input"
    proposed = page.input_value(field)
    write_past_run(host, proposed)
    open_tab(page, host.url)
    page.wait_for_function(
        "([field, old]) => document.querySelector(field).value.startsWith('refl-') "
        "&& document.querySelector(field).value !== old",
        arg=[field, proposed],
    )
    shutil.rmtree(host.data / "imagereward" / "runs" / proposed)


def test_a_killed_trainer_is_told_and_resumed_and_generating_works_again(page, host):
    start(page, "victim", updates=ENDLESS, check_every=20)
    until(page, "victim", "running")
    until_update(page, 2)
    client = Client(host.url)
    refused = client.request("POST", "/sdapi/v1/txt2img", json={"prompt": "a cat", "steps": 2})
    assert refused.status_code == 500
    assert "a training has the memory (victim)" in refused.text
    os.kill(pid(host, "victim"), signal.SIGKILL)
    until(page, "victim", "killed")
    page.get_by_text("ended by signal 9", exact=False).wait_for()
    page.click("#imagereward-refl-resume")
    until(page, "victim", "running")
    until_update(page, 3)
    page.click("#imagereward-refl-stop")
    until(page, "victim", "stopped")
    assert client.txt2img().images, "the checkpoint is back by itself"


def test_a_run_is_deleted_after_a_question(page, host):
    start(page, "gone", updates=1, compare=0)
    until(page, "gone", "finished")
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#imagereward-refl-delete")
    page.locator(f"{RUN} tr[data-run=gone]").wait_for(state="detached")
    assert not (host.data / "imagereward" / "runs" / "gone").exists()
    assert (host.data / "models" / "Lora" / "gone-000001.safetensors").exists()


LACKING = """
from importlib import metadata
from pathlib import Path

installed, mark = metadata.version, Path({mark!r})


def version(name):
    if name == "peft" and mark.exists():
        raise metadata.PackageNotFoundError(name)
    return installed(name)


metadata.version = version
"""


@pytest.mark.skipif("WEBUI_URL" in os.environ, reason="needs a host that lacks a package for a while")
def test_what_was_missing_is_asked_for_only_as_long_as_it_is(chromium, tmp_path_factory, tmp_path):
    mark = tmp_path / "without peft"
    mark.touch()
    extension = tmp_path / "extension"
    (extension / "scripts").mkdir(parents=True)
    (extension / "scripts" / "lacking.py").write_text(LACKING.format(mark=str(mark)))
    with training_host(tmp_path_factory, extension) as host:
        page = chromium.new_page(viewport={"width": 1500, "height": 1700})
        page.set_default_timeout(PATIENCE * 1000)
        open_tab(page, host.url)
        text(page, "plan-text", "needs peft").wait_for()
        load_preset(page)
        mark.unlink()  # what pip would do
        page.click("#imagereward-refl-install")
        text(page, "packages-text", "Everything that training needs is there").wait_for()
        page.locator("#imagereward-refl-install").wait_for(state="hidden")
        text(page, "plan-text", "trained parameters").wait_for()
        open_tab(page, host.url)
        page.locator("#imagereward-refl-packages").wait_for(state="hidden")
        page.close()
