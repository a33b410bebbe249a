"""PNG Info: the score above the text, and a button for an image that has none."""

from __future__ import annotations

import html
from dataclasses import replace
from typing import Any

import gradio as gr

from imagereward_ext.errors import ImageError, MetadataError
from imagereward_ext.images import open_image
from imagereward_ext.metadata import infotext
from imagereward_ext.metadata.prompt import plain_prompt
from imagereward_ext.metadata.score_mark import ScoreMark, find_marks, rounded
from imagereward_ext.webui.service import Service, error_message

PICTURE, TEXT = "pnginfo_image", "pnginfo_generation_info"
ELEMENTS = (PICTURE, TEXT)

_images: list[Any] = []
"""The tab's image component, from the moment it is built until the text below it is."""


def add_to(elem_id: str, component: Any, service: Service) -> None:
    """Build our line and button between the tab's hidden text and the text it shows.

    The image tells its own text: gradio reports no changes of a component that is hidden.
    """
    if elem_id == PICTURE:
        _images[:] = [component]
        return
    if not _images:
        return
    image = _images.pop()
    line = gr.HTML("", elem_id="imagereward-pnginfo-line")
    button = gr.Button("Score this image", elem_id="imagereward-pnginfo-score", size="sm")
    image.change(fn=lambda picture: score_line(picture, service), inputs=[image], outputs=[line])
    button.click(fn=lambda picture: score_now(picture, service), inputs=[image], outputs=[line])


def _opened(picture: Any) -> Any:
    """Take what the host's component gives: an image, or the file that gradio has put it into."""
    return open_image(picture) if isinstance(picture, str) else picture


def score_line(picture: Any, service: Service) -> str:
    """Say what scores an image holds."""
    if picture is None:
        return ""
    try:
        marks = find_marks(service.host.images.infotext(_opened(picture)))
    except ImageError as error:
        return _shown(f"{error}.")
    except MetadataError as error:
        return _shown(f"The scores in this image cannot be read: {error}.")
    if not marks:
        return _shown("This image has no score yet.")
    decimals = service.settings().decimals
    return "".join(_shown(_sentence(mark, decimals)) for mark in marks)


def score_now(picture: Any, service: Service) -> str:
    """Score the image in the tab for its own prompt."""
    if picture is None:
        return _shown("Put an image here first.")
    settings = service.settings()
    try:
        image = _opened(picture)
        text = service.host.images.infotext(image)
        prompt = settings.text or plain_prompt(infotext.parse(text).prompt)
    except (ImageError, MetadataError) as error:
        return _shown(f"Not scored: {error}.")
    if not prompt:
        return _shown("This image holds no prompt. The Extras tab scores it for one that you type there.")
    try:
        with service.host.queue():
            (mark,) = service.score_apart([image], [prompt])
    except Exception as error:
        return _shown(f"Not scored: {error_message(error)}")
    if mark is None:
        return _shown("Not scored: the scorer gave no number for this image.")
    place = service.history(mark.label, mark.digest).percentile(mark.value)
    among = "" if place is None else f" It is better than {place:.0%} of your own images."
    return _shown(_sentence(replace(mark, prompt=settings.text or None), settings.decimals) + among)


def _sentence(mark: ScoreMark, decimals: int) -> str:
    by = f" (weights {mark.digest})" if mark.digest else ""
    text = f' for the text "{mark.prompt}"' if mark.prompt else ""
    return f"{mark.label}: {rounded(mark.value, decimals)}{by}{text}."


def _shown(sentence: str) -> str:
    return f"<p class='imagereward-note'>{html.escape(sentence)}</p>"
