"""The other scripts of the dropdown: which one runs, and what it can bear to have done to its images."""

from __future__ import annotations

from typing import Any

PLOT = "X/Y/Z plot"
TAKE_ANY_NUMBER = ("", PLOT, "Prompts from file or textbox")
"""No script, and scripts that take however many images a job returns."""
MAKE_PARTS = ("SD upscale", "Outpainting mk2", "Poor man's outpainting")
"""Scripts whose jobs make tiles of one image: no tile is an image somebody looks at."""


def selected_title(p: Any) -> str:
    """Return the title of the script that was chosen in the dropdown, "" for none."""
    try:
        number = int(p.script_args[0])
        return str(p.scripts.selectable_scripts[number - 1].title()) if number > 0 else ""
    except (AttributeError, LookupError, TypeError, ValueError):
        return ""


def makes_parts(p: Any) -> bool:
    """Whether this job makes a part of an image."""
    return selected_title(p) in MAKE_PARTS


def needs_every_image(p: Any) -> bool:
    """Whether the script counts on every image, in order: a prompt matrix writes captions around them."""
    return selected_title(p) not in TAKE_ANY_NUMBER
