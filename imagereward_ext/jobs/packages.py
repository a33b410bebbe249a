"""The packages that training needs and scoring does not, in a folder that only the training process sees.

A WebUI pins its packages, and moving one of them breaks it. So nothing is ever installed into the WebUI: what it
lacks goes into a private folder, package by package and without dependencies, because a plain
`pip install --target` would bring a second torch along.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.wording import Say

NEEDED = {"diffusers": "0.31", "peft": "0.13", "accelerate": "0.21"}
"""What training imports, each with the oldest version that works."""
HOSTS_OWN = ("torch", "numpy", "transformers", "tokenizers", "torchvision", "xformers")
"""What must never be in the folder: a second copy of these would not be the WebUI's."""
_MOST_ROUNDS = 8  # of dependencies of dependencies

# By the host's transformers; the first row that is not too new counts. The older versions were seen to train beside
# AUTOMATIC1111's and Forge's, the newer ones pass the suite with transformers 5 but were not tried inside a host.
_VERSIONS: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("4.50", {"diffusers": "0.42.1", "peft": "0.21.2", "accelerate": "1.15.0"}),
    ("0", {"diffusers": "0.31.0", "peft": "0.13.2", "accelerate": "0.31.0"}),
)

Installed = Callable[[str], "str | None"]


class PackageError(ImageRewardError):
    """Training packages that are missing and cannot be had."""


def version_in_host(name: str) -> str | None:
    """Return the version of a package of this process's environment."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def missing(folder: Path, host: Installed = version_in_host) -> list[str]:
    """List what training needs and neither the host nor the folder has."""
    own = versions_in(folder)
    return [
        name
        for name, least in NEEDED.items()
        if not _at_least(host(name), least) and not _at_least(own.get(name), least)
    ]


def wanted(host: Installed = version_in_host) -> dict[str, str]:
    """Choose a version for each package that the host lacks."""
    transformers = host("transformers")
    if transformers is None:
        raise PackageError("this WebUI has no transformers: it cannot score or train")
    versions = next(versions for least, versions in _VERSIONS if _at_least(transformers, least))
    return {name: versions[name] for name, least in NEEDED.items() if not _at_least(host(name), least)}


def versions_in(folder: Path) -> dict[str, str]:
    """List the packages of a private folder."""
    return {
        _plain(dist.metadata["Name"]): dist.version for dist in metadata.distributions(path=[str(folder)])
    }


def install(folder: Path, report: Say, host: Installed = version_in_host) -> dict[str, str]:
    """Fill the private folder with what the host lacks; it appears under its name only when it is complete."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        specifications = [f"{name}=={version}" for name, version in wanted(host).items()]
        for _ in range(_MOST_ROUNDS):
            if not specifications:
                break
            _pip_install(specifications, part, report)
            specifications = list(_unmet(part, host))
        _refuse_second_copies(part)
        check(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    except OSError as error:
        raise PackageError(f"the training packages cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    report("The training packages are ready.")
    return versions_in(folder)


def check(folder: Path) -> dict[str, list[str]]:
    """Import everything as the training process will; return version and file of each package."""
    code = (
        "import sys, json, importlib; sys.path[0:1] = sys.argv[1:2]; "
        "names = sys.argv[2:]; found = {n: importlib.import_module(n) for n in names}; "
        "print(json.dumps({n: [m.__version__, m.__file__] for n, m in found.items()}))"
    )
    names = [*NEEDED, "torch", "numpy", "transformers"]
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), *names], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise PackageError(f"the training packages do not fit this WebUI's: {last}")
    found: dict[str, list[str]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _pip_install(specifications: list[str], target: Path, report: Say) -> None:
    report(f"Installing {', '.join(specifications)} …")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target), "--upgrade"]
    command += [
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        "--no-warn-conflicts",
        *specifications,
    ]
    # What a user set for pip may send it elsewhere (a user folder, a root); sources and proxies stay.
    env = {
        k: v for k, v in os.environ.items() if k not in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")
    }
    lines: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=env
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            lines.append(line.strip())
            report(line.strip())
    if pip.returncode:
        reason = next(
            (line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else ""
        )
        folder = target.with_name(target.name[1:].removesuffix(".part"))
        what = " ".join(specifications)
        raise PackageError(
            f"{what} could not be installed ({reason.removeprefix('ERROR: ')[:200]}). Check the network and try "
            f'again, or run: "{sys.executable}" -m pip install --no-deps --target "{folder}" {what}'
        )


def _unmet(folder: Path, host: Installed) -> Iterator[str]:
    """Yield what the folder's packages need and neither the host nor the folder has."""
    from packaging.requirements import Requirement

    own = versions_in(folder)
    for dist in metadata.distributions(path=[str(folder)]):
        for text in dist.requires or []:
            need = Requirement(text)
            if need.marker is not None and not need.marker.evaluate({"extra": ""}):
                continue
            have = own.get(_plain(need.name)) or host(need.name)
            if have is not None and need.specifier.contains(have, prereleases=True):
                continue
            if _plain(need.name) in HOSTS_OWN:
                raise PackageError(
                    f"{dist.metadata['Name']} {dist.version} needs {need.name}{need.specifier}, but this WebUI "
                    f"has {have or 'none'}: update the WebUI, which brings its own"
                )
            yield f"{need.name}{need.specifier}"


def _refuse_second_copies(folder: Path) -> None:
    copies = [name for name in versions_in(folder) if name in HOSTS_OWN]
    if copies:
        raise PackageError(f"a second {', '.join(copies)} would have been installed; nothing was changed")


def _at_least(version: str | None, least: str) -> bool:
    from packaging.version import InvalidVersion, Version

    if version is None:
        return False
    try:
        return Version(version) >= Version(least)
    except InvalidVersion:
        return False


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
