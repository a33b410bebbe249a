"""The score as it is drawn into the cell of a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import ImageDraw

from imagereward_ext.hosts import Host

if TYPE_CHECKING:
    from PIL.Image import Image


def draw_score(image: Image, text: str, host: Host) -> Image:
    """Return a copy with the text on a dark ground at its lower left; the image itself is the user's."""
    copy = image.convert("RGB")
    draw = ImageDraw.Draw(copy)
    font = host.images.font(max(10, copy.height // 16))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = max(2, (bottom - top) // 4)
    height = bottom - top + 2 * pad
    corner = (0, copy.height - height)
    draw.rectangle((*corner, right - left + 2 * pad, copy.height), fill=(0, 0, 0))
    draw.text((pad - left, corner[1] + pad - top), text, font=font, fill=(255, 255, 255))
    return copy
