"""What the Generate buttons do: the controls' values as a job, run through the scripts."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

from modules import processing, scripts, shared
from modules.infotext_utils import image_from_url_text, parse_generation_parameters
from modules.ui_common import gallery_files, plaintext_to_html

CLASSES = {
    "txt2img": processing.StableDiffusionProcessingTxt2Img,
    "img2img": processing.StableDiffusionProcessingImg2Img,
}
WHOLE = {"n_iter", "batch_size", "width", "height", "steps", "hr_second_pass_steps"}

Values = dict[str, Any]
"""The processing class's arguments as the tab's controls give them."""


def run(tab: str, values: Values, script_args: tuple[Any, ...], **more: Any) -> processing.Processed:
    """The selected dropdown script, or else the job itself."""
    opts = shared.opts
    given = {key: int(value) if key in WHOLE else value for key, value in values.items()}
    folders = {f"outpath_{kind}": getattr(opts, f"outdir_{tab}_{kind}") for kind in ("samples", "grids")}
    with closing(CLASSES[tab](**given, **folders)) as p:
        p.scripts = scripts.scripts_txt2img if tab == "txt2img" else scripts.scripts_img2img
        p.script_args = script_args
        for name, value in more.items():
            setattr(p, name, value)
        return p.scripts.run(p, *p.script_args) or processing.process_images(p)


def generate(tab: str, values: Values, script_args: tuple[Any, ...]) -> tuple[Any, ...]:
    if tab == "img2img":
        image = values.pop("init_image")
        if image is None:
            raise ValueError("img2img needs an image: drop one in, or send one from txt2img")
        values["init_images"] = [image]
    processed = run(tab, values, script_args)
    return (gallery_files(processed.images), processed.js(), *_texts(processed))


def upscale(
    gallery: list[Any], index: float, generation_info: str, values: Values, script_args: tuple[Any, ...]
) -> tuple[Any, ...]:
    """The ✨ button: hires fix over the selected image, which takes its place in the gallery."""
    info, index = json.loads(generation_info), max(int(index), 0)
    seed = parse_generation_parameters(info["infotexts"][index]).get("Seed", -1)
    values = {**values, "enable_hr": True, "batch_size": 1, "n_iter": 1, "seed": seed}
    first = image_from_url_text(gallery[index]).convert("RGB")
    processed = run("txt2img", values, script_args, txt2img_upscale=True, firstpass_image=first)
    shown = [item[0] if isinstance(item, tuple) else item for item in gallery]
    shown[index : index + 1] = gallery_files(processed.images)
    info["infotexts"][index : index + 1] = processed.infotexts
    return (shown, json.dumps(info), *_texts(processed))


def _texts(processed: processing.Processed) -> tuple[str, str]:
    return plaintext_to_html(processed.info), plaintext_to_html(processed.comments)
