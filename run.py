#!/usr/bin/env python3
"""Everything a newcomer needs, on a machine that has only Python.

    python3 run.py demo                     the small WebUI with the extension in it
    python3 run.py demo --once "a red circle on a blue background" --count 8 --limit 0
    python3 run.py test                     the tests; further options go to pytest
    python3 run.py test --pins a1111        the same under AUTOMATIC1111's versions (or: newest)
    python3 run.py test --slow              with the tests that take minutes or gigabytes
    python3 run.py check                    lint, format, types; with --house the sizes of rooms and what is tangled
    python3 run.py fuzz --minutes 5         hostile texts, files, weights, requests and interruptions, and what held
    python3 run.py bench --smoke            speed and memory beside the image-reward package; without --smoke in full
    python3 run.py score out/*.png          any command of `python -m imagereward_ext`: score, rank, filter, info,
                                            models, train-reward, train, compare, evaluate

The first call makes a virtual environment in this folder and installs pinned packages; later calls start at once
and need no network. This file uses the standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 12)  # those for which every pinned package is published

# The one place that says which environment runs what.
ENVIRONMENTS = {
    "webui": (ROOT / ".venv", ROOT / "requirements" / "webui.txt"),
    "a1111": (ROOT / ".venv-a1111", ROOT / "requirements" / "a1111.txt"),
    "newest": (ROOT / ".venv-newest", ROOT / "requirements" / "newest.txt"),
}


def main(arguments: list[str]) -> int:
    """Run one of the commands above; return its exit code."""
    if not OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        versions = (OLDEST_PYTHON, NEWEST_PYTHON, sys.version_info[:2])
        oldest, newest, this = (".".join(map(str, version)) for version in versions)
        return fail(f"Python {oldest} to {newest} is needed; this is {this}. Try python{newest} run.py …")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    command, *rest = arguments
    if command == "test":
        return test(rest)
    if command == "check" and rest == ["--house"]:
        return run(Path(sys.executable), str(ROOT / "tests" / "house.py"))
    if command == "check":
        return check()
    module = {"demo": "demo", "bench": "benchmarks", "fuzz": "tests.fuzzing"}.get(command, "imagereward_ext")
    options = arguments if module == "imagereward_ext" else rest
    return run(environment("webui"), "-m", module, *options)


def test(options: list[str]) -> int:
    """Run pytest in the chosen environment, in parallel unless the caller says otherwise."""
    options = list(options)
    pins = "webui"
    if "--pins" in options:
        position = options.index("--pins")
        pins = options[position + 1] if position + 1 < len(options) else ""
        del options[position : position + 2]
    if pins not in ENVIRONMENTS:
        return fail(f"--pins takes one of {', '.join(ENVIRONMENTS)}")
    if not any(option.startswith(("-n", "--pdb", "--host")) for option in options):
        # tests/conftest.py says which tests stay together, and begins with the longest.
        workers = str(min(os.cpu_count() or 1, 4))
        options = ["-n", workers, "--dist", "loadscope", "--no-loadscope-reorder", *options]
    # Each worker computes on one core, so that two of them do not fight over two; nothing is fetched from a hub.
    offline = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return run(environment(pins), "-m", "pytest", *options, extra=offline)


def check() -> int:
    """Lint, format and types, in the environment that has the tools."""
    python = environment("newest")
    tools = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])
    return max(run(python, "-m", *tool) for tool in tools)


def environment(name: str) -> Path:
    """Return the Python of an environment, making or refreshing it when its list of packages changed."""
    folder, requirements = ENVIRONMENTS[name]
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    stamp = folder / "imagereward-installed"
    if python.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(
        f"Setting up {folder.name} from {requirements.relative_to(ROOT)} (once; a few minutes) …", flush=True
    )
    try:
        venv.create(folder, with_pip=True, clear=not python.exists())
    except subprocess.CalledProcessError:
        sys.exit(
            fail(
                "this Python cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv"
            )
        )
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, "-r", str(requirements)], check=False).returncode != 0:
        sys.exit(fail(f"the packages of {requirements.name} could not be installed; pip says why above"))
    stamp.write_text(wanted)  # last: an interrupted installation is done again
    return python


def run(python: Path, *arguments: str, extra: dict[str, str] | None = None) -> int:
    """Run Python with these arguments where the user stands; Ctrl-C is the child's to answer."""
    search_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    surroundings = {**os.environ, "PYTHONPATH": search_path, **(extra or {})}
    where = ROOT if arguments[1:2] and arguments[1] in ("pytest", "ruff", "mypy") else Path.cwd()
    with subprocess.Popen([str(python), *arguments], cwd=where, env=surroundings) as child:
        while True:
            try:
                code = child.wait()
                return code if code >= 0 else 128 - code  # as shells tell a signal
            except KeyboardInterrupt:
                continue


def fail(message: str) -> int:
    """Say what is wrong in one line."""
    print(f"run.py: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
