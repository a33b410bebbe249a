"""Settings as gradio components, in a way that gradio 3.41 and 4.40 both understand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from imagereward_ext.settings import Setting
from imagereward_ext.webui.options import AS_IN_SETTINGS, panel_settings

Components = dict[str, Any]


def panel(*, always_on: bool, prefix: str, scorers: Callable[[], Sequence[str]]) -> Components:
    """Make the components of one of the two panels, in the order of the API's arguments."""
    return {
        entry.name: _panel_component(entry, f"{prefix}-{entry.name}", scorers)
        for entry in panel_settings(always_on=always_on)
    }


def javascript(code: str) -> dict[str, str]:
    """Return the keyword that hands JavaScript to an event: its name differs between gradio 3 and 4."""
    return {"_js" if str(gr.__version__).startswith("3.") else "js": code}


def component_type(entry: Setting, *, sliders: bool) -> tuple[Any, dict[str, Any]]:
    """Return the class of a setting's component, and its arguments beside label, help and value."""
    if entry.choices:
        return gr.Dropdown, {"choices": list(entry.choices)}
    if entry.kind is bool:
        return gr.Checkbox, {}
    if entry.kind is str:
        return gr.Textbox, {}
    if sliders and entry.kind is int and entry.low is not None and entry.high is not None:
        return gr.Slider, {"minimum": entry.low, "maximum": entry.high, "step": 1}
    return gr.Number, {}


def component(entry: Setting, elem_id: str, kind: Any = None, **more: Any) -> Any:
    """Make a setting's component, of another class where one is given; `more` wins over what the setting says."""
    usual, arguments = component_type(entry, sliders=False)
    arguments |= {
        "label": entry.label,
        "info": help_text(entry),
        "value": entry.default,
        "elem_id": elem_id,
    }
    return (kind or usual)(**arguments | more)


def help_text(entry: Setting) -> str:
    """Return a setting's help as a sentence, with its range."""
    text = (entry.help[:1].upper() + entry.help[1:]).removesuffix(".")
    limits = entry.range_text()
    if entry.low is not None and entry.high is not None:
        limits = f"{entry.low:.10g} to {entry.high:.10g}"
    return f"{text} ({limits})." if limits else f"{text}."


def _panel_component(entry: Setting, elem_id: str, scorers: Callable[[], Sequence[str]]) -> Any:
    common: dict[str, Any] = {"label": entry.label, "info": entry.help, "elem_id": elem_id}
    if entry.name == "scorer":
        return gr.Dropdown(choices=[AS_IN_SETTINGS, *scorers()], value=entry.default, **common)
    if entry.kind is float:  # a number field of the browser drops the comma of 0,5, and 5 arrives
        return gr.Textbox(value=f"{entry.default:g}", lines=1, max_lines=1, **common)
    kind, arguments = component_type(entry, sliders=True)
    return kind(value=entry.default, **arguments, **common)
