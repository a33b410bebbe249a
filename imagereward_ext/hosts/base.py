"""The seam to the WebUI this extension runs in: what differs between hosts stands behind it, once per host."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


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


class Host(ABC):
    """A running WebUI: its places and switches, its jobs, what they made, and its checkpoint.

    What a method is for stands here and nowhere else. `job` is always the host's own processing object.
    """

    name: str
    packages: ClassVar[tuple[str, ...]] = ()
    """What only this host can import: of all whose packages are there, it is the one with the most."""

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
    def save_folder(self) -> Path:
        """Where the Save button writes."""

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

    @abstractmethod
    def stopped(self) -> bool:
        """Whether the user asked to stop: no further image is to be started."""

    @abstractmethod
    def half_done(self) -> bool:
        """Whether the image at hand was cut short by Interrupt or Skip."""

    @abstractmethod
    def tell(self, text: str) -> None:
        """Show a line beside the progress bar."""

    @abstractmethod
    def expect(self, batches: int, steps: int) -> None:
        """Tell the progress bar how many batches and sampling steps are still to come."""

    @abstractmethod
    def generate(self, job: Any) -> Any:
        """Run a job and return what the host makes of it."""

    @abstractmethod
    def fix_seeds(self, job: Any) -> None:
        """Draw the seeds that are left to chance now, so that later jobs can continue their sequence."""

    @abstractmethod
    def hires_prompts(self, job: Any) -> tuple[str, str]:
        """Return a job's own prompts for its second pass with their styles applied, "" where it has none."""

    @abstractmethod
    def masks_per_image(self, job: Any) -> int:
        """Say how many mask images follow each image of a job in its results."""

    @abstractmethod
    def grid_of(self, images: list[Any], job: Any) -> Any | None:
        """Draw the host's grid of some images, None where the user wants none."""

    @abstractmethod
    def grid_infotext(self, job: Any) -> str:
        """Write the parameters the host puts into a grid."""

    @abstractmethod
    def save_grid(self, grid: Any, job: Any, sample: Sample) -> None:
        """Save a grid where the host saves grids, if the user wants that."""

    @abstractmethod
    def shows_grid(self) -> bool:
        """Whether a grid leads the images in the gallery."""

    @abstractmethod
    def text_of(self, image: Any) -> str:
        """Read the parameters out of an image, wherever its format keeps them."""

    @abstractmethod
    def font(self, size: int) -> Any:
        """Return a Pillow font the host draws its grids with."""

    @abstractmethod
    def save_sample(self, job: Any, sample: Sample) -> None:
        """Save one image as the host saves the images of a job."""

    @abstractmethod
    def checkpoint(self) -> Checkpoint:
        """Return the files of the checkpoint that is loaded, or would be."""

    def checkpoints(self) -> dict[str, Checkpoint]:
        """Return the checkpoints to choose from by name, the loaded one first."""
        loaded = self.checkpoint()
        return {loaded.weights.name: loaded}

    @abstractmethod
    def make_room(self) -> None:
        """Unload the host's checkpoint and give its memory back."""

    @abstractmethod
    def load_when_asked(self) -> None:
        """Let the host load the checkpoint as soon as anything of it asks for one, be it no job."""

    @abstractmethod
    def restore(self) -> None:
        """Load the checkpoint again, now."""
