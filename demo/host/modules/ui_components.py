"""Small components under the names extensions import.

Their constructors carry the signature of gradio's own: gradio reads from it what the page is told of a component.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import gradio as gr

from modules import gradio_extensions  # noqa: F401


class ToolButton(gr.Button):
    """A button for one symbol."""

    @wraps(gr.Button.__init__)
    def __init__(self, value: str = "", *args: Any, elem_classes: list[str] | None = None, **kwargs: Any):
        kwargs = {"scale": 0, "min_width": 44, **kwargs}
        super().__init__(value, *args, elem_classes=["tool", *(elem_classes or [])], **kwargs)

    def get_block_name(self) -> str:
        return "button"


class FormRow(gr.Row):
    def get_block_name(self) -> str:
        return "row"


class FormColumn(gr.Column):
    def get_block_name(self) -> str:
        return "column"


class FormGroup(gr.Group):
    def get_block_name(self) -> str:
        return "group"


class FormHTML(gr.HTML):
    def get_block_name(self) -> str:
        return "html"


class ResizeHandleRow(FormRow):
    pass


class DropdownMulti(gr.Dropdown):
    @wraps(gr.Dropdown.__init__)
    def __init__(self, **kwargs: Any):
        super().__init__(**{**kwargs, "multiselect": True})

    def get_block_name(self) -> str:
        return "dropdown"


class _AccordionCheckbox(gr.Checkbox):
    """The checkbox of an accordion; entering it enters the accordion."""

    accordion: gr.Accordion
    accordion_id: str

    def extra(self) -> gr.Row:
        with self.accordion:
            return gr.Row(elem_id=f"{self.accordion_id}-extra", elem_classes="input-accordion-extra")

    def __enter__(self) -> _AccordionCheckbox:
        self.accordion.__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        self.accordion.__exit__(*args)

    def get_block_name(self) -> str:
        return "checkbox"


def InputAccordion(  # noqa: N802  # a class in WebUIs; gradio makes its classes anew with every update
    value: bool = False, label: str = "Accordion", elem_id: str | None = None, **kwargs: Any
) -> _AccordionCheckbox:
    """An accordion whose checkbox is its value: on is open. Use it as `with InputAccordion(...) as enabled:`."""
    accordion = gr.Accordion(label=label, open=value, elem_id=elem_id, elem_classes=["input-accordion"])
    accordion_id = elem_id or f"input-accordion-{accordion._id}"
    with accordion:
        checkbox = _AccordionCheckbox(
            value=value, label="Enable", elem_id=f"{accordion_id}-checkbox", **kwargs
        )
    checkbox.accordion, checkbox.accordion_id = accordion, accordion_id
    checkbox.change(
        fn=lambda on: gr.update(open=on),
        inputs=[checkbox],
        outputs=[accordion],
        show_progress=False,
        queue=False,
    )
    return checkbox
