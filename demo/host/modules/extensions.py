"""The extensions: folders given with `--extension`, then those in `<data>/extensions`, each with its metadata.ini."""

from __future__ import annotations

import argparse
import configparser
import re
from dataclasses import dataclass, field
from pathlib import Path

from modules import errors, paths_internal


@dataclass(frozen=True)
class ScriptFile:
    basedir: str
    filename: str
    path: str


@dataclass
class Extension:
    name: str
    path: str
    enabled: bool = True
    is_builtin: bool = False
    config: configparser.ConfigParser = field(default_factory=configparser.ConfigParser)

    def __post_init__(self) -> None:
        metadata = Path(self.path) / "metadata.ini"
        if metadata.is_file():
            try:
                self.config.read(metadata, encoding="utf8")
            except configparser.Error:
                errors.report(f"Error reading {metadata}", exc_info=True)

    @property
    def canonical_name(self) -> str:
        return self.config.get("Extension", "Name", fallback=self.name).lower().strip()

    def order(self, section: str, key: str) -> list[str]:
        """The names listed under `key` (Before, After, Requires) of a section, lower case."""
        return [x for x in re.split(r"[,\s]+", self.config.get(section, key, fallback="").lower()) if x]

    def list_files(self, subdir: str, extension: str) -> list[ScriptFile]:
        folder = Path(self.path) / subdir
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        return [
            ScriptFile(self.path, f.name, str(f))
            for f in files
            if f.suffix.lower() == extension and f.is_file()
        ]


extensions: list[Extension] = []


def folders(flags: argparse.Namespace) -> list[str]:
    """Every extension's folder, in loading order."""
    installed = Path(paths_internal.extensions_dir)
    found = sorted(str(f) for f in installed.iterdir() if f.is_dir()) if installed.is_dir() else []
    return [*flags.extension, *found]


def list_extensions() -> None:
    from modules.shared_cmd_options import cmd_opts

    extensions[:] = [Extension(name=Path(f).name.lower(), path=f) for f in folders(cmd_opts)]


def active() -> list[Extension]:
    return [extension for extension in extensions if extension.enabled]


def find_extension(filename: str) -> Extension | None:
    """The extension that `filename` belongs to."""
    path = Path(filename).resolve()
    return next((e for e in extensions if path.is_relative_to(Path(e.path).resolve())), None)
