"""Every panel builds under the installed gradio; the suite runs under 3.41 and 4.40."""

import pytest

gr = pytest.importorskip("gradio")

from imagereward_ext.settings import Reading  # noqa: E402
from imagereward_ext.webui.options import ScoringRequest, panel_settings, read_request  # noqa: E402
from imagereward_ext.webui.page import panels, png_info  # noqa: E402
from tests.tiny import picture  # noqa: E402


def components_of(blocks):
    return {
        getattr(block, "elem_id", None): block
        for block in blocks.blocks.values()
        if getattr(block, "elem_id", None)
    }


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
@pytest.mark.parametrize("always_on", [True, False])
def test_a_panel_holds_every_option_in_the_order_of_the_api(service, tab, always_on):
    with gr.Blocks() as blocks:
        build = panels.always_on_panel if always_on else panels.chosen_panel
        components = build(tab, service)
    fields = panel_settings(always_on=always_on)
    assert [component.label for component in components] == [f.label for f in fields]
    given = {f.name: component.value for f, component in zip(fields, components, strict=True)}
    assert read_request(given) == Reading(ScoringRequest()), (
        "what the panel shows at first is what is done by default"
    )
    kind = "every" if always_on else "script"
    assert [component.elem_id for component in components] == [
        f"imagereward-{tab}-{kind}-{f.name}" for f in fields
    ]
    blocks.get_config_file()


def test_the_line_about_a_limit_is_written_when_typing_and_when_the_field_is_left(service):
    with gr.Blocks() as blocks:
        panels.always_on_panel("txt2img", service)
    found = components_of(blocks)
    limit, line = found["imagereward-txt2img-every-limit"], found["imagereward-txt2img-every-share"]
    ways = [way for way in blocks.get_config_file()["dependencies"] if way["outputs"] == [line._id]]
    for event in ("change", "blur"):
        # gradio 4 says which event of which component; gradio 3 says them apart
        assert any((limit._id, event) in way["targets"] or way.get("trigger") == event for way in ways), event


def test_building_a_panel_has_no_side_effect(service, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    for _ in range(6):
        with gr.Blocks():
            panels.always_on_panel("txt2img", service)
            panels.chosen_panel("txt2img", service)
    assert sorted(tmp_path.rglob("*")) == before
    assert service.status().name == ""


def test_all_panels_live_in_one_page(service):
    with gr.Blocks() as blocks:
        for tab in ("txt2img", "img2img"):
            panels.always_on_panel(tab, service)
            panels.chosen_panel(tab, service)
            panels.bridge(gr.Textbox(visible=False), tab)
        panels.extras_row(service)
        image = gr.Image(elem_id="pnginfo_image", type="pil")
        png_info.add_to("pnginfo_image", image, service)
        text = gr.Textbox(visible=False, elem_id="pnginfo_generation_info")
        png_info.add_to("pnginfo_generation_info", text, service)
    found = components_of(blocks)
    assert {"imagereward-txt2img-bridge", "imagereward-img2img-bridge", "imagereward-extras-enable"} <= set(
        found
    )
    assert {"imagereward-pnginfo-line", "imagereward-pnginfo-score"} <= set(found)
    blocks.get_config_file()


def test_the_share_of_own_images_below_a_limit(service):
    assert "After 100 more scored images" in panels.share_text(0.5, service)
    history = service.history("ImageReward", "0123456789")
    for n in range(99):
        history.add(n / 100)
    assert "After 1 more scored image," in panels.share_text(0.5, service)
    history.add(0.99)
    assert panels.share_text(0.25, service) == "25% of your 100 scored images are below 0.25."
    assert panels.share_text("", service) == "Lower score limit is empty; type a number such as 0.5"


LINE = "Steps: 2, Seed: 7, Size: 64x64"


def with_text(text):
    image = picture()
    image.info["parameters"] = text
    return image


def test_png_info_tells_the_scores_an_image_holds(service):
    assert png_info.score_line(None, service) == ""
    assert "no score yet" in png_info.score_line(with_text(f"a fox\n{LINE}"), service)
    text = f"a fox\n{LINE}, ImageReward: -0.5312, ImageReward hash: 0123456789"
    assert "ImageReward: -0.5312 (weights 0123456789)" in png_info.score_line(with_text(text), service)


def test_png_info_says_that_a_text_is_too_long_to_be_read(service):
    image = with_text("x" * 200_000)
    assert "cannot be read: its text has 200,000 characters" in png_info.score_line(image, service)
    assert "Not scored: its text has 200,000 characters" in png_info.score_now(image, service)


def test_png_info_opens_the_file_that_gradio_gives_and_nothing_but_images(service, tmp_path):
    with_text(LINE).save(tmp_path / "a.png")
    assert "no score yet" in png_info.score_line(str(tmp_path / "a.png"), service)
    picture().save(tmp_path / "b.png", "EPS")
    for tell in (png_info.score_line, png_info.score_now):
        assert "b.png: is not an image, or of a kind" in tell(str(tmp_path / "b.png"), service)


def test_png_info_scores_an_image_for_its_own_prompt(service):
    (expected,) = service.score([picture()], ["a red fox"], service.wish())
    told = png_info.score_now(with_text(f"a (red:1.2) fox\n{LINE}"), service)
    assert f"ImageReward: {expected.value:.4f}" in told
    without = png_info.score_now(picture(), service)
    assert "no prompt" in without and "Extras" in without
    assert "Put an image" in png_info.score_now(None, service)
    service.host.options["imagereward_text"] = "the <sea>"
    assert "for the text &quot;the &lt;sea&gt;&quot;" in png_info.score_now(picture(), service)
    service.host.options["imagereward_decimals"] = 6
    (expected,) = service.score([picture()], ["the <sea>"], service.wish())
    assert f"ImageReward: {expected.value:.6f} " in png_info.score_now(picture(), service)


def test_png_info_says_why_it_could_not_score(service):
    service.host.options["imagereward_scorer"] = "nobody"
    assert "Not scored: " in png_info.score_now(with_text(f"a fox\n{LINE}"), service)
