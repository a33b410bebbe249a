"""The HTTP API: the routes of a WebUI that scripts and scenarios use."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from contextlib import closing
from functools import wraps
from secrets import compare_digest
from typing import Any

import gradio as gr
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from PIL import Image

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
from modules.api.models import (
    EXTRA_FIELDS,
    ExtrasSingleImageRequest,
    Img2ImgRequest,
    PNGInfoRequest,
    Txt2ImgRequest,
    script_info,
)
from modules.generate import CLASSES
from modules.processing import process_images


def decode_base64_to_image(encoding: str) -> Image.Image:
    try:
        return images.read(io.BytesIO(base64.b64decode(encoding.split(",", 1)[-1])))
    except Exception as e:
        raise HTTPException(status_code=500, detail="Invalid encoded image") from e


def encode_pil_to_base64(image: Image.Image) -> str:
    """In the format of the settings, with the infotext inside."""
    extension = shared.opts.samples_format.lower()
    if extension == "png":
        return base64.b64encode(images.png_with_texts(image)).decode("ascii")
    buffer = io.BytesIO()
    exif = images.exif_with(image.info.get("parameters") or "")
    image.convert("RGB").save(buffer, format="WEBP" if extension == "webp" else "JPEG", exif=exif)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _answer_errors(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """A failure becomes a WebUI's JSON answer."""

    @wraps(endpoint)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return endpoint(*args, **kwargs)
        except Exception as e:
            if not isinstance(e, HTTPException):
                errors.report(f"API error: {type(e).__name__}: {e}", exc_info=True)
            answer = {"error": type(e).__name__, "detail": getattr(e, "detail", ""), "errors": str(e)}
            return JSONResponse(status_code=getattr(e, "status_code", 500), content=answer)

    return call


class Api:
    def __init__(self, app: FastAPI, queue_lock: Any):
        self.queue_lock = queue_lock
        pairs = [pair.partition(":") for pair in (shared.cmd_opts.api_auth or "").split(",") if pair]
        self.credentials = {user: password for user, _, password in pairs}
        for path, endpoint, method in self._routes():
            app.add_api_route(
                f"/sdapi/v1/{path}",
                _answer_errors(endpoint),
                methods=[method],
                dependencies=[Depends(self.auth)] if self.credentials else None,
                response_model=None,
            )
        if not scripts.scripts_txt2img.scripts:  # served without a page
            ui.create_ui()
        self.defaults = {tab: self._default_script_args(runner) for tab, runner in self._runners().items()}

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
            ("sd-models", self.get_sd_models, "GET"),
            ("refresh-checkpoints", self.refresh_checkpoints, "POST"),
            ("scripts", self.get_scripts_list, "GET"),
            ("script-info", self.get_script_info, "GET"),
            ("server-restart", self.restart_webui, "POST"),
        ]

    def auth(self, credentials: HTTPBasicCredentials = Depends(HTTPBasic())) -> bool:  # noqa: B008
        password = self.credentials.get(credentials.username)
        if password is not None and compare_digest(credentials.password.encode(), password.encode()):
            return True
        raise HTTPException(401, "Incorrect username or password", headers={"WWW-Authenticate": "Basic"})

    # ---- scripts in requests

    def _runners(self) -> dict[str, scripts.ScriptRunner]:
        return {"txt2img": scripts.scripts_txt2img, "img2img": scripts.scripts_img2img}

    def _default_script_args(self, runner: scripts.ScriptRunner) -> list[Any]:
        """Each control's own value. A WebUI calls every ui() twice more for this, and so does this host."""
        args: list[Any] = [0, *[None] * (len(runner.inputs) - 1)]
        with gr.Blocks(analytics_enabled=False):
            for script in runner.scripts:
                if script.controls and script.ui(script.is_img2img):
                    controls = script.ui(script.is_img2img) or []
                    args[script.args_from : script.args_to] = [control.value for control in controls]
        return args

    def _find(self, name: str, among: list[scripts.Script]) -> int:
        titles = [script.title().lower() for script in among]
        if name.lower() not in titles:
            raise HTTPException(422, f"Script '{name}' not found")
        return titles.index(name.lower())

    def _script_args(self, request: Any, tab: str) -> list[Any]:
        """Position 0: the dropdown's index. Missing always-on arguments keep their controls' values."""
        args, runner = list(self.defaults[tab]), self._runners()[tab]
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

    def _job(self, request: Any, tab: str) -> Any:
        """The request as a job."""
        given = {**dict(request), **(self._from_infotext(request) if request.infotext else {})}
        name = (given["sampler_name"] or given["sampler_index"]).lower()
        given["sampler_name"] = sd_samplers.samplers_map.get(name, sd_samplers.DEFAULT)  # unknown: no error
        for field in EXTRA_FIELDS:
            given.pop(field)
        if tab == "img2img":
            given.pop("include_init_images")
            given["init_images"] = [decode_base64_to_image(x) for x in request.init_images]
            given["mask"] = decode_base64_to_image(request.mask) if request.mask else None
        saving = {"do_not_save_samples": not request.save_images, "do_not_save_grid": not request.save_images}
        folders = {
            f"outpath_{kind}": shared.opts.data[f"outdir_{tab}_{kind}"] for kind in ("samples", "grids")
        }
        return CLASSES[tab](**{**given, **saving, **folders})

    def _from_infotext(self, request: Any) -> dict[str, Any]:
        """Fields the request leaves open and its `infotext` names."""
        params = infotext_utils.parse_generation_parameters(request.infotext)
        found = {}
        for name, key in ui.API_FIELDS.items():
            if name not in request.model_fields_set and params.get(key) is not None:
                like = getattr(request, name, None)
                found[name] = type(like)(params[key]) if like is not None else params[key]
        return found

    def _run(self, request: Any, tab: str) -> dict[str, Any]:
        args, runner, task = self._script_args(request, tab), self._runners()[tab], f"api({tab})"
        with self.queue_lock, closing(self._job(request, tab)) as p:
            p.scripts, p.script_args = runner, tuple(args)
            try:
                shared.state.begin(job=task)
                progress.start_task(task)
                processed = runner.run(p, *args) if args[0] else process_images(p)
            finally:
                progress.finish_task(task)
                shared.state.end()
        pictures = [encode_pil_to_base64(image) for image in processed.images] if request.send_images else []
        return {"images": pictures, "parameters": dict(request), "info": processed.js()}

    def text2imgapi(self, txt2imgreq: Txt2ImgRequest) -> dict[str, Any]:
        return self._run(txt2imgreq, "txt2img")

    def img2imgapi(self, img2imgreq: Img2ImgRequest) -> dict[str, Any]:
        if not img2imgreq.init_images:
            raise HTTPException(404, "Init image not found")
        answer = self._run(img2imgreq, "img2img")
        if not img2imgreq.include_init_images:
            answer["parameters"].update(init_images=None, mask=None)
        return answer

    def extras_single_image_api(self, req: ExtrasSingleImageRequest) -> dict[str, Any]:
        upscale = {"upscale_by": req.upscaling_resize, "upscaler_1_name": req.upscaler_1}
        with self.queue_lock:
            image, infotext, _ = postprocessing.process(
                decode_base64_to_image(req.image), {"Upscale": {"upscale_enabled": True, **upscale}}
            )
        return {"image": encode_pil_to_base64(image), "html_info": infotext}

    def pnginfoapi(self, req: PNGInfoRequest) -> dict[str, Any]:
        geninfo, items = images.read_info_from_image(decode_base64_to_image(req.image.strip()))
        geninfo = geninfo or ""
        params = infotext_utils.parse_generation_parameters(geninfo)
        script_callbacks.infotext_pasted_callback(geninfo, params)
        return {"info": geninfo, "items": items, "parameters": params}

    # ---- the running job

    def progressapi(self, skip_current_image: bool = False) -> dict[str, Any]:
        state = shared.state
        answer = {"progress": 0.0, "state": state.dict(), "textinfo": state.textinfo, "current_image": None}
        if state.job_count != 0:
            answer["progress"] = max(state.fraction_done(), 0.01)
            state.set_current_image(shared.opts.show_progress_every_n_steps)
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
        unknown = req.keys() - shared.opts.data_labels.keys()
        if unknown:
            raise KeyError(unknown.pop())
        for key, value in req.items():
            shared.opts.set(key, value)
        shared.opts.save(shared.cmd_opts.ui_settings_file)

    def get_cmd_flags(self) -> dict[str, Any]:
        return vars(shared.cmd_opts)

    def get_sd_models(self) -> list[dict[str, Any]]:
        names = ("title", "model_name", "filename")
        return [{name: getattr(x, name) for name in names} for x in sd_models.checkpoints_list.values()]

    def refresh_checkpoints(self) -> None:
        sd_models.list_models()

    def get_scripts_list(self) -> dict[str, list[str]]:
        return {
            tab: [s.name for s in runner.scripts if s.controls] for tab, runner in self._runners().items()
        }

    def get_script_info(self) -> list[dict[str, Any]]:
        everyone = [script for runner in self._runners().values() for script in runner.scripts]
        return [script_info(script) for script in everyone if script.controls is not None]

    def restart_webui(self) -> dict[str, Any]:
        shared.state.request_restart()
        return {}
