"""Options as gradio components, in a way that gradio 3.41 and 4.40 both understand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import Field
from typing import Any

import gradio as gr

from imagereward_ext.webui.options import AS_IN_SETTINGS, option_of, panel_fields

Components = dict[str, Any]


def panel(*, always_on: bool, prefix: str, scorers: Callable[[], Sequence[str]]) -> Components:
    """Make the components of one of the two panels, in the order of the API's arguments."""
    return {f.name: _component(f, f"{prefix}-{f.name}", scorers) for f in panel_fields(always_on=always_on)}


def javascript(code: str) -> dict[str, str]:
    """Return the keyword that hands JavaScript to an event: its name differs between gradio 3 and 4."""
    return {"_js" if str(gr.__version__).startswith("3.") else "js": code}


def _component(f: Field[Any], elem_id: str, scorers: Callable[[], Sequence[str]]) -> Any:
    option = option_of(f)
    common: dict[str, Any] = {"label": option.label, "value": f.default, "elem_id": elem_id}
    if f.name == "scorer":
        return gr.Dropdown(choices=[AS_IN_SETTINGS, *scorers()], info=option.help, **common)
    if option.choices:
        return gr.Dropdown(choices=list(option.choices), info=option.help, **common)
    if isinstance(f.default, bool):
        return gr.Checkbox(info=option.help, **common)
    if option.minimum is not None and option.maximum is not None:
        slider = {"minimum": option.minimum, "maximum": option.maximum, "step": option.step}
        return gr.Slider(info=option.help, **slider, **common)
    # A number field of the browser drops the comma of 0,5, and 5 arrives.
    return gr.Textbox(info=option.help, lines=1, max_lines=1, **{**common, "value": f"{f.default:g}"})
