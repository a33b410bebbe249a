"""The WebUI this extension runs in: one seam (:mod:`~imagereward_ext.hosts.base`), one file per host."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

from imagereward_ext.errors import UsageError
from imagereward_ext.hosts.base import Checkpoint, Host, Sample

__all__ = ["Checkpoint", "Host", "Sample", "current_host"]


@lru_cache(maxsize=1)
def current_host() -> Host:
    """Return the host this process is."""
    if find_spec("modules") is None or find_spec("modules.shared") is None:
        raise UsageError("this needs a running Stable Diffusion WebUI; the command line does not")
    module, name = which_host()
    host: Host = getattr(import_module(f"imagereward_ext.hosts.{module}"), name)()
    return host


def which_host() -> tuple[str, str]:
    """Tell the hosts apart by the packages only they have."""
    if find_spec("modules_forge") is None:
        return "a1111", "A1111"
    return ("reforge", "ReForge") if find_spec("ldm_patched") is not None else ("forge", "Forge")
