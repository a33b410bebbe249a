"""Pen and paper for the plots: Pillow alone, since nothing else is sure to be installed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

INK = (33, 37, 41)
GREY = (120, 128, 136)
RULE = (222, 226, 230)
PAPER = (255, 255, 255)
# Okabe and Ito's colours, which people with any colour vision can tell apart.
PALETTE = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (90, 90, 90),
)

_FONTS = (
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSans-Regular.ttf",
    "arial.ttf",
    "Arial.ttf",
    "Helvetica.ttc",
)
_FINER = 2
"""Drawn larger by this factor, then reduced: Pillow's lines are not smooth by themselves."""


class Box(NamedTuple):
    """A rectangle in pixels of the finished picture."""

    left: float
    top: float
    right: float
    bottom: float


class Canvas:
    """A sheet of paper whose lines come out smooth."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._image = Image.new("RGB", (width * _FINER, height * _FINER), PAPER)
        self._pen = ImageDraw.Draw(self._image)

    def line(
        self, points: list[tuple[float, float]], colour: tuple[int, int, int] = INK, width: float = 1
    ) -> None:
        """Draw through points."""
        self._pen.line([_fine(point) for point in points], fill=colour, width=max(1, round(width * _FINER)))

    def polygon(self, points: list[tuple[float, float]], colour: tuple[int, int, int]) -> None:
        """Fill a shape."""
        self._pen.polygon([_fine(point) for point in points], fill=colour)

    def dot(self, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
        """Fill a circle."""
        (left, top), (right, bottom) = _fine((x - radius, y - radius)), _fine((x + radius, y + radius))
        self._pen.ellipse((left, top, right, bottom), fill=colour)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int = 13,
        colour: tuple[int, int, int] = INK,
        align: str = "left",
    ) -> None:
        """Write a line whose middle is at height y; `align` says what x is: left, centre or right."""
        font = load_font(size * _FINER)
        left, top, right, bottom = self._pen.textbbox((0, 0), writable(text, font), font=font)
        across = {"left": 0.0, "centre": 0.5, "right": 1.0}[align]
        place = (x * _FINER - left - across * (right - left), y * _FINER - (top + bottom) / 2)
        self._pen.text(place, writable(text, font), font=font, fill=colour)

    def finished(self) -> Image.Image:
        """Return the picture."""
        return self._image.resize((self.width, self.height), Image.Resampling.LANCZOS)


def text_width(text: str, size: int) -> int:
    """Measure a line in pixels."""
    font = load_font(size)
    left, _, right, _ = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox(
        (0, 0), writable(text, font), font=font
    )
    return round(right - left)


def shortened(text: str, width: int, size: int) -> str:
    """Cut a line so that it fits, with an ellipsis."""
    text = " ".join(text.split())
    if text_width(text, size) <= width:
        return text
    while text and text_width(f"{text}…", size) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def wrapped(text: str, width: int, size: int, lines: int) -> list[str]:
    """Break a text into at most so many lines of this width; what is left over is cut with an ellipsis."""
    words = text.split()
    result: list[str] = []
    while words and len(result) < lines:
        count = 1
        while count < len(words) and text_width(" ".join(words[: count + 1]), size) <= width:
            count += 1
        taken = words if len(result) == lines - 1 else words[:count]
        result.append(shortened(" ".join(taken), width, size))
        words = words[len(taken) :]
    return result


def lighter(colour: tuple[int, int, int], share: float = 0.65) -> tuple[int, int, int]:
    """Mix a colour with the paper."""
    red, green, blue = (round(c + (p - c) * share) for c, p in zip(colour, PAPER, strict=True))
    return red, green, blue


@lru_cache(maxsize=32)
def load_font(size: int) -> Any:
    """Find a font of this height: a common one of the system, or Pillow's own."""
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    try:
        return ImageFont.load_default(size)  # Pillow 10.1 and newer bring a scalable one
    except TypeError:
        return ImageFont.load_default()


def writable(text: str, font: Any) -> str:
    """Replace what Pillow's old bitmap font cannot write."""
    return (
        text
        if isinstance(font, ImageFont.FreeTypeFont)
        else text.encode("latin-1", "replace").decode("latin-1")
    )


def _fine(point: tuple[float, float]) -> tuple[float, float]:
    return point[0] * _FINER, point[1] * _FINER
