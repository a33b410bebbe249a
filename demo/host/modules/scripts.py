"""Scripts: the class extensions subclass, finding and executing their files, and calling their hooks in order."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import gradio as gr

from modules import errors, extensions, script_callbacks, scripts_postprocessing
from modules.paths_internal import script_path


class _AlwaysVisible:
    """What `show()` returns for a script that runs on every generation."""


AlwaysVisible = _AlwaysVisible()


class PostSampleArgs:
    def __init__(self, samples: Any):
        self.samples = samples


class PostprocessImageArgs:
    def __init__(self, image: Any):
        self.image = image


class PostProcessMaskOverlayArgs:
    def __init__(self, index: int, mask_for_overlay: Any, overlay_image: Any):
        self.index, self.mask_for_overlay, self.overlay_image = index, mask_for_overlay, overlay_image


class PostprocessBatchListArgs:
    def __init__(self, images: list[Any]):
        self.images = images


class Script:
    """The base of every script. A hook is called where a subclass defines it; ScriptRunner has their names."""

    name: str | None = None
    filename: str | None = None
    args_from: int = 0
    args_to: int = 0
    alwayson = False
    is_txt2img = False
    is_img2img = False
    group: Any = None
    controls: list[Any] | None = None
    infotext_fields: list[Any] | None = None
    paste_field_names: list[str] | None = None

    def title(self) -> str:
        """What the page and the API call it; every extension's script brings its own."""
        raise NotImplementedError(f"{type(self).__name__} has no title")

    def ui(self, is_img2img: bool) -> list[Any] | None:
        return None

    def show(self, is_img2img: bool) -> Any:
        return True

    def run(self, p: Any, *args: Any) -> Any:
        return None

    def elem_id(self, item_id: str) -> str:
        """`script_[txt2img_|img2img_]<title>_<item>`; the tab is named only where the script shows on both."""
        tab = f"{'img2img' if self.is_img2img else 'txt2img'}_" if self.show(True) == self.show(False) else ""
        title = re.sub(r"[^a-z_0-9]", "", re.sub(r"\s", "_", self.title().lower()))
        return f"script_{tab}{title}_{item_id}"


class ScriptClassData(NamedTuple):
    script_class: type
    path: str
    basedir: str
    module: ModuleType


scripts_data: list[ScriptClassData] = []
postprocessing_scripts_data: list[ScriptClassData] = []
scripts_txt2img: ScriptRunner = None  # type: ignore[assignment]  # made by load_scripts()
scripts_img2img: ScriptRunner = None  # type: ignore[assignment]
scripts_postproc: scripts_postprocessing.ScriptPostprocessingRunner = None  # type: ignore[assignment]


def list_scripts(subdir: str, suffix: str) -> list[extensions.ScriptFile]:
    """The host's files, then each extension's."""
    folders = [extensions.Extension(script_path), *extensions.in_order("scripts")]
    return [file for folder in folders for file in folder.list_files(subdir, suffix)]


def load_scripts() -> None:
    """Forget every script and callback, then execute each scripts/*.py with its extension's root on sys.path."""
    global scripts_txt2img, scripts_img2img, scripts_postproc
    scripts_data.clear()
    postprocessing_scripts_data.clear()
    script_callbacks.clear_callbacks()
    for file in list_scripts("scripts", ".py"):
        _load_script(file)
    scripts_txt2img, scripts_img2img = ScriptRunner(), ScriptRunner()
    scripts_postproc = scripts_postprocessing.ScriptPostprocessingRunner(_postprocessing_scripts())


def _load_script(file: extensions.ScriptFile) -> None:
    saved_path = sys.path
    sys.path = [*([] if file.basedir == script_path else [file.basedir]), *sys.path]
    try:
        module = extensions.execute(Path(file.path))
    except Exception:
        errors.report(f"Error loading script: {file.filename}", exc_info=True)
        return
    finally:
        sys.path = saved_path
    bases = (Script, scripts_postprocessing.ScriptPostprocessing)
    for value in list(vars(module).values()):  # whatever class is visible counts, imported ones too
        if inspect.isclass(value) and issubclass(value, bases) and value not in bases:
            known = scripts_data if issubclass(value, Script) else postprocessing_scripts_data
            known.append(ScriptClassData(value, file.path, file.basedir, module))


def _postprocessing_scripts() -> list[scripts_postprocessing.ScriptPostprocessing]:
    made = []
    for data in postprocessing_scripts_data:
        try:
            made.append(data.script_class())
        except Exception:
            errors.report(f"Error making the script of {data.path}", exc_info=True)
    return made


def _hook(name: str) -> Callable[..., None]:
    """A runner's method that calls this hook of every always-on script; a failure is reported and stops nobody."""

    def call(self: ScriptRunner, p: Any, *given: Any, **named: Any) -> None:
        for script in self.alwayson_scripts:
            hook = getattr(script, name, None)
            if hook is None:
                continue
            try:
                hook(p, *given, *p.script_args[script.args_from : script.args_to], **named)
            except Exception:
                errors.report(f"Error running {name}: {script.filename}", exc_info=True)

    return call


class ScriptRunner:
    """The scripts of one tab: their controls, and the calls of their hooks."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.selectable_scripts: list[Script] = []
        self.alwayson_scripts: list[Script] = []
        self.infotext_fields: list[Any] = []
        self.paste_field_names: list[str] = []
        self.inputs: list[Any] = [None]

    def initialize_scripts(self, is_img2img: bool) -> None:
        self.__init__()  # type: ignore[misc]  # the page may be built again
        for data in scripts_data:
            try:
                script = data.script_class()
                script.filename = data.path
                script.is_txt2img, script.is_img2img = not is_img2img, is_img2img
                script.name = script.title().lower()
                visibility = script.show(is_img2img)
            except Exception:
                errors.report(f"Error making the script of {data.path}", exc_info=True)
                continue
            script.alwayson = visibility is AlwaysVisible
            if visibility:
                self.scripts.append(script)
                (self.alwayson_scripts if script.alwayson else self.selectable_scripts).append(script)

    # ---- controls

    def setup_ui(self) -> list[Any]:
        """Always-on scripts, then the dropdown and the selectable ones, of which one is visible."""
        for script in self.alwayson_scripts:
            self._create_script_ui(script)
        choices = ["None", *(script.title() for script in self.selectable_scripts)]
        dropdown = gr.Dropdown(choices, label="Script", elem_id="script_list", value=choices[0], type="index")
        self.inputs[0] = dropdown
        for script in self.selectable_scripts:
            self._create_script_ui(script)
        groups = [script.group for script in self.selectable_scripts]

        def select(index: int | None) -> Any:
            updates = [gr.update(visible=i + 1 == index) for i in range(len(groups))]
            return updates[0] if len(updates) == 1 else updates

        if groups:
            dropdown.change(fn=select, inputs=[dropdown], outputs=groups)
        self.infotext_fields.append((dropdown, lambda d: gr.update(value=d.get("Script", "None"))))
        return self.inputs

    def _create_script_ui(self, script: Script) -> None:
        script.args_from = script.args_to = len(self.inputs)
        try:
            with gr.Group(visible=script.alwayson) as script.group:
                script.controls = script.ui(script.is_img2img)
        except Exception:
            errors.report(f"Error creating UI of {script.filename}", exc_info=True)
            return
        self.infotext_fields += script.infotext_fields or []
        self.paste_field_names += script.paste_field_names or []
        self.inputs += script.controls or []
        script.args_to = len(self.inputs)

    # ---- hooks

    def run(self, p: Any, *args: Any) -> Any:
        """The selected dropdown script, which makes the whole job; None without one."""
        if not args[0]:
            return None
        script = self.selectable_scripts[args[0] - 1]
        return script.run(p, *args[script.args_from : script.args_to])

    before_process = _hook("before_process")
    process = _hook("process")
    before_process_batch = _hook("before_process_batch")
    process_batch = _hook("process_batch")
    process_before_every_sampling = _hook("process_before_every_sampling")
    before_hr = _hook("before_hr")
    post_sample = _hook("post_sample")
    postprocess_batch = _hook("postprocess_batch")
    postprocess_batch_list = _hook("postprocess_batch_list")
    postprocess_image = _hook("postprocess_image")
    postprocess_maskoverlay = _hook("postprocess_maskoverlay")
    postprocess_image_after_composite = _hook("postprocess_image_after_composite")
    postprocess = _hook("postprocess")
