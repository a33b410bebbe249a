"""Image files as holders of one text: where each format keeps it, and how it gets there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from imagereward_ext.errors import MetadataError
from imagereward_ext.metadata import exif, infotext, jpeg, png, webp
from imagereward_ext.metadata.found_text import FoundText
from imagereward_ext.storage import is_pipe_or_device, replacing
from imagereward_ext.wording import well_formed

PNG_KEYWORD = "parameters"
OTHER_KEYWORDS = ("Software", "Description", "Comment", "prompt")
"""Where other programs than the WebUI put into a PNG what its picture was made from."""
WRITABLE = ("PNG", "JPEG", "WebP")


class Texts(NamedTuple):
    """What an image file says in words."""

    format: str
    """PNG, JPEG or WebP; "" for all others, into which nothing is written."""
    infotext: FoundText
    """What the WebUI wrote, "" when it did not."""
    others: dict[str, FoundText]
    """A PNG's texts under OTHER_KEYWORDS."""


def read_texts(path: Path) -> Texts:
    """Read the texts of an image file without decoding the image."""
    try:
        _refuse_pipes(path)
        with path.open("rb") as file:
            return texts_in(file)
    except MetadataError as error:
        raise MetadataError(f"{path}: {error}") from error
    except OSError as error:
        raise MetadataError(f"{path}: {error.strerror or error}") from error


def write_infotext(path: Path, text: str, *, keep_times: bool = False) -> None:
    """Put a text into an image file, in the place where the WebUI looks for it.

    The picture is not encoded again and everything else in the file stays. The file changes as a whole or not
    at all; one whose text could not be read whole is refused, so that nothing is lost with it.
    """
    text = well_formed(text)
    try:
        _refuse_flawed(infotext.within_bounds(FoundText(text)))
        _refuse_read_only(path)
        # The file is closed before it is replaced: Windows replaces none that is open, not even by us.
        with replacing(path, keep_times=keep_times) as part:
            with path.open("rb") as file, part.open("wb") as target:
                _refuse_flawed(texts_in(file).infotext)
                file.seek(0)
                target.writelines(_rewritten(file, text))
            _refuse_unless_it_says(part, text)
    except MetadataError as error:
        raise MetadataError(f"{path}: {error}") from error
    except OSError as error:
        raise MetadataError(f"{path}: not written, {error.strerror or error}") from error


def _refuse_flawed(found: FoundText) -> None:
    if found.flaw:
        raise MetadataError(f"{found.flaw}; nothing is written over it")


def _refuse_unless_it_says(path: Path, text: str) -> None:
    """Read again what was written: EXIF does not tell the order of bytes, and takes no zeros at the end."""
    with path.open("rb") as file:
        if texts_in(file).infotext.text != text:
            raise MetadataError(
                "the text would not come back as it was written, so the file is left as it is"
            )


def texts_in(file: BinaryIO) -> Texts:
    """Read the texts of an image file that is open, or in memory."""
    kind = _format(file)
    if kind == "PNG":
        texts = png.read_texts(file, (PNG_KEYWORD, *OTHER_KEYWORDS))
        found = texts.pop(PNG_KEYWORD, FoundText())
        if found == FoundText():
            found = exif.user_comment(png.read_exif(file))
        return Texts(kind, infotext.within_bounds(found), texts)
    if kind == "JPEG":
        return Texts(kind, infotext.within_bounds(exif.user_comment(jpeg.read_exif(file))), {})
    if kind == "WebP":
        return Texts(kind, infotext.within_bounds(exif.user_comment(webp.read_exif(file))), {})
    return Texts("", infotext.within_bounds(_text_that_pillow_finds(file)), {})


def _text_that_pillow_finds(file: BinaryIO) -> FoundText:
    """Read the EXIF (AVIF) or the comment (GIF) into which the WebUI writes, where we only read."""
    from imagereward_ext.images import opened

    try:
        with opened(file) as image:
            block, comment = image.info.get("exif", b""), image.info.get("comment", b"")
    # What is no image has no text; whoever decodes it will say what is wrong with it.
    except Exception:
        return FoundText()
    found = exif.user_comment(block.removeprefix(exif.PREFIX)) if block else FoundText()
    if found != FoundText():
        return found
    return FoundText(
        comment.decode("utf-8", errors="replace") if isinstance(comment, bytes) else str(comment)
    )


def _rewritten(file: BinaryIO, text: str) -> Iterator[bytes]:
    kind = _format(file)
    if kind == "PNG":
        return png.with_text(file, PNG_KEYWORD, text)
    if kind == "JPEG":
        return jpeg.with_exif(file, exif.with_user_comment(jpeg.read_exif(file), text))
    if kind == "WebP":
        return webp.with_exif(file, exif.with_user_comment(webp.read_exif(file), text))
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


def _refuse_pipes(path: Path) -> None:
    if is_pipe_or_device(path):
        raise MetadataError("is no file, but a pipe or a device")


def _refuse_read_only(path: Path) -> None:
    # Replacing a file asks the folder, not the file; who made it read-only did not mean that.
    if not path.stat().st_mode & 0o222:
        raise MetadataError("is read-only, so no score was written into it")
