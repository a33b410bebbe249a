"""Where weights lie on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from imagereward_ext.errors import UsageError
from imagereward_ext.weights import catalogue
from imagereward_ext.weights.catalogue import Entry, RemoteFile
from imagereward_ext.weights.model_folder import CONFIG_NAME

HOME_VARIABLE = "IMAGEREWARD_HOME"
_EXTENSION_ROOT = Path(__file__).resolve().parents[2]
_OF_PICKLES = (".pt", ".pth", ".bin", ".ckpt")


def places(folder: Path | str | None = None) -> list[Path]:
    """List the folders that are searched, the first one first; a download goes to the first.

    A folder that was asked for, `IMAGEREWARD_HOME`, the WebUI's `models/ImageReward` when this project is one
    of its extensions, the folder in which the `image-reward` package keeps its files, and the `models/ImageReward`
    of this project when it stands alone.
    """
    extension = _EXTENSION_ROOT.parent.name == "extensions"
    candidates = [
        Path(folder).expanduser() if folder else None,
        Path(os.environ[HOME_VARIABLE]).expanduser() if os.environ.get(HOME_VARIABLE) else None,
        _EXTENSION_ROOT.parent.parent / "models" / "ImageReward" if extension else None,
        Path.home() / ".cache" / "ImageReward",
        None if extension else _EXTENSION_ROOT / "models" / "ImageReward",
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
    """Say where the safetensors copy of a pickle lies: beside it. Whatever is no safetensors file is a pickle."""
    if weights.suffix.lower() == ".safetensors":
        return weights
    stem = weights.stem if weights.suffix.lower() in _OF_PICKLES else weights.name  # "taste-v1.5" keeps its 5
    return weights.with_name(f"{stem}.safetensors")


def model_folders(folder: Path | str | None = None) -> dict[str, Path]:
    """Find the user's own trained models: folders with a `config.json`, by name."""
    return _model_folders_in(places(folder))


def demo_models() -> dict[str, Path]:
    """Find the demo's scorers, which come with this project: known by name, but listed in no WebUI."""
    return _model_folders_in([_EXTENSION_ROOT / "demo" / "models"])


def resolve(name: str, folder: Path | str | None = None) -> Entry | Path:
    """Say what a scorer's name means: a published one, a model folder, or a weights file."""
    path = Path(name).expanduser()
    if (path / CONFIG_NAME).is_file() or path.is_file():
        return path
    if (entry := catalogue.find_entry(name)) is not None:
        return entry
    own = {**demo_models(), **model_folders(folder)}
    if name in own:
        return own[name]
    if path.exists() or len(path.parts) > 1:
        reason = f"it has no {CONFIG_NAME}" if path.exists() else "it does not exist"
        raise UsageError(f"{name} is neither a weights file nor a model folder: {reason}")
    raise UsageError(
        f"no scorer is called {name!r}; there are {', '.join([*catalogue.ENTRIES, *own])}. "
        f"Model folders were looked for in {', '.join(map(str, places(folder)))}; any other is named by its path"
    )


def _model_folders_in(folders: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        for config in sorted(folder.glob(f"*/{CONFIG_NAME}")):
            if config.parent.name.isprintable():  # it reaches pages and terminals
                found.setdefault(config.parent.name, config.parent)
    return found


def is_hub_cache(path: Path) -> bool:
    """Tell whether a file lies in the Hugging Face cache, which belongs to the hub's client."""
    return path.parent.parent.name == "snapshots"


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
