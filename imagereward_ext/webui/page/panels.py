"""The two panels of the generation tabs. Building one has no side effect: hosts do it many times."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from imagereward_ext.webui.history import describe_share
from imagereward_ext.webui.options import AS_IN_SETTINGS, read_request
from imagereward_ext.webui.page.widgets import javascript, panel
from imagereward_ext.webui.service import Service


def always_on_panel(tab: str, service: Service) -> list[Any]:
    """Build the closed accordion that every generation reads."""
    prefix = f"imagereward-{tab}-every"
    with gr.Accordion("ImageReward scoring", open=False, elem_id=prefix):
        components = panel(always_on=True, prefix=prefix, scorers=service.names)
        _share_line(components["limit"], prefix, service)
    return list(components.values())


def chosen_panel(tab: str, service: Service) -> list[Any]:
    """Build what the script in the dropdown shows."""
    prefix = f"imagereward-{tab}-script"
    with gr.Group(elem_id=prefix):
        components = panel(always_on=False, prefix=prefix, scorers=service.names)
        refresh = _share_line(components["limit"], prefix, service)
        with gr.Row():
            unload = gr.Button("Unload model", elem_id=f"{prefix}-unload")
            show = gr.Button("Show status", elem_id=f"{prefix}-show-status")
        status = gr.HTML("", elem_id=f"{prefix}-status")
    # Not queued: unloading must answer while a generation runs.
    unload.click(fn=lambda: _paragraph(service.unload()), inputs=[], outputs=[status], queue=False)
    show.click(fn=lambda: _paragraph(str(service.status())), inputs=[], outputs=[status], queue=False)
    refresh.click(
        fn=lambda shown: _paragraph(str(service.status())) if shown else "",
        inputs=[status],
        outputs=[status],
        show_progress="hidden",
        queue=False,
    )
    return list(components.values())


def extras_row(service: Service) -> dict[str, Any]:
    """Build the row of our step in the Extras tab: parameter names and their components."""
    prefix = "imagereward-extras"
    with gr.Row(elem_id=prefix):
        enable = gr.Checkbox(label="ImageReward: score the result", value=False, elem_id=f"{prefix}-enable")
        scorer = gr.Dropdown(
            label="Scorer",
            choices=[AS_IN_SETTINGS, *service.names()],
            value=AS_IN_SETTINGS,
            elem_id=f"{prefix}-scorer",
        )
        prompt = gr.Textbox(
            label="Prompt for images that hold none", value="", lines=1, elem_id=f"{prefix}-prompt"
        )
    return {"enable": enable, "scorer": scorer, "prompt": prompt}


def bridge(generation_info: Any, tab: str) -> None:
    """Give our JavaScript a way to a gallery's generation info, which gradio keeps out of the page.

    Pressing the hidden button runs no Python: gradio hands the value to the function in the browser.
    """
    button = gr.Button("scores", elem_id=f"imagereward-{tab}-bridge", elem_classes=["imagereward-hidden"])
    show = javascript(f"(info) => imageRewardShow('{tab}', info)")
    button.click(fn=None, inputs=[generation_info], outputs=[], **show)


def share_text(limit: Any, service: Service) -> str:
    """Say what share of the user's own images a limit would reject."""
    reading = read_request({"limit": limit})
    if reading.problems:
        return reading.problems[0].removesuffix("; nothing was filtered")
    history = service.current_history()
    if history is None:
        return describe_share(None, 0, reading.values.limit)
    known = len(history.scores())
    return describe_share(history.share_below(reading.values.limit), known, reading.values.limit)


def _share_line(limit: Any, prefix: str, service: Service) -> Any:
    """Build the line about a limit, and the hidden button that our JavaScript presses after each generation."""
    line = gr.HTML("", elem_id=f"{prefix}-share")
    refresh = gr.Button("share", elem_id=f"{prefix}-refresh", elem_classes=["imagereward-hidden"])
    # gradio 3 drops what is typed while it waits for an answer; when the field is left, all of it is there.
    for event in (limit.change, limit.blur, refresh.click):
        event(
            fn=lambda value: _paragraph(share_text(value, service)),
            inputs=[limit],
            outputs=[line],
            show_progress="hidden",
            queue=False,
        )
    return refresh


def _paragraph(text: str) -> str:
    return f"<p class='imagereward-note'>{html.escape(text)}</p>"
