"""Upscaling in the Extras tab."""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import images, scripts_postprocessing, shared


class ScriptPostprocessingUpscale(scripts_postprocessing.ScriptPostprocessing):
    name = "Upscale"

    def ui(self) -> dict[str, Any]:
        names = [upscaler.name for upscaler in shared.sd_upscalers]
        enabled = gr.Checkbox(False, label="Upscale", elem_id="extras_upscale_enabled")
        scale = gr.Slider(1.0, 4.0, value=2.0, step=0.5, label="Resize", elem_id="extras_upscaling_resize")
        upscaler = gr.Dropdown(names, value="Lanczos", label="Upscaler 1", elem_id="extras_upscaler_1")
        return {"upscale_enabled": enabled, "upscale_by": scale, "upscaler_1_name": upscaler}

    def process(
        self,
        pp: scripts_postprocessing.PostprocessedImage,
        upscale_enabled: bool = False,
        upscale_by: float = 2.0,
        upscaler_1_name: str = "Lanczos",
    ) -> None:
        if not upscale_enabled or upscale_by == 1:
            return
        width, height = (int(n * upscale_by) for n in pp.image.size)
        pp.image = images.resize_image(0, pp.image, width, height, upscaler_name=upscaler_1_name)
        pp.info |= {"Postprocess upscale by": upscale_by, "Postprocess upscaler": upscaler_1_name}
