"""What was ordered: a run's settings and how its process is to behave, kept in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.storage import write_text
from imagereward_ext.training.record import RunRecord

FILE = "order.json"


class JobError(ImageRewardError):
    """A training that cannot be started, stopped or shown."""


@dataclass(frozen=True)
class Order:
    """One start of a training."""

    config: Mapping[str, Any]
    """The engine's settings, `name` and `output` among them."""
    resume: bool = False
    compare: int = 0
    """Prompts to make before/after images of when the training is done; 0 for none."""
    only_compare: bool = False
    """Whether the training is done already."""
    compare_prompts: str = ""
    """A prompt file for that, "" for the training's own."""
    compare_guidance: float = 7.0
    """The CFG scale that somebody makes images with, which is not the training's."""
    device: str = "auto"
    """As torch writes it: cuda:0, mps, cpu."""
    survive: bool = False
    """Whether it goes on when the WebUI ends."""
    generate: bool = False
    """Whether images may be generated meanwhile."""
    restore: bool = False
    """Whether the WebUI's checkpoint is loaded at once afterwards."""
    scorers: str = ""
    """Where scorers are looked for first."""
    download: bool = True
    packages: str = ""
    """Private folder of training packages, "" where the host has them."""

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.config["name"])

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(str(self.config["output"])) / self.name

    @property
    def record(self) -> RunRecord:
        """What is known of the run."""
        return RunRecord(self.folder)

    def write(self, files: Mapping[str, str] = MappingProxyType({})) -> None:
        """Keep the order in the run's folder, with files that it speaks of."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                write_text(self.folder / name, text)
            write_text(self.folder / FILE, json.dumps(asdict(self), indent=2) + "\n")
        except OSError as error:
            raise JobError(
                f"the run folder {self.name} cannot be written: {error.strerror or error}"
            ) from error


def read_order(folder: Path) -> Order | None:
    """Read a run's order; None where there is none, or none that can be read.

    It is an order for the folder it lies in: somebody may have moved that since, or renamed it.
    """
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        known = {entry.name for entry in fields(Order)}
        given = {key: value for key, value in content.items() if key in known}
        given["config"] = {**given["config"], "name": folder.name, "output": str(folder.parent)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return Order(**given)
