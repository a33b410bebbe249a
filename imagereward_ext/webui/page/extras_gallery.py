"""The scores under the gallery of the Extras tab, where the host tells those of the last image alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from imagereward_ext.metadata.score_mark import find_marks
from imagereward_ext.webui.job.report import ANSWER
from imagereward_ext.webui.page.widgets import javascript
from imagereward_ext.webui.service import Service, error_message

GALLERY = "extras_gallery"


def add_to(gallery: Any, opened: Callable[[Any], Any], service: Service) -> None:
    """Give our JavaScript a way to the scores in the gallery's files; `opened` is the host's way to an image."""
    button = gr.Button("scores", elem_id="imagereward-extras-bridge", elem_classes=["imagereward-hidden"])
    told = gr.Textbox(visible=False, elem_id="imagereward-extras-told")
    read = button.click(
        fn=lambda items: scores_in(items or [], opened, service),
        inputs=[gallery],
        outputs=[told],
        show_progress="hidden",
        queue=False,
    )
    show = javascript("(info) => imageRewardShow('extras', info)")
    read.then(fn=None, inputs=[told], outputs=[], **show)


def scores_in(items: Sequence[Any], opened: Callable[[Any], Any], service: Service) -> str:
    """Tell the scores of one scorer, in the words of a job's generation info; "" when there are none."""
    try:
        marks = [find_marks(service.host.images.infotext(opened(item))) for item in items]
    except Exception as error:
        error_message(error)  # to the log: the images are there all the same
        return ""
    labels = [mark.label for found in marks for mark in found]
    if not labels:
        return ""
    loaded = service.status().label
    label = loaded if loaded in labels else labels[0]
    chosen = [next((mark for mark in found if mark.label == label), None) for found in marks]
    answer = {
        "scorer": label,
        "scores": [None if mark is None else mark.value for mark in chosen],
        "percentiles": [
            None if mark is None else service.history(mark.label, mark.digest).percentile(mark.value)
            for mark in chosen
        ],
    }
    return json.dumps({"extra_generation_params": {ANSWER: answer}})
