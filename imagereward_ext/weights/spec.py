"""ScorerSpec: which model, where its files may lie, and whether they may be fetched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from imagereward_ext.weights import locate
from imagereward_ext.weights.catalogue import DEFAULT, Entry, RemoteFile
from imagereward_ext.weights.download import obtain
from imagereward_ext.wording import Say


@dataclass(frozen=True)
class ScorerSpec:
    """A scorer as a person names it."""

    name: str = DEFAULT
    """Of the catalogue or of a model folder; or a model folder's or a weights file's path."""
    folder: Path | None = None
    """Searched for weights before all other places, and receives what is downloaded."""
    download: bool = True

    def __post_init__(self) -> None:
        if self.folder is not None:
            object.__setattr__(self, "folder", Path(self.folder).expanduser())

    def resolve(self) -> Entry | Path:
        """Say what the name means: a published scorer, a model folder, or a weights file."""
        return locate.resolve(self.name, self.folder)

    def another(self, name: str) -> ScorerSpec:
        """Name another scorer, with its files in the same places."""
        return replace(self, name=name)

    def obtain(self, file: RemoteFile, report: Say | None) -> Path:
        """Find (or bring) a single published file."""
        return obtain(file, self.folder, download=self.download, report=report)
