"""What was ordered: a run's settings and how its process is to behave, kept in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from imagereward_ext.errors import ImageRewardError
from imagereward_ext.storage import write_text

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
    queued_at: float = 0.0
    starts: int = 0
    """How often the run was started: 0 while it waits for the first time."""
    waiting: bool = True

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.config["name"])

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(str(self.config["output"])) / self.name

    def write(self) -> None:
        """Keep the order in the run's folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / FILE, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise JobError(
                f"the run folder {self.name} cannot be written: {error.strerror or error}"
            ) from error


def read_order(folder: Path) -> Order | None:
    """Read a run's order; None where there is none, or none that can be read."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        known = {entry.name for entry in fields(Order)}
        return Order(**{key: value for key, value in content.items() if key in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
