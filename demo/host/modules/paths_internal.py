"""Where things lie, known before anything else is imported (flags move the data, never the program)."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

script_path = str(Path(__file__).resolve().parents[1])

# COMMANDLINE_ARGS is how a WebUI passes its flags on to the installers it starts.
commandline_args = shlex.split(os.environ.get("COMMANDLINE_ARGS", ""))
sys.argv += commandline_args


def _folder(text: str) -> str:
    return str(Path(text).resolve())


_early = argparse.ArgumentParser(add_help=False)
_early.add_argument("--data-dir", type=_folder, default=_folder(str(Path(script_path) / "data")))
_early.add_argument("--models-dir", type=_folder, default=None)
_known, _ = _early.parse_known_args()

data_path: str = _known.data_dir
models_path: str = _known.models_dir or str(Path(data_path) / "models")
extensions_dir = str(Path(data_path) / "extensions")
extensions_builtin_dir = str(Path(script_path) / "extensions-builtin")
default_output_dir = str(Path(data_path) / "outputs")
cwd = str(Path.cwd())
