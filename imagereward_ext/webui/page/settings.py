"""The section "ImageReward" of the host's Settings, made from the schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from modules import shared

from imagereward_ext.settings import schema
from imagereward_ext.webui.options import Settings
from imagereward_ext.webui.page.widgets import component_type
from imagereward_ext.webui.service import OPTION_PREFIX

SECTION = ("imagereward", "ImageReward")


def add_options(scorers: Callable[[], Sequence[str]]) -> None:
    """Add every option once."""
    for entry in schema(Settings).values():
        component: Any
        arguments: Any
        component, arguments = component_type(entry, sliders=True)
        if entry.name == "scorer":
            component, arguments = gr.Dropdown, lambda: {"choices": list(scorers())}
        info = shared.OptionInfo(entry.default, entry.label, component, arguments, section=SECTION)
        shared.opts.add_option(OPTION_PREFIX + entry.name, info.info(entry.help))
