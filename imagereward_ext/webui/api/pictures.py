"""Images that came with a request, decoded within bounds, and the prompts in their files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from imagereward_ext.errors import ImageError, ImageRewardError, MetadataError
from imagereward_ext.images import as_seen, opened, refuse_giants
from imagereward_ext.metadata import infotext
from imagereward_ext.metadata.containers import texts_in
from imagereward_ext.metadata.prompt import plain_prompt

MOST_PIXELS = 64_000_000
MOST_PIXELS_TOGETHER = 2**28
"""64 images of 2048 x 2048: 1 GB when decoded, be the files as small as they may."""


def decoded(files: Sequence[bytes]) -> list[Image.Image]:
    """Decode images whose sizes, one by one and together, are checked before any pixel is."""
    images: list[Image.Image] = []
    pixels = 0
    for number, content in enumerate(files, start=1):
        with _named(number):
            image = opened(io.BytesIO(content))
            refuse_giants(image.size, MOST_PIXELS)
        pixels += image.width * image.height
        images.append(image)
    if pixels > MOST_PIXELS_TOGETHER:
        raise ImageError(
            f"the images have {pixels // 10**6} million pixels together; the most is {MOST_PIXELS_TOGETHER // 10**6}"
        )
    for number, image in enumerate(images, start=1):
        with _named(number):
            image.load()
            images[number - 1] = as_seen(image)
    return images


def prompt_in(file: bytes, number: int) -> str:
    """Return the prompt that an image's file holds, "" without one.

    Not by the host's reader: that of AUTOMATIC1111 takes some contents for the name of a file, and opens it.
    """
    with _named(number):
        found = texts_in(io.BytesIO(file)).infotext
        if found.flaw:
            raise MetadataError(found.flaw)
        return plain_prompt(infotext.parse(found.text).prompt)


@contextmanager
def _named(number: int) -> Iterator[None]:
    try:
        yield
    except ImageRewardError as error:
        raise type(error)(f"image {number} cannot be read: {error}") from error
    except UnidentifiedImageError as error:  # whose own words tell an address in memory
        raise ImageError(f"image {number} cannot be read: it is in no known image format") from error
    except Exception as error:  # a broken file makes Pillow's decoders raise whatever their parsing meets
        raise ImageError(f"image {number} cannot be read: {error}") from error
