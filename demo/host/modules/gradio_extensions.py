"""What extensions expect of gradio's components: to be told of each one that is made."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr
import gradio.component_meta

from modules import script_callbacks


def _announced(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        script_callbacks.after_component_callback(self, **kwargs)

    return init


def install() -> None:
    # gradio writes a .pyi beside every file with a component class of its own; this folder is not its to write to.
    gr.component_meta.create_or_modify_pyi = lambda *_: None
    gr.components.Component.__init__ = _announced(gr.components.Component.__init__)
