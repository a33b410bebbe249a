"""The Settings tab: a control for every option, Apply, Reload UI; and the checkpoint's, above the tabs."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from modules import script_callbacks, sd_models, shared

CHECKPOINT = "sd_model_checkpoint"
COMPONENTS = {bool: gr.Checkbox, int: gr.Number, float: gr.Number}


def control_for(key: str) -> Any:
    info = shared.opts.data_labels[key]
    component = info.component or COMPONENTS.get(type(info.default), gr.Textbox)
    args = {"label": info.label, "value": shared.opts.data[key], "elem_id": f"setting_{key}"}
    control = component(**args, **info.arguments())
    if info.comment:
        gr.HTML(f"<span class='settings-comment'>{html.escape(info.comment)}</span>")
    return control


def create_ui() -> gr.Blocks:
    script_callbacks.ui_settings_callback()
    sections: dict[tuple[str, str], list[str]] = {}
    for key, info in shared.opts.data_labels.items():
        if key != CHECKPOINT:
            sections.setdefault(info.section, []).append(key)
    controls = {}
    with gr.Blocks(analytics_enabled=False) as interface:
        with gr.Row():
            submit = gr.Button("Apply settings", variant="primary", elem_id="settings_submit")
            restart = gr.Button("Reload UI", variant="primary", elem_id="settings_restart_gradio")
        result = gr.HTML(elem_id="settings_result")
        with gr.Tabs(elem_id="settings"):
            for (identifier, title), keys in sections.items():
                with gr.TabItem(title, id=identifier, elem_id=f"settings_{identifier}"):
                    controls |= {key: control_for(key) for key in keys}

        def apply(*values: Any) -> str:
            given = zip(controls, values, strict=True)
            changed = [key for key, value in given if shared.opts.set(key, _whole(value))]
            shared.opts.save(shared.cmd_opts.ui_settings_file)
            return f"{len(changed)} settings changed{': ' if changed else ''}{', '.join(changed)}."

        submit.click(fn=apply, inputs=list(controls.values()), outputs=[result])
        restart.click(fn=shared.state.request_restart, js="restart_reload")
    return interface


def _whole(value: Any) -> Any:
    """gradio's numbers are floats; a whole one is an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def add_checkpoint() -> Any:
    with gr.Row(elem_id="quicksettings", variant="compact"):
        control = control_for(CHECKPOINT)

        def change(value: str) -> Any:
            shared.opts.set(CHECKPOINT, value)
            shared.opts.save(shared.cmd_opts.ui_settings_file)
            return show()

        # .input, not .change: showing the value when the page loads must not load a model.
        control.input(fn=change, inputs=[control], outputs=[control], show_progress=False)
        refresh = gr.Button("\U0001f504", elem_classes=["tool"], scale=0, min_width=44)
        refresh.click(fn=lambda: sd_models.list_models() or show(), outputs=[control])
    return control


def show() -> Any:
    """The checkpoint that is loaded now, among those there are."""
    return gr.update(value=shared.opts.data[CHECKPOINT], **shared.opts.data_labels[CHECKPOINT].arguments())
