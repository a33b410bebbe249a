"""Images from files: decoded whole or refused with one clear line, and found in folders. No torch."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image, ImageOps, UnidentifiedImageError

from imagereward_ext.bombs import is_bomb, refuse_bombs
from imagereward_ext.errors import ImageError
from imagereward_ext.storage import is_pipe_or_device

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".apng"}
)  # fmt: skip
"""What counts as an image in a folder; a file named one by one may be called anything."""

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")
"""What is decoded, in Pillow's words: pictures made of pixels. Pillow knows more, and for some of it (EPS) it starts
another program with the file."""

MAX_PIXELS = 2**27
"""About 134 megapixels (11585 x 11585), 0.4 GB when decoded. A file that claims more is taken for a trap."""

_ORIENTATION = 0x0112
_UPRIGHT = 1
_SIXTEEN_BIT_MODES = {"I", "I;16", "I;16L", "I;16B", "I;16N"}


def open_image(path: Path | str) -> Image.Image:
    """Decode an image file whole, as a person sees it; of an animation the first frame.

    The orientation that a camera noted is applied. (The `image-reward` package does not, and scores such a
    picture lying on its side; images that a Stable Diffusion WebUI made carry no orientation.) The mode stays
    what it is, since scorers resize before they convert; only 16-bit greys are brought to 8 bits, because
    Pillow's own conversion would cut nearly all of them to white.
    """
    path = Path(path)
    try:
        _refuse_pipes(path)
        with path.open("rb") as content, opened(content) as file:
            refuse_giants(file.size)
            file.load()
            image = file.copy()  # without the file, which closes here
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    # A broken file makes Pillow's decoders raise whatever their parsing meets.
    except Exception as error:
        raise ImageError(f"{path}: {_what_is_wrong(path, error)}") from error
    return as_seen(image)


def opened(file: BinaryIO) -> Image.Image:
    """Open an image of one of the FORMATS, without decoding it."""
    refuse_bombs(file)
    Image.init()  # or Pillow knows no more than five formats until one of the others is asked for
    return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])


def refuse_giants(size: tuple[int, int], most: int = MAX_PIXELS) -> None:
    """Refuse an image by the size that its file claims."""
    width, height = size
    if width * height > most:
        raise ImageError(
            f"is {width:,} x {height:,} pixels large; more than {most / 1e6:,.0f} megapixels are not decoded"
        )


def as_seen(image: Image.Image) -> Image.Image:
    """Turn an image as its camera noted, and bring 16-bit greys to 8 bits."""
    return _upright(_eight_bits(image))


class FoundImages(NamedTuple):
    """The files that some arguments stand for, and what is wrong with the other arguments."""

    paths: list[Path]
    problems: list[ImageError]


def find_images(
    places: Iterable[Path | str], *, recursive: bool = False, leave_out: Iterable[Path] = ()
) -> FoundImages:
    """List image files: those named, those in folders named, those that a pattern such as `*.png` names.

    Folders are listed as people sort, 2 before 10. A file that is reached twice is listed once. Whatever lies in
    the folders to `leave_out` is not listed.
    """
    unwanted = {_resolved(folder) for folder in leave_out}
    paths: dict[Path, None] = {}
    problems: list[ImageError] = []
    for place in places:
        try:
            found = _expanded(Path(place), recursive, problems)
        except OSError as error:  # a name too long, a folder that may not be entered
            problems.append(ImageError(f"{place}: cannot be read ({error.strerror or error})"))
            continue
        if not found:
            problems.append(ImageError(f"{place}: {_why_nothing_was_found(Path(place), recursive)}"))
        paths.update(dict.fromkeys(path for path in found if unwanted.isdisjoint(_resolved(path).parents)))
    return FoundImages(list(paths), problems)


def natural_key(path: Path) -> list[tuple[str, int, str]]:
    """Sort key under which image2 comes before image10, and folders stay together."""
    pieces = re.findall(r"(\D*)(\d*)", str(path))
    return [(text.casefold(), int(number or 0), text + number) for text, number in pieces]


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises for a link to itself


def _expanded(place: Path, recursive: bool, problems: list[ImageError]) -> list[Path]:
    if place.is_dir():
        return sorted(_images_in(place, recursive, problems), key=natural_key)
    if place.exists() or place.is_symlink():
        return [place]
    # Windows' shell leaves patterns to the programs; Path.glob knows none with a drive or a root.
    matches = (Path(name) for name in glob(str(place)))  # noqa: PTH207
    return sorted((path for path in matches if path.is_file()), key=natural_key)


def _images_in(folder: Path, recursive: bool, problems: list[ImageError]) -> Iterator[Path]:
    def tell(error: OSError) -> None:
        if error.filename != str(folder):  # that one is told as the place that was named
            problems.append(ImageError(f"{error.filename}: cannot be read ({error.strerror or error})"))

    for parent, folders, files in os.walk(folder, onerror=tell):  # links to folders are not followed
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        files_of_parent = (Path(parent, name) for name in files if not name.startswith("."))
        yield from (path for path in files_of_parent if path.suffix.lower() in SUFFIXES)


def _why_nothing_was_found(place: Path, recursive: bool) -> str:
    if not place.is_dir():
        return "no such file or folder"
    try:
        next(place.iterdir(), None)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return (
        "no images in this folder"
        if recursive
        else "no images in this folder (--recursive looks into its folders)"
    )


def _refuse_pipes(path: Path) -> None:
    if is_pipe_or_device(path):
        raise ImageError("is no file, but a pipe or a device")


def _what_is_wrong(path: Path, error: Exception) -> str:
    """Say in a few words why a file could not be decoded."""
    if path.is_dir():
        return "is a folder, not an image"
    if isinstance(error, OSError) and error.errno is not None:
        return "does not exist" if error.errno == errno.ENOENT else f"cannot be read ({error.strerror})"
    if path.stat().st_size == 0:
        return "is empty (0 bytes)"
    if isinstance(error, UnidentifiedImageError):
        return "is not an image, or of a kind that is not read here"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return "claims to be larger than Pillow's own limit, and was not decoded"
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    return f"is truncated or damaged ({_one_line(error)})"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _upright(image: Image.Image) -> Image.Image:
    try:
        if is_bomb(_exif_of(image)):
            return image
        if image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT:
            return image
        return ImageOps.exif_transpose(image)
    # The picture is there; a block of metadata that cannot be read does not take it away.
    except Exception:
        return image


def _exif_of(image: Image.Image) -> bytes:
    """Return the block that Pillow would read."""
    if "exif" in image.info:
        return bytes(image.info["exif"])
    # What ImageMagick writes into a PNG: three lines, then the block in hexadecimal digits.
    return bytes.fromhex("".join(image.info.get("Raw profile type exif", "").split("\n")[3:]))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring 16-bit greys to 8 bits; Pillow calls them `I;16` or `I`, depending on its version."""
    if image.mode not in _SIXTEEN_BIT_MODES:
        return image
    return image.convert("I").point(lambda level: level / 257).convert("L")
