"""The API's requests, derived from the processing classes, and the description of scripts."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from pydantic import BaseModel, create_model

from modules import processing

NOT_ASKED = {
    *("sd_model", "outpath_samples", "outpath_grids", "extra_generation_params", "overlay_images"),
    *("firstpass_image", "sampler_index"),
}
EXTRA_FIELDS: dict[str, tuple[Any, Any]] = {
    "sampler_index": (str, "Euler"),
    "script_name": (str | None, None),
    "script_args": (list, []),
    "send_images": (bool, True),
    "save_images": (bool, False),
    "alwayson_scripts": (dict, {}),
    "infotext": (str | None, None),
}


def _request(name: str, cls: type, **more: tuple[Any, Any]) -> type[BaseModel]:
    hints = typing.get_type_hints(cls)
    fields: dict[str, tuple[Any, Any]] = {}
    for item in dataclasses.fields(cls):
        if item.init and item.name not in NOT_ASKED and not item.name.startswith("_"):
            fields[item.name] = (hints[item.name] | None, item.default)
    return create_model(name, __base__=BaseModel, **{**fields, **EXTRA_FIELDS, **more})  # type: ignore[call-overload]


StableDiffusionTxt2ImgProcessingAPI = _request(
    "StableDiffusionProcessingTxt2Img", processing.StableDiffusionProcessingTxt2Img
)
StableDiffusionImg2ImgProcessingAPI = _request(
    "StableDiffusionProcessingImg2Img",
    processing.StableDiffusionProcessingImg2Img,
    init_images=(list | None, None),
    mask=(str | None, None),
    include_init_images=(bool, False),
)


class ExtrasSingleImageRequest(BaseModel):
    image: str = ""
    upscaling_resize: float = 2
    upscaler_1: str = "None"


class PNGInfoRequest(BaseModel):
    image: str


class ScriptArg(BaseModel):
    label: str | None = None
    value: Any = None
    minimum: Any = None
    maximum: Any = None
    step: Any = None
    choices: list[Any] | None = None


class ScriptInfo(BaseModel):
    name: str | None = None
    is_alwayson: bool | None = None
    is_img2img: bool | None = None
    args: list[ScriptArg]


def script_info(script: Any, controls: list[Any]) -> ScriptInfo:
    args = []
    for control in controls:
        choices = getattr(control, "choices", None)
        given = {
            name: getattr(control, name, None) for name in ("label", "value", "minimum", "maximum", "step")
        }
        given["value"] = None if callable(given["value"]) else given["value"]
        args.append(
            ScriptArg(**given, choices=choices and [c[0] if isinstance(c, tuple) else c for c in choices])
        )
    return ScriptInfo(name=script.name, is_alwayson=script.alwayson, is_img2img=script.is_img2img, args=args)
