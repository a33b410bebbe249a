"""The settings this host knows: the part of a WebUI's that touches what an extension sees."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from modules.options import OptionInfo, options_section
from modules.paths_internal import data_path, default_output_dir

OUT = Path(default_output_dir)
FORMATS = {"choices": ["png", "jpg", "webp"]}


def _slider(low: float, high: float, step: float) -> dict[str, float]:
    return {"minimum": low, "maximum": high, "step": step}


def build() -> dict[str, OptionInfo]:
    return {
        **options_section(("saving-images", "Saving images/grids"), _saving()),
        **options_section(("saving-paths", "Paths for saving"), _paths()),
        **options_section(("sd", "Stable Diffusion"), _model()),
        **options_section(("infotext", "Infotext"), _infotext()),
        **options_section(("ui", "Live previews and UI"), _ui()),
    }


def _saving() -> dict[str, OptionInfo]:
    return {
        "samples_save": OptionInfo(True, "Always save all generated images"),
        "samples_format": OptionInfo("png", "File format for images", gr.Dropdown, FORMATS),
        "samples_filename_pattern": OptionInfo("", "Images filename pattern"),
        "save_images_add_number": OptionInfo(True, "Add number to filename when saving"),
        "save_images_replace_action": OptionInfo(
            "Replace",
            "Saving the image to an existing file",
            gr.Radio,
            {"choices": ["Replace", "Add number suffix"]},
        ),
        "grid_save": OptionInfo(True, "Always save all generated image grids"),
        "grid_format": OptionInfo("png", "File format for grids", gr.Dropdown, FORMATS),
        "grid_extended_filename": OptionInfo(False, "Add extended info to filename when saving grid"),
        "grid_only_if_multiple": OptionInfo(True, "Do not save grids consisting of one picture"),
        "grid_prevent_empty_spots": OptionInfo(False, "Prevent empty spots in grid"),
        "n_rows": OptionInfo(
            -1, "Grid row count; -1: automatic, 0: batch size", gr.Slider, _slider(-1, 16, 1)
        ),
        "font": OptionInfo("", "Font for image grids that have text"),
        "grid_background_color": OptionInfo("#ffffff", "Background color for image grids", gr.ColorPicker),
        "save_images_before_highres_fix": OptionInfo(False, "Save a copy of image before applying hires fix"),
        "save_mask": OptionInfo(False, "For inpainting, save a copy of the greyscale mask"),
        "save_mask_composite": OptionInfo(False, "For inpainting, save a masked composite"),
        "save_txt": OptionInfo(False, "Write infotext to a .txt file next to every image"),
        "jpeg_quality": OptionInfo(80, "Quality for saved jpeg images", gr.Slider, _slider(1, 100, 1)),
        "webp_lossless": OptionInfo(False, "Use lossless compression for webp images"),
        "use_original_name_batch": OptionInfo(True, "Use original name in the Extras tab's batch"),
        "save_selected_only": OptionInfo(True, "The Save button saves the selected image only"),
        "save_write_log_csv": OptionInfo(True, "The Save button writes log.csv"),
        "save_incomplete_images": OptionInfo(False, "Save incomplete images"),
    }


def _paths() -> dict[str, OptionInfo]:
    return {
        "outdir_samples": OptionInfo("", "Output directory for images; if empty, the three below"),
        "outdir_txt2img_samples": OptionInfo(
            str(OUT / "txt2img-images"), "Output directory for txt2img images"
        ),
        "outdir_img2img_samples": OptionInfo(
            str(OUT / "img2img-images"), "Output directory for img2img images"
        ),
        "outdir_extras_samples": OptionInfo(
            str(OUT / "extras-images"), "Output directory for the Extras tab"
        ),
        "outdir_grids": OptionInfo("", "Output directory for grids; if empty, the two below"),
        "outdir_txt2img_grids": OptionInfo(str(OUT / "txt2img-grids"), "Output directory for txt2img grids"),
        "outdir_img2img_grids": OptionInfo(str(OUT / "img2img-grids"), "Output directory for img2img grids"),
        "outdir_save": OptionInfo(str(Path(data_path) / "log" / "images"), "Directory of the Save button"),
        "save_to_dirs": OptionInfo(True, "Save images to a subdirectory"),
        "grid_save_to_dirs": OptionInfo(True, "Save grids to a subdirectory"),
        "use_save_to_dirs_for_ui": OptionInfo(
            False, 'When using "Save" button, save images to a subdirectory'
        ),
        "directories_filename_pattern": OptionInfo("[date]", "Directory name pattern"),
        "directories_max_prompt_words": OptionInfo(
            8, "Max words for [prompt_words]", gr.Slider, _slider(1, 20, 1)
        ),
    }


def _model() -> dict[str, OptionInfo]:
    from modules import sd_models, sd_vae

    return {
        "sd_model_checkpoint": OptionInfo(
            None,
            "Stable Diffusion checkpoint",
            gr.Dropdown,
            lambda: {"choices": sd_models.checkpoint_tiles()},
            refresh=sd_models.list_models,
            infotext="Model hash",
        ),
        "sd_vae": OptionInfo(
            "Automatic",
            "SD VAE",
            gr.Dropdown,
            lambda: {"choices": ["Automatic", "None", *sd_vae.vae_dict]},
            refresh=sd_vae.refresh_vae_list,
            infotext="VAE",
        ),
        "CLIP_stop_at_last_layers": OptionInfo(
            1, "Clip skip", gr.Slider, _slider(1, 12, 1), infotext="Clip skip"
        ),
        "upscaler_for_img2img": OptionInfo("None", "Upscaler for img2img"),
        "img2img_background_color": OptionInfo("#ffffff", "Background of transparent inputs", gr.ColorPicker),
        "return_mask": OptionInfo(False, "For inpainting, include the greyscale mask in results"),
        "return_mask_composite": OptionInfo(False, "For inpainting, include masked composite in results"),
    }


def _infotext() -> dict[str, OptionInfo]:
    return {
        "enable_pnginfo": OptionInfo(True, "Write infotext to metadata of the generated image"),
        "add_model_hash_to_info": OptionInfo(True, "Add model hash to infotext"),
        "add_model_name_to_info": OptionInfo(True, "Add model name to infotext"),
        "add_vae_hash_to_info": OptionInfo(True, "Add VAE hash to infotext"),
        "add_vae_name_to_info": OptionInfo(True, "Add VAE name to infotext"),
        "add_version_to_infotext": OptionInfo(True, "Add program version to infotext"),
        "infotext_skip_pasting": OptionInfo(
            [], "Disregard fields from pasted infotext", gr.Dropdown, {"multiselect": True, "choices": []}
        ),
    }


def _ui() -> dict[str, OptionInfo]:
    return {
        "return_grid": OptionInfo(True, "Show grid in gallery"),
        "do_not_show_images": OptionInfo(False, "Do not show any images in gallery"),
        "send_seed": OptionInfo(True, "Send seed when sending prompt or image to other interface"),
        "send_size": OptionInfo(True, "Send size when sending prompt or image to other interface"),
        "live_previews_enable": OptionInfo(True, "Show live previews of the created image"),
        "live_previews_image_format": OptionInfo(
            "png", "Live preview file format", gr.Radio, {"choices": ["png"]}
        ),
        "show_progress_every_n_steps": OptionInfo(
            5, "Live preview display period", gr.Slider, _slider(-1, 32, 1)
        ),
        "live_preview_refresh_period": OptionInfo(500, "Progressbar and preview update period", gr.Number),
        "postprocessing_operation_order": OptionInfo([], "Postprocessing operation order"),
        "disabled_extensions": OptionInfo([], "Disable these extensions"),
    }
