"""Callbacks that extensions register while their scripts are executed, and the objects they are handed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules import errors, extensions, util


@dataclass
class ImageSaveParams:
    image: Any
    p: Any
    filename: str
    pnginfo: dict[str, Any]


@dataclass
class CFGDenoiserParams:
    x: Any
    image_cond: Any
    sigma: Any
    sampling_step: int
    total_sampling_steps: int
    text_cond: Any
    text_uncond: Any
    denoiser: Any = None


@dataclass
class ImageGridLoopParams:
    imgs: list[Any]
    cols: int
    rows: int


@dataclass
class ScriptCallback:
    script: str
    callback: Callable[..., Any]
    name: str = "unnamed"


CATEGORIES = (
    "app_started model_loaded ui_tabs ui_settings before_image_saved image_saved cfg_denoiser before_component "
    "after_component image_grid infotext_pasted script_unloaded before_ui on_reload"
).split()
callback_map: dict[str, list[ScriptCallback]] = {f"callbacks_{category}": [] for category in CATEGORIES}


def add_callback(
    callbacks: list[ScriptCallback],
    fun: Any,
    *,
    name: str | None = None,
    category: str = "unknown",
    filename: str | None = None,
) -> None:
    """Name a callback `extension/file.py/category[/name]`, so that metadata.ini can speak of it."""
    if filename is None:
        filename = next((f.filename for f in inspect.stack() if f.filename != __file__), "unknown file")
    extension = extensions.find_extension(filename)
    owner = extension.canonical_name if extension else "base"
    full = f"{owner}/{Path(filename).name}/{category}" + (f"/{name}" if name else "")
    taken = {callback.name for callback in callbacks}
    unique = next(n for n in (full, *(f"{full}-{i}" for i in range(1, 1000))) if n not in taken)
    callbacks.append(ScriptCallback(filename, fun, unique))


def sort_callbacks(callbacks: list[ScriptCallback]) -> list[ScriptCallback]:
    """The order of registration, changed only where a `[callbacks/...]` section of a metadata.ini asks for it."""
    by_name = {callback.name: callback for callback in callbacks}
    after: dict[str, list[str]] = {name: [] for name in by_name}
    for extension in extensions.extensions:
        for section in extension.config.sections():
            name = section.removeprefix("callbacks/")
            if section == name or name not in by_name:
                continue
            after[name] += [other for other in extension.order(section, "After") if other in by_name]
            for other in extension.order(section, "Before"):
                after.get(other, []).append(name)
    return [by_name[name] for name in util.topological_sort(after)]


def ordered_callbacks(category: str) -> list[ScriptCallback]:
    return sort_callbacks(callback_map[f"callbacks_{category}"])


def clear_callbacks() -> None:
    for callbacks in callback_map.values():
        callbacks.clear()


def remove_callbacks_for_function(callback_func: Callable[..., Any]) -> None:
    for callbacks in callback_map.values():
        callbacks[:] = [c for c in callbacks if c.callback != callback_func]


def _call(category: str, *args: Any, backwards: bool = False, **kwargs: Any) -> list[Any]:
    """Call everyone; a failure is reported and stops nobody."""
    results = []
    callbacks = ordered_callbacks(category)
    for entry in reversed(callbacks) if backwards else callbacks:
        try:
            results.append(entry.callback(*args, **kwargs))
        except Exception:
            errors.report(f"Error executing callback {category} for {entry.script}", exc_info=True)
    return results


def app_started_callback(demo: Any, app: Any) -> None:
    _call("app_started", demo, app)


def app_reload_callback() -> None:
    _call("on_reload")


def model_loaded_callback(sd_model: Any) -> None:
    _call("model_loaded", sd_model)


def ui_tabs_callback() -> list[tuple[Any, str, str]]:
    return [tab for tabs in _call("ui_tabs") for tab in tabs or []]


def ui_settings_callback() -> None:
    _call("ui_settings")


def before_image_saved_callback(params: ImageSaveParams) -> None:
    _call("before_image_saved", params)


def image_saved_callback(params: ImageSaveParams) -> None:
    _call("image_saved", params)


def cfg_denoiser_callback(params: CFGDenoiserParams) -> None:
    _call("cfg_denoiser", params)


def before_component_callback(component: Any, **kwargs: Any) -> None:
    _call("before_component", component, **kwargs)


def after_component_callback(component: Any, **kwargs: Any) -> None:
    _call("after_component", component, **kwargs)


def image_grid_callback(params: ImageGridLoopParams) -> None:
    _call("image_grid", params)


def infotext_pasted_callback(infotext: str, params: dict[str, Any]) -> None:
    _call("infotext_pasted", infotext, params)


def script_unloaded_callback() -> None:
    _call("script_unloaded", backwards=True)


def before_ui_callback() -> None:
    _call("before_ui", backwards=True)


def _registrar(category: str) -> Callable[..., None]:
    def register(callback: Callable[..., Any], *, name: str | None = None) -> None:
        add_callback(callback_map[f"callbacks_{category}"], callback, name=name, category=category)

    return register


on_app_started = _registrar("app_started")
on_before_reload = _registrar("on_reload")
on_model_loaded = _registrar("model_loaded")
on_ui_tabs = _registrar("ui_tabs")
on_ui_settings = _registrar("ui_settings")
on_before_image_saved = _registrar("before_image_saved")
on_image_saved = _registrar("image_saved")
on_cfg_denoiser = _registrar("cfg_denoiser")
on_before_component = _registrar("before_component")
on_after_component = _registrar("after_component")
on_image_grid = _registrar("image_grid")
on_infotext_pasted = _registrar("infotext_pasted")
on_script_unloaded = _registrar("script_unloaded")
on_before_ui = _registrar("before_ui")
