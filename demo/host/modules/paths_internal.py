"""Where things lie, known before anything else is imported (flags move the data, never the program)."""

from __future__ import annotations

import argparse
from pathlib import Path


def folder(text: str) -> str:
    return str(Path(text).resolve())


script_path = str(Path(__file__).resolve().parents[1])
_early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
_early.add_argument("--data-dir", type=folder, default=str(Path(script_path) / "data"))
_known, _ = _early.parse_known_args()

data_path: str = _known.data_dir
models_path = str(Path(data_path) / "models")
default_output_dir = str(Path(data_path) / "outputs")
