"""The Settings tab: a control for every option, Apply, Reload UI."""

from __future__ import annotations

from typing import Any

import gradio as gr

from modules import script_callbacks, shared
from modules.options import OptionHTML, OptionInfo
from modules.ui_common import create_refresh_button
from modules.ui_components import DropdownMulti

QUICKSETTINGS = ["sd_model_checkpoint"]
COMPONENTS = {
    bool: gr.Checkbox,
    int: gr.Number,
    float: gr.Number,
    list: DropdownMulti,
}  # a list can be shortened, not invented


def component_for(key: str, info: OptionInfo) -> Any:
    value = shared.opts.data.get(key, info.default)
    args = info.component_args() if callable(info.component_args) else info.component_args
    component = info.component
    if component is None:
        component = COMPONENTS.get(type(info.default), gr.Textbox)
        args = args or ({"choices": list(value)} if isinstance(value, list) else None)
    control = component(label=info.label, value=value, elem_id=f"setting_{key}", **(args or {}))
    if info.refresh is not None:
        create_refresh_button(control, info.refresh, info.component_args, elem_id=f"refresh_{key}")
    if info.comment_before or info.comment_after:
        gr.HTML(f"<span class='settings-comment'>{info.comment_before}{info.comment_after}</span>")
    return control


def _sections() -> dict[tuple[str, str], list[str]]:
    sections: dict[tuple[str, str], list[str]] = {}
    for key, info in shared.opts.data_labels.items():
        if key not in QUICKSETTINGS:
            sections.setdefault(info.section or ("other", "Other"), []).append(key)
    return sections


class UiSettings:
    def __init__(self) -> None:
        self.components: dict[str, Any] = {}

    def register_settings(self) -> None:
        script_callbacks.ui_settings_callback()

    def create_ui(self) -> gr.Blocks:
        with gr.Blocks(analytics_enabled=False) as interface:
            with gr.Row():
                submit = gr.Button("Apply settings", variant="primary", elem_id="settings_submit")
                restart = gr.Button("Reload UI", variant="primary", elem_id="settings_restart_gradio")
            result = gr.HTML(elem_id="settings_result")
            with gr.Tabs(elem_id="settings"):
                for (identifier, title), keys in _sections().items():
                    with gr.TabItem(title, id=identifier, elem_id=f"settings_{identifier}"):
                        self._add(keys)
            keys = list(self.components)
            submit.click(
                fn=lambda *values: self._apply(dict(zip(keys, values, strict=True))),
                inputs=list(self.components.values()),
                outputs=[result],
            )
            restart.click(fn=shared.state.request_restart, _js="restart_reload", inputs=[], outputs=[])
        shared.settings_components = self.components
        return interface

    def _add(self, keys: list[str]) -> None:
        for key in keys:
            info = shared.opts.data_labels[key]
            if isinstance(info, OptionHTML):
                gr.HTML(info.default, elem_classes="settings-info")
            else:
                self.components[key] = component_for(key, info)

    def _apply(self, values: dict[str, Any]) -> str:
        changed = [key for key, value in values.items() if shared.opts.set(key, _whole(value))]
        shared.opts.save(shared.config_filename)
        return f"{len(changed)} settings changed{': ' + ', '.join(changed) if changed else ''}."

    def add_quicksettings(self) -> dict[str, Any]:
        """The checkpoint, above the tabs."""
        made = {}
        with gr.Row(elem_id="quicksettings", variant="compact"):
            for key in QUICKSETTINGS:
                made[key] = component_for(key, shared.opts.data_labels[key])
        return made

    def connect_quicksettings(self, demo: gr.Blocks, made: dict[str, Any]) -> None:
        for key, control in made.items():

            def change(value: Any, key: str = key) -> Any:
                shared.opts.set(key, value)
                shared.opts.save(shared.config_filename)
                return gr.update(value=shared.opts.data[key])

            # .input, not .change: showing the value when the page loads must not load a model.
            control.input(fn=change, inputs=[control], outputs=[control], show_progress=False)

            def show(key: str = key) -> Any:
                args = shared.opts.data_labels[key].component_args
                return gr.update(value=shared.opts.data[key], **(args() if callable(args) else {}))

            demo.load(fn=show, inputs=None, outputs=[control], show_progress=False)


def _whole(value: Any) -> Any:
    """gradio's numbers are floats; a whole one is an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
