"""How large a scorer is, told without reading a weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagereward_ext.errors import UsageError
from imagereward_ext.weights import catalogue, locate, model_folder
from imagereward_ext.weights.catalogue import Entry
from imagereward_ext.weights.tensors import is_pickle, open_tensors

_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
IN_32_BIT = 4  # bytes


def size_of(name: str, folder: Path | str | None = None) -> int:
    """Return the bytes of a scorer's weights in 32 bit; 0 for one that nobody knows, which loading will say."""
    try:
        found = locate.resolve(name, folder)
    except UsageError:
        return 0
    if isinstance(found, Entry):
        return found.size_in_bytes
    return _of_folder(found, folder) if found.is_dir() else _of_file(found)


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
    if path.suffix.lower() not in _WEIGHTS or not path.is_file():
        return 0
    if is_pickle(path):  # published ones hold 32 bit
        return path.stat().st_size
    return IN_32_BIT * sum(math.prod(shape) for shape in open_tensors(path).shapes.values())
