"""A model as a folder: `config.json`, `model.safetensors` and the files it names. Trained scorers look like this."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagereward_ext.errors import WeightsError
from imagereward_ext.storage import write_text

FORMAT = "imagereward-scorer/1"
CONFIG_NAME = "config.json"


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
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(
            f"{folder} is no model folder: {error.strerror or error} ({CONFIG_NAME})"
        ) from error
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
    return ModelConfig(**values)


def write_config(folder: Path, config: ModelConfig) -> None:
    """Write `config.json`; last of all, since a folder without it is no model yet."""
    values = {"format": FORMAT, **dataclasses.asdict(config)}
    write_text(folder / CONFIG_NAME, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
