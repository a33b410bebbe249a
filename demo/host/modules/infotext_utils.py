"""The infotext: reading it, and filling the controls of a tab from it."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from modules import errors, images, script_callbacks, shared
from modules.paths import data_path

sys.modules["modules.generation_parameters_copypaste"] = sys.modules[__name__]  # the name of earlier versions

PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
SIZE = re.compile(r"^(\d+)x(\d+)$")
FEWEST_PARAMETERS = 3  # a last line with fewer belongs to the prompt


class PasteField(tuple):
    """(component, infotext key or function of the parameters), and the API field it stands for."""

    __slots__ = ()

    def __new__(cls, component: Any, target: Any, *, api: str | None = None) -> PasteField:
        return super().__new__(cls, (component, target))

    @property
    def component(self) -> Any:
        return self[0]


class ParamBinding:
    def __init__(
        self,
        paste_button: Any,
        tabname: str,
        source_text_component: Any = None,
        source_image_component: Any = None,
        source_tabname: str | None = None,
        override_settings_component: Any = None,
        paste_field_names: list[str] | None = None,
    ):
        self.paste_button, self.tabname, self.source_tabname = paste_button, tabname, source_tabname
        self.source_text_component, self.source_image_component = (
            source_text_component,
            source_image_component,
        )
        self.override_settings_component = override_settings_component
        self.paste_field_names = paste_field_names or []


paste_fields: dict[str, dict[str, Any]] = {}
registered_param_bindings: list[ParamBinding] = []


def reset() -> None:
    paste_fields.clear()
    registered_param_bindings.clear()


def quote(text: Any) -> Any:
    """Values that hold a separator go into JSON quotes."""
    return json.dumps(text, ensure_ascii=False) if any(c in str(text) for c in ",\n:") else text


def unquote(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def image_from_url_text(filedata: Any) -> Image.Image | None:
    """The image behind a gallery's value: (image, caption), a file dictionary, a path or a data URL."""
    if isinstance(filedata, list):
        filedata = filedata[0] if filedata else None
    if isinstance(filedata, tuple):
        filedata = filedata[0]
    if isinstance(filedata, dict):
        filedata = filedata.get("name") or filedata.get("path") or (filedata.get("image") or {}).get("path")
    if filedata is None or isinstance(filedata, Image.Image):
        return filedata
    if Path(filedata[:4096]).is_file():
        return images.read(filedata)
    return images.read(io.BytesIO(base64.b64decode(filedata.split(",", 1)[-1])))


def parse_generation_parameters(x: str, skip_fields: list[str] | None = None) -> dict[str, Any]:
    """Prompt lines, `Negative prompt:` lines, and the last line of `Key: value` pairs."""
    *lines, last = x.strip().split("\n")
    if len(PARAMETER.findall(last)) < FEWEST_PARAMETERS:
        lines.append(last)
        last = ""
    prompt, negative = _split_prompts(lines)
    result: dict[str, Any] = {"Prompt": prompt, "Negative prompt": negative}
    for key, value in PARAMETER.findall(last):
        value = unquote(value)
        size = SIZE.match(value)
        if size:
            result[f"{key}-1"], result[f"{key}-2"] = size.groups()
        else:
            result[key] = value
    defaults = {"Clip skip": "1", "Hires resize-1": 0, "Hires resize-2": 0, "Schedule type": "Automatic"}
    result = {**defaults, **result}
    for key in shared.opts.infotext_skip_pasting if skip_fields is None else skip_fields:
        result.pop(key, None)
    return result


def _split_prompts(lines: list[str]) -> tuple[str, str]:
    parts: list[list[str]] = [[], []]
    target = 0
    for line in (line.strip() for line in lines):
        if line.startswith("Negative prompt:"):
            target = 1
            line = line.removeprefix("Negative prompt:").strip()
        parts[target].append(line)
    return "\n".join(parts[0]), "\n".join(parts[1])


def create_override_settings_dict(text_pairs: list[str]) -> dict[str, Any]:
    """`["Clip skip: 2"]` -> `{"CLIP_stop_at_last_layers": 2}`."""
    given = {key.strip(): value.strip() for key, value in (pair.split(":", 1) for pair in text_pairs or [])}
    labels = {info.infotext: key for key, info in shared.opts.data_labels.items() if info.infotext}
    return {
        labels[name]: shared.opts.cast_value(labels[name], value)
        for name, value in given.items()
        if name in labels
    }


# ---- filling controls


def add_paste_fields(
    tabname: str, init_img: Any, fields: list[Any], override_settings_component: Any = None
) -> None:
    fields = [field if isinstance(field, PasteField) else PasteField(*field) for field in fields or []]
    paste_fields[tabname] = {
        "init_img": init_img,
        "fields": fields,
        "override_settings_component": override_settings_component,
    }


def register_paste_params_button(binding: ParamBinding) -> None:
    registered_param_bindings.append(binding)


def create_buttons(tabs_list: list[str]) -> dict[str, Any]:
    return {tab: gr.Button(f"Send to {tab}", elem_id=f"{tab}_tab") for tab in tabs_list}


def bind_buttons(buttons: dict[str, Any], send_image: Any, send_generate_info: Any) -> None:
    for tabname, button in buttons.items():
        is_tab = isinstance(send_generate_info, str)
        binding = ParamBinding(
            button,
            tabname,
            source_text_component=None if is_tab else send_generate_info,
            source_image_component=send_image,
            source_tabname=send_generate_info if is_tab else None,
        )
        register_paste_params_button(binding)


def connect_paste_params_buttons() -> None:
    for binding in registered_param_bindings:
        target = paste_fields[binding.tabname]
        button = binding.paste_button
        if binding.source_image_component is not None and target["init_img"] is not None:
            gallery = isinstance(binding.source_image_component, gr.Gallery)
            button.click(
                fn=image_from_url_text,
                _js="extract_image_from_gallery" if gallery else None,
                inputs=[binding.source_image_component],
                outputs=[target["init_img"]],
                show_progress=False,
            )
        if binding.source_text_component is not None and target["fields"]:
            connect_paste(button, target["fields"], binding.source_text_component)
        if binding.source_tabname is not None and target["fields"]:
            _connect_copy(binding, target["fields"])
        button.click(
            fn=None, _js=f"switch_to_{binding.tabname}", inputs=None, outputs=None, show_progress=False
        )


def _connect_copy(binding: ParamBinding, fields: list[Any]) -> None:
    """Send to: the same-named controls of the other tab take over these values."""
    names = ["Prompt", "Negative prompt", "Steps", *(["Seed"] if shared.opts.send_seed else [])]
    names += binding.paste_field_names
    source = {name: c for c, name in paste_fields[binding.source_tabname]["fields"] if name in names}
    target = {name: c for c, name in fields if name in source}
    if target:
        binding.paste_button.click(
            fn=lambda *values: values if len(values) > 1 else values[0],
            inputs=[source[name] for name in target],
            outputs=list(target.values()),
            show_progress=False,
        )


def last_prompt_file() -> Path:
    return Path(data_path) / "params.txt"


def pasted_values(fields: list[Any], text: str) -> list[Any]:
    """What each control is to show for this infotext; an empty one means the last generation's."""
    if not text and last_prompt_file().is_file():
        text = last_prompt_file().read_text(encoding="utf8")
    params = parse_generation_parameters(text)
    script_callbacks.infotext_pasted_callback(text, params)
    return [_update(component, key, params) for component, key in fields]


def _update(component: Any, key: str | Callable[[dict[str, Any]], Any], params: dict[str, Any]) -> Any:
    try:
        value = key(params) if callable(key) else params.get(key)
        if value is None:
            return gr.update()
        if isinstance(value, dict) and value.get("__type__") == "update":
            return value
        return gr.update(value=_cast(getattr(component, "value", None), value))
    except Exception:
        errors.report(f"Error pasting {key}", exc_info=True)
        return gr.update()


def _cast(like: Any, value: Any) -> Any:
    if isinstance(like, bool):
        return value not in (False, "False")
    if isinstance(like, (int, float)):
        return float(value)
    return type(like)(value) if like is not None else value


def connect_paste(button: Any, fields: list[Any], input_comp: Any, *_ignored: Any) -> None:
    button.click(
        fn=lambda text: pasted_values(fields, text),
        inputs=[input_comp],
        outputs=[field[0] for field in fields],
        show_progress=False,
    )
