"""Executing a file of an extension the way a WebUI does: as a file, without putting it into `sys.modules`."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from types import ModuleType

from modules import errors

loaded_scripts: dict[str, ModuleType] = {}


def load_module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be executed as Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loaded_scripts[path] = module
    return module


def preload(folder: str, parser: argparse.ArgumentParser) -> None:
    """Let the extension in `folder` add its flags."""
    path = Path(folder) / "preload.py"
    if not path.is_file():
        return
    try:
        hook = getattr(load_module(str(path)), "preload", None)
        if hook is not None:
            hook(parser)
    except Exception:
        errors.report(f"Error running preload() for {path}", exc_info=True)
