"""Image files as holders of one text: where each format keeps it, and how it gets there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata import exif, jpeg, png, webp
from imagereward_ext.storage import replacing

PNG_KEYWORD = "parameters"
WRITABLE = ("PNG", "JPEG", "WebP")


class Texts(NamedTuple):
    """What an image file says in words."""

    format: str
    """PNG, JPEG or WebP; "" for all others, into which nothing is written."""
    infotext: str
    """What the WebUI wrote, "" when it did not."""
    others: dict[str, str]
    """A PNG's further texts by keyword."""


def read_texts(path: Path) -> Texts:
    """Read the texts of an image file without decoding the image."""
    try:
        with path.open("rb") as file:
            return _texts(file)
    except MetadataError as error:
        raise MetadataError(f"{path}: {error}") from error
    except OSError as error:
        raise MetadataError(f"{path}: {error.strerror or error}") from error


def write_infotext(path: Path, infotext: str) -> None:
    """Put a text into an image file, in the place where the WebUI looks for it.

    The picture is not encoded again and everything else in the file stays. The file changes as a whole or not
    at all.
    """
    try:
        _refuse_read_only(path)
        # The file is closed before it is replaced: Windows replaces none that is open, not even by us.
        with replacing(path) as part, path.open("rb") as file, part.open("wb") as target:
            target.writelines(_rewritten(file, infotext))
    except MetadataError as error:
        raise MetadataError(f"{path}: {error}") from error
    except OSError as error:
        raise MetadataError(f"{path}: not written, {error.strerror or error}") from error


def _texts(file: BinaryIO) -> Texts:
    kind = _format(file)
    if kind == "PNG":
        texts = png.read_texts(file)
        infotext = texts.pop(PNG_KEYWORD, "") or exif.user_comment(png.read_exif(file))
        return Texts(kind, infotext, texts)
    if kind == "JPEG":
        return Texts(kind, exif.user_comment(jpeg.read_exif(file)), {})
    if kind == "WebP":
        return Texts(kind, exif.user_comment(webp.read_exif(file)), {})
    return Texts("", _text_that_pillow_finds(file), {})


def _text_that_pillow_finds(file: BinaryIO) -> str:
    """Read the EXIF (AVIF) or the comment (GIF) into which the WebUI writes, where we only read."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            block, comment = image.info.get("exif", b""), image.info.get("comment", b"")
    # What is no image has no text; whoever decodes it will say what is wrong with it.
    except Exception:
        return ""
    text = exif.user_comment(block.removeprefix(exif.PREFIX)) if block else ""
    return text or (comment.decode("utf-8", errors="replace") if isinstance(comment, bytes) else str(comment))


def _rewritten(file: BinaryIO, infotext: str) -> Iterator[bytes]:
    kind = _format(file)
    if kind == "PNG":
        return png.with_text(file, PNG_KEYWORD, infotext)
    if kind == "JPEG":
        return jpeg.with_exif(file, exif.with_user_comment(jpeg.read_exif(file), infotext))
    if kind == "WebP":
        return webp.with_exif(file, exif.with_user_comment(webp.read_exif(file), infotext))
    raise MetadataError(
        f"a score can be written into {', '.join(WRITABLE[:-1])} and {WRITABLE[-1]} files only"
    )


def _format(file: BinaryIO) -> str:
    """Tell the format from the first bytes: names lie."""
    head = file.read(16)
    if head.startswith(png.SIGNATURE):
        return "PNG"
    if head.startswith(jpeg.SIGNATURE):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    return ""


def _refuse_read_only(path: Path) -> None:
    # Replacing a file asks the folder, not the file; who made it read-only did not mean that.
    if not path.stat().st_mode & 0o222:
        raise MetadataError("is read-only, so no score was written into it")
