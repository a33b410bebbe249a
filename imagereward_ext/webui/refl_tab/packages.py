"""What training needs and the WebUI may lack, in a private folder that only the training's process sees."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from imagereward_ext.errors import UsageError
from imagereward_ext.jobs import packages


class TrainingPackages:
    """The folder, and what is said while it is filled."""

    def __init__(self, folder: Path, shown: Callable[[str], str]) -> None:
        self.folder = folder
        self.log: list[str] = []
        self._shown = shown
        self._installing = threading.Lock()

    def missing(self) -> list[str]:
        """List what training needs and is nowhere."""
        return packages.missing(self.folder)

    def require(self) -> None:
        """Refuse to go on while something is missing."""
        if absent := self.missing():
            raise UsageError(
                f"training needs {' and '.join(absent)}, which this WebUI does not have: press "
                "'Install what training needs' (nothing of the WebUI itself changes)"
            )

    def path(self) -> str:
        """Return the folder, "" where there is none and the host has everything."""
        return str(self.folder) if self.folder.is_dir() else ""

    def install(self) -> str:
        """Install what is missing; says what was done."""
        if not self._installing.acquire(blocking=False):
            return "The training packages are being installed already."
        try:
            if not self.missing():
                return "Everything that training needs is there."
            self.log.clear()
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            versions = packages.install(self.folder, lambda line: self.log.append(self._shown(line)))
        finally:
            self._installing.release()
        return "Installed " + ", ".join(f"{name} {versions[name]}" for name in sorted(versions)) + "."
