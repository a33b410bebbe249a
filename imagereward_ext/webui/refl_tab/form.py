"""The tab's fields: what a beginner sees, and the engine's settings for everybody else.

Every value travels under one flat name, in the tab, in a preset file and through the routes alike. The engine's
settings keep the engine's words; only what has to do with the WebUI is named here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imagereward_ext.errors import UsageError
from imagereward_ext.refl.config import TrainingConfig, from_mapping
from imagereward_ext.settings import FieldError, Setting, parse, schema, setting
from imagereward_ext.webui.refl_tab import prompt_sources

NORMAL = "normal"
LOADED = "the loaded one"
"""In place of a checkpoint's name: which one that is, is looked up when a run is planned or started."""


@dataclass(frozen=True)
class Strength:
    """How much is changed, as factors of the engine's defaults."""

    updates: float
    learning_rate: float


STRENGTHS = {"gentle": Strength(0.5, 1 / 3), NORMAL: Strength(1, 1), "strong": Strength(2, 2)}


@dataclass(frozen=True)
class TabSettings:
    """What is not the engine's: which prompts, how strong, and what has to do with the WebUI."""

    prompt_source: str = setting(
        prompt_sources.THEME,
        "Prompts",
        "What the images of the training show.",
        choices=prompt_sources.SOURCES,
    )
    prompt_text: str = setting("", "One prompt per line", "At least two; some dozens are better.")
    theme: str = setting("everything", "Set", '48 prompts each; "everything" is all of them.')
    prompt_file: str = setting(
        "", "File", "Text files with one prompt per line, or JSON lists, in models/ImageReward/prompts."
    )
    strength: str = setting(
        NORMAL, "How strong", "How far the LoRA may go from the checkpoint.", choices=tuple(STRENGTHS)
    )
    compare: int = setting(
        12,
        "Prompts to compare before and after",
        "Not trained on where there are enough (30 or more); 0 skips it, and trains on all.",
        low=0,
        high=500,
    )
    compare_guidance: float = setting(
        7.0, "Guidance of the comparison", "The CFG scale that you make images with.", low=1, high=30
    )
    survive: bool = setting(False, "Go on when the WebUI ends", "Otherwise it saves and ends with the WebUI.")
    generate: bool = setting(
        False, "Let me generate meanwhile", "Keeps the checkpoint in memory. Needs room for both."
    )
    restore: bool = setting(
        False, "Load the checkpoint at once afterwards", "Otherwise the next generation loads it."
    )


OWN = schema(TabSettings)

SIMPLE = ("checkpoint", "name", "method", "scorers", "judge", "memory")
"""The engine's settings that stand above the accordion."""
_HIDDEN = ("prompts", "images", "vae", "output", "lora_dir", "cpu")
"""Paths, which the tab fills in itself."""


def engine_settings() -> dict[str, Setting]:
    """Return the engine's settings that may be given, by name."""
    return {name: entry for name, entry in schema(TrainingConfig).items() if name not in _HIDDEN}


def advanced() -> dict[str, list[Setting]]:
    """Return the settings of the accordion, by group."""
    groups: dict[str, list[Setting]] = {}
    for entry in engine_settings().values():
        if entry.name not in SIMPLE:
            groups.setdefault(entry.group, []).append(entry)
    return groups


def fields() -> dict[str, Setting]:
    """Return every field, in the tab's order."""
    engine = engine_settings()
    above = {name: engine[name] for name in SIMPLE}
    return {**OWN, **above, **{entry.name: entry for group in advanced().values() for entry in group}}


def strength_values(strength: str) -> dict[str, Any]:
    """Return the settings that a strength stands for."""
    factors, engine = STRENGTHS[OWN["strength"].parse(strength)], engine_settings()
    return {
        "updates": round(engine["updates"].default * factors.updates),
        "learning_rate": float(f"{engine['learning_rate'].default * factors.learning_rate:.3g}"),
    }


def strength_text(strength: str, values: Mapping[str, Any]) -> str:
    """Say what a strength means, or what the user made of it."""
    meant = strength_values(strength)
    given, _ = parse(fields(), {name: values[name] for name in meant if name in values})
    changed = "" if meant | given == meant else ", with your own numbers"
    return f"{strength}{changed}: {_numbers(meant | given)}"


def _numbers(values: Mapping[str, Any]) -> str:
    return f"{values['updates']:,} updates at a learning rate of {values['learning_rate']:g}"


def defaults() -> dict[str, Any]:
    """Return every field's default."""
    return {name: entry.default for name, entry in fields().items()}


def completed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check values and fill in the rest: the strength's, then the defaults. Every problem is told at once."""
    values, errors = parse(fields(), given, "there is no field")
    if errors:
        raise UsageError("; ".join(str(in_labels(error)) for error in errors.values()))
    return defaults() | strength_values(values.get("strength", NORMAL)) | values


def problem(name: str, value: Any) -> str:
    """Say what is wrong with one field's value, "" when nothing is."""
    _, errors = parse(fields(), {name: value})
    return str(in_labels(errors[name])) if errors else ""


def in_labels(error: FieldError) -> FieldError:
    """Say an error with the labels of the tab in place of the settings' names."""
    known = {**schema(TrainingConfig), **OWN}
    return FieldError(error.field, error.spelled(lambda name: known[name].label))


def check_together(values: Mapping[str, Any]) -> None:
    """Refuse values that are right each for itself and do not go together."""
    try:
        from_mapping(engine_values(values))
    except FieldError as error:
        raise in_labels(error) from error


def engine_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of the values that is the engine's."""
    return {name: values[name] for name in engine_settings()}


def to_preset(values: Mapping[str, Any]) -> str:
    """Write values as a preset; a run's name belongs to the run."""
    kept = {name: value for name, value in values.items() if name in fields() and name != "name"}
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
    return {name: values[name] for name in fields() if name in given or name in meant}
