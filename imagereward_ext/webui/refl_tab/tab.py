"""The tab itself: Setup from gradio's widgets; Run and Result are drawn by the page's script from `status`."""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from imagereward_ext.jobs.planning import SupersededError
from imagereward_ext.webui.page.widgets import component
from imagereward_ext.webui.refl_tab import form, prompt_sources
from imagereward_ext.webui.refl_tab.planning import memory_line
from imagereward_ext.webui.refl_tab.training import TrainingService, error_message
from imagereward_ext.webui.service import Service

PREFIX = "imagereward-refl"
HIDDEN = ["imagereward-hidden"]
_PLANS = itertools.count()
PASSING = ("checkpoint", "name", "prompt_file")
"""Fields whose first value is of today: the WebUI's own defaults file would bring it back at every later start."""

Components = dict[str, Any]


def build(service: Service, training: TrainingService) -> Any:
    """Build the tab. Nothing is loaded, and nothing is written."""
    with gr.Blocks(analytics_enabled=False) as blocks:
        with gr.Row(elem_id=f"{PREFIX}-columns", equal_height=False):
            with gr.Column(elem_id=f"{PREFIX}-setup", scale=5):
                components, more = _setup(service, training)
            with gr.Column(elem_id=f"{PREFIX}-shown", scale=6):
                more |= _go()
                gr.HTML("<div class='imagereward-refl-page'></div>", elem_id=f"{PREFIX}-run")
                gr.HTML("<div class='imagereward-refl-page'></div>", elem_id=f"{PREFIX}-result")
                more |= _comparison()
        _wire(components, more, training)
    return blocks


# ---- setup


def _setup(service: Service, training: TrainingService) -> tuple[Components, Components]:
    more: Components = {}
    missing = training.packages.missing()
    with gr.Group(visible=bool(missing), elem_id=f"{PREFIX}-packages"):
        text = f"Training needs {' and '.join(missing)}, which this WebUI does not have."
        more["packages"] = gr.HTML(_note(text), elem_id=f"{PREFIX}-packages-text")
        more["install"] = gr.Button("Install what training needs", elem_id=f"{PREFIX}-install")
    names = _names(training)
    with gr.Row(equal_height=False, elem_id=f"{PREFIX}-row-checkpoint"):
        checkpoint = _component(
            "checkpoint", gr.Dropdown, choices=names, value=names[0], info="What the LoRA is for."
        )
        more["refresh"] = gr.Button("Refresh", elem_id=f"{PREFIX}-refresh", size="sm", scale=0, min_width=90)
    name = _component(
        "name",
        value=_free_name(training),
        label="LoRA name",
        info="Also the run's. The file is named after it.",
    )
    components: Components = {}
    components |= _prompts(training)
    components["strength"] = _component("strength", gr.Radio)
    more["strength_text"] = gr.HTML(_strengths(form.NORMAL, {}), elem_id=f"{PREFIX}-strength-text")
    simple = {"checkpoint": checkpoint, "name": name} | _scoring(service)
    gr.HTML(_note(memory_line(training.device())), elem_id=f"{PREFIX}-memory-line")
    rest: Components = {}
    with gr.Accordion("Advanced", open=False, elem_id=f"{PREFIX}-advanced"):
        with gr.Row(elem_id=f"{PREFIX}-row-webui"):
            for key in ("compare", "compare_guidance", "survive", "generate", "restore"):
                components[key] = _component(key)
        for group, settings in form.advanced().items():
            gr.HTML(f"<h4>{html.escape(group)}</h4>", elem_id=f"{PREFIX}-group-{group.lower()}")
            with gr.Row(elem_id=f"{PREFIX}-row-{group.lower()}"):
                rest |= {setting.name: _component(setting.name) for setting in settings}
    everything = components | simple | rest
    for key in PASSING:
        everything[key].do_not_save_to_config = True
    more |= _preset()
    return {key: everything[key] for key in form.fields()}, more


def _prompts(training: TrainingService) -> Components:
    files = list(training.choices.prompt_files())
    source = _component("prompt_source", gr.Radio)
    theme = _component("theme", gr.Dropdown, choices=list(prompt_sources.themes()))
    text = _component("prompt_text", lines=6, visible=False)
    file = _component(
        "prompt_file", gr.Dropdown, choices=files, value=files[0] if files else None, visible=False
    )
    return {"prompt_source": source, "theme": theme, "prompt_text": text, "prompt_file": file}


def _scoring(service: Service) -> Components:
    known = service.names()
    default = service.settings().scorer
    with gr.Row(elem_id=f"{PREFIX}-row-scoring"):
        scorers = _component(
            "scorers",
            gr.Dropdown,
            choices=known,
            value=[default if default in known else form.fields()["scorers"].default],
            multiselect=True,
            info="What the images are to please. Several count alike.",
        )
        judge = _component(
            "judge",
            gr.Dropdown,
            choices=["", *known],
            info="Another scorer, never trained on, that watches over the training.",
        )
    with gr.Row(elem_id=f"{PREFIX}-row-how"):
        method, memory = _component("method"), _component("memory")
    return {"scorers": scorers, "judge": judge, "method": method, "memory": memory}


def _go() -> Components:
    more: Components = {}
    more["plan_text"] = gr.HTML("", elem_id=f"{PREFIX}-plan-text")
    more["problems"] = gr.HTML("", elem_id=f"{PREFIX}-problems")
    more["start"] = gr.Button("Start", variant="primary", elem_id=f"{PREFIX}-start")
    more["message"] = gr.HTML("", elem_id=f"{PREFIX}-message")
    # Pressed by the page's script when fields have changed, and once when the tab is first seen.
    more["check"] = gr.Button("check", elem_id=f"{PREFIX}-check", elem_classes=HIDDEN)
    more["plan"] = gr.Button("plan", elem_id=f"{PREFIX}-plan", elem_classes=HIDDEN)
    more["fields"] = gr.Button("fields", elem_id=f"{PREFIX}-fields", elem_classes=HIDDEN)
    return more


def _preset() -> Components:
    more: Components = {}
    with gr.Accordion("Preset", open=False, elem_id=f"{PREFIX}-preset"):
        more["preset"] = gr.Textbox(
            value="",
            lines=4,
            label="Settings as JSON",
            info="Keep this text, or paste one here and load it.",
            elem_id=f"{PREFIX}-preset-text",
        )
        with gr.Row():
            more["save"] = gr.Button("Write my settings here", elem_id=f"{PREFIX}-preset-save")
            more["load"] = gr.Button("Load", elem_id=f"{PREFIX}-preset-load")
    return more


def _comparison() -> Components:
    """Build what compares again; the page's script shows it once there is a LoRA."""
    with gr.Row(elem_id=f"{PREFIX}-chosen-row"):
        chosen = gr.Textbox("", elem_id=f"{PREFIX}-chosen", show_label=False)
    with gr.Row(elem_id=f"{PREFIX}-comparison"):
        again = gr.Button("Compare again with the prompts chosen in Setup", elem_id=f"{PREFIX}-compare-again")
    message = gr.HTML("", elem_id=f"{PREFIX}-compare-message")
    return {"chosen": chosen, "again": again, "compare_message": message}


def _component(name: str, kind: Any = None, **more: Any) -> Any:
    """Make the widget of a field."""
    return component(form.fields()[name], f"{PREFIX}-{name}", kind, **more)


# ---- handlers


def _wire(components: Components, more: Components, training: TrainingService) -> None:
    """Connect everything. Nothing waits in the host's queue: a generation may run meanwhile."""
    inputs = list(components.values())
    names = list(components)

    def on(
        button: Any, work: Callable[..., Any], outputs: list[Any], before: list[Any] | None = None
    ) -> None:
        own = before or []

        def handle(*arguments: Any) -> Any:
            values = dict(zip(names, arguments[len(own) :], strict=True))
            return work(*arguments[: len(own)], values)

        button.click(fn=handle, inputs=[*own, *inputs], outputs=outputs, queue=False, show_progress="hidden")

    on(more["start"], lambda values: _start(values, training), [more["message"], components["name"]])
    on(
        more["check"],
        lambda values: (_problems(values, training), _strengths(values["strength"], values)),
        [more["problems"], more["strength_text"]],
    )
    on(more["plan"], lambda values: _answered(_plan(values, training)), [more["plan_text"]])
    on(more["save"], lambda values: form.to_preset(values), [more["preset"]])
    on(
        more["load"],
        lambda text, values: _load(text, training, names),
        [more["message"], *inputs],
        before=[more["preset"]],
    )
    on(
        more["again"],
        lambda run, values: _compare(run, values, training),
        [more["compare_message"]],
        before=[more["chosen"]],
    )
    _wire_fields(components, more, training)


def _wire_fields(components: Components, more: Components, training: TrainingService) -> None:
    quietly = {"queue": False, "show_progress": "hidden"}
    more["install"].click(
        fn=lambda: _install(training),
        inputs=[],
        outputs=[more["packages"], more["install"]],
        queue=False,
    )
    more["refresh"].click(
        fn=lambda name: _refreshed(name, training),
        inputs=[components["name"]],
        outputs=[components[key] for key in ("checkpoint", "prompt_file", "scorers", "judge", "name")],
        **quietly,
    )
    components["strength"].input(  # the user's own choice: a loaded preset has its numbers already
        fn=_strength,
        inputs=[components["strength"]],
        outputs=[more["strength_text"], components["updates"], components["learning_rate"]],
        **quietly,
    )
    # The host's ui-config.json may have chosen another source than the one the page was built with.
    for listen in (components["prompt_source"].change, more["fields"].click):
        listen(
            fn=_prompt_fields,
            inputs=[components["prompt_source"]],
            outputs=[components[name] for name in ("prompt_text", "theme", "prompt_file")],
            **quietly,
        )


def _start(values: dict[str, Any], training: TrainingService) -> tuple[str, Any]:
    try:
        run = training.start(values)
    except Exception as error:  # whatever it is, the person at the tab has to see it
        return _warning(error_message(error)), gr.update()
    said = _passing(f"{run.name} begins as soon as nothing else trains.", run.name, "waiting")
    return said, gr.update(value=_free_name(training, run.name))


def _compare(name: str, values: dict[str, Any], training: TrainingService) -> str:
    try:
        run = training.compare(name, values)
    except Exception as error:
        return _warning(error_message(error))
    return _passing(f"{run.name} will be compared again.", run.name, "waiting comparing")


def _install(training: TrainingService) -> tuple[str, Any]:
    try:
        said = _note(training.packages.install())
    except Exception as error:
        said = _warning(error_message(error))
    return said, gr.update(visible=bool(training.packages.missing()))


def _problems(values: dict[str, Any], training: TrainingService) -> str:
    """Say what is wrong with which field; the page's script puts it beside the field."""
    found = {name: text for name, value in values.items() if (text := form.problem(name, value))}
    if not found:
        try:
            training.check(values)
        except Exception as error:
            found[getattr(error, "field", "")] = error_message(error)
    data = html.escape(json.dumps(found), quote=True)
    return (
        f"<div class='imagereward-refl-problems' data-problems=\"{data}\">{_warning(found.get('', ''))}</div>"
    )


def _plan(values: dict[str, Any], training: TrainingService) -> Any:
    try:
        plan = training.plan(values)
    except SupersededError:
        return gr.update()  # the newer one writes it
    except Exception as error:
        return _warning(error_message(error))
    return _note(plan["text"]) + _warning(plan["warning"]) + "".join(_note(note) for note in plan["notes"])


def _answered(text: Any) -> Any:
    """Mark a plan as a new one: gradio tells the page nothing where the text stays the same."""
    return f"{text}<i data-plan='{next(_PLANS)}'></i>" if isinstance(text, str) else text


def _load(text: str, training: TrainingService, names: list[str]) -> list[Any]:
    """Set the fields that a preset names. A run's name belongs to the run; what is not here is told and left."""
    try:
        found = form.from_preset(text)
        offered = _offered(training)
    except Exception as error:
        return [_warning(error_message(error)), *(gr.update() for _ in names)]
    found.pop("name", None)
    if "scorers" in found:
        found["scorers"] = str(found["scorers"]).split(",")
    absent = {}
    for name in offered.keys() & found.keys():
        wanted = found[name] if isinstance(found[name], list) else [found[name]]
        missing = [value for value in wanted if value not in offered[name]]
        if missing:
            del found[name]
            absent[name] = ", ".join(filter(None, missing))
    left = "".join(
        _warning(f"There is no {what} here: the field is as it was.") for what in absent.values() if what
    )
    choices = {name: {"choices": offered[name]} for name in offered}
    changed = (
        gr.update(value=found[name], **choices.get(name, {})) if name in found else gr.update()
        for name in names
    )
    return [_note("The preset is loaded.") + left, *changed]


def _offered(training: TrainingService) -> dict[str, list[str]]:
    """Return what can be chosen where that depends on what is there."""
    known = training.choices.scorers()
    return {
        "checkpoint": _names(training),
        "prompt_file": list(training.choices.prompt_files()),
        "scorers": known,
        "judge": ["", *known],
    }


def _strength(strength: str) -> tuple[str, Any, Any]:
    values = form.strength_values(strength)
    return (
        _strengths(strength, values),
        gr.update(value=values["updates"]),
        gr.update(value=values["learning_rate"]),
    )


def _strengths(strength: str, values: Mapping[str, Any]) -> str:
    return _note(form.strength_text(strength, values))


def _prompt_fields(source: str) -> tuple[Any, Any, Any]:
    wanted = (prompt_sources.TYPED, prompt_sources.THEME, prompt_sources.FILE)
    text, theme, file = (gr.update(visible=source == one) for one in wanted)
    return text, theme, file


def _names(training: TrainingService) -> list[str]:
    try:
        return [form.LOADED, *training.choices.checkpoints()]
    except Exception:  # a WebUI without any checkpoint still has a page
        return [form.LOADED]


def _refreshed(name: str, training: TrainingService) -> list[Any]:
    """Look again at what there is to choose from; the page was made when the WebUI started."""
    scorers = training.choices.scorers()
    choices = [_names(training), list(training.choices.prompt_files()), scorers, ["", *scorers]]
    taken = any(run.name == name for run in training.trainer.runs.list())
    free = gr.update(value=_free_name(training)) if taken else gr.update()
    return [*(gr.update(choices=found) for found in choices), free]


def _free_name(training: TrainingService, taken: str = "") -> str:
    used = {run.name for run in training.trainer.runs.list()} | {taken}
    return next(name for number in range(1, len(used) + 2) if (name := f"refl-{number}") not in used)


def _passing(text: str, run: str, states: str) -> str:
    """Say something that the page's script takes away when the run is in another state."""
    return f"<p class='imagereward-note' data-run='{html.escape(run)}' data-while='{states}'>{html.escape(text)}</p>"


def _note(text: str) -> str:
    return f"<p class='imagereward-note'>{html.escape(text)}</p>" if text else ""


def _warning(text: str) -> str:
    return f"<p class='imagereward-note imagereward-warning'>{html.escape(text)}</p>" if text else ""
