"""The infotext: reading it, and filling the controls of a tab from it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from modules import errors, images, script_callbacks
from modules.paths_internal import data_path

PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
SIZE = re.compile(r"^(\d+)x(\d+)$")
FEWEST_PARAMETERS = 3  # a last line with fewer belongs to the prompt


def quote(text: Any) -> Any:
    """Values that hold a separator go into JSON quotes."""
    return json.dumps(text, ensure_ascii=False) if any(c in str(text) for c in ",\n:") else text


def unquote(text: str) -> str:
    try:
        return json.loads(text) if text.startswith('"') and text.endswith('"') else text
    except ValueError:
        return text


def parameter_line(values: dict[str, Any]) -> str:
    """`Key: value, …` of what is not None; a value that is its own key stands alone."""
    shown = {key: value for key, value in values.items() if value is not None}
    return ", ".join(k if k == v else f"{k}: {quote(v)}" for k, v in shown.items())


def parse_generation_parameters(x: str) -> dict[str, Any]:
    """Prompt lines, `Negative prompt:` lines, and the last line of `Key: value` pairs."""
    *lines, last = x.strip().split("\n")
    pairs = PARAMETER.findall(last)
    if len(pairs) < FEWEST_PARAMETERS:
        lines, pairs = [*lines, last], []
    prompt, _, negative = "\n".join(line.strip() for line in lines).partition("Negative prompt:")
    result: dict[str, Any] = {"Prompt": prompt.strip(), "Negative prompt": negative.strip()}
    for key, value in pairs:
        value = unquote(value)
        size = SIZE.match(value)
        result |= {f"{key}-1": size[1], f"{key}-2": size[2]} if size else {key: value}
    return result


def image_from_url_text(filedata: Any) -> Image.Image | None:
    """The image behind a gallery's value: (image, caption), a file dictionary, a path or a data URL."""
    if isinstance(filedata, list):
        filedata = filedata[0] if filedata else None
    if isinstance(filedata, tuple):
        filedata = filedata[0]
    if isinstance(filedata, dict):
        filedata = filedata.get("path") or (filedata.get("image") or {}).get("path")
    if filedata is None or isinstance(filedata, Image.Image):
        return filedata
    if Path(filedata[:4096]).is_file():
        return images.read(filedata)
    return images.read(io.BytesIO(base64.b64decode(filedata.split(",", 1)[-1])))


# ---- filling controls


@dataclass
class Target:
    """What a tab can be sent: an image, and values for (control, infotext key or function of the parameters)."""

    image: Any
    fields: list[tuple[Any, Any]]


@dataclass
class Sender:
    """A button that sends an image, a text, or the controls of another tab."""

    button: Any
    tab: str
    image: Any = None
    text: Any = None
    copied_from: str | None = None
    field_names: tuple[str, ...] = ()


targets: dict[str, Target] = {}
senders: list[Sender] = []


def connect_senders() -> None:
    """Once every tab is there."""
    for sender in senders:
        target = targets[sender.tab]
        how = {"show_progress": False}
        if sender.image is not None and target.image is not None:
            pick = "extract_image_from_gallery" if isinstance(sender.image, gr.Gallery) else None
            sender.button.click(image_from_url_text, [sender.image], [target.image], js=pick, **how)
        if sender.text is not None and target.fields:
            controls = [control for control, _ in target.fields]
            sender.button.click(pasted_by(target.fields), [sender.text], controls, **how)
        if sender.copied_from is not None and target.fields:
            _connect_copy(sender, target.fields)
        sender.button.click(fn=None, js=f"switch_to_{sender.tab}", **how)


def _connect_copy(sender: Sender, fields: list[tuple[Any, Any]]) -> None:
    """Send to: the same-named controls of the other tab take over these values."""
    names = {"Prompt", "Negative prompt", "Steps", "Seed", *sender.field_names}
    source = {name: c for c, name in targets[sender.copied_from].fields if name in names}
    copied = {name: c for c, name in fields if name in source}
    sender.button.click(
        fn=lambda *values: values if len(values) > 1 else values[0],
        inputs=[source[name] for name in copied],
        outputs=list(copied.values()),
        show_progress=False,
    )


def pasted_by(fields: list[tuple[Any, Any]]) -> Callable[[str], list[Any]]:
    """What each control is to show for an infotext; an empty one means the last generation's."""

    def pasted(text: str) -> list[Any]:
        last = Path(data_path) / "params.txt"
        text = text or (last.read_text(encoding="utf8") if last.is_file() else "")
        params = parse_generation_parameters(text)
        script_callbacks.infotext_pasted_callback(text, params)
        return [_update(component, key, params) for component, key in fields]

    return pasted


def _update(component: Any, key: Any, params: dict[str, Any]) -> Any:
    try:
        value = key(params) if callable(key) else params.get(key)
        if value is None:
            return gr.update()
        if isinstance(value, dict):  # an update that the extension has made itself
            return value
        return gr.update(value=_cast(getattr(component, "value", None), value))
    except Exception:
        errors.report(f"Error pasting {key}", exc_info=True)
        return gr.update()


def _cast(like: Any, value: Any) -> Any:
    """A value of the infotext in the type of what the control shows."""
    if isinstance(like, bool):
        return value not in (False, "False")
    if isinstance(like, (int, float)):
        return float(value)
    return type(like)(value) if like is not None else value
