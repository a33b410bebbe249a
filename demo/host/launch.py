"""Starts the host: the install.py of every extension, each in a process of its own, and then the WebUI."""

from __future__ import annotations

import argparse
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from modules import cmd_args, errors

FIRST_PORT = 7860


def install(extension: str) -> None:
    """Run an extension's install.py with the flags of this host; its failure is told and stops nothing."""
    installer = Path(extension) / "install.py"
    if not installer.is_file():
        return
    environment = {**os.environ, "COMMANDLINE_ARGS": shlex.join(sys.argv[1:])}
    done = subprocess.run([sys.executable, str(installer)], env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        errors.report(f"{installer} ended with code {done.returncode}")


def free_port(flags: argparse.Namespace) -> int:
    """The port asked for, else the first free one; found before any library is loaded."""
    for port in range(FIRST_PORT, FIRST_PORT + 100) if flags.port is None else [flags.port]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((flags.server_name, port))
            except (OSError, OverflowError):
                continue
            return port
    first = f"no free port from {FIRST_PORT} on"
    problem = first if flags.port is None else f"port {flags.port} cannot be used or is taken"
    raise SystemExit(f"{problem}; choose one with --port")


def main() -> None:
    known, _ = cmd_args.parser.parse_known_args()
    for extension in [] if known.skip_install else known.extension:
        install(extension)
    port = free_port(cmd_args.parse())
    import webui

    webui.run(port)


if __name__ == "__main__":
    main()
