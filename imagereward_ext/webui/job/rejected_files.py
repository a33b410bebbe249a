"""What becomes of the file of a rejected image: it moves or goes together with its `.txt`."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, takewhile
from pathlib import Path

from imagereward_ext.errors import ImageError
from imagereward_ext.storage import replacing

BESIDE = "rejected"
"""The folder beside the images when the setting is empty."""


def folder_for(image: Path, setting: str) -> Path:
    """Return the rejected folder of an image: beside it, or the one place the user named for all."""
    return image.parent / (setting or BESIDE)


def move(image: Path, folder: Path) -> Path:
    """Move an image and its `.txt` into a folder under a free name; after an error both are where they were."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target = free_name(folder, image.name)
        text = image.with_suffix(".txt")
        if text.is_file():
            _move(text, target.with_suffix(".txt"))
        try:
            _move(image, target)
        except OSError:
            if target.with_suffix(".txt").is_file():
                _move(target.with_suffix(".txt"), text)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError(
            f"{image.name} could not be moved to {folder}: {reason}; it stays where it is"
        ) from error
    return target


def discard(image: Path) -> None:
    """Delete an image and its `.txt`."""
    try:
        image.unlink(missing_ok=True)
        image.with_suffix(".txt").unlink(missing_ok=True)
    except OSError as error:
        raise ImageError(f"{image} could not be deleted: {error.strerror or error}") from error


def free_name(folder: Path, name: str) -> Path:
    """Find a name that neither an image nor a text has: `name`, then `name-1`, `name-2` and so on."""
    wanted = folder / name
    for candidate in _names(wanted):
        if not candidate.exists() and not candidate.with_suffix(".txt").exists():
            return candidate
    raise AssertionError("counting never ends")


def last_numbered(wanted: Path) -> Path:
    """Find what was last written under a name by somebody who counts on as long as names are taken."""
    return list(takewhile(Path.exists, _names(wanted)))[-1]


def _names(wanted: Path) -> Iterator[Path]:
    yield wanted
    for number in count(1):
        yield wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")


def _move(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)  # noqa: PTH104 - Path.rename says nothing more
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Another disk: a full one leaves no half file, and the source goes only when the copy is whole.
        with replacing(target) as part:
            shutil.copy2(source, part)
        with suppress(FileNotFoundError):
            source.unlink()
