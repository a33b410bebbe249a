"""The HTTP API: the routes of a WebUI that scripts and scenarios use."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from contextlib import closing
from functools import wraps
from secrets import compare_digest
from typing import Any

import gradio as gr
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from PIL import Image, PngImagePlugin

from modules import (
    errors,
    images,
    infotext_utils,
    postprocessing,
    progress,
    script_callbacks,
    scripts,
    sd_models,
    sd_samplers,
    shared,
    ui,
)
from modules.api import models
from modules.processing import (
    StableDiffusionProcessingImg2Img,
    StableDiffusionProcessingTxt2Img,
    process_images,
)

Txt2ImgRequest = models.StableDiffusionTxt2ImgProcessingAPI
Img2ImgRequest = models.StableDiffusionImg2ImgProcessingAPI


def decode_base64_to_image(encoding: str) -> Image.Image:
    try:
        return images.read(io.BytesIO(base64.b64decode(encoding.split(",", 1)[-1])))
    except Exception as e:
        raise HTTPException(status_code=500, detail="Invalid encoded image") from e


def encode_pil_to_base64(image: Image.Image) -> str:
    """In the format of the settings, with the infotext inside."""
    buffer = io.BytesIO()
    extension = shared.opts.samples_format.lower()
    if extension == "png":
        info = PngImagePlugin.PngInfo()
        for key, value in image.info.items():
            if isinstance(key, str) and isinstance(value, str):
                info.add_text(key, value)
        image.save(buffer, format="PNG", pnginfo=info)
    else:
        exif = images.exif_with(image.info.get("parameters") or "")
        image.convert("RGB").save(
            buffer,
            format="WEBP" if extension == "webp" else "JPEG",
            exif=exif,
            quality=shared.opts.jpeg_quality,
        )
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _answer_errors(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """A failure becomes a WebUI's JSON answer."""

    @wraps(endpoint)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return endpoint(*args, **kwargs)
        except Exception as e:
            status = getattr(e, "status_code", 500)
            if not isinstance(e, HTTPException):
                errors.report(f"API error: {type(e).__name__}: {e}", exc_info=True)
            answer = {
                "error": type(e).__name__,
                "detail": getattr(e, "detail", ""),
                "body": "",
                "errors": str(e),
            }
            return JSONResponse(status_code=status, content=answer)

    return call


class Api:
    def __init__(self, app: FastAPI, queue_lock: Any):
        self.app, self.queue_lock = app, queue_lock
        pairs = [pair.split(":", 1) for pair in (shared.cmd_opts.api_auth or "").split(",") if pair]
        self.credentials = {user: password for user, password in pairs}  # noqa: C416  # a list of lists
        for path, endpoint, method in self._routes():
            dependencies = [Depends(self.auth)] if self.credentials else None
            app.add_api_route(
                f"/sdapi/v1/{path}",
                _answer_errors(endpoint),
                methods=[method],
                dependencies=dependencies,
                response_model=None,
            )
        if not scripts.scripts_txt2img.scripts:
            ui.create_ui()
        self.defaults = {
            runner: self._default_script_args(runner)
            for runner in (scripts.scripts_txt2img, scripts.scripts_img2img)
        }

    def _routes(self) -> list[tuple[str, Callable[..., Any], str]]:
        return [
            ("txt2img", self.text2imgapi, "POST"),
            ("img2img", self.img2imgapi, "POST"),
            ("extra-single-image", self.extras_single_image_api, "POST"),
            ("png-info", self.pnginfoapi, "POST"),
            ("progress", self.progressapi, "GET"),
            ("interrupt", self.interruptapi, "POST"),
            ("skip", self.skip, "POST"),
            ("options", self.get_config, "GET"),
            ("options", self.set_config, "POST"),
            ("cmd-flags", self.get_cmd_flags, "GET"),
            ("samplers", self.get_samplers, "GET"),
            ("upscalers", self.get_upscalers, "GET"),
            ("sd-models", self.get_sd_models, "GET"),
            ("prompt-styles", self.get_prompt_styles, "GET"),
            ("loras", self.get_loras, "GET"),
            ("refresh-checkpoints", self.refresh_checkpoints, "POST"),
            ("unload-checkpoint", self.unloadapi, "POST"),
            ("reload-checkpoint", self.reloadapi, "POST"),
            ("scripts", self.get_scripts_list, "GET"),
            ("script-info", self.get_script_info, "GET"),
            ("server-restart", self.restart_webui, "POST"),
            ("server-stop", self.stop_webui, "POST"),
        ]

    def auth(self, credentials: HTTPBasicCredentials = Depends(HTTPBasic())) -> bool:  # noqa: B008
        password = self.credentials.get(credentials.username)
        if password is not None and compare_digest(credentials.password.encode(), password.encode()):
            return True
        raise HTTPException(401, "Incorrect username or password", headers={"WWW-Authenticate": "Basic"})

    # ---- scripts in requests

    def _default_script_args(self, runner: scripts.ScriptRunner) -> list[Any]:
        """Each control's own value. A WebUI calls every ui() twice more for this, and so does this host."""
        args: list[Any] = [None] * max([1, *(script.args_to or 0 for script in runner.scripts)])
        args[0] = 0
        with gr.Blocks(analytics_enabled=False):
            for script in runner.scripts:
                if script.ui(script.is_img2img):
                    controls = script.ui(script.is_img2img) or []
                    args[script.args_from : script.args_to] = [control.value for control in controls]
        return args

    def _find(self, name: str, among: list[scripts.Script]) -> int:
        titles = [script.title().lower() for script in among]
        if name.lower() not in titles:
            raise HTTPException(422, f"Script '{name}' not found")
        return titles.index(name.lower())

    def _script_args(self, request: Any, runner: scripts.ScriptRunner) -> list[Any]:
        """Position 0: the dropdown's index. Missing always-on arguments keep their controls' values."""
        args = list(self.defaults[runner])
        if request.script_name:
            index = self._find(request.script_name, runner.selectable_scripts)
            script = runner.selectable_scripts[index]
            args[script.args_from : script.args_to] = request.script_args
            args[0] = index + 1
        for name, given in (request.alwayson_scripts or {}).items():
            script = runner.scripts[self._find(name, runner.scripts)]
            if not script.alwayson:
                raise HTTPException(422, "Cannot have a selectable script in the always on scripts params")
            values = given.get("args", []) if isinstance(given, dict) else None
            if not isinstance(values, list):
                raise HTTPException(422, f'Script {name!r} takes {{"args": [...]}}, a list')
            values = values[: script.args_to - script.args_from]
            args[script.args_from : script.args_from + len(values)] = values
        return args

    # ---- generating

    def _job_arguments(self, request: Any, tabname: str) -> dict[str, Any]:
        """The request as arguments of a processing class."""
        given = dict(request)
        if request.infotext:
            given.update(self._from_infotext(request, tabname))
        name = (given["sampler_name"] or given["sampler_index"] or "").lower()
        sampler = sd_samplers.samplers_map.get(
            name, sd_samplers.all_samplers[0].name
        )  # an unknown one is no error
        for field in (*models.EXTRA_FIELDS, "include_init_images", "init_images", "mask"):
            given.pop(field, None)
        saving = {"do_not_save_samples": not request.save_images, "do_not_save_grid": not request.save_images}
        return {**given, "sampler_name": sampler, **saving}

    def _from_infotext(self, request: Any, tabname: str) -> dict[str, Any]:
        """Fields the request leaves open and its `infotext` names."""
        params = infotext_utils.parse_generation_parameters(request.infotext)
        found = {}
        for name, key in ui.API_FIELDS.items():
            if name not in request.model_fields_set and params.get(key) is not None:
                like = getattr(request, name)
                found[name] = type(like)(params[key]) if like is not None else params[key]
        return found

    def _run(
        self, request: Any, runner: scripts.ScriptRunner, make: Callable[[], Any], job: str
    ) -> dict[str, Any]:
        args = self._script_args(request, runner)
        task = request.force_task_id or progress.create_task_id(job)
        tab = job.removeprefix("scripts_")
        progress.add_task_to_queue(task)
        with self.queue_lock, closing(make()) as p:
            p.is_api = True
            p.scripts = runner
            p.outpath_samples = getattr(shared.opts, f"outdir_{tab}_samples")
            p.outpath_grids = getattr(shared.opts, f"outdir_{tab}_grids")
            try:
                shared.state.begin(job=job)
                progress.start_task(task)
                p.script_args = tuple(args)
                processed = runner.run(p, *args) if args[0] else process_images(p)
                progress.finish_task(task)
            finally:
                shared.state.end()
        pictures = [encode_pil_to_base64(image) for image in processed.images] if request.send_images else []
        return {"images": pictures, "parameters": dict(request), "info": processed.js()}

    def text2imgapi(self, txt2imgreq: Txt2ImgRequest) -> dict[str, Any]:
        given = self._job_arguments(txt2imgreq, "txt2img")
        runner = scripts.scripts_txt2img
        return self._run(
            txt2imgreq, runner, lambda: StableDiffusionProcessingTxt2Img(**given), "scripts_txt2img"
        )

    def img2imgapi(self, img2imgreq: Img2ImgRequest) -> dict[str, Any]:
        if not img2imgreq.init_images:
            raise HTTPException(404, "Init image not found")
        given = self._job_arguments(img2imgreq, "img2img")
        given["init_images"] = [decode_base64_to_image(x) for x in img2imgreq.init_images]
        given["mask"] = decode_base64_to_image(img2imgreq.mask) if img2imgreq.mask else None
        runner = scripts.scripts_img2img
        answer = self._run(
            img2imgreq, runner, lambda: StableDiffusionProcessingImg2Img(**given), "scripts_img2img"
        )
        if not img2imgreq.include_init_images:
            answer["parameters"].update(init_images=None, mask=None)
        return answer

    def extras_single_image_api(self, req: models.ExtrasSingleImageRequest) -> dict[str, Any]:
        image = decode_base64_to_image(req.image)
        with self.queue_lock:
            pictures, html_info, _ = postprocessing.run_extras(
                postprocessing.ONE_IMAGE,
                image,
                upscaling_resize=req.upscaling_resize,
                extras_upscaler_1=req.upscaler_1,
            )
        return {"image": encode_pil_to_base64(pictures[0]), "html_info": html_info}

    def pnginfoapi(self, req: models.PNGInfoRequest) -> dict[str, Any]:
        geninfo, items = images.read_info_from_image(decode_base64_to_image(req.image.strip()))
        geninfo = geninfo or ""
        params = infotext_utils.parse_generation_parameters(geninfo)
        script_callbacks.infotext_pasted_callback(geninfo, params)
        return {"info": geninfo, "items": items, "parameters": params}

    # ---- the running job

    def progressapi(self, skip_current_image: bool = False) -> dict[str, Any]:
        state = shared.state
        answer = {"progress": 0.0, "eta_relative": 0.0, "state": state.dict(), "current_image": None}
        answer |= {"textinfo": state.textinfo, "current_task": progress.current_task}
        if state.job_count != 0:
            done, elapsed = max(progress.fraction_done(), 0.01), time.time() - state.time_start
            answer |= {"progress": done, "eta_relative": elapsed / done - elapsed}
            state.set_current_image()
            if state.current_image and not skip_current_image:
                answer["current_image"] = encode_pil_to_base64(state.current_image)
        return answer

    def interruptapi(self) -> dict[str, Any]:
        shared.state.interrupt()
        return {}

    def skip(self) -> None:
        shared.state.skip()

    # ---- settings and lists

    def get_config(self) -> dict[str, Any]:
        return dict(shared.opts.data)

    def set_config(self, req: dict[str, Any]) -> None:
        unknown = [key for key in req if key not in shared.opts.data_labels]
        if unknown:
            raise KeyError(unknown[0])
        wanted = req.get("sd_model_checkpoint")
        if wanted is not None and wanted not in sd_models.checkpoint_aliases:
            raise RuntimeError(f"model {wanted!r} not found")
        for key, value in req.items():
            shared.opts.set(key, value, is_api=True)
        shared.opts.save(shared.config_filename)

    def get_cmd_flags(self) -> dict[str, Any]:
        return vars(shared.cmd_opts)

    def get_samplers(self) -> list[dict[str, Any]]:
        return [
            {"name": s.name, "aliases": s.aliases, "options": s.options} for s in sd_samplers.all_samplers
        ]

    def get_upscalers(self) -> list[dict[str, Any]]:
        return [{"name": u.name, "model_name": None, "scale": u.scale} for u in shared.sd_upscalers]

    def get_sd_models(self) -> list[dict[str, Any]]:
        return [
            {
                "title": x.title,
                "model_name": x.model_name,
                "hash": x.shorthash,
                "sha256": x.sha256,
                "filename": x.filename,
            }
            for x in sd_models.checkpoints_list.values()
        ]

    def get_prompt_styles(self) -> list[dict[str, Any]]:
        return [s._asdict() for s in shared.prompt_styles.styles.values()]

    def get_loras(self) -> list[dict[str, str]]:
        from modules import extra_networks

        return [{"name": name, "path": str(path)} for name, path in extra_networks.available_loras().items()]

    def refresh_checkpoints(self) -> None:
        sd_models.list_models()

    def unloadapi(self) -> dict[str, Any]:
        sd_models.unload_model_weights()
        return {}

    def reloadapi(self) -> dict[str, Any]:
        sd_models.send_model_to_device(shared.sd_model)
        return {}

    def get_scripts_list(self) -> dict[str, list[str]]:
        tabs = {"txt2img": scripts.scripts_txt2img, "img2img": scripts.scripts_img2img}
        return {tab: [s.name for s in runner.scripts if s.name is not None] for tab, runner in tabs.items()}

    def get_script_info(self) -> list[dict[str, Any]]:
        everyone = [*scripts.scripts_txt2img.scripts, *scripts.scripts_img2img.scripts]
        return [script.api_info.model_dump() for script in everyone if script.api_info is not None]

    def restart_webui(self) -> dict[str, Any]:
        shared.state.request_restart()
        return {}

    def stop_webui(self) -> dict[str, Any]:
        shared.state.server_command = "stop"
        return {}
