"""The seam to the WebUI this extension runs in, importable without one.

What a method of these classes is for stands here, and not again in the file of a host.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:  # they import the WebUI
    from imagereward_ext.hosts.images import Images
    from imagereward_ext.hosts.jobs import Jobs


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint the host generates with, as files."""

    weights: Path
    config: Path | None = None
    """The `.yaml` beside it that names its architecture, where there is one."""
    vae: Path | None = None
    """A VAE the user chose in place of the checkpoint's own."""

    @classmethod
    def of(cls, weights: Path, vae: Path | None = None) -> Checkpoint:
        """Look for the `.yaml` of some weights."""
        config = weights.with_suffix(".yaml")
        return cls(weights, config if config.is_file() else None, vae)


@dataclass(frozen=True)
class Sample:
    """An image on its way to the host's output folder, with what the host's file name patterns need."""

    image: Any
    infotext: str
    prompt: str
    seed: int


class Checkpoints(ABC):
    """What there is to generate with, and how the loaded one makes room for a training and comes back."""

    @abstractmethod
    def by_name(self) -> dict[str, Checkpoint]:
        """Return the checkpoints to choose from, the one that is loaded, or would be, first."""

    @abstractmethod
    def make_room(self) -> None:
        """Unload the checkpoint and give its memory back."""

    @abstractmethod
    def load_when_asked(self) -> None:
        """Let the host load the checkpoint as soon as anything of it asks for one, be it no job."""

    @abstractmethod
    def restore(self) -> None:
        """Load the checkpoint again, now."""


class Host(ABC):
    """A running WebUI: its places and switches, and in three parts what it does."""

    name: str
    packages: ClassVar[tuple[str, ...]] = ()
    """What only this host can import: of all whose packages are there, it is the one with the most."""
    checkpoints: Checkpoints
    """What differs from host to host."""
    images: Images
    jobs: Jobs

    @abstractmethod
    def data_folder(self) -> Path:
        """Where the host keeps its settings and outputs."""

    @abstractmethod
    def models_folder(self) -> Path:
        """Where the host keeps its models, one folder per kind."""

    @abstractmethod
    def lora_folder(self) -> Path:
        """Where the host looks for LoRA files."""

    @abstractmethod
    def option(self, name: str, default: Any = None) -> Any:
        """Return one of the host's settings."""

    @abstractmethod
    def flag(self, name: str, default: Any = None) -> Any:
        """Return one of the host's command-line flags."""

    @abstractmethod
    def device(self) -> str:
        """Return the device the host computes on, as torch writes it."""

    @abstractmethod
    def queue(self) -> AbstractContextManager[Any]:
        """Wait for the host's turn; nothing else is generated inside."""
