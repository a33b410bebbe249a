"""Scripts: the class extensions subclass, finding and executing their files, and calling their hooks in order."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import gradio as gr

from modules import (
    errors,
    extensions,
    paths,
    script_callbacks,
    script_loading,
    scripts_postprocessing,
    shared,
    util,
)
from modules.extensions import ScriptFile


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


@dataclass
class OnComponent:
    component: Any


class Script:
    """The base of every script. Hooks that a subclass leaves alone are not called."""

    name: str | None = None
    section: str | None = None
    filename: str | None = None
    args_from: int | None = None
    args_to: int | None = None
    alwayson = False
    is_txt2img = False
    is_img2img = False
    tabname: str | None = None
    group: Any = None
    create_group = True
    infotext_fields: list[Any] | None = None
    paste_field_names: list[str] | None = None
    api_info: Any = None
    controls: Any = None
    setup_for_ui_only = False
    on_before_component_elem_id: list[Any] | None = None
    on_after_component_elem_id: list[Any] | None = None

    def title(self) -> str:
        raise NotImplementedError(
            f"{type(self).__name__} has no title"
        )  # every extension's script brings its own

    def ui(self, is_img2img: bool) -> list[Any] | None:
        return None

    def show(self, is_img2img: bool) -> Any:
        return True

    def run(self, p: Any, *args: Any) -> Any:
        return None

    def setup(self, p: Any, *args: Any) -> None: ...

    def before_process(self, p: Any, *args: Any) -> None: ...

    def process(self, p: Any, *args: Any) -> None: ...

    def before_process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def after_extra_networks_activate(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def postprocess_batch(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def postprocess_batch_list(
        self, p: Any, pp: PostprocessBatchListArgs, *args: Any, **kwargs: Any
    ) -> None: ...

    def post_sample(self, p: Any, ps: PostSampleArgs, *args: Any) -> None: ...

    def postprocess_image(self, p: Any, pp: PostprocessImageArgs, *args: Any) -> None: ...

    def postprocess_maskoverlay(self, p: Any, ppmo: PostProcessMaskOverlayArgs, *args: Any) -> None: ...

    def postprocess_image_after_composite(self, p: Any, pp: PostprocessImageArgs, *args: Any) -> None: ...

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None: ...

    def before_hr(self, p: Any, *args: Any) -> None: ...

    def before_component(self, component: Any, **kwargs: Any) -> None: ...

    def after_component(self, component: Any, **kwargs: Any) -> None: ...

    def on_before_component(self, callback: Callable[[OnComponent], None], *, elem_id: str) -> None:
        self.on_before_component_elem_id = [*(self.on_before_component_elem_id or []), (elem_id, callback)]

    def on_after_component(self, callback: Callable[[OnComponent], None], *, elem_id: str) -> None:
        self.on_after_component_elem_id = [*(self.on_after_component_elem_id or []), (elem_id, callback)]

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
scripts_current: ScriptRunner | None = None
current_basedir = paths.script_path


def basedir() -> str:
    """The folder of the extension whose script is being executed."""
    return current_basedir


def list_scripts(subdir: str, extension: str, *, include_extensions: bool = True) -> list[ScriptFile]:
    """The host's files, then each extension's, moved only where `[scripts/...]` in a metadata.ini asks for it."""
    own = extensions.Extension(name="builtin", path=paths.script_path)
    files = {f"builtin/{f.filename}": f for f in own.list_files(subdir, extension)}
    after: dict[str, list[str]] = {name: [] for name in files}
    for ext in extensions.active() if include_extensions else []:
        for file in ext.list_files(subdir, extension):
            name = f"{ext.canonical_name}/{file.filename}"
            files[name] = file
            after[name] = [
                *ext.order(subdir, "After"),
                *ext.order(f"{subdir}/{file.filename}", "After"),
            ]
    expanded = {
        name: [n for wanted in wants for n in files if n == wanted or n.startswith(f"{wanted}/")]
        for name, wants in after.items()
    }
    return [files[name] for name in util.topological_sort(expanded)]


def list_files_with_name(filename: str) -> list[str]:
    folders = [paths.script_path, *(ext.path for ext in extensions.active())]
    return [str(Path(folder) / filename) for folder in folders if (Path(folder) / filename).is_file()]


def load_scripts() -> None:
    """Forget every script and callback, then execute each scripts/*.py with its extension's root on sys.path."""
    global scripts_txt2img, scripts_img2img, scripts_postproc
    scripts_data.clear()
    postprocessing_scripts_data.clear()
    script_callbacks.clear_callbacks()
    for file in list_scripts("scripts", ".py"):
        _load_script(file)
    scripts_txt2img, scripts_img2img = ScriptRunner(), ScriptRunner()
    scripts_postproc = scripts_postprocessing.ScriptPostprocessingRunner()


def _load_script(file: ScriptFile) -> None:
    global current_basedir
    saved_path = sys.path
    try:
        if file.basedir != paths.script_path:
            sys.path = [file.basedir, *sys.path]
        current_basedir = file.basedir
        module = script_loading.load_module(file.path)
        for value in list(vars(module).values()):  # whatever class is visible counts, imported ones too
            if not inspect.isclass(value):
                continue
            data = ScriptClassData(value, file.path, file.basedir, module)
            if issubclass(value, Script):
                scripts_data.append(data)
            elif issubclass(value, scripts_postprocessing.ScriptPostprocessing):
                postprocessing_scripts_data.append(data)
    except Exception:
        errors.report(f"Error loading script: {file.filename}", exc_info=True)
    finally:
        sys.path = saved_path
        current_basedir = paths.script_path


def wrap_call(func: Callable[..., Any], filename: str, funcname: str, *args: Any, default: Any = None) -> Any:
    try:
        return func(*args)
    except Exception:
        errors.report(f"Error calling: {filename}/{funcname}", exc_info=True)
        return default


class ScriptRunner:
    """The scripts of one tab: their controls, and the calls of their hooks."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.selectable_scripts: list[Script] = []
        self.alwayson_scripts: list[Script] = []
        self.titles: list[str] = []
        self.title_map: dict[str, Script] = {}
        self.infotext_fields: list[Any] = []
        self.paste_field_names: list[str] = []
        self.inputs: list[Any] = [None]

    def initialize_scripts(self, is_img2img: bool) -> None:
        self.scripts.clear()
        self.selectable_scripts.clear()
        self.alwayson_scripts.clear()
        for data in scripts_data:
            try:
                script = data.script_class()
            except Exception:
                errors.report(f"Error: failed to initialize Script {data.module}", exc_info=True)
                continue
            script.filename = data.path
            script.is_txt2img, script.is_img2img = not is_img2img, is_img2img
            script.tabname = "img2img" if is_img2img else "txt2img"
            visibility = wrap_call(script.show, script.filename, "show", is_img2img, default=False)
            script.alwayson = visibility is AlwaysVisible
            if visibility:
                self.scripts.append(script)
                (self.alwayson_scripts if script.alwayson else self.selectable_scripts).append(script)

    # ---- controls

    def prepare_ui(self) -> None:
        self.inputs = [None]
        self.infotext_fields = []
        self.paste_field_names = []

    def create_script_ui(self, script: Script) -> None:
        script.args_from = script.args_to = len(self.inputs)
        try:
            self._create_script_ui(script)
        except Exception:
            errors.report(f"Error creating UI for {script.name}", exc_info=True)

    def _create_script_ui(self, script: Script) -> None:
        from modules.api.models import script_info

        controls = wrap_call(script.ui, str(script.filename), "ui", script.is_img2img)
        script.controls = controls
        if controls is None:
            return
        script.name = wrap_call(script.title, str(script.filename), "title", default=script.filename).lower()
        script.api_info = script_info(script, controls)
        self.infotext_fields += script.infotext_fields or []
        self.paste_field_names += script.paste_field_names or []
        self.inputs += controls
        script.args_to = len(self.inputs)

    def setup_ui_for_section(self, section: str | None, scriptlist: list[Script] | None = None) -> None:
        for script in self.alwayson_scripts if scriptlist is None else scriptlist:
            if script.alwayson and script.section != section:
                continue
            if script.create_group:
                with gr.Group(visible=script.alwayson) as script.group:
                    self.create_script_ui(script)
            else:
                self.create_script_ui(script)

    def setup_ui(self) -> list[Any]:
        """Always-on scripts, then the dropdown and the selectable ones, of which one is visible."""
        titles = {script: wrap_call(script.title, str(script.filename), "title") for script in self.scripts}
        self.title_map = {(titles[s] or str(s.filename)).lower(): s for s in self.scripts}
        self.titles = [titles[s] or f"{s.filename} [error]" for s in self.selectable_scripts]
        self.setup_ui_for_section(None)
        dropdown = gr.Dropdown(
            label="Script", elem_id="script_list", choices=["None", *self.titles], value="None", type="index"
        )
        self.inputs[0] = dropdown
        self.setup_ui_for_section(None, self.selectable_scripts)
        groups = [script.group for script in self.selectable_scripts]

        def select(index: int | None) -> Any:
            updates = [gr.update(visible=i + 1 == index) for i in range(len(groups))]
            return updates[0] if len(updates) == 1 else updates

        if groups:
            dropdown.change(fn=select, inputs=[dropdown], outputs=groups)
        self.infotext_fields.append((dropdown, lambda d: gr.update(value=d.get("Script", "None"))))
        return self.inputs

    # ---- hooks

    def run(self, p: Any, *args: Any) -> Any:
        """The selected dropdown script, which makes the whole job; None without one."""
        index = args[0]
        if not index:
            return None
        script = self.selectable_scripts[index - 1]
        processed = script.run(p, *args[script.args_from : script.args_to])
        shared.total_tqdm.clear()
        return processed

    def ordered_scripts(self, method: str) -> list[Script]:
        """The always-on scripts that define the hook, in the order metadata.ini asks for."""
        pool = self.scripts if method in ("before_component", "after_component") else self.alwayson_scripts
        defining = [s for s in pool if getattr(type(s), method, None) is not getattr(Script, method, None)]
        callbacks: list[script_callbacks.ScriptCallback] = []
        for script in defining:
            script_callbacks.add_callback(
                callbacks,
                script,
                name=type(script).__name__,
                category=f"script_{method}",
                filename=str(script.filename),
            )
        return [callback.callback for callback in script_callbacks.sort_callbacks(callbacks)]

    def _hook(self, method: str, p: Any, *before: Any, **kwargs: Any) -> None:
        for script in self.ordered_scripts(method):
            try:
                args = p.script_args[script.args_from : script.args_to]
                getattr(script, method)(p, *before, *args, **kwargs)
            except Exception:
                errors.report(f"Error running {method}: {script.filename}", exc_info=True)

    def setup_scripts(self, p: Any, *, is_ui: bool = True) -> None:
        for script in self.ordered_scripts("setup"):
            if is_ui or not script.setup_for_ui_only:
                args = p.script_args[script.args_from : script.args_to]
                wrap_call(lambda s=script, a=args: s.setup(p, *a), str(script.filename), "setup")

    def before_process(self, p: Any) -> None:
        self._hook("before_process", p)

    def process(self, p: Any) -> None:
        self._hook("process", p)

    def before_process_batch(self, p: Any, **kwargs: Any) -> None:
        self._hook("before_process_batch", p, **kwargs)

    def after_extra_networks_activate(self, p: Any, **kwargs: Any) -> None:
        self._hook("after_extra_networks_activate", p, **kwargs)

    def process_before_every_sampling(self, p: Any, **kwargs: Any) -> None:
        self._hook("process_before_every_sampling", p, **kwargs)

    def process_batch(self, p: Any, **kwargs: Any) -> None:
        self._hook("process_batch", p, **kwargs)

    def post_sample(self, p: Any, ps: PostSampleArgs) -> None:
        self._hook("post_sample", p, ps)

    def postprocess_batch(self, p: Any, images: Any, **kwargs: Any) -> None:
        self._hook("postprocess_batch", p, images=images, **kwargs)

    def postprocess_batch_list(self, p: Any, pp: PostprocessBatchListArgs, **kwargs: Any) -> None:
        self._hook("postprocess_batch_list", p, pp, **kwargs)

    def postprocess_image(self, p: Any, pp: PostprocessImageArgs) -> None:
        self._hook("postprocess_image", p, pp)

    def postprocess_maskoverlay(self, p: Any, ppmo: PostProcessMaskOverlayArgs) -> None:
        self._hook("postprocess_maskoverlay", p, ppmo)

    def postprocess_image_after_composite(self, p: Any, pp: PostprocessImageArgs) -> None:
        self._hook("postprocess_image_after_composite", p, pp)

    def postprocess(self, p: Any, processed: Any) -> None:
        self._hook("postprocess", p, processed)

    def before_hr(self, p: Any) -> None:
        self._hook("before_hr", p)

    def component(self, when: str, component: Any, **kwargs: Any) -> None:
        """Tell the scripts that a component is about to be (`before`) or has been (`after`) made."""
        for script in self.scripts:
            for elem_id, callback in getattr(script, f"on_{when}_component_elem_id") or []:
                if elem_id == kwargs.get("elem_id"):
                    wrap_call(callback, str(script.filename), f"on_{when}_component", OnComponent(component))
        for script in self.ordered_scripts(f"{when}_component"):
            try:
                getattr(script, f"{when}_component")(component, **kwargs)
            except Exception:
                errors.report(f"Error running {when}_component: {script.filename}", exc_info=True)

    def script(self, title: str) -> Script | None:
        return self.title_map.get(title.lower())
