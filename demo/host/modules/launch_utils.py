"""What happens before the UI: pip on behalf of extensions, and their install.py, each in a process of its own."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

from modules import errors, extensions
from modules.cmd_args import build_parser
from modules.paths_internal import script_path

args, _ = build_parser().parse_known_args()
python = sys.executable
VERSION = "demo"


def git_tag() -> str:
    """The version in the infotext."""
    return VERSION


def is_installed(package: str) -> bool:
    """Whether a distribution or an importable module of this name is there."""
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return importlib.util.find_spec(package) is not None
    return True


def run(
    command: str,
    desc: str | None = None,
    errdesc: str | None = None,
    custom_env: dict[str, str] | None = None,
    live: bool = False,
) -> str:
    """A command's output; its failure is an error that shows both its streams."""
    if desc:
        print(desc, flush=True)
    result = subprocess.run(
        shlex.split(command),
        env=custom_env,
        capture_output=not live,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if result.returncode:
        raise RuntimeError(
            f"{errdesc or 'Error running command'}.\nCommand: {command}\nError code: {result.returncode}\n"
            f"stdout: {result.stdout}\nstderr: {result.stderr}"
        )
    return result.stdout or ""


def run_pip(command: str, desc: str | None = None, live: bool = False) -> str | None:
    if args.skip_install:
        return None
    pip = f"{shlex.quote(python)} -m pip {command} --prefer-binary"
    return run(pip, desc=f"Installing {desc}", errdesc=f"Couldn't install {desc}", live=live)


def run_extension_installers() -> None:
    for folder in extensions.folders(args):
        run_extension_installer(folder)


def run_extension_installer(extension_dir: str) -> None:
    installer = Path(extension_dir) / "install.py"
    if not installer.is_file():
        return
    env = dict(os.environ)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [script_path, env.get("PYTHONPATH")]))
    env["COMMANDLINE_ARGS"] = shlex.join(sys.argv[1:])
    try:
        command = shlex.join([python, str(installer)])
        output = run(
            command, errdesc=f"Error running install.py for extension {extension_dir}", custom_env=env
        )
        if output.strip():
            print(output.strip(), flush=True)
    except RuntimeError as e:
        errors.report(str(e))
