"""The results of a tab: gallery, infotext, log, and the buttons under them."""

from __future__ import annotations

import hashlib
import html
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
from PIL import Image

from modules import call_queue, images, infotext_utils, scripts, shared
from modules.infotext_utils import Sender, image_from_url_text


def tool_button(symbol: str, elem_id: str) -> gr.Button:
    return gr.Button(symbol, elem_id=elem_id, elem_classes=["tool"], scale=0, min_width=44)


def plaintext_to_html(text: str | None) -> str:
    return "<p>{}</p>".format("<br>\n".join(html.escape(line) for line in (text or "").split("\n")))


def gallery_files(pictures: list[Image.Image]) -> list[str]:
    """Images as files a browser can show: the saved one, or a PNG with the infotext among temporary files."""
    return [_gallery_file(picture) for picture in pictures]


def _gallery_file(picture: Image.Image) -> str:
    saved = getattr(picture, "already_saved_as", None)
    if saved and Path(saved).is_file():
        return saved
    content = images.png_with_texts(picture)
    file = (
        Path(tempfile.gettempdir()) / "demo-host-gallery" / f"{hashlib.sha256(content).hexdigest()[:16]}.png"
    )
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return str(file)


def update_generation_info(generation_info: str, html_info: str, index: float) -> str:
    """The infotext of the selected image."""
    infotexts = json.loads(generation_info or "{}").get("infotexts", [])
    return plaintext_to_html(infotexts[int(index)]) if 0 <= index < len(infotexts) else html_info


def save_files(generation_info: str, pictures: list[Any], index: float) -> tuple[Any, str]:
    """The Save button: the selected image into outdir_save."""
    data = json.loads(generation_info)
    number = max(int(index), data["index_of_first_image"])
    text = data["infotexts"][number]
    parameters = infotext_utils.parse_generation_parameters(text)
    p = SimpleNamespace(**data, batch_index=number - 1)  # not the job, only what the page was told of it
    name, text_file = images.save_image(
        image_from_url_text(pictures[number]),
        shared.opts.outdir_save,
        "",
        seed=parameters.get("Seed"),
        prompt=parameters["Prompt"],
        extension=shared.opts.samples_format,
        info=text,
        p=p,
        save_to_dirs=False,
    )
    files = [name, *([text_file] if text_file else [])]
    return gr.update(value=files, visible=True), plaintext_to_html(f"Saved: {Path(name).name}")


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


def create_output_panel(tab: str) -> OutputPanel:
    with gr.Column(variant="panel", elem_id=f"{tab}_results"):
        with gr.Group(elem_id=f"{tab}_gallery_container"):
            gallery = gr.Gallery(
                show_label=False,
                elem_id=f"{tab}_gallery",
                columns=4,
                preview=True,
                type="filepath",
                interactive=False,
                object_fit="contain",
            )
        with gr.Row(elem_id=f"image_buttons_{tab}", elem_classes="image-buttons"):
            save = tool_button("💾", f"save_{tab}") if tab != "extras" else None
            to_img2img = tool_button("🖼️", f"{tab}_send_to_img2img")
            to_extras = tool_button("📐", f"{tab}_send_to_extras")
            upscale = tool_button("✨", f"{tab}_upscale") if tab == "txt2img" else None
        if save is None:
            info = gr.HTML(elem_id=f"html_info_x_{tab}")
            panel = OutputPanel(gallery, info, gr.HTML(visible=False), gr.HTML(elem_id=f"html_log_{tab}"))
        else:
            panel = _info_panel(tab, gallery, save, upscale)
        copied, names = (
            (tab, tuple(scripts.scripts_txt2img.paste_field_names)) if tab == "txt2img" else (None, ())
        )
        infotext_utils.senders += [
            Sender(to_img2img, "img2img", image=gallery, copied_from=copied, field_names=names),
            Sender(to_extras, "extras", image=gallery),
        ]
    return panel


def _info_panel(tab: str, gallery: Any, save: Any, upscale: Any) -> OutputPanel:
    files = gr.File(None, file_count="multiple", interactive=False, visible=False)
    with gr.Group():
        infotext = gr.HTML(elem_id=f"html_info_{tab}", elem_classes="infotext")
        log = gr.HTML(elem_id=f"html_log_{tab}")
        info = gr.Textbox(visible=False, elem_id=f"generation_info_{tab}")
        selected = gr.Number(-1, visible=False)
        button = gr.Button(visible=False, elem_id=f"{tab}_generation_info_button")
    how = {"js": "(x, y, z) => [x, y, selected_gallery_index()]", "show_progress": False}
    button.click(fn=update_generation_info, inputs=[info, infotext, selected], outputs=[infotext], **how)
    saving = call_queue.wrap_gradio_call(save_files, extra_outputs=[gr.update()])
    save.click(fn=saving, inputs=[info, gallery, selected], outputs=[files, log], **how)
    return OutputPanel(gallery, info, infotext, log, upscale)
