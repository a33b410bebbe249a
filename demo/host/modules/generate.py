"""What the Generate buttons do: the controls' values as a job, run through the scripts."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import gradio as gr

from modules import processing, scripts, shared
from modules.infotext_utils import image_from_url_text, parse_generation_parameters
from modules.ui_common import gallery_files, plaintext_to_html


def make_job(
    tabname: str, values: dict[str, Any], script_args: tuple[Any, ...], request: gr.Request | None
) -> Any:
    """`values`: the processing class's arguments as the tab's controls give them."""
    opts = shared.opts
    cls = getattr(
        processing, f"StableDiffusionProcessing{tabname[0].upper()}{tabname[1:]}".replace("2img", "2Img")
    )
    whole = (
        "n_iter",
        "batch_size",
        "width",
        "height",
        "steps",
        "hr_second_pass_steps",
        "hr_resize_x",
        "hr_resize_y",
    )
    values = {key: int(value) if key in whole else value for key, value in values.items()}
    if values.get("hr_upscaler") == "":
        values["hr_upscaler"] = None
    p = cls(
        outpath_samples=opts.outdir_samples or getattr(opts, f"outdir_{tabname}_samples"),
        outpath_grids=opts.outdir_grids or getattr(opts, f"outdir_{tabname}_grids"),
        **values,
    )
    p.user = getattr(request, "username", None)
    p.scripts = scripts.scripts_txt2img if tabname == "txt2img" else scripts.scripts_img2img
    p.script_args = script_args
    return p


def run(p: Any) -> processing.Processed:
    """The selected dropdown script, or else the job itself."""
    processed = p.scripts.run(p, *p.script_args)
    return processing.process_images(p) if processed is None else processed


def txt2img(
    id_task: str, request: gr.Request, values: dict[str, Any], script_args: tuple[Any, ...]
) -> tuple[Any, ...]:
    return _shown("txt2img", values, script_args, request)


def img2img(
    id_task: str, request: gr.Request, values: dict[str, Any], script_args: tuple[Any, ...]
) -> tuple[Any, ...]:
    image = values.pop("init_image")
    if image is None:
        raise ValueError("img2img needs an image: drop one in, or send one from txt2img")
    return _shown("img2img", {**values, "init_images": [image]}, script_args, request)


def _shown(
    tabname: str, values: dict[str, Any], script_args: tuple[Any, ...], request: gr.Request | None
) -> tuple[Any, ...]:
    with closing(make_job(tabname, values, script_args, request)) as p:
        processed = run(p)
    pictures = [] if shared.opts.do_not_show_images else processed.images
    return (
        gallery_files(pictures),
        processed.js(),
        plaintext_to_html(processed.info),
        plaintext_to_html(processed.comments, classname="comments"),
    )


def txt2img_upscale(
    id_task: str,
    request: gr.Request,
    gallery: list[Any],
    index: int,
    generation_info: str,
    values: dict[str, Any],
    script_args: tuple[Any, ...],
) -> tuple[Any, ...]:
    """The ✨ button: hires fix over the selected image, which takes its place in the gallery."""
    info, index = json.loads(generation_info), max(int(index), 0)
    parameters = parse_generation_parameters(info["infotexts"][index], [])
    values = {**values, "enable_hr": True, "batch_size": 1, "n_iter": 1, "seed": parameters.get("Seed", -1)}
    with closing(make_job("txt2img", values, script_args, request)) as p:
        p.txt2img_upscale = True
        p.firstpass_image = image_from_url_text(gallery[index])
        processed = run(p)
    shown = [item[0] if isinstance(item, tuple) else item for item in gallery]
    shown[index : index + 1] = gallery_files(processed.images)
    info["infotexts"][index : index + 1] = processed.infotexts
    return (
        shown,
        json.dumps(info),
        plaintext_to_html(processed.info),
        plaintext_to_html(processed.comments, "comments"),
    )
