"""The API's requests, derived from the processing classes."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from pydantic import BaseModel, create_model

from modules import processing

NOT_ASKED = {"sd_model", "outpath_samples", "outpath_grids", "extra_generation_params", "firstpass_image"}
EXTRA_FIELDS: dict[str, tuple[Any, Any]] = {
    "sampler_index": (str, "Euler"),
    "script_name": (str | None, None),
    "script_args": (list, []),
    "send_images": (bool, True),
    "save_images": (bool, False),
    "alwayson_scripts": (dict, {}),
    "infotext": (str | None, None),
}
IMAGE_FIELDS: dict[str, tuple[Any, Any]] = {
    "init_images": (list | None, None),
    "mask": (str | None, None),
    "include_init_images": (bool, False),
}


def _request(name: str, cls: type, **more: tuple[Any, Any]) -> type[BaseModel]:
    hints = typing.get_type_hints(cls)
    asked = [item for item in dataclasses.fields(cls) if item.init and item.name not in NOT_ASKED]
    fields = {item.name: (hints[item.name] | None, item.default) for item in asked}
    return create_model(name, **{**fields, **EXTRA_FIELDS, **more})  # type: ignore[call-overload]


Txt2ImgRequest = _request("Txt2ImgRequest", processing.StableDiffusionProcessingTxt2Img)
Img2ImgRequest = _request("Img2ImgRequest", processing.StableDiffusionProcessingImg2Img, **IMAGE_FIELDS)


class ExtrasSingleImageRequest(BaseModel):
    image: str = ""
    upscaling_resize: float = 2
    upscaler_1: str = "Lanczos"


class PNGInfoRequest(BaseModel):
    image: str


def script_info(script: Any) -> dict[str, Any]:
    """A script and its arguments, as the API tells of them."""
    info = {"name": script.name, "is_alwayson": script.alwayson, "is_img2img": script.is_img2img}
    return {**info, "args": [_argument(control) for control in script.controls]}


def _argument(control: Any) -> dict[str, Any]:
    names = ("label", "value", "minimum", "maximum", "step")
    choices = getattr(control, "choices", None)
    return {
        **{name: getattr(control, name, None) for name in names},
        "choices": choices and [c[0] if isinstance(c, tuple) else c for c in choices],
    }
