"""The results of a tab: gallery, infotext, log, and the buttons under them."""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
from PIL import Image

from modules import call_queue, images, infotext_utils, scripts, shared
from modules.infotext_utils import ParamBinding, image_from_url_text
from modules.ui_components import ToolButton

LOG_COLUMNS = (
    "prompt seed width height sampler cfgs steps filename negative_prompt sd_model_name sd_model_hash"
).split()


def plaintext_to_html(text: str, classname: str | None = None) -> str:
    content = "<br>\n".join(html.escape(line) for line in (text or "").split("\n"))
    return f"<p class='{classname}'>{content}</p>" if classname else f"<p>{content}</p>"


def gallery_files(pictures: list[Any]) -> list[str]:
    """Images as files a browser can show: the saved one, or a PNG with the infotext among temporary files."""
    return [_gallery_file(picture) for picture in pictures or []]


def _gallery_file(picture: Any) -> str:
    if not isinstance(picture, Image.Image):
        return picture
    saved = getattr(picture, "already_saved_as", None)
    if saved and Path(saved).is_file():
        return saved
    folder = Path(tempfile.gettempdir()) / "demo-host-gallery"
    folder.mkdir(exist_ok=True)
    geninfo = picture.info.get("parameters")
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    name = hashlib.sha256(buffer.getvalue() + (geninfo or "").encode()).hexdigest()[:16]
    path = folder / f"{name}.png"
    images.save_image_with_geninfo(picture, geninfo, str(path))
    return str(path)


def update_generation_info(generation_info: str, html_info: str, img_index: int) -> str:
    """The infotext of the selected image."""
    try:
        infotexts = json.loads(generation_info)["infotexts"]
    except (ValueError, KeyError, TypeError):
        return html_info
    index = int(img_index)
    return plaintext_to_html(infotexts[index]) if 0 <= index < len(infotexts) else html_info


def save_files(js_data: str, pictures: list[Any], index: int) -> tuple[Any, str]:
    """The Save button: the selected image, or all, into outdir_save, with a line each in log.csv."""
    opts, data = shared.opts, json.loads(js_data)
    p = SimpleNamespace(**data)  # not the job, only what the page was told of it
    start, index = 0, int(index)
    if index >= max(data["index_of_first_image"], 0) and opts.save_selected_only:
        pictures, start = [pictures[index]], index
    files, first = [], {}
    for number, filedata in enumerate(pictures, start):
        p.batch_index = number - 1
        info = data["infotexts"][number]
        parameters = infotext_utils.parse_generation_parameters(info, [])
        first = first or parameters
        name, text_file = images.save_image(
            image_from_url_text(filedata),
            opts.outdir_save,
            "",
            seed=parameters.get("Seed"),
            prompt=parameters["Prompt"],
            extension=opts.samples_format,
            info=info,
            grid=number < data["index_of_first_image"],
            p=p,
            save_to_dirs=opts.use_save_to_dirs_for_ui,
        )
        files += [name, *([text_file] if text_file else [])]
    if opts.save_write_log_csv and files:
        _log(data, first, files[0])
    names = ", ".join(str(Path(file).relative_to(opts.outdir_save)) for file in files)
    return gr.update(value=files, visible=True), plaintext_to_html(f"Saved: {names}")


def _log(data: dict[str, Any], parameters: dict[str, Any], filename: str) -> None:
    log = Path(shared.opts.outdir_save) / "log.csv"
    values = [
        parameters["Prompt"],
        parameters.get("Seed"),
        data["width"],
        data["height"],
        data["sampler_name"],
    ]
    values += [data["cfg_scale"], data["steps"], Path(filename).name, parameters["Negative prompt"]]
    values += [data["sd_model_name"], data["sd_model_hash"]]
    new = not log.is_file()
    with log.open("a", encoding="utf8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([*([LOG_COLUMNS] if new else []), values])


@dataclass
class OutputPanel:
    gallery: Any
    generation_info: Any
    infotext: Any
    html_log: Any
    button_upscale: Any = None

    @property
    def outputs(self) -> list[Any]:
        return [self.gallery, self.generation_info, self.infotext, self.html_log]


def create_output_panel(tabname: str, outdir: str) -> OutputPanel:
    with gr.Column(variant="panel", elem_id=f"{tabname}_results"):
        with gr.Group(elem_id=f"{tabname}_gallery_container"):
            gallery = gr.Gallery(
                label="Output",
                show_label=False,
                elem_id=f"{tabname}_gallery",
                columns=4,
                preview=True,
                type="filepath",
                interactive=False,
                object_fit="contain",
            )
        with gr.Row(elem_id=f"image_buttons_{tabname}", elem_classes="image-buttons"):
            save = ToolButton("💾", elem_id=f"save_{tabname}") if tabname != "extras" else None
            senders = {
                "img2img": ToolButton("🖼️", elem_id=f"{tabname}_send_to_img2img"),
                "extras": ToolButton("📐", elem_id=f"{tabname}_send_to_extras"),
            }
            upscale = ToolButton("✨", elem_id=f"{tabname}_upscale") if tabname == "txt2img" else None
        if tabname == "extras":
            info = gr.HTML(elem_id=f"html_info_x_{tabname}")
            panel = OutputPanel(gallery, info, gr.HTML(elem_id=f"html_info_{tabname}"), None)
            panel.html_log = gr.HTML(elem_id=f"html_log_{tabname}")
        else:
            panel = _info_panel(tabname, gallery, save)
        panel.button_upscale = upscale
        _register_senders(tabname, senders, gallery)
    return panel


def _info_panel(tabname: str, gallery: Any, save: Any) -> OutputPanel:
    files = gr.File(
        None, file_count="multiple", interactive=False, visible=False, elem_id=f"download_files_{tabname}"
    )
    with gr.Group():
        infotext = gr.HTML(elem_id=f"html_info_{tabname}", elem_classes="infotext")
        html_log = gr.HTML(elem_id=f"html_log_{tabname}", elem_classes="html-log")
        info = gr.Textbox(visible=False, elem_id=f"generation_info_{tabname}")
        selected = gr.Number(-1, visible=False, elem_id=f"{tabname}_selected_index")
        button = gr.Button(visible=False, elem_id=f"{tabname}_generation_info_button")
    button.click(
        fn=update_generation_info,
        _js="(x, y, z) => [x, y, selected_gallery_index()]",
        inputs=[info, infotext, selected],
        outputs=[infotext],
        show_progress=False,
    )
    save.click(
        fn=call_queue.wrap_gradio_call_no_job(save_files, extra_outputs=[gr.update()]),
        _js="(x, y, z) => [x, y, selected_gallery_index()]",
        inputs=[info, gallery, selected],
        outputs=[files, html_log],
        show_progress=False,
    )
    return OutputPanel(gallery, info, infotext, html_log)


def _register_senders(tabname: str, senders: dict[str, Any], gallery: Any) -> None:
    runner = scripts.scripts_img2img if tabname == "img2img" else scripts.scripts_txt2img
    for target, button in senders.items():
        infotext_utils.register_paste_params_button(
            ParamBinding(
                button,
                target,
                source_image_component=gallery,
                source_tabname="txt2img" if tabname == "txt2img" else None,
                paste_field_names=runner.paste_field_names,
            )
        )


def create_refresh_button(
    refresh_component: Any, refresh_method: Any, refreshed_args: Any, elem_id: str
) -> Any:
    def refresh() -> Any:
        refresh_method()
        return gr.update(**((refreshed_args() if callable(refreshed_args) else refreshed_args) or {}))

    button = ToolButton("\U0001f504", elem_id=elem_id)
    button.click(fn=refresh, inputs=[], outputs=[refresh_component])
    return button
