"""Where the file of a rejected image goes, and how it is deleted together with its `.txt`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path

from imagereward_ext.errors import ImageError

BESIDE = "rejected"
"""The folder beside the images when the setting is empty."""


def folder_for(image: Path, setting: str) -> Path:
    """Return the rejected folder of an image: beside it, or the one place the user named for all."""
    return image.parent / (setting or BESIDE)


def discard(image: Path) -> None:
    """Delete an image and its `.txt`."""
    for file in (image, image.with_suffix(".txt")):
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise ImageError(f"{file} could not be deleted: {error.strerror or error}") from error


def last_numbered(wanted: Path) -> Path:
    """Find what was last written under a name by somebody who counts on as long as names are taken."""
    return list(takewhile(Path.exists, _names(wanted)))[-1]


def _names(wanted: Path) -> Iterator[Path]:
    yield wanted
    for number in count(1):
        yield wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
