"""Starts the host: the install.py of every extension, each in a process of its own, and then the WebUI."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from modules import cmd_args, errors


def install(extension: str) -> None:
    """Run an extension's install.py with the flags of this host; its failure is told and stops nothing."""
    installer = Path(extension) / "install.py"
    if not installer.is_file():
        return
    environment = {**os.environ, "COMMANDLINE_ARGS": shlex.join(sys.argv[1:])}
    done = subprocess.run([sys.executable, str(installer)], env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        errors.report(f"{installer} ended with code {done.returncode}")


def main() -> None:
    known, _ = cmd_args.parser.parse_known_args()
    for extension in [] if known.skip_install else known.extension:
        install(extension)
    import webui

    webui.run()


if __name__ == "__main__":
    main()
