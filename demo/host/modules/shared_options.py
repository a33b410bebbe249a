"""The settings this host knows: the part of a WebUI's that touches what an extension sees."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from modules import sd_models
from modules.options import OptionInfo, options_section
from modules.paths_internal import data_path, default_output_dir

OUT = Path(default_output_dir)
FORMATS = {"choices": ["png", "jpg", "webp"]}
REPLACE = {"choices": ["Replace", "Add number suffix"]}


def _slider(low: float, high: float, step: float) -> dict[str, float]:
    return {"minimum": low, "maximum": high, "step": step}


def build() -> dict[str, OptionInfo]:
    return {
        **options_section(("saving-images", "Saving images/grids"), _saving()),
        **options_section(("saving-paths", "Paths for saving"), _paths()),
        **options_section(("sd", "Stable Diffusion"), _model()),
        **options_section(("ui", "Live previews and UI"), _ui()),
    }


def _saving() -> dict[str, OptionInfo]:
    return {
        "samples_save": OptionInfo(True, "Always save all generated images"),
        "samples_format": OptionInfo("png", "File format for images", gr.Dropdown, FORMATS),
        "samples_filename_pattern": OptionInfo("", "Images filename pattern"),
        "save_images_add_number": OptionInfo(True, "Add number to filename when saving"),
        "save_images_replace_action": OptionInfo("Replace", "Saving to an existing file", gr.Radio, REPLACE),
        "grid_save": OptionInfo(True, "Always save all generated image grids"),
        "grid_format": OptionInfo("png", "File format for grids", gr.Dropdown, FORMATS),
        "grid_extended_filename": OptionInfo(False, "Add extended info to filename when saving grid"),
        "grid_only_if_multiple": OptionInfo(True, "Do not save grids consisting of one picture"),
        "font": OptionInfo("", "Font for image grids that have text"),
        "save_mask": OptionInfo(False, "For inpainting, save a copy of the greyscale mask"),
        "save_mask_composite": OptionInfo(False, "For inpainting, save a masked composite"),
        "save_txt": OptionInfo(False, "Write infotext to a .txt file next to every image"),
        "enable_pnginfo": OptionInfo(True, "Write infotext to metadata of the generated image"),
        "jpeg_quality": OptionInfo(80, "Quality for saved jpeg images", gr.Slider, _slider(1, 100, 1)),
        "save_incomplete_images": OptionInfo(False, "Save incomplete images"),
    }


def _paths() -> dict[str, OptionInfo]:
    kinds = {
        **{f"outdir_{tab}_samples": f"{tab}-images" for tab in ("txt2img", "img2img", "extras")},
        **{f"outdir_{tab}_grids": f"{tab}-grids" for tab in ("txt2img", "img2img")},
    }
    folders = {key: OptionInfo(str(OUT / name), f"Folder for {name}") for key, name in kinds.items()}
    return {
        **folders,
        "outdir_save": OptionInfo(str(Path(data_path) / "log" / "images"), "Folder of the Save button"),
        "save_to_dirs": OptionInfo(True, "Save images and grids to a subdirectory"),
        "directories_filename_pattern": OptionInfo("[date]", "Directory name pattern"),
    }


def _model() -> dict[str, OptionInfo]:
    skip = OptionInfo(1, "Clip skip", gr.Slider, _slider(1, 12, 1))
    return {
        "sd_model_checkpoint": OptionInfo(
            None,
            "Stable Diffusion checkpoint",
            gr.Dropdown,
            lambda: {"choices": list(sd_models.checkpoints_list)},
            onchange=lambda: sd_models.reload_model_weights(),
        ),
        "CLIP_stop_at_last_layers": skip,
        "return_mask": OptionInfo(False, "For inpainting, include the greyscale mask in results"),
        "return_mask_composite": OptionInfo(False, "For inpainting, include masked composite in results"),
    }


def _ui() -> dict[str, OptionInfo]:
    every, period = _slider(-1, 32, 1), "Progressbar and preview update period (ms)"
    return {
        "return_grid": OptionInfo(True, "Show grid in gallery"),
        "show_progress_every_n_steps": OptionInfo(5, "Live preview display period", gr.Slider, every),
        "live_preview_refresh_period": OptionInfo(500, period, gr.Number),
    }
