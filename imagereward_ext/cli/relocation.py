"""Moving and copying images with the text file beside them; nothing is ever overwritten."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path

from imagereward_ext.errors import ImageError
from imagereward_ext.images import SUFFIXES
from imagereward_ext.metadata.sources import side_file
from imagereward_ext.storage import replacing


def move(image: Path, folder: Path) -> Path:
    """Move an image (and the text file beside it) into a folder; return where it is now."""
    return _bring(image, folder, _move_file)


def copy(image: Path, folder: Path) -> Path:
    """Copy an image (and the text file beside it) into a folder; return where the copy is."""
    return _bring(image, folder, _copy_file)


def free_name(image: Path, folder: Path) -> Path:
    """Say what the image will be called there: its own name, or with the first number that is free."""
    numbered = (f"{image.stem}-{number}{image.suffix}" for number in count(1))
    return next(folder / name for name in chain([image.name], numbered) if not _is_taken(folder / name))


def _bring(image: Path, folder: Path, bring: Callable[[Path, Path], None]) -> Path:
    text = side_file(image)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target = _reserve(image, folder)
        _into(target, bring, image)
        if text.is_file():
            # An image of the same name and another kind keeps its text.
            bring_text = _copy_file if _has_twin(image) else bring
            side_file(target).open("x").close()
            _into(side_file(target), bring_text, text)
    except OSError as error:
        raise ImageError(f"{image}: could not be brought to {folder} ({error.strerror or error})") from error
    return target


def _reserve(image: Path, folder: Path) -> Path:
    """Take a free name by making an empty file, so that no other program can take it meanwhile."""
    while True:
        target = free_name(image, folder)
        try:
            target.open("x").close()
        except FileExistsError:
            continue
        return target


def _into(reserved: Path, bring: Callable[[Path, Path], None], source: Path) -> None:
    """Put a file in the place of the empty one that holds its name."""
    try:
        bring(source, reserved)
    except BaseException:
        # Ctrl-C may come right after the move; then the reserved file is the image, and the only one.
        if os.path.lexists(source):
            reserved.unlink(missing_ok=True)
        raise


def _move_file(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_file(source, target)  # to another disk
        source.unlink()


def _copy_file(source: Path, target: Path) -> None:
    with replacing(target) as part:
        shutil.copyfile(source, part)
    shutil.copystat(source, target)


def _is_taken(target: Path) -> bool:
    return os.path.lexists(target) or os.path.lexists(side_file(target))


def _has_twin(image: Path) -> bool:
    siblings = (image.with_suffix(suffix) for suffix in SUFFIXES)
    return any(sibling != image and sibling.exists() for sibling in siblings)
