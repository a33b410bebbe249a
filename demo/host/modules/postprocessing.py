"""The Extras tab's work: one image or a folder through the postprocessing scripts, and saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from modules import images, infotext_utils, scripts, shared
from modules.scripts_postprocessing import PostprocessedImage
from modules.ui_common import gallery_files, plaintext_to_html

ONE_IMAGE, FOLDER = 0, 1


def run_tab(mode: int, image: Any, input_dir: str, output_dir: str, *values: Any) -> tuple[Any, str, str]:
    """What Generate makes of the tab: files for the gallery, the last one's infotext, the log."""
    if mode == FOLDER:
        if not input_dir:
            raise ValueError("input directory not selected")
        work = [(path, path.stem) for path in sorted(Path(input_dir).iterdir()) if path.is_file()]
    else:
        if image is None:
            raise ValueError("image not selected")
        work = [(image, None)]
    folder = output_dir if mode == FOLDER and output_dir else shared.opts.outdir_extras_samples
    arguments = scripts.scripts_postproc.by_name(values)
    shared.state.job_count = len(work)
    made, infotext = [], ""
    for source, name in work:
        shared.state.nextjob()
        if shared.state.interrupted:
            break
        try:
            picture = images.read(source) if isinstance(source, Path) else source
        except OSError:
            continue  # not an image
        result, infotext, texts = process(picture, arguments)
        made.append(result)
        images.save_image(
            result,
            folder,
            "",
            extension=shared.opts.samples_format,
            info=infotext,
            short_filename=True,
            pnginfo_section_name="extras",
            existing_info=texts,
            forced_filename=name,
            save_to_dirs=False,
        )
    return gallery_files(made), plaintext_to_html(infotext), ""


def process(
    picture: Image.Image, arguments: dict[str, dict[str, Any]]
) -> tuple[Image.Image, str, dict[str, Any]]:
    """The result, what the scripts say of it, and the texts that the picture carried before."""
    info = picture.info
    picture = picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB")
    picture.info = info
    parameters, texts = images.read_info_from_image(picture)
    texts |= {"parameters": parameters} if parameters else {}
    pp = PostprocessedImage(picture)
    scripts.scripts_postproc.run(pp, arguments)
    infotext = infotext_utils.parameter_line(pp.info)
    if shared.opts.enable_pnginfo:
        pp.image.info = {**texts, "postprocessing": infotext}
    return pp.image, infotext, texts
