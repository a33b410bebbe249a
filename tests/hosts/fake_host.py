"""A host for tests of what stands on the seam: it keeps settings and flags, and makes nothing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from PIL import ImageFont

from imagereward_ext.hosts import Checkpoint, Checkpoints, Host, Sample
from imagereward_ext.metadata import exif


class FakeHost(Host):
    name = "test"

    def __init__(self, folder: Path, **flags: Any) -> None:
        self.folder = folder
        self.flags = flags
        self.options: dict[str, Any] = {}
        self.checkpoints = FakeCheckpoints(folder / "model.safetensors")
        self.images = FakeImages()
        self.jobs = FakeJobs()

    def data_folder(self) -> Path:
        return self.folder

    def models_folder(self) -> Path:
        return self.folder / "models"

    def lora_folder(self) -> Path:
        return self.folder / "models" / "Lora"

    def option(self, name: str, default: Any = None) -> Any:
        return self.options.get(name, default)

    def flag(self, name: str, default: Any = None) -> Any:
        return self.flags.get(name, default)

    def device(self) -> str:
        return "cpu"

    def queue(self) -> AbstractContextManager[Any]:
        return nullcontext()


class FakeCheckpoints(Checkpoints):
    def __init__(self, weights: Path) -> None:
        self.loaded = Checkpoint(weights)

    def by_name(self) -> dict[str, Checkpoint]:
        return {self.loaded.weights.name: self.loaded}

    def make_room(self) -> None:
        pass

    def load_when_asked(self) -> None:
        pass

    def restore(self) -> None:
        pass


class FakeImages:
    """As `hosts.images`, which needs a WebUI: `test_detection.py` compares them."""

    def masks_per_image(self, job: Any) -> int:
        return 0

    def grid(self, cells: list[Any], job: Any) -> Any | None:
        return None

    def grid_infotext(self, job: Any) -> str:
        return ""

    def save_grid(self, job: Any, sample: Sample) -> None:
        pass

    def save(self, job: Any, sample: Sample) -> None:
        pass

    def infotext(self, image: Any) -> str:
        block = image.info.get("exif", b"").removeprefix(exif.PREFIX)
        return image.info.get("parameters") or (exif.user_comment(block).text if block else "")

    def font(self, size: int) -> Any:
        return ImageFont.load_default()


class FakeJobs:
    """As `hosts.jobs`, which needs a WebUI: `test_detection.py` compares them."""

    def __init__(self) -> None:
        self.cut_short = False
        self.stop = False

    def generate(self, job: Any) -> Any:
        raise AssertionError("these tests start no generation")

    def fix_seeds(self, job: Any) -> None:
        pass

    def hires_prompts(self, job: Any) -> tuple[str, str]:
        return "", ""

    def expect(self, batches: int, steps: int) -> None:
        pass

    def tell(self, text: str) -> None:
        pass

    def stopped(self) -> bool:
        return self.stop

    def half_done(self) -> bool:
        return self.cut_short
