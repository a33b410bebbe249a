"""The extensions: folders given with `--extension`, each with its metadata.ini, and how their files are executed."""

from __future__ import annotations

import configparser
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from modules import errors


@dataclass(frozen=True)
class ScriptFile:
    basedir: str
    filename: str
    path: str


class Extension:
    def __init__(self, path: str):
        self.path = path
        self.config = configparser.ConfigParser()
        metadata = Path(path) / "metadata.ini"
        try:
            self.config.read(metadata, encoding="utf8")  # one that is not there is no error
        except (configparser.Error, UnicodeDecodeError):
            errors.report(f"Error reading {metadata}", exc_info=True)
        self.name = self.config.get("Extension", "Name", fallback=Path(path).name).lower().strip()

    def after(self, subdir: str) -> list[str]:
        """The extensions whose files of this folder come before ours, where both are there."""
        return re.split(r"[,\s]+", self.config.get(subdir, "After", fallback="").lower().strip())

    def list_files(self, subdir: str, suffix: str) -> list[ScriptFile]:
        files = sorted((Path(self.path) / subdir).glob(f"*{suffix}"))
        return [ScriptFile(self.path, file.name, str(file)) for file in files]


extensions: list[Extension] = []


def list_extensions(folders: list[str]) -> None:
    extensions[:] = [Extension(path) for path in folders]


def in_order(subdir: str) -> list[Extension]:
    """As they were given, moved back only where `[scripts] After` in a metadata.ini asks for it."""
    by_name = {extension.name: extension for extension in extensions}
    result: dict[str, Extension] = {}

    def place(extension: Extension) -> None:
        if extension.name in result:
            return
        result[extension.name] = extension  # before its wishes are looked at, so that a circle of wishes ends
        for name in extension.after(subdir):
            if name in by_name:
                place(by_name[name])
        result[extension.name] = result.pop(extension.name)

    for extension in extensions:
        place(extension)
    return list(result.values())


def execute(path: Path) -> ModuleType | None:
    """Execute a file the way a WebUI does: without putting it into `sys.modules`. None: there is no such file."""
    if not path.is_file():
        return None
    spec = importlib.util.spec_from_file_location(path.name, path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
