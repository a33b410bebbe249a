"""The WebUI this extension runs in: one seam (:mod:`~imagereward_ext.hosts.base`), one file per host.

A new host is a new file in this folder, with a class that names the `packages` only that host has. What those
packages hold is imported where it is used: the other hosts read the file too.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules

from imagereward_ext.errors import UsageError
from imagereward_ext.hosts.base import Checkpoint, Checkpoints, Host, Sample

__all__ = ["Checkpoint", "Checkpoints", "Host", "Sample", "current_host"]


@lru_cache(maxsize=1)
def current_host() -> Host:
    """Return the host this process is."""
    if find_spec("modules") is None or find_spec("modules.shared") is None:
        raise UsageError("this needs a running Stable Diffusion WebUI; the command line does not")
    return which_host()()


def which_host() -> type[Host]:
    """Tell the hosts apart by the packages only they have."""
    present = [host for host in known_hosts() if all(map(find_spec, _packages(host)))]
    return max(present, key=lambda host: len(_packages(host)))


def _packages(host: type[Host]) -> set[str]:
    """Return what tells a host from others, with what tells the one that it is built on."""
    return {package for kind in host.__mro__ for package in vars(kind).get("packages", ())}


def known_hosts() -> list[type[Host]]:
    """Return the class in each file of this folder."""
    modules = [import_module(f"{__name__}.{file.name}") for file in iter_modules(__path__)]
    return [
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, Host)
        and kind.__module__ == module.__name__
        and kind is not Host
    ]
