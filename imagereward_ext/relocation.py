"""Moving and copying images with the text beside each: all of it or nothing, and never over another file.

A file that moves is at both places for a moment, as one file of two names, and leaves its old place only when
everything that belongs together has arrived. So an error or Ctrl-C can be undone at any step, and what ends the
program in the middle (a power cut) leaves a name too many rather than a file too few.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from imagereward_ext.errors import ImageError
from imagereward_ext.images import SUFFIXES
from imagereward_ext.storage import flush_folder, flush_to_disk, part_beside, take_attributes

_IS_WINDOWS = os.name == "nt"
_MOST_NAMES_TRIED = 100
_NO_HARD_LINK = {
    errno.EXDEV,  # another disk
    errno.EPERM,  # FAT; or somebody else's file, of which Linux lets nobody make a second name
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EINVAL,  # Windows on FAT
    errno.EMLINK,
}


def move(image: Path, folder: Path) -> Path:
    """Move an image (and the text file beside it) into a folder; return where it is now.

    A link is moved as a link, and leads where it led.
    """
    return move_together([(image, folder)])[0]


def move_together(places: Sequence[tuple[Path, Path]]) -> list[Path]:
    """Move several images, each into its folder: all of them or none."""
    return _bring(places, "moved", stays=False)


def copy(image: Path, folder: Path) -> Path:
    """Copy an image (and the text file beside it) into a folder; return where the copy is.

    Of a link, the file it leads to is copied.
    """
    return _bring([(image, folder)], "copied", stays=True)[0]


def free_name(image: Path, folder: Path) -> Path:
    """Say what the image will be called there: its own name, or with the first number that is free."""
    numbered = (f"{image.stem}-{number}{image.suffix}" for number in count(1))
    return next(folder / name for name in chain([image.name], numbered) if not _is_taken(folder / name))


@dataclass
class _Transfer:
    """One file on its way to another name."""

    source: Path
    target: Path
    stays: bool
    """The source stays: this is a copy."""
    part: Path = field(init=False)
    """Where a copy grows before it gets its name."""
    was: tuple[int, ...] | None = None
    """The source as it was when it was read."""
    identity: tuple[int, int] | None = None
    """Of what is given the name `target`, known before it has that name: nothing else is ever taken away."""

    def __post_init__(self) -> None:
        self.part = part_beside(self.target)

    def put(self) -> None:
        """Make the file appear under its new name, which nothing has yet."""
        self.was = _version(self.source)
        if not self.stays and not self.source.is_symlink():
            self.identity = _identity(self.source)
            if _linked(self.source, self.target):
                return
        self._make_part()
        self.identity = _identity(self.part)
        _name_it(self.part, self.target)
        flush_folder(self.target.parent)

    def leave_source(self) -> None:
        """Take the old name away, unless another program has written there since."""
        if self.stays:
            return
        if _version(self.source) not in (None, self.was):
            raise OSError(errno.EBUSY, "it was changed meanwhile")
        _take_away(self.source, self.target)

    def undo(self) -> None:
        """Bring everything back to before, from wherever it got to."""
        self.part.unlink(missing_ok=True)
        if self.identity is None or _identity(self.target) != self.identity:
            return
        if not os.path.lexists(self.source):
            _Transfer(self.target, self.source, stays=False).put()
        _take_away(self.target, self.source)

    def _make_part(self) -> None:
        if self.source.is_symlink() and not self.stays:
            self.part.symlink_to(_way_from(self.target.parent, self.source))
            return
        shutil.copyfile(self.source, self.part)
        flush_to_disk(self.part)
        take_attributes(self.source, self.part)


def _bring(places: Sequence[tuple[Path, Path]], done: str, *, stays: bool) -> list[Path]:
    if not places:
        return []
    image, folder = places[0]
    try:
        for _, place in places:
            place.mkdir(parents=True, exist_ok=True)
        for _ in range(_MOST_NAMES_TRIED):
            try:
                return _attempt(places, stays=stays)
            except FileExistsError:  # another program took the name meanwhile
                continue
        raise FileExistsError(errno.EEXIST, "no free name was found")
    except (OSError, ValueError) as error:  # a folder's name with a NUL in it is a ValueError
        rest = "" if stays else "; it is where it was"
        raise ImageError(f"{image}: could not be {done} to {folder} ({_reason(error)}){rest}") from error


def _attempt(places: Sequence[tuple[Path, Path]], *, stays: bool) -> list[Path]:
    transfers: list[_Transfer] = []
    targets = []
    try:
        for image, folder in places:
            targets.append(free_name(image, folder))
            for transfer in _transfers(image, targets[-1], stays):
                transfers.append(transfer)
                transfer.put()
        for transfer in reversed(transfers):  # no image is without its text, at either place
            transfer.leave_source()
    except BaseException as error:
        if not _have_left(transfers):
            _undo(transfers, error)
        raise
    return targets


def _transfers(image: Path, target: Path, stays: bool) -> list[_Transfer]:
    text = _text_of(image)
    # An image of the same name and another kind keeps its text.
    texts = [_Transfer(text, _text_of(target), stays or _has_twin(image))] if _goes_along(text, image) else []
    return [*texts, _Transfer(image, target, stays)]


def _have_left(transfers: Sequence[_Transfer]) -> bool:
    """Tell whether all that moves has left its old place."""
    moving = [transfer for transfer in transfers if not transfer.stays]
    return bool(moving) and not any(os.path.lexists(transfer.source) for transfer in moving)


def _undo(transfers: Sequence[_Transfer], cause: BaseException) -> None:
    stuck = []
    for transfer in reversed(transfers):
        try:
            transfer.undo()
        except OSError as error:
            stuck.append(f"{transfer.target} ({_reason(error)})")
    if stuck:
        raise ImageError(
            f"{transfers[0].source}: moving it stopped half-way ({_reason(cause)}), and it could not be undone: "
            f"nothing is lost, look for {' and '.join(stuck)}"
        ) from cause


def _linked(source: Path, target: Path) -> bool:
    """Give a file a second name that nothing has; tell whether this disk can."""
    try:
        os.link(source, target, follow_symlinks=False)
    except NotImplementedError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINK:
            raise
        return False
    return True


def _name_it(part: Path, target: Path) -> None:
    """Give a finished file its name, unless something has that name."""
    if _linked(part, target):
        part.unlink()
        return
    # Windows refuses a name that is taken; elsewhere a disk without hard links leaves a blink between the two.
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    part.rename(target)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _version(path: Path) -> tuple[int, ...] | None:
    """Return what is another number when a file is written to, or another takes its place."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _take_away(path: Path, other: Path) -> None:
    """Take a name away from what is at `other` too.

    Windows does so of no file that is read-only; where both are names of one file, they are read-only together.
    """
    mode = path.lstat().st_mode if os.path.lexists(path) else stat.S_IWRITE
    if not _IS_WINDOWS or mode & stat.S_IWRITE:
        path.unlink(missing_ok=True)
        return
    path.chmod(mode | stat.S_IWRITE)
    try:
        path.unlink()
    finally:
        other.chmod(mode)


def _way_from(folder: Path, link: Path) -> str:
    """Return what a link must say in another folder to lead where it leads."""
    says = link.readlink()
    if says.is_absolute():
        return str(says)
    there = link.parent / says
    return os.path.relpath(Path(os.path.realpath(there.parent), there.name), os.path.realpath(folder))


def _text_of(image: Path) -> Path:
    return image.with_suffix(".txt")


def _goes_along(text: Path, image: Path) -> bool:
    return text != image and (text.is_symlink() or text.is_file())  # an image may be called 1.txt


def _is_taken(target: Path) -> bool:
    return os.path.lexists(target) or os.path.lexists(_text_of(target))


def _has_twin(image: Path) -> bool:
    siblings = (image.with_suffix(suffix) for suffix in SUFFIXES)
    return any(sibling != image and sibling.exists() for sibling in siblings)


def _reason(error: BaseException) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
