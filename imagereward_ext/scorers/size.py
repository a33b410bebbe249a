"""How large a scorer is, told without reading a weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagereward_ext.weights import catalogue, locate, model_folder
from imagereward_ext.weights.tensors import is_pickle, open_tensors

_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")
IN_32_BIT = 4  # bytes


def size_of(name: str, folder: Path | str | None = None) -> int:
    """Return the bytes of a scorer's weights in 32 bit; 0 for one that nobody knows, which loading will say."""
    path = Path(name).expanduser()
    if (path / model_folder.CONFIG_NAME).is_file():
        return _of_folder(path, folder)
    if path.is_file():
        return _of_file(path)
    if (entry := catalogue.find_entry(name)) is not None:
        return entry.size_in_bytes
    own = locate.model_folders(folder)
    return _of_folder(own[name], folder) if name in own else 0


def _of_folder(path: Path, folder: Path | str | None) -> int:
    config = model_folder.read_config(path)
    if config.architecture == "mix":
        return sum(size_of(str(part.get("scorer", "")), folder) for part in config.settings.get("parts", ()))
    files = [path / config.weights, *(path / name for name in config.companions.values())]
    return sum(_of_file(file) for file in files) + _shared(config.settings)


def _shared(settings: Mapping[str, Any]) -> int:
    """Count the towers that a head stands on and that come from a scorer of the catalogue."""
    entry = catalogue.find_entry(str(settings.get("tower", "")))
    return entry.size_in_bytes if entry is not None else 0


def _of_file(path: Path) -> int:
    if path.suffix not in _WEIGHTS or not path.is_file():
        return 0
    if is_pickle(path):  # published ones hold 32 bit
        return path.stat().st_size
    return IN_32_BIT * sum(math.prod(shape) for shape in open_tensors(path).shapes.values())
