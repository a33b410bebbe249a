"""Where weights lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from imagereward_ext.weights.catalogue import Entry, RemoteFile

HOME_VARIABLE = "IMAGEREWARD_HOME"
_EXTENSION_ROOT = Path(__file__).resolve().parents[2]


def places(folder: Path | str | None = None) -> list[Path]:
    """List the folders that are searched, the first one first; a download goes to the first.

    A folder that was asked for, `IMAGEREWARD_HOME`, the WebUI's `models/ImageReward` when this project is one
    of its extensions, and the folder in which the `image-reward` package keeps its files.
    """
    candidates = [
        Path(folder).expanduser() if folder else None,
        Path(os.environ[HOME_VARIABLE]).expanduser() if os.environ.get(HOME_VARIABLE) else None,
        _webui_models_folder(),
        Path.home() / ".cache" / "ImageReward",
    ]
    return list(dict.fromkeys(place for place in candidates if place is not None))


def find(entry: Entry, folder: Path | str | None = None) -> Path | None:
    """Find the main weights file of a scorer; a converted `.safetensors` beside it is preferred."""
    return find_file(entry.weights, folder)


def find_file(file: RemoteFile, folder: Path | str | None = None) -> Path | None:
    """Find a file in our folders or in the Hugging Face cache, None when it is nowhere on this machine."""
    for place in places(folder):
        if (found := newest(place / file.name)) is not None:
            return found
    return _in_hugging_face_cache(file)


def newest(weights: Path) -> Path | None:
    """Prefer the converted copy, unless somebody put another original beside it since."""
    copy = converted(weights)
    if not weights.is_file():
        return copy if copy.is_file() else None
    if copy.is_file() and copy.stat().st_mtime >= weights.stat().st_mtime:
        return copy
    return weights


def converted(weights: Path) -> Path:
    """Say where the safetensors copy of a pickle lies: beside it."""
    return weights.with_suffix(".safetensors") if weights.suffix in {".pt", ".pth", ".bin"} else weights


def model_folders(folder: Path | str | None = None) -> dict[str, Path]:
    """Find the user's own trained models: folders with a `config.json`, by name."""
    found: dict[str, Path] = {}
    for place in places(folder):
        if place.is_dir():
            for config in sorted(place.glob("*/config.json")):
                found.setdefault(config.parent.name, config.parent)
    return found


def is_hub_cache(path: Path) -> bool:
    """Tell whether a file lies in the Hugging Face cache, which belongs to the hub's client."""
    return path.parent.parent.name == "snapshots"


def _webui_models_folder() -> Path | None:
    if _EXTENSION_ROOT.parent.name != "extensions":
        return None
    return _EXTENSION_ROOT.parent.parent / "models" / "ImageReward"


def _in_hugging_face_cache(file: RemoteFile) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    for repo in file.repos:
        cached = try_to_load_from_cache(repo, file.path)
        if isinstance(cached, str):
            return Path(cached)
    return None
