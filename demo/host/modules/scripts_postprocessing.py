"""Scripts of the Extras tab: each sees every image after the one before it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from modules import errors


class PostprocessedImage:
    """An image on its way through the Extras tab. What scripts put into `info` becomes its infotext."""

    def __init__(self, image: Any):
        self.image = image
        self.info: dict[str, Any] = {}


class ScriptPostprocessing:
    filename: str | None = None
    controls: dict[str, Any] = {}  # noqa: RUF012  # replaced, never written into
    order = 1000
    name: str | None = None

    def ui(self) -> dict[str, Any]:
        return {}

    def process(self, pp: PostprocessedImage, **args: Any) -> None: ...

    def process_firstpass(self, pp: PostprocessedImage, **args: Any) -> None: ...


class ScriptPostprocessingRunner:
    def __init__(self, scripts: list[ScriptPostprocessing]) -> None:
        self.scripts = sorted(scripts, key=lambda script: (script.order, script.name or ""))

    def setup_ui(self) -> list[Any]:
        for script in self.scripts:
            try:
                with gr.Row():
                    script.controls = script.ui()
            except Exception:
                errors.report(f"Error creating the row of {script.name}", exc_info=True)
        return [control for script in self.scripts for control in script.controls.values()]

    def by_name(self, values: tuple[Any, ...]) -> dict[str, dict[str, Any]]:
        """The values of all controls, by script and argument."""
        left = iter(values)
        return {script.name or "": {name: next(left) for name in script.controls} for script in self.scripts}

    def run(self, pp: PostprocessedImage, arguments: dict[str, dict[str, Any]]) -> None:
        """A script that is given nothing, as by the API, gets None for every argument, as in a WebUI."""
        calls = [(s, arguments.get(s.name or "", dict.fromkeys(s.controls))) for s in self.scripts]
        for script, named in calls:
            script.process_firstpass(pp, **named)
        for script, named in calls:
            script.process(pp, **named)
