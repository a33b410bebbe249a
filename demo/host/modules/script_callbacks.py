"""Callbacks that extensions register while their scripts are executed, and the objects they are handed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modules import errors


@dataclass
class ImageSaveParams:
    image: Any
    p: Any
    filename: str
    pnginfo: dict[str, Any]


@dataclass
class ImageGridLoopParams:
    imgs: list[Any]
    cols: int
    rows: int


_registered: dict[str, list[Callable[..., Any]]] = {}


def clear_callbacks() -> None:
    for callbacks in _registered.values():
        callbacks.clear()


def _kind(name: str, backwards: bool = False) -> tuple[Callable[..., None], Callable[..., list[Any]]]:
    """What an extension registers with, and what the host calls: a failure is reported and stops nobody."""
    callbacks = _registered.setdefault(name, [])

    def register(callback: Callable[..., Any], *, name: str | None = None) -> None:
        callbacks.append(callback)

    def call(*args: Any, **kwargs: Any) -> list[Any]:
        results = []
        for callback in callbacks[:: -1 if backwards else 1]:
            try:
                results.append(callback(*args, **kwargs))
            except Exception:
                errors.report(f"Error executing callback {name} of {callback.__module__}", exc_info=True)
        return results

    return register, call


on_app_started, app_started_callback = _kind("app_started")
on_model_loaded, model_loaded_callback = _kind("model_loaded")
on_ui_tabs, _ui_tabs = _kind("ui_tabs")
on_ui_settings, ui_settings_callback = _kind("ui_settings")
on_before_image_saved, before_image_saved_callback = _kind("before_image_saved")
on_image_saved, image_saved_callback = _kind("image_saved")
on_after_component, after_component_callback = _kind("after_component")
on_image_grid, image_grid_callback = _kind("image_grid")
on_infotext_pasted, infotext_pasted_callback = _kind("infotext_pasted")
on_script_unloaded, script_unloaded_callback = _kind("script_unloaded", backwards=True)
on_before_ui, before_ui_callback = _kind("before_ui", backwards=True)


def ui_tabs_callback() -> list[tuple[Any, str, str]]:
    return [tab for tabs in _ui_tabs() for tab in tabs or []]
