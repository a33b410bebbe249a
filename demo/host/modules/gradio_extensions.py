"""gradio 4 made to take what extensions written for WebUIs say: `_js`, old arguments, hooks on components."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr
import gradio.component_meta

from modules import script_callbacks, scripts


def _takes_js(listener: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(listener)
    def call(*args: Any, _js: str | None = None, **kwargs: Any) -> Any:
        return listener(*args, **kwargs, **({} if _js is None else {"js": _js}))

    return call


def _forgiving(original: Callable[..., None], allowed: set[str]) -> Callable[..., None]:
    """Arguments that this gradio no longer knows are dropped (`tooltip`, `tool`, ...)."""

    @wraps(original)
    def init(self: Any, *args: Any, source: str | None = None, **kwargs: Any) -> None:
        if source and "sources" in allowed:
            kwargs.setdefault("sources", [source])
        original(self, *args, **{key: value for key, value in kwargs.items() if key in allowed})

    return init


def _announced(original: Callable[..., None]) -> Callable[..., None]:
    """Extensions are told before and after each component is made."""

    @wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        runner = scripts.scripts_current
        if runner is not None:
            runner.component("before", self, **kwargs)
        script_callbacks.before_component_callback(self, **kwargs)
        original(self, *args, **kwargs)
        self.elem_classes = [f"gradio-{self.get_block_name()}", *(self.elem_classes or [])]
        script_callbacks.after_component_callback(self, **kwargs)
        if runner is not None:
            runner.component("after", self, **kwargs)

    return init


def _then_takes_js(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.then, self.success = _takes_js(self.then), _takes_js(self.success)

    return init


def install() -> None:
    # gradio writes a .pyi beside every file with a component class of its own; this folder is not its to write to.
    gr.component_meta.create_or_modify_pyi = lambda *_: None
    classes = {getattr(gr, name, None) for name in {*gr.components.__all__, *gr.layouts.__all__}}
    for cls in classes:
        if not inspect.isclass(cls):
            continue
        for event in getattr(cls, "EVENTS", []):
            setattr(cls, str(event), _takes_js(getattr(cls, str(event))))
        if "__init__" in vars(cls):
            allowed = set(inspect.signature(cls.__init__).parameters)
            cls.__init__ = _forgiving(cls.__init__, allowed)
    gr.Blocks.load = _takes_js(gr.Blocks.load)
    gr.components.Component.__init__ = _announced(gr.components.Component.__init__)
    gr.blocks.BlockContext.__init__ = _announced(gr.blocks.BlockContext.__init__)
    gr.events.Dependency.__init__ = _then_takes_js(gr.events.Dependency.__init__)


install()
