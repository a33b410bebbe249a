"""Upscaling in the Extras tab."""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import images, scripts_postprocessing, shared


class ScriptPostprocessingUpscale(scripts_postprocessing.ScriptPostprocessing):
    name = "Upscale"
    order = 1000

    def ui(self) -> dict[str, Any]:
        with gr.Row():
            enabled = gr.Checkbox(False, label="Upscale", elem_id="extras_upscale_enabled")
            scale = gr.Slider(
                1.0, 4.0, value=2.0, step=0.5, label="Resize", elem_id="extras_upscaling_resize"
            )
            names = [upscaler.name for upscaler in shared.sd_upscalers]
            upscaler = gr.Dropdown(names, value="Lanczos", label="Upscaler 1", elem_id="extras_upscaler_1")
        return {"upscale_enabled": enabled, "upscale_by": scale, "upscaler_1_name": upscaler}

    def process(
        self,
        pp: scripts_postprocessing.PostprocessedImage,
        upscale_enabled: bool = False,
        upscale_by: float = 2.0,
        upscaler_1_name: str = "None",
    ) -> None:
        if not upscale_enabled or upscaler_1_name in (None, "None") or upscale_by == 1:
            return
        width, height = (int(n * upscale_by) for n in pp.image.size)
        pp.image = images.resize_image(0, pp.image, width, height, upscaler_name=upscaler_1_name)
        pp.info["Postprocess upscale by"] = upscale_by
        pp.info["Postprocess upscaler"] = upscaler_1_name
