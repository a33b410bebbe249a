"""Everything this extension hangs into the host, registered once per "Reload UI"."""

from __future__ import annotations

from typing import Any

from modules import images, infotext_utils, script_callbacks, scripts

from imagereward_ext.webui.api import routes
from imagereward_ext.webui.job import plots, saved_files
from imagereward_ext.webui.job.scoring_job import note_grid
from imagereward_ext.webui.page import extras_gallery, panels, png_info, settings
from imagereward_ext.webui.page.drawing import draw_score
from imagereward_ext.webui.service import service

_GENERATION_INFO = {"generation_info_txt2img": "txt2img", "generation_info_img2img": "img2img"}


def register() -> None:
    """Register the callbacks. The host forgets all of them before it executes scripts again."""
    script_callbacks.on_ui_settings(_on_settings)
    script_callbacks.on_before_ui(_on_before_ui)
    script_callbacks.on_after_component(_on_after_component)
    script_callbacks.on_before_image_saved(saved_files.before_saved)
    script_callbacks.on_image_saved(lambda params: saved_files.after_saved(params, service()))
    script_callbacks.on_image_grid(_on_grid)
    script_callbacks.on_app_started(lambda demo, app: routes.add(app, service()))


def _on_settings() -> None:
    settings.add_options(service().names)


def _on_before_ui() -> None:
    for data in scripts.scripts_data:
        if hasattr(data.module, "axis_options") and hasattr(data.module, "AxisOption"):
            plots.add_axes(data.module, service().names)
            break
    nothing = getattr(images, "NOTHING_AND_SKIP_PREVIOUS_TEXT", None)
    saved_files.offer_file_name_token(images.FilenameGenerator, nothing, service())


def _on_after_component(component: Any, **arguments: Any) -> None:
    elem_id = arguments.get("elem_id")
    if elem_id in _GENERATION_INFO:
        panels.bridge(component, _GENERATION_INFO[elem_id])
    elif elem_id == extras_gallery.GALLERY:
        extras_gallery.add_to(component, infotext_utils.image_from_url_text, service())
    elif elem_id in png_info.ELEMENTS:
        png_info.add_to(elem_id, component, service())


def _on_grid(params: Any) -> None:
    note_grid(params.imgs)
    params.imgs = plots.on_grid(
        params.imgs, params.cols, lambda image, text: draw_score(image, text, service().host)
    )
