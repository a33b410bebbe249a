"""Runs when the WebUI starts. Scoring needs nothing that a WebUI does not have, so nothing is ever installed."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

NEEDED = ("torch", "transformers", "safetensors", "huggingface_hub", "numpy", "PIL")


def missing() -> list[str]:
    """List the packages this environment lacks."""
    return [name for name in NEEDED if find_spec(name) is None]


def main() -> None:
    """Say one line if something is missing; say nothing otherwise."""
    if "--skip-install" in [*sys.argv[1:], *os.environ.get("COMMANDLINE_ARGS", "").split()]:
        return
    if absent := missing():
        print(
            f"ImageReward: {', '.join(absent)} not found; images will not be scored before the WebUI has it."
        )


main()
