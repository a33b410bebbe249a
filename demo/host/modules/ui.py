"""The UI: the tabs, built from the same few rows, and how they are wired."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gradio as gr

from modules import (
    generate,
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
from modules.infotext_utils import Sender, Target, senders, targets
from modules.ui_common import create_output_panel, plaintext_to_html, tool_button

Controls = dict[str, Any]  # argument of the processing class -> its control

FOOTER = "A small WebUI for trying and testing extensions. Not a replacement for a real one."

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
}


def native_size() -> int:
    """The picture size the checkpoint was made for; a WebUI's own where there is none now."""
    try:
        model = sd_models.model_data.get_sd_model()
    except FileNotFoundError:
        model = None
    return 512 if model is None else model.native_size


# ---- rows of a generation tab


def _prompts(tab: str) -> tuple[Controls, Any, Any]:
    """(arguments, Generate, paste)"""
    words: dict[str, Any] = {"show_label": False}
    with gr.Row(elem_id=f"{tab}_toprow"):
        with gr.Column(scale=6, elem_id=f"{tab}_prompt_container"):
            prompt = gr.Textbox(label="Prompt", elem_id=f"{tab}_prompt", lines=3, **words)
            words |= {"lines": 2, "placeholder": "Negative prompt"}
            negative = gr.Textbox(label="Negative prompt", elem_id=f"{tab}_neg_prompt", **words)
        with gr.Column(scale=1, elem_id=f"{tab}_actions_column"):
            with gr.Row(elem_id=f"{tab}_generate_box"):
                interrupt = gr.Button(
                    "Interrupt", elem_id=f"{tab}_interrupt", elem_classes="while-generating"
                )
                skip = gr.Button("Skip", elem_id=f"{tab}_skip", elem_classes="while-generating")
                submit = gr.Button("Generate", elem_id=f"{tab}_generate", variant="primary")
            paste = tool_button("↙️", f"{tab}_paste")
            known = list(shared.prompt_styles.styles)
            styles = gr.Dropdown(known, label="Styles", elem_id=f"{tab}_styles", value=[], multiselect=True)
    interrupt.click(fn=shared.state.interrupt, queue=False)
    skip.click(fn=shared.state.skip, queue=False)
    return {"prompt": prompt, "negative_prompt": negative, "styles": styles}, submit, paste


def _slider(tab: str, name: str, label: str, low: float, high: float, step: float, value: float) -> Any:
    return gr.Slider(low, high, step=step, value=value, label=label, elem_id=f"{tab}_{name}")


def _sampling(tab: str) -> Controls:
    names = list(sd_samplers.SCHEDULERS)
    with gr.Row(elem_id=f"sampler_selection_{tab}"):
        sampler = gr.Dropdown(names, label="Sampling method", elem_id=f"{tab}_sampling", value=names[0])
        steps = _slider(tab, "steps", "Sampling steps", 1, 150, 1, 20)
    return {"sampler_name": sampler, "steps": steps}


def _size_and_count(tab: str) -> Controls:
    size = native_size()
    with gr.Row():
        width = _slider(tab, "width", "Width", 64, 2048, 8, size)
        height = _slider(tab, "height", "Height", 64, 2048, 8, size)
    with gr.Row():
        count = _slider(tab, "batch_count", "Batch count", 1, 100, 1, 1)
        batch = _slider(tab, "batch_size", "Batch size", 1, 16, 1, 1)
    cfg = _slider(tab, "cfg_scale", "CFG Scale", 1.0, 30.0, 0.5, 7.0)
    return {"width": width, "height": height, "n_iter": count, "batch_size": batch, "cfg_scale": cfg}


def _seed(tab: str) -> tuple[Controls, Any]:
    """The seed's controls, and the button that takes the selected image's seed."""
    with gr.Row(elem_id=f"{tab}_seed_row"):
        seed = gr.Number(-1, label="Seed", elem_id=f"{tab}_seed", precision=0)
        reuse = tool_button("\u267b\ufe0f", f"{tab}_reuse_seed")
    with gr.Row(elem_id=f"{tab}_subseed_row"):
        subseed = gr.Number(-1, label="Variation seed", elem_id=f"{tab}_subseed", precision=0)
        strength = _slider(tab, "subseed_strength", "Variation strength", 0, 1, 0.01, 0.0)
    return {"seed": seed, "subseed": subseed, "subseed_strength": strength}, reuse


def _seed_of_image(generation_info: str, index: float) -> int:
    """The seed in the parameters of an image in the gallery, -1 where there is none."""
    try:
        infotext = json.loads(generation_info)["infotexts"][max(int(index), 0)]
    except (ValueError, KeyError, IndexError):
        return -1
    return int(infotext_utils.parse_generation_parameters(infotext).get("Seed", -1))


def _hires() -> Controls:
    upscalers = [*shared.latent_upscale_modes, *(u.name for u in shared.sd_upscalers)]
    with gr.Accordion("Hires. fix", open=False, elem_id="txt2img_hr"):
        with gr.Row():
            enable = gr.Checkbox(False, label="Enable", elem_id="txt2img_enable_hr")
            upscaler = gr.Dropdown(
                upscalers, value=upscalers[0], label="Upscaler", elem_id="txt2img_hr_upscaler"
            )
        steps = _slider("txt2img", "hires_steps", "Hires steps", 0, 150, 1, 0)
        denoising = _slider("txt2img", "denoising_strength", "Denoising strength", 0.0, 1.0, 0.01, 0.7)
        scale = _slider("txt2img", "hr_scale", "Upscale by", 1.0, 4.0, 0.05, 2.0)
    controls = {"enable_hr": enable, "hr_upscaler": upscaler, "hr_second_pass_steps": steps}
    return {**controls, "denoising_strength": denoising, "hr_scale": scale}


def _init_image() -> Controls:
    ways, mask_label = (
        ["Just resize", "Crop and resize", "Resize and fill"],
        "Mask: white is painted anew (optional)",
    )
    with gr.Row():
        image = gr.Image(label="Image for img2img", elem_id="img2img_image", type="pil", image_mode="RGBA")
        mask = gr.Image(label=mask_label, elem_id="img_inpaint_mask", type="pil")
    mode = gr.Radio(ways, value=ways[0], type="index", label="Resize mode", elem_id="resize_mode")
    denoising = _slider("img2img", "denoising_strength", "Denoising strength", 0.0, 1.0, 0.01, 0.75)
    return {"init_image": image, "mask": mask, "resize_mode": mode, "denoising_strength": denoising}


# ---- tabs


def _generation_tab(tab: str, runner: scripts.ScriptRunner) -> gr.Blocks:
    is_img2img = tab == "img2img"
    runner.initialize_scripts(is_img2img)
    with gr.Blocks(analytics_enabled=False) as interface:
        arguments, submit, paste = _prompts(tab)
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
            panel = create_output_panel(tab)
        _own_defaults(tab, arguments.values())
        _wire_generation(tab, arguments, submit, script_inputs, panel)
        reuse_seed.click(
            fn=_seed_of_image,
            js="(info, _) => [info, selected_gallery_index()]",
            inputs=[panel.generation_info, arguments["seed"]],
            outputs=[arguments["seed"]],
            show_progress=False,
        )
    fields = [(arguments[name], key) for name, key in API_FIELDS.items() if name in arguments]
    if "enable_hr" in arguments:
        fields.append((arguments["enable_hr"], lambda d: "Hires upscale" in d))
    targets[tab] = Target(arguments.get("init_image"), fields + runner.infotext_fields)
    senders.append(Sender(paste, tab, text=arguments["prompt"]))
    return interface


def _own_defaults(tab: str, controls: Iterable[Any]) -> None:
    """Values to begin with from ui-config.json: `"txt2img/CFG Scale/value": 5`."""
    file = Path(shared.cmd_opts.ui_config_file)
    given = json.loads(file.read_text(encoding="utf8")) if file.is_file() else {}
    for control in controls:
        control_key = f"{tab}/{getattr(control, 'label', None)}/value"
        if control_key in given:
            control.value = given[control_key]


def _wire_generation(
    tab: str, arguments: Controls, submit: Any, script_inputs: list[Any], panel: Any
) -> None:
    task = gr.Textbox(visible=False)
    inputs = [*arguments.values(), *script_inputs]
    # What the outputs show after an error; the last one tells of it.
    how = {"outputs": panel.outputs, "show_progress": False}

    def wired(function: Callable[..., Any], own: int) -> Callable[..., Any]:
        """A handler for gradio's flat list: `own` values, then the arguments', then the scripts'."""

        def call(*values: Any) -> Any:
            named = dict(zip(arguments, values[own:], strict=False))
            return function(*values[:own], named, values[own + len(arguments) :])

        return wrap_gradio_gpu_call(call, extra_outputs=[None, "", ""])

    generating = wired(lambda *values: generate.generate(tab, *values), 0)
    for event in (submit.click, arguments["prompt"].submit):
        event(fn=generating, js=f"submit_{tab}", inputs=[task, *inputs], **how)
    if panel.button_upscale is not None:
        selected = gr.Number(-1, visible=False)
        panel.button_upscale.click(
            fn=wired(generate.upscale, 3),
            js="submit_txt2img_upscale",
            inputs=[task, panel.gallery, selected, panel.generation_info, *inputs],
            **how,
        )


def _extras_tab() -> gr.Blocks:
    default = "Leave blank to save images to the default path."
    with gr.Blocks(analytics_enabled=False) as interface, gr.Row(equal_height=False, variant="compact"):
        with gr.Column(variant="compact"):
            # No gr.State: gradio leaves it out of what js is given.
            mode = gr.Number(postprocessing.ONE_IMAGE, visible=False, precision=0)
            with gr.Tabs(elem_id="mode_extras"):
                with gr.TabItem("Single Image", id="single", elem_id="extras_single_tab") as single:
                    image = gr.Image(label="Source", elem_id="extras_image", type="pil", image_mode=None)
                with gr.TabItem("Batch from Directory", id="folder", elem_id="extras_folder_tab") as folder:
                    source = gr.Textbox(label="Input directory", elem_id="extras_batch_input_dir")
                    name = "extras_batch_output_dir"
                    target = gr.Textbox(label="Output directory", elem_id=name, placeholder=default)
            submit = gr.Button("Generate", elem_id="extras_generate", variant="primary")
            script_inputs = scripts.scripts_postproc.setup_ui()
        panel = create_output_panel("extras")
        for number, item in {postprocessing.ONE_IMAGE: single, postprocessing.FOLDER: folder}.items():
            item.select(fn=lambda number=number: number, outputs=[mode], show_progress=False)
        submit.click(
            fn=wrap_gradio_gpu_call(postprocessing.run_tab, extra_outputs=[None, ""]),
            js="submit_extras",
            inputs=[gr.Textbox(visible=False), mode, image, source, target, *script_inputs],
            outputs=[panel.gallery, panel.generation_info, panel.html_log],
            show_progress=False,
        )
    targets["extras"] = Target(image, [])
    return interface


def _pnginfo_tab() -> gr.Blocks:
    with gr.Blocks(analytics_enabled=False) as interface, gr.Row(equal_height=False):
        with gr.Column(variant="panel"):
            image = gr.Image(elem_id="pnginfo_image", label="Source", type="filepath", image_mode=None)
        with gr.Column(variant="panel"):
            info = gr.Textbox(visible=False, elem_id="pnginfo_generation_info")
            shown = gr.HTML(elem_id="pnginfo_html_info")
            with gr.Row():
                for tab in ("txt2img", "img2img", "extras"):
                    button = gr.Button(f"Send to {tab}", elem_id=f"{tab}_tab")
                    senders.append(Sender(button, tab, image=image, text=info))
        image.change(fn=_run_pnginfo, inputs=[image], outputs=[info, shown], show_progress=False)
    return interface


def _run_pnginfo(path: str | None) -> tuple[str, str]:
    if path is None:
        return "", ""
    geninfo, texts = images.read_info_from_image(images.read(path))
    texts = {"parameters": geninfo, **texts} if geninfo else texts
    parts = [
        f"<div class='infotext'><b>{html.escape(key)}</b>{plaintext_to_html(str(text))}</div>"
        for key, text in texts.items()
    ]
    return geninfo or "", "\n".join(parts) or plaintext_to_html("Nothing found in the image.")


def create_ui() -> gr.Blocks:
    targets.clear()
    senders.clear()
    ui_page.put_head_into_page()
    interfaces = [
        (_generation_tab("txt2img", scripts.scripts_txt2img), "txt2img", "txt2img"),
        (_generation_tab("img2img", scripts.scripts_img2img), "img2img", "img2img"),
        (_extras_tab(), "Extras", "extras"),
        (_pnginfo_tab(), "PNG Info", "pnginfo"),
    ]
    settings = ui_settings.create_ui()
    extensions = script_callbacks.ui_tabs_callback()
    for interface, _, identifier in extensions:
        _own_defaults(identifier, interface.blocks.values())
    interfaces += [*extensions, (settings, "Settings", "settings")]
    # Fonts of the system: nothing comes from the network.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    with gr.Blocks(theme=theme, analytics_enabled=False, title="Demo WebUI") as demo:
        checkpoint = ui_settings.add_checkpoint()
        infotext_utils.connect_senders()
        with gr.Tabs(elem_id="tabs"):
            for interface, label, identifier in interfaces:
                with gr.TabItem(label, id=identifier, elem_id=f"tab_{identifier}"):
                    interface.render()
        settings_json = gr.Textbox(elem_id="settings_json", elem_classes="hidden-data", show_label=False)
        gr.HTML(f"<div class='footer'>{FOOTER}</div>", elem_id="footer")
        demo.load(fn=ui_settings.show, outputs=[checkpoint], show_progress=False)
        demo.load(fn=shared.opts.dumpjson, outputs=[settings_json], show_progress=False)
    return demo
