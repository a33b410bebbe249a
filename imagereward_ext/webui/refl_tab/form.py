"""The tab's fields: what a beginner sees, and the engine's settings for everybody else.

Every value travels under one flat name, in the tab, in a preset file and through the routes alike. The engine's
settings keep the engine's words; only what has to do with the WebUI is named here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imagereward_ext.errors import UsageError
from imagereward_ext.refl.config import ConfigError, Setting, from_mapping, settings
from imagereward_ext.webui.refl_tab import prompt_sources

NORMAL = "normal"
_WORD = re.compile(r"[a-z]+(?:_[a-z]+)+|^[a-z]+")
"""What may be the name of a setting in the engine's sentences: the first word, or one with an underscore."""
LOADED = "the loaded one"
"""In place of a checkpoint's name: which one that is, is looked up when a run is planned or started."""


@dataclass(frozen=True)
class Strength:
    """How much is changed, as factors of the engine's defaults."""

    updates: float
    learning_rate: float


STRENGTHS = {"gentle": Strength(0.5, 1 / 3), NORMAL: Strength(1, 1), "strong": Strength(2, 2)}


@dataclass(frozen=True)
class Field:
    """A field that is not the engine's."""

    label: str
    help: str
    default: Any
    choices: tuple[str, ...] = ()


OWN: dict[str, Field] = {
    "prompt_source": Field("Prompts", "What the images of the training show.", prompt_sources.THEME,
                           prompt_sources.SOURCES),
    "prompt_text": Field("One prompt per line", "At least two; some dozens are better.", ""),
    "theme": Field("Set", "48 prompts each; \"everything\" is all of them.", "everything"),
    "prompt_file": Field("File", "Text files with one prompt per line, or JSON lists, in models/ImageReward/prompts.", ""),
    "strength": Field("How strong", "How far the LoRA may go from the checkpoint.", NORMAL, tuple(STRENGTHS)),
    "compare": Field("Prompts to compare before and after",
                     "Not trained on where there are enough (30 or more); 0 skips it, and trains on all.", 12),
    "compare_guidance": Field("Guidance of the comparison", "The CFG scale that you make images with (1 to 30).", 7.0),
    "survive": Field("Go on when the WebUI ends", "Otherwise it saves and ends with the WebUI.", False),
    "generate": Field("Let me generate meanwhile", "Keeps the checkpoint in memory. Needs room for both.", False),
    "restore": Field("Load the checkpoint at once afterwards", "Otherwise the next generation loads it.", False),
}  # fmt: skip

_RANGES = {"compare": (0, 500), "compare_guidance": (1, 30)}

SIMPLE = ("checkpoint", "name", "method", "scorers", "judge", "memory")
"""The engine's settings that stand above the accordion."""
_HIDDEN = ("prompts", "images", "vae", "output", "lora_dir", "cpu")
"""Paths, which the tab fills in itself."""


def engine_settings() -> dict[str, Setting]:
    """Return the engine's settings that may be given, by name."""
    return {setting.name: setting for setting in settings() if setting.name not in _HIDDEN}


def advanced() -> dict[str, list[Setting]]:
    """Return the settings of the accordion, by group."""
    groups: dict[str, list[Setting]] = {}
    for setting in engine_settings().values():
        if setting.name not in SIMPLE:
            groups.setdefault(setting.group, []).append(setting)
    return groups


def names() -> list[str]:
    """Name every field, in the tab's order."""
    return [*OWN, *SIMPLE, *(setting.name for group in advanced().values() for setting in group)]


def schema() -> dict[str, dict[str, Any]]:
    """Describe every field as OpenAPI does, in the tab's order."""
    spelled = {bool: "boolean", int: "integer", float: "number", str: "string"}
    fields: dict[str, Field | Setting] = {**OWN, **engine_settings()}
    return {
        name: {
            "type": spelled[type(fields[name].default)],
            "description": f"{fields[name].label}: {fields[name].help}",
            "default": fields[name].default,
            **({"enum": list(fields[name].choices)} if fields[name].choices else {}),
        }
        for name in names()
    }


def strength_values(strength: str) -> dict[str, Any]:
    """Return the settings that a strength stands for."""
    if strength not in STRENGTHS:
        raise UsageError(f"strength is {strength!r}; choose one of {', '.join(STRENGTHS)}")
    factors, engine = STRENGTHS[strength], engine_settings()
    return {
        "updates": round(engine["updates"].default * factors.updates),
        "learning_rate": float(f"{engine['learning_rate'].default * factors.learning_rate:.3g}"),
    }


def strength_text(strength: str, values: Mapping[str, Any]) -> str:
    """Say what a strength means, or what the user made of it."""
    meant = strength_values(strength)
    given = meant | {
        name: values[name] for name in meant if name in values and not problem(name, values[name])
    }
    given = {name: _converted(name, value, meant[name]) for name, value in given.items()}
    changed = "" if given == meant else ", with your own numbers"
    return f"{strength}{changed}: {_numbers(given)}"


def _numbers(values: Mapping[str, Any]) -> str:
    return f"{values['updates']:,} updates at a learning rate of {values['learning_rate']:g}"


def defaults() -> dict[str, Any]:
    """Return every field's default."""
    own = {name: field.default for name, field in OWN.items()}
    return own | {name: setting.default for name, setting in engine_settings().items()}


def completed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check values and fill in the rest: the strength's, then the defaults. Every problem is told at once."""
    unknown = set(given) - set(names())
    problems = [f"there is no field {name!r}" for name in sorted(unknown)]
    values = defaults() | strength_values(str(given.get("strength", NORMAL)))
    for name in given:
        if name not in unknown:
            try:
                values[name] = _converted(name, given[name], values[name])
            except UsageError as error:
                problems.append(str(error))
    if problems:
        raise UsageError("; ".join(problems))
    return values


def problem(name: str, value: Any) -> str:
    """Say what is wrong with one field's value, "" when nothing is."""
    try:
        _converted(name, value, defaults()[name])
    except UsageError as error:
        return str(error)
    return ""


class FieldError(UsageError):
    """What is wrong with one field, to be told beside it."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


def in_labels(error: Exception) -> FieldError:
    """Say an error of the engine with the labels of the tab in place of its own names."""
    known, text = engine_settings(), str(error)
    first = _WORD.match(text)
    field = first[0] if first and first[0] in known else ""
    return FieldError(
        field, _WORD.sub(lambda word: known[word[0]].label if word[0] in known else word[0], text)
    )


def check_together(values: Mapping[str, Any]) -> None:
    """Refuse values that are right each for itself and do not go together."""
    try:
        from_mapping(engine_values(values))
    except ConfigError as error:
        raise in_labels(error) from error


def engine_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of the values that is the engine's."""
    return {name: values[name] for name in engine_settings()}


def to_preset(values: Mapping[str, Any]) -> str:
    """Write values as a preset; a run's name belongs to the run."""
    kept = {name: value for name, value in values.items() if name in names() and name != "name"}
    return json.dumps(kept, indent=2, ensure_ascii=False)


def from_preset(text: str) -> dict[str, Any]:
    """Read a preset: the fields that it names, and what a strength it names stands for."""
    try:
        given = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the preset is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise UsageError("the preset holds no settings: expected a JSON object")
    values = completed(given)
    meant = strength_values(values["strength"]) if "strength" in given else {}
    return {name: values[name] for name in names() if name in given or name in meant}


def _converted(name: str, value: Any, default: Any) -> Any:
    """Turn what a widget or JSON gives into the field's type: gradio hands 8 out for 8.0, and 8.0 for 8."""
    label = OWN[name].label if name in OWN else engine_settings()[name].label
    kind: type = type(default)
    if value is None:
        value = "" if kind is str else value
    if kind is str and isinstance(value, (list, tuple)):
        value = ",".join(str(part) for part in value)
    if kind in (int, float) and not isinstance(value, bool):
        value = _number(label, value, kind)
    if name in OWN:
        return _own(name, label, value)
    try:
        engine_settings()[name].check(value)
    except ConfigError as error:
        raise in_labels(error) from error
    return value


def _own(name: str, label: str, value: Any) -> Any:
    field = OWN[name]
    if not isinstance(value, type(field.default)):
        raise UsageError(f"{label}: {value!r} is no {type(field.default).__name__}")
    if field.choices and value not in field.choices:
        raise UsageError(f"{label}: {value!r} is none of {', '.join(field.choices)}")
    low, high = _RANGES.get(name, (value, value))
    if not low <= value <= high:
        raise UsageError(f"{label} is {value}; it must be between {low} and {high}")
    return value


def _number(label: str, value: Any, kind: type) -> Any:
    if value is None or value == "":
        raise UsageError(f"{label} is empty; expected a number")
    try:
        number = float(str(value).strip().replace(",", "."))  # 0,5 is how half of Europe types it
    except ValueError:
        raise UsageError(f"{label}: {value!r} is no number") from None
    if kind is float:
        return number
    if not number.is_integer():
        raise UsageError(f"{label}: {value} must be a whole number")
    return int(number)
