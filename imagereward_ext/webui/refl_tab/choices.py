"""What there is to choose from in this WebUI: checkpoints, scorers, and prompts from wherever they come."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagereward_ext.errors import UsageError
from imagereward_ext.hosts import Checkpoint
from imagereward_ext.webui.refl_tab import prompt_sources
from imagereward_ext.webui.refl_tab.prompt_sources import OwnImages
from imagereward_ext.webui.service import Service

_OUTPUT_FOLDERS = ("outdir_samples", "outdir_txt2img_samples", "outdir_img2img_samples")
"""The host's options that say where somebody's images go."""


class Choices:
    """Looked up anew each time: a checkpoint or a prompt file may have come since."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._host = service.host
        self._own_images = OwnImages()

    def checkpoints(self) -> dict[str, Checkpoint]:
        """Return the host's checkpoints by name, the loaded one first."""
        return self._host.checkpoints.by_name()

    def scorers(self) -> list[str]:
        """Return the scorers that may be chosen."""
        return list(self._service.names())

    def prompt_files(self) -> dict[str, Path]:
        """Return the prompt files that may be chosen, by name."""
        folder = self._service.folder() / "prompts"
        files = sorted(folder.glob("*")) if folder.is_dir() else []
        return {
            path.name: path for path in files if path.suffix.lower() in (".txt", ".json") and path.is_file()
        }

    def prompts(self, values: Mapping[str, Any]) -> list[str]:
        """Return the prompts that a form asks for."""
        source = values["prompt_source"]
        if source == prompt_sources.TYPED:
            return prompt_sources.from_text(values["prompt_text"])
        if source == prompt_sources.THEME:
            return prompt_sources.from_theme(values["theme"])
        if source == prompt_sources.OUTPUTS:
            return self._own_images.prompts(self._output_folders())
        files, name = self.prompt_files(), values["prompt_file"]
        if name not in files:
            there = ", ".join(files) or "none in models/ImageReward/prompts"
            raise UsageError(f"there is no prompt file {name!r}; there are {there}")
        return prompt_sources.from_file(files[name], name)

    def _output_folders(self) -> list[Path]:
        chosen = [str(self._host.option(key, "") or "") for key in _OUTPUT_FOLDERS]
        return list(dict.fromkeys(Path(folder).absolute() for folder in chosen if folder))
