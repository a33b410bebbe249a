"""The section "ImageReward" of the host's Settings, made from the table of options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import gradio as gr
from modules import shared

from imagereward_ext.webui.options import Settings, option_of
from imagereward_ext.webui.service import OPTION_PREFIX

SECTION = ("imagereward", "ImageReward")


def add_options(scorers: Callable[[], Sequence[str]]) -> None:
    """Add every option once."""
    for f in fields(Settings):
        option = option_of(f)
        component, arguments = _component(f.default, option, scorers if f.name == "scorer" else None)
        info = shared.OptionInfo(f.default, option.label, component, arguments, section=SECTION)
        shared.opts.add_option(OPTION_PREFIX + f.name, info.info(option.help))


def _component(default: Any, option: Any, scorers: Callable[[], Sequence[str]] | None) -> tuple[Any, Any]:
    if scorers is not None:
        return gr.Dropdown, lambda: {"choices": list(scorers())}
    if option.choices:
        return gr.Dropdown, {"choices": list(option.choices)}
    if isinstance(default, bool):
        return gr.Checkbox, {}
    if isinstance(default, str):
        return gr.Textbox, {}
    if isinstance(default, int):
        return gr.Slider, {"minimum": option.minimum, "maximum": option.maximum, "step": option.step}
    return gr.Number, {}
