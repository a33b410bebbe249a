"""The step of the Extras tab between a stand-in for the host's postprocessing and what the host saves."""

import importlib
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

pytest.importorskip("gradio")

import gradio as gr

from imagereward_ext.metadata import infotext
from imagereward_ext.metadata.score_mark import find_marks
from imagereward_ext.residency import Status
from imagereward_ext.webui.job.report import ANSWER
from imagereward_ext.webui.job.saved_files import before_saved
from imagereward_ext.webui.page import extras_gallery
from tests.tiny import picture

LINE = "Steps: 2, Seed: 7, Size: 64x64"


@pytest.fixture
def extras(service, monkeypatch):
    modules, host = ModuleType("modules"), ModuleType("modules.scripts_postprocessing")
    host.ScriptPostprocessing = object
    modules.scripts_postprocessing = host
    monkeypatch.setitem(sys.modules, "modules", modules)
    monkeypatch.setitem(sys.modules, "modules.scripts_postprocessing", host)
    monkeypatch.delitem(sys.modules, "imagereward_ext.webui.page.extras", raising=False)
    module = importlib.import_module("imagereward_ext.webui.page.extras")
    monkeypatch.setattr(module, "service", lambda: service)
    yield module.ImageRewardExtras()
    sys.modules.pop("imagereward_ext.webui.page.extras")  # it stands on the stand-in


def processed(extras, text="", prompt=""):
    """Run the step after one that upscales; return what the page shows and what the host saves."""
    image = picture()
    if text:
        image.info["parameters"] = text
    pp = SimpleNamespace(image=image, info={"Postprocess upscale by": 2})
    arguments = {"enable": True, "scorer": "", "prompt": prompt}
    extras.process_firstpass(pp, **arguments)
    extras.process(pp, **arguments)
    shown = ", ".join(f"{key}: {infotext.quote(str(value))}" for key, value in pp.info.items())
    saved = {"parameters": text, "extras": shown, "postprocessing": shown}
    before_saved(SimpleNamespace(image=pp.image, p=None, filename="x.png", pnginfo=saved))
    return shown, saved


def test_the_score_goes_into_the_parameters(extras):
    _, saved = processed(extras, f"a (red:1.2) fox\n{LINE}", prompt="a blue sea")
    (mark,) = find_marks(saved["parameters"])
    assert mark.prompt is None and infotext.parse(saved["parameters"]).fields["Seed"] == "7"


@pytest.mark.parametrize("text", ["", LINE])
def test_a_typed_prompt_is_stored_with_the_score(extras, text):
    _, saved = processed(extras, text, prompt="a blue sea")
    assert [mark.prompt for mark in find_marks(saved["parameters"])] == ["a blue sea"]


@pytest.mark.parametrize(("scorer", "prompt"), [("tiny", ""), ("nobody", "a sea")])
def test_why_an_image_has_no_score_is_shown_and_not_saved(extras, service, scorer, prompt):
    service.host.options["imagereward_scorer"] = scorer
    shown, saved = processed(extras, prompt=prompt)
    assert "ImageReward note: " in shown and "not scored" in shown
    assert saved == {
        "parameters": "",
        "extras": "Postprocess upscale by: 2",
        "postprocessing": "Postprocess upscale by: 2",
    }


def gallery(*texts):
    images = [picture(number) for number in range(len(texts))]
    for image, text in zip(images, texts, strict=True):
        image.info["parameters"] = text
    return images


def told(items, service):
    said = extras_gallery.scores_in(items, lambda item: item, service)
    return json.loads(said)["extra_generation_params"][ANSWER] if said else None


def test_a_text_too_long_to_be_read_is_told_and_the_image_goes_on(extras):
    shown, saved = processed(extras, "x" * 200_000, prompt="a fox")
    assert "not scored: its text has 200,000 characters" in shown
    assert saved["parameters"] == "x" * 200_000


def test_the_gallery_tells_the_score_in_each_file(service):
    first, second = (f"a\n{LINE}, Other: {n}.5, Other hash: 0123456789" for n in (1, 2))
    items = gallery(first, f"a\n{LINE}", second)
    assert told(items, service) == {
        "scorer": "Other",
        "scores": [1.5, None, 2.5],
        "percentiles": [None, None, None],
    }
    history = service.history("Other", "0123456789")
    for number in range(100):
        history.add(number / 50)
    assert told(items, service)["percentiles"] == [0.755, None, 1.0]
    assert told(gallery("a"), service) is None and told([], service) is None


def test_of_several_scores_in_a_file_the_loaded_scorers_is_told(service):
    text = f"a\n{LINE}, Other: 1.5, Other hash: 0123456789, ImageReward: 0.25, ImageReward hash: 9876543210"
    service.residency.status = lambda: Status(name="other", label="Other")
    assert told(gallery(text), service)["scores"] == [1.5]
    service.residency.status = lambda: Status(name="tiny", label="ImageReward")
    assert told(gallery(text), service)["scores"] == [0.25]


def test_a_gallery_that_cannot_be_read_is_no_error(service):
    def refuse(item):
        raise AssertionError("outside of the allowed folders")

    assert extras_gallery.scores_in(["x"], refuse, service) == ""


def test_the_gallerys_button_builds(service):
    with gr.Blocks() as blocks:
        images = gr.Gallery(elem_id=extras_gallery.GALLERY)
        extras_gallery.add_to(images, lambda item: item, service)
    assert "imagereward-extras-bridge" in str(blocks.get_config_file())
