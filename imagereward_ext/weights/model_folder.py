"""A model as a folder: `config.json`, `model.safetensors` and the files it names. Trained scorers look like this."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from imagereward_ext.errors import WeightsError
from imagereward_ext.storage import write_text
from imagereward_ext.weights.labels import check_label, check_name, label_of

FORMAT = "imagereward-scorer/1"
CONFIG_NAME = "config.json"
_LARGEST_CONFIG = 2**20  # bytes


@dataclass(frozen=True)
class ModelConfig:
    """What `config.json` holds."""

    architecture: str
    name: str
    label: str
    mean: float = 0.0
    std: float = 1.0
    weights: str = "model.safetensors"
    companions: Mapping[str, str] = field(default_factory=dict)
    """Further files of the folder by role, for instance {"vocabulary": "vocab.txt"}."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The architecture's own values; whatever is absent has its default."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """For people: how it was trained, what it reached. Never read by code."""


def read_config(folder: Path) -> ModelConfig:
    """Read a model folder's configuration; anything that does not belong there is an error."""
    path = folder / CONFIG_NAME
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise WeightsError(f"{path} takes more than {_LARGEST_CONFIG:,} bytes: it is no scorer's")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(
            f"{folder} is no model folder: {error.strerror or error} ({CONFIG_NAME})"
        ) from error
    except RecursionError as error:
        raise WeightsError(f"{path} is nested too deeply to be read") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise WeightsError(f'{path} does not describe a scorer: it lacks "format": "{FORMAT}"')
    fields = dataclasses.fields(ModelConfig)
    known = [item.name for item in fields]
    if unknown := sorted(set(values) - set(known)):
        raise WeightsError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    no_default = (dataclasses.MISSING, dataclasses.MISSING)
    required = [item.name for item in fields if (item.default, item.default_factory) == no_default]
    if missing := [name for name in required if name not in values]:
        raise WeightsError(f"{path} lacks {', '.join(missing)}")
    config = ModelConfig(**values)
    try:
        _check(config)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    # Versions before took any folder's name for a label, and dots: such a model scores under another.
    return dataclasses.replace(config, label=label_of(config.label))


def write_config(folder: Path, config: ModelConfig) -> None:
    """Write `config.json`; last of all, since a folder without it is no model yet."""
    check_label(config.label)
    _check(config)
    values = {"format": FORMAT, **dataclasses.asdict(config)}
    write_text(folder / CONFIG_NAME, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _check(config: ModelConfig) -> None:
    """Refuse values that would reach beyond the folder, into a terminal or other files; the label is another matter."""
    check_name(config.name)
    if not isinstance(config.label, str):
        raise WeightsError("label is no text")
    for name in ("companions", "settings", "notes"):
        if not isinstance(getattr(config, name), Mapping):
            raise WeightsError(f"{name} is no object of names and values")
    for name in ("mean", "std"):
        value = getattr(config, name)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise WeightsError(f"{name} is no number")
    if not config.std > 0:
        raise WeightsError(f"std is {config.std}; expected a number above 0")
    if not isinstance(config.architecture, str):
        raise WeightsError("architecture is no text")
    for file in (config.weights, *config.companions.values()):
        _check_file(file)


def _check_file(name: object) -> None:
    """Refuse a file's name that leads out of the folder, on any system."""
    if not isinstance(name, str) or not name.isprintable():
        raise WeightsError("a file is named by what is no plain text")
    parts = PureWindowsPath(name).parts  # which has all the ways out that other systems have
    if not parts or PureWindowsPath(name).anchor or ":" in name or ".." in parts:
        raise WeightsError(f"{name!r} lies outside the model's folder; name a file in it")
