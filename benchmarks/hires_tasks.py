"""The small WebUI makes images with hires fix and a limit that half of them fail; its UNet's work is counted."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any


def accepted(images: int, steps: int, hires_first: bool) -> dict[str, Any]:
    """Evaluations x latent pixels of the UNet per image that passes, and how many passed."""
    from demo import start

    start.prepare(["--skip-install", "--data-dir", str(Path.cwd())])
    import webui
    from fastapi import FastAPI
    from modules import script_callbacks, shared
    from modules.api.api import Api, Txt2ImgRequest
    from modules.call_queue import queue_lock

    webui.initialize()
    script_callbacks.before_ui_callback()
    api = Api(FastAPI(), queue_lock)
    size = webui.ui.native_size()
    work = 0

    def count(module: Any, arguments: Any, named: Any = None) -> None:
        nonlocal work
        latents = arguments[0] if arguments else named["sample"]
        work += latents.shape[0] * latents.shape[-1] * latents.shape[-2]

    saved: list[Any] = []
    script_callbacks.on_image_saved(lambda params: saved.append(params.image))

    def make(hires: bool, **wish: Any) -> list[float]:
        from imagereward_ext.metadata import records
        from imagereward_ext.webui.scoring_script import ImageRewardScript

        saved.clear()
        hires_settings = {
            "enable_hr": True,
            "hr_scale": 2,
            "hr_upscaler": "Latent",
            "denoising_strength": 0.7,  # the WebUI's own default
        }
        request = Txt2ImgRequest(
            prompt="a large red circle on a blue background", n_iter=images, seed=1, steps=steps,
            cfg_scale=start.GUIDANCE, width=size, height=size, save_images=True, send_images=False,
            script_name=ImageRewardScript().title(), script_args=[{"scorer": start.scorer(), **wish}],
            **(hires_settings if hires else {}),
        )  # fmt: skip
        api.text2imgapi(request)
        files = [Path(image.already_saved_as) for image in saved]
        return [records.read(f).marks()[0].value for f in files if not f.name.startswith("grid-")]

    small = make(False)
    limit = median(small)
    hook = shared.sd_model.unet.register_forward_pre_hook(count, with_kwargs=True)
    scores = make(True, filter_low=True, limit=limit, hires_for_passing=hires_first)
    hook.remove()
    passed = sum(score >= limit for score in small)
    return {
        "work": work,
        "drafts_passed": passed,
        "finished": len(scores),
        "work_per_accepted": work / passed,
    }
