"""A service over a fake host with a real small scorer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from imagereward_ext.webui.service import Service
from tests.hosts.fake_host import FakeHost
from tests.tiny import make_tiny_scorer_folder


def make_service(folder: Path, **flags: Any) -> Service:
    host = FakeHost(folder, **flags)
    make_tiny_scorer_folder(folder / "models" / "ImageReward" / "tiny", label="ImageReward")
    host.options["imagereward_scorer"] = "tiny"
    return Service(host)


class Processing(SimpleNamespace):
    """A stand-in for the host's processing object: what the job on it refers back to."""
