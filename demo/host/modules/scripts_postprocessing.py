"""Scripts of the Extras tab: each sees every image after the one before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from modules import errors, shared


@dataclass
class PostprocessedImageSharedInfo:
    target_width: int | None = None
    target_height: int | None = None


class PostprocessedImage:
    """An image on its way through the Extras tab. What scripts put into `info` becomes its infotext."""

    def __init__(self, image: Any):
        self.image = image
        self.info: dict[str, Any] = {}
        self.shared = PostprocessedImageSharedInfo()
        self.extra_images: list[Any] = []
        self.nametags: list[str] = []
        self.disable_processing = False
        self.caption: str | None = None

    def get_suffix(self, used_suffixes: dict[str, int] | None = None) -> str:
        """`-tag-tag`, made unique among those already used."""
        used = {} if used_suffixes is None else used_suffixes
        plain = "".join(f"-{tag}" for tag in self.nametags)
        suffix = next(s for s in (plain, *(f"{plain}-{i}" for i in range(1, 100))) if s not in used)
        used[suffix] = 1
        return suffix

    def create_copy(self, new_image: Any, *, nametags: list[str] | None = None) -> PostprocessedImage:
        copy = PostprocessedImage(new_image)
        copy.shared, copy.info = self.shared, dict(self.info)
        copy.nametags = [*self.nametags, *(nametags or [])]
        return copy


class ScriptPostprocessing:
    filename: str | None = None
    controls: dict[str, Any] | None = None
    args_from: int | None = None
    args_to: int | None = None
    order = 1000
    name: str | None = None
    group: Any = None

    def ui(self) -> dict[str, Any]:
        return {}

    def process(self, pp: PostprocessedImage, **args: Any) -> None: ...

    def process_firstpass(self, pp: PostprocessedImage, **args: Any) -> None: ...

    def image_changed(self) -> None: ...


class ScriptPostprocessingRunner:
    def __init__(self) -> None:
        self.scripts: list[ScriptPostprocessing] | None = None
        self.ui_created = False

    def scripts_in_preferred_order(self) -> list[ScriptPostprocessing]:
        """First those the settings name, then by `order`."""
        if self.scripts is None:
            from modules import scripts

            self.scripts = []
            for data in scripts.postprocessing_scripts_data:
                script = data.script_class()
                script.filename = data.path
                self.scripts.append(script)
        first = shared.opts.postprocessing_operation_order
        rank = {name: index for index, name in enumerate(first)}
        return sorted(self.scripts, key=lambda s: (rank.get(s.name, len(first)), s.order, s.name))

    def setup_ui(self) -> list[Any]:
        inputs: list[Any] = []
        for script in self.scripts_in_preferred_order():
            with gr.Row() as script.group:
                self._create_script_ui(script, inputs)
        self.ui_created = True
        return inputs

    def _create_script_ui(self, script: ScriptPostprocessing, inputs: list[Any]) -> None:
        script.args_from = len(inputs)
        try:
            script.controls = script.ui() or {}
        except Exception as e:
            errors.display(e, f"calling {script.filename}/ui", full_traceback=True)
            script.controls = {}
        inputs += list(script.controls.values())
        script.args_to = len(inputs)

    def run(self, pp: PostprocessedImage, args: list[Any]) -> None:
        calls = []
        for script in self.scripts_in_preferred_order():
            values = args[script.args_from : script.args_to]
            calls.append((script, dict(zip(script.controls or {}, values, strict=False))))
        for script, named in calls:
            script.process_firstpass(pp, **named)
        images = [pp]
        for script, named in calls:
            if shared.state.skipped:
                break
            shared.state.job = script.name
            for image in list(images):
                if not image.disable_processing:
                    script.process(image, **named)
                extras = [
                    x if isinstance(x, PostprocessedImage) else image.create_copy(x)
                    for x in image.extra_images
                ]
                images += extras
                image.extra_images.clear()
        pp.extra_images = images[1:]

    def create_args_for_run(self, scripts_args: dict[str, dict[str, Any]]) -> list[Any]:
        """Arguments for an API call, by script and argument name."""
        if not self.ui_created:
            with gr.Blocks(analytics_enabled=False):
                self.setup_ui()
        args: list[Any] = []
        for script in self.scripts_in_preferred_order():
            given = scripts_args.get(script.name or "")
            # A script the API call does not name gets None for every argument, as in a WebUI.
            args += [None if given is None else given.get(name) for name in script.controls or {}]
        return args

    def image_changed(self) -> None:
        for script in self.scripts_in_preferred_order():
            script.image_changed()
