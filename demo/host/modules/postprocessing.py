"""The Extras tab's work: one image, several, or a folder through the postprocessing scripts, and saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from modules import images, infotext_utils, scripts, scripts_postprocessing, shared, ui_common

ONE_IMAGE, SEVERAL, FOLDER = 0, 1, 2


def _inputs(mode: int, image: Any, image_folder: Any, input_dir: str) -> Iterator[tuple[Any, str | None]]:
    """(image or path, name)"""
    if mode == SEVERAL:
        for item in image_folder or []:
            path = item if isinstance(item, (str, Image.Image)) else item.name
            yield path, None if isinstance(path, Image.Image) else Path(path).stem
    elif mode == FOLDER:
        if not input_dir:
            raise ValueError("input directory not selected")
        for path in shared.listfiles(input_dir):
            yield path, path
    elif image is None:
        raise ValueError("image not selected")
    else:
        yield image, None


def run_postprocessing(
    extras_mode: int,
    image: Any,
    image_folder: Any,
    input_dir: str,
    output_dir: str,
    show_extras_results: bool,
    *args: Any,
    save_output: bool = True,
) -> tuple[list[Any], str, str]:
    opts, state = shared.opts, shared.state
    state.begin(job="extras")
    outpath = (
        output_dir
        if extras_mode == FOLDER and output_dir
        else opts.outdir_samples or opts.outdir_extras_samples
    )
    work = list(_inputs(extras_mode, image, image_folder, input_dir))
    state.job_count = len(work)
    outputs, infotext = [], ""
    for source, name in work:
        state.nextjob()
        state.textinfo, state.skipped = name, False
        if state.interrupted or state.stopping_generation:
            break
        try:
            picture = images.read(source) if isinstance(source, str) else source
        except OSError:
            continue  # not an image
        for pp in _processed(picture, args):
            infotext = _save(pp, outpath, name, save_output)
            if extras_mode != FOLDER or show_extras_results:
                outputs.append(pp.image)
    state.end()
    return outputs, ui_common.plaintext_to_html(infotext), ""


def _processed(
    picture: Image.Image, args: tuple[Any, ...]
) -> list[scripts_postprocessing.PostprocessedImage]:
    info = picture.info
    picture = picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB")
    picture.info = info
    parameters, existing = images.read_info_from_image(picture)
    if parameters:
        existing["parameters"] = parameters
    first = scripts_postprocessing.PostprocessedImage(picture)
    scripts.scripts_postproc.run(first, list(args))
    if shared.state.skipped:
        return []
    made = [first, *first.extra_images]
    for pp in made:
        pp.existing_info = existing
    return made


def _save(pp: Any, outpath: str, name: str | None, save_output: bool) -> str:
    """Write the image with what was known of it before and what the scripts added. Returns the latter."""
    opts = shared.opts
    suffix = pp.get_suffix({})
    infotext = ", ".join(
        key if key == value else f"{key}: {infotext_utils.quote(value)}"
        for key, value in pp.info.items()
        if value is not None
    )
    if opts.enable_pnginfo:
        pp.image.info = {**pp.existing_info, "postprocessing": infotext}
    if save_output:
        keep_name = opts.use_original_name_batch and name is not None
        images.save_image(
            pp.image,
            path=outpath,
            basename="",
            extension=opts.samples_format,
            info=infotext,
            short_filename=True,
            no_prompt=True,
            pnginfo_section_name="extras",
            existing_info=pp.existing_info,
            forced_filename=Path(name).stem + suffix if keep_name else None,
            suffix=suffix,
        )
    return infotext


def run_postprocessing_webui(id_task: str, *args: Any, **kwargs: Any) -> tuple[list[Any], str, str]:
    return run_postprocessing(*args, **kwargs)


def run_extras(
    extras_mode: int,
    image: Any,
    image_folder: Any = None,
    *,
    upscaling_resize: float = 1,
    extras_upscaler_1: str = "None",
) -> tuple[list[Any], str, str]:
    """What the API's extra-single-image asks for."""
    upscale = {"upscale_enabled": True, "upscale_by": upscaling_resize, "upscaler_1_name": extras_upscaler_1}
    args = scripts.scripts_postproc.create_args_for_run({"Upscale": upscale})
    return run_postprocessing(extras_mode, image, image_folder, "", "", True, *args, save_output=False)
