"""The UI: the tabs, built from the same few rows, and how they are wired."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gradio as gr

from modules import (
    generate,
    gradio_extensions,  # noqa: F401
    images,
    infotext_utils,
    postprocessing,
    script_callbacks,
    scripts,
    sd_models,
    sd_samplers,
    shared,
    ui_page,
    ui_settings,
)
from modules.call_queue import wrap_gradio_gpu_call
from modules.infotext_utils import ParamBinding, PasteField, register_paste_params_button
from modules.ui_common import create_output_panel, gallery_files, plaintext_to_html
from modules.ui_components import InputAccordion, ToolButton

Controls = dict[str, Any]  # argument of the processing class -> its control

# Argument of the processing class (and of the API) -> its key in the infotext.
API_FIELDS = {
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "steps": "Steps",
    "sampler_name": "Sampler",
    "cfg_scale": "CFG scale",
    "seed": "Seed",
    "subseed": "Variation seed",
    "subseed_strength": "Variation seed strength",
    "width": "Size-1",
    "height": "Size-2",
    "denoising_strength": "Denoising strength",
    "hr_scale": "Hires upscale",
    "hr_upscaler": "Hires upscaler",
    "hr_second_pass_steps": "Hires steps",
    "hr_resize_x": "Hires resize-1",
    "hr_resize_y": "Hires resize-2",
}


def native_size() -> int:
    """The picture size the checkpoint was made for; a WebUI's own where there is none now."""
    try:
        model = sd_models.model_data.get_sd_model()
    except FileNotFoundError:
        model = None
    return 512 if model is None else model.native_size


# ---- rows of a generation tab


def _prompts(tab: str) -> tuple[Controls, Controls]:
    """(arguments, buttons)"""
    with gr.Row(elem_id=f"{tab}_toprow"):
        with gr.Column(scale=6, elem_id=f"{tab}_prompt_container"):
            prompt = gr.Textbox(label="Prompt", elem_id=f"{tab}_prompt", show_label=False, lines=3)
            negative = gr.Textbox(
                label="Negative prompt",
                elem_id=f"{tab}_neg_prompt",
                show_label=False,
                lines=2,
                placeholder="Negative prompt",
            )
        with gr.Column(scale=1, elem_id=f"{tab}_actions_column"):
            with gr.Row(elem_id=f"{tab}_generate_box", elem_classes="generate-box"):
                interrupt = gr.Button(
                    "Interrupt", elem_id=f"{tab}_interrupt", elem_classes="generate-box-interrupt"
                )
                skip = gr.Button("Skip", elem_id=f"{tab}_skip", elem_classes="generate-box-skip")
                submit = gr.Button("Generate", elem_id=f"{tab}_generate", variant="primary")
            paste = ToolButton("↙️", elem_id=f"{tab}_paste" if tab == "img2img" else "paste")
            styles = gr.Dropdown(
                list(shared.prompt_styles.styles),
                label="Styles",
                elem_id=f"{tab}_styles",
                value=[],
                multiselect=True,
            )
    interrupt.click(fn=shared.state.interrupt, inputs=[], outputs=[], queue=False)
    skip.click(fn=shared.state.skip, inputs=[], outputs=[], queue=False)
    arguments = {"prompt": prompt, "negative_prompt": negative, "styles": styles}
    return arguments, {"submit": submit, "paste": paste}


def _sampling(tab: str) -> Controls:
    names = sd_samplers.visible_sampler_names()
    with gr.Row(elem_id=f"sampler_selection_{tab}"):
        sampler = gr.Dropdown(names, label="Sampling method", elem_id=f"{tab}_sampling", value=names[0])
        steps = gr.Slider(1, 150, step=1, value=20, label="Sampling steps", elem_id=f"{tab}_steps")
    return {"sampler_name": sampler, "steps": steps}


def _size_and_count(tab: str) -> Controls:
    size = native_size()
    with gr.Row():
        width = gr.Slider(64, 2048, step=8, value=size, label="Width", elem_id=f"{tab}_width")
        height = gr.Slider(64, 2048, step=8, value=size, label="Height", elem_id=f"{tab}_height")
    with gr.Row():
        count = gr.Slider(1, 100, step=1, value=1, label="Batch count", elem_id=f"{tab}_batch_count")
        batch = gr.Slider(1, 16, step=1, value=1, label="Batch size", elem_id=f"{tab}_batch_size")
    cfg = gr.Slider(1.0, 30.0, step=0.5, value=7.0, label="CFG Scale", elem_id=f"{tab}_cfg_scale")
    return {"width": width, "height": height, "n_iter": count, "batch_size": batch, "cfg_scale": cfg}


def _seed(tab: str) -> tuple[Controls, Any]:
    """The seed's controls, and the button that takes the selected image's seed."""
    with gr.Row(elem_id=f"{tab}_seed_row"):
        seed = gr.Number(-1, label="Seed", elem_id=f"{tab}_seed", precision=0)
        random = ToolButton("\U0001f3b2\ufe0f", elem_id=f"{tab}_random_seed")
        reuse = ToolButton("\u267b\ufe0f", elem_id=f"{tab}_reuse_seed")
    with gr.Row(elem_id=f"{tab}_subseed_row"):
        subseed = gr.Number(-1, label="Variation seed", elem_id=f"{tab}_subseed", precision=0)
        strength = gr.Slider(
            0, 1, value=0.0, step=0.01, label="Variation strength", elem_id=f"{tab}_subseed_strength"
        )
    random.click(fn=None, _js="() => -1", inputs=[], outputs=[seed], show_progress=False)
    return {"seed": seed, "subseed": subseed, "subseed_strength": strength}, reuse


def _seed_of_image(generation_info: str, index: float) -> int:
    """The seed in the parameters of an image in the gallery, -1 where there is none."""
    try:
        infotext = json.loads(generation_info)["infotexts"][max(int(index), 0)]
    except (ValueError, KeyError, IndexError):
        return -1
    return int(infotext_utils.parse_generation_parameters(infotext, []).get("Seed", -1))


def _hires() -> Controls:
    upscalers = [*shared.latent_upscale_modes, *(u.name for u in shared.sd_upscalers)]
    with InputAccordion(False, label="Hires. fix", elem_id="txt2img_hr") as enable:
        upscaler = gr.Dropdown(upscalers, value=upscalers[0], label="Upscaler", elem_id="txt2img_hr_upscaler")
        steps = gr.Slider(0, 150, step=1, value=0, label="Hires steps", elem_id="txt2img_hires_steps")
        denoising = gr.Slider(
            0.0, 1.0, step=0.01, value=0.7, label="Denoising strength", elem_id="txt2img_denoising_strength"
        )
        scale = gr.Slider(1.0, 4.0, step=0.05, value=2.0, label="Upscale by", elem_id="txt2img_hr_scale")
    return {
        "enable_hr": enable,
        "hr_upscaler": upscaler,
        "hr_second_pass_steps": steps,
        "denoising_strength": denoising,
        "hr_scale": scale,
    }


def _init_image() -> Controls:
    with gr.Row():
        image = gr.Image(label="Image for img2img", elem_id="img2img_image", type="pil", image_mode="RGBA")
        mask = gr.Image(
            label="Mask: white is painted anew (optional)", elem_id="img_inpaint_mask", type="pil"
        )
    mode = gr.Radio(
        ["Just resize", "Crop and resize", "Resize and fill"],
        value="Just resize",
        type="index",
        label="Resize mode",
        elem_id="resize_mode",
    )
    denoising = gr.Slider(
        0.0, 1.0, step=0.01, value=0.75, label="Denoising strength", elem_id="img2img_denoising_strength"
    )
    return {"init_image": image, "mask": mask, "resize_mode": mode, "denoising_strength": denoising}


# ---- tabs


def _call(function: Callable[..., Any], names: list[str], before: int = 0) -> Callable[..., Any]:
    """A handler for gradio's flat list of values: first `before` own inputs, then the arguments, then the scripts'."""

    def call(id_task: str, request: gr.Request, *args: Any) -> Any:
        own, rest = args[:before], args[before:]
        return function(id_task, request, *own, dict(zip(names, rest, strict=False)), rest[len(names) :])

    return call


def _generation_tab(tab: str, runner: scripts.ScriptRunner) -> gr.Blocks:
    is_img2img = tab == "img2img"
    scripts.scripts_current = runner
    runner.initialize_scripts(is_img2img)
    runner.prepare_ui()
    with gr.Blocks(analytics_enabled=False) as interface:
        arguments, buttons = _prompts(tab)
        with gr.Row(equal_height=False):
            with gr.Column(variant="compact", elem_id=f"{tab}_settings"):
                arguments |= _init_image() if is_img2img else {}
                arguments |= _sampling(tab)
                arguments |= {} if is_img2img else _hires()
                arguments |= _size_and_count(tab)
                seeds, reuse_seed = _seed(tab)
                arguments |= seeds
                with gr.Column(elem_id=f"{tab}_script_container"):
                    script_inputs = runner.setup_ui()
            panel = create_output_panel(tab, getattr(shared.opts, f"outdir_{tab}_samples"))
        _own_defaults(tab, arguments.values())
        task = gr.Textbox(visible=False, elem_id=f"{tab}_task")
        _wire_generation(tab, arguments, buttons, script_inputs, panel, task)
        reuse_seed.click(
            fn=_seed_of_image,
            _js="(info, _) => [info, selected_gallery_index()]",
            inputs=[panel.generation_info, arguments["seed"]],
            outputs=[arguments["seed"]],
            show_progress=False,
        )
        fields = _paste_fields(arguments) + runner.infotext_fields
    infotext_utils.add_paste_fields(tab, arguments.get("init_image"), fields)
    register_paste_params_button(
        ParamBinding(buttons["paste"], tab, source_text_component=arguments["prompt"])
    )
    scripts.scripts_current = None
    return interface


def _own_defaults(tab: str, controls: Iterable[Any]) -> None:
    """Values to begin with from ui-config.json: `"txt2img/CFG Scale/value": 5`."""
    file = Path(shared.cmd_opts.ui_config_file)
    given = json.loads(file.read_text(encoding="utf8")) if file.is_file() else {}
    for control in controls:
        key = f"{tab}/{getattr(control, 'label', None)}/value"
        if key in given:
            control.value = given[key]


def _wire_generation(
    tab: str, arguments: Controls, buttons: Controls, script_inputs: list[Any], panel: Any, task: Any
) -> None:
    names = list(arguments)
    inputs = [*arguments.values(), *script_inputs]
    run = wrap_gradio_gpu_call(
        _call(generate.img2img if tab == "img2img" else generate.txt2img, names), extra_outputs=[None, "", ""]
    )
    how = {
        "fn": _with_request(run),
        "_js": f"submit_{tab}",
        "inputs": [task, *inputs],
        "outputs": panel.outputs,
        "show_progress": False,
    }
    buttons["submit"].click(**how)
    arguments["prompt"].submit(**how)
    if panel.button_upscale is not None:
        upscale = wrap_gradio_gpu_call(
            _call(generate.txt2img_upscale, names, before=3), extra_outputs=[None, "", ""]
        )
        selected = gr.Number(-1, visible=False, elem_id="txt2img_upscale_index")
        panel.button_upscale.click(
            fn=_with_request(upscale),
            _js="submit_txt2img_upscale",
            inputs=[task, panel.gallery, selected, panel.generation_info, *inputs],
            outputs=panel.outputs,
            show_progress=False,
        )


def _with_request(function: Callable[..., Any]) -> Callable[..., Any]:
    """gradio finds `request` by its annotation, which a wrapped function would hide."""

    def call(id_task: str, request: gr.Request, *args: Any) -> Any:
        return function(id_task, request, *args)

    call.__annotations__["request"] = gr.Request
    return call


def _paste_fields(arguments: Controls) -> list[Any]:
    fields = [PasteField(arguments[n], key, api=n) for n, key in API_FIELDS.items() if n in arguments]
    if "enable_hr" in arguments:
        fields.append(
            PasteField(
                arguments["enable_hr"],
                lambda d: "Denoising strength" in d and ("Hires upscale" in d or "Hires upscaler" in d),
                api="enable_hr",
            )
        )
    return fields


def _extras_tab() -> gr.Blocks:
    with gr.Blocks(analytics_enabled=False) as interface, gr.Row(equal_height=False, variant="compact"):
        with gr.Column(variant="compact"):
            mode = gr.Number(
                0, visible=False, precision=0
            )  # no gr.State: gradio leaves it out of what _js is given
            with gr.Tabs(elem_id="mode_extras"):
                with gr.TabItem("Single Image", id="single_image", elem_id="extras_single_tab") as single:
                    image = gr.Image(label="Source", elem_id="extras_image", type="pil", image_mode=None)
                with gr.TabItem(
                    "Batch Process", id="batch_process", elem_id="extras_batch_process_tab"
                ) as several:
                    files = gr.File(
                        label="Batch Process", file_count="multiple", elem_id="extras_image_batch"
                    )
                with gr.TabItem(
                    "Batch from Directory", id="batch_from_directory", elem_id="extras_batch_directory_tab"
                ) as folder:
                    input_dir = gr.Textbox(label="Input directory", elem_id="extras_batch_input_dir")
                    output_dir = gr.Textbox(
                        label="Output directory",
                        elem_id="extras_batch_output_dir",
                        placeholder="Leave blank to save images to the default path.",
                    )
                    show = gr.Checkbox(True, label="Show result images", elem_id="extras_show_extras_results")
            submit = gr.Button("Generate", elem_id="extras_generate", variant="primary")
            script_inputs = scripts.scripts_postproc.setup_ui()
        panel = create_output_panel("extras", shared.opts.outdir_extras_samples)
        for number, item in enumerate((single, several, folder)):
            item.select(fn=lambda number=number: number, inputs=[], outputs=[mode], show_progress=False)
        task = gr.Textbox(visible=False, elem_id="extras_task")
        submit.click(
            fn=wrap_gradio_gpu_call(_run_extras, extra_outputs=[None, ""]),
            _js="submit_extras",
            inputs=[task, mode, image, files, input_dir, output_dir, show, *script_inputs],
            outputs=[panel.gallery, panel.generation_info, panel.infotext],
            show_progress=False,
        )
        image.change(fn=scripts.scripts_postproc.image_changed, inputs=[], outputs=[], show_progress=False)
    infotext_utils.add_paste_fields("extras", image, [])
    return interface


def _run_extras(*args: Any) -> tuple[list[str], str, str]:
    pictures, info, log = postprocessing.run_postprocessing_webui(*args)
    return gallery_files(pictures), info, log


def _pnginfo_tab() -> gr.Blocks:
    with gr.Blocks(analytics_enabled=False) as interface, gr.Row(equal_height=False):
        with gr.Column(variant="panel"):
            image = gr.Image(elem_id="pnginfo_image", label="Source", type="filepath", image_mode=None)
        with gr.Column(variant="panel"):
            empty = gr.HTML()
            info = gr.Textbox(visible=False, elem_id="pnginfo_generation_info")
            shown = gr.HTML(elem_id="pnginfo_html_info")
            with gr.Row():
                buttons = infotext_utils.create_buttons(["txt2img", "img2img", "extras"])
        for tab, button in buttons.items():
            register_paste_params_button(
                ParamBinding(button, tab, source_text_component=info, source_image_component=image)
            )
        image.change(fn=_run_pnginfo, inputs=[image], outputs=[empty, info, shown], show_progress=False)
    return interface


def _run_pnginfo(path: str | None) -> tuple[str, str, str]:
    if path is None:
        return "", "", ""
    geninfo, items = images.read_info_from_image(images.read(path))
    texts = {"parameters": geninfo, **items} if geninfo else items
    parts = [
        f"<div class='infotext'><b>{key}</b>{plaintext_to_html(str(text))}</div>"
        for key, text in texts.items()
    ]
    return "", geninfo or "", "\n".join(parts) or plaintext_to_html("Nothing found in the image.")


def create_ui() -> gr.Blocks:
    infotext_utils.reset()
    settings = ui_settings.UiSettings()
    settings.register_settings()
    ui_page.put_head_into_page()
    interfaces = [
        (_generation_tab("txt2img", scripts.scripts_txt2img), "txt2img", "txt2img"),
        (_generation_tab("img2img", scripts.scripts_img2img), "img2img", "img2img"),
        (_extras_tab(), "Extras", "extras"),
        (_pnginfo_tab(), "PNG Info", "pnginfo"),
    ]
    extensions = script_callbacks.ui_tabs_callback()
    for interface, _, identifier in extensions:
        _own_defaults(identifier, interface.blocks.values())
    interfaces += [*extensions, (settings.create_ui(), "Settings", "settings")]
    shared.tab_names = [label for _, label, _ in interfaces]
    theme = gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["monospace"]
    )  # nothing from the network
    with gr.Blocks(theme=theme, analytics_enabled=False, title="Demo WebUI") as demo:
        quicksettings = settings.add_quicksettings()
        infotext_utils.connect_paste_params_buttons()
        with gr.Tabs(elem_id="tabs"):
            for interface, label, identifier in interfaces:
                with gr.TabItem(label, id=identifier, elem_id=f"tab_{identifier}"):
                    interface.render()
        settings_json = gr.Textbox(elem_id="settings_json", elem_classes="hidden-data", show_label=False)
        gr.HTML(ui_page.footer(), elem_id="footer")
        settings.connect_quicksettings(demo, quicksettings)
        demo.load(fn=shared.opts.dumpjson, inputs=None, outputs=[settings_json], show_progress=False)
    return demo


def ping() -> dict[str, str]:
    """Asked by the page until the UI is there again."""
    return {}


def setup_ui_api(app: Any) -> None:
    app.add_api_route("/internal/ping", ping, methods=["GET"])
