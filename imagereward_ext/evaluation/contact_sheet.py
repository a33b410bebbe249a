"""Contact sheets: rows of small pictures with captions, to look at what numbers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from imagereward_ext.errors import ImageError
from imagereward_ext.evaluation.drawing import GREY, INK, PAPER, RULE, load_font, shortened, wrapped, writable
from imagereward_ext.images import open_image

_GAP = 10
_TEXT = 13
_LINE = 18


@dataclass(frozen=True)
class Cell:
    """One picture (or a place left empty) and the line below it."""

    image: Path | Image.Image | None
    caption: str = ""
    highlighted: bool = False
    """Framed, for the one that was chosen."""


@dataclass(frozen=True)
class Row:
    """Pictures that belong together, under a text."""

    text: str
    cells: Sequence[Cell]


def contact_sheet(rows: Sequence[Row], columns: Sequence[str] = (), side: int = 192) -> Image.Image:
    """Draw rows of pictures fitted into `side` pixels; `columns` are headings."""
    count = max([len(columns), *(len(row.cells) for row in rows)], default=0)
    width = _GAP + max(count, 1) * (side + _GAP)
    texts = [wrapped(row.text, width - 2 * _GAP, _TEXT, lines=2) for row in rows]
    head = _LINE + _GAP if columns else 0
    heights = [len(text) * _LINE + side + _LINE + 2 * _GAP for text in texts]
    sheet = Image.new("RGB", (width, _GAP + head + sum(heights)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(columns):
        _write(pen, _left(column, side), _GAP, shortened(title, side, _TEXT), INK)
    top = _GAP + head
    for row, text, height in zip(rows, texts, heights, strict=True):
        pen.line([(_GAP, top - _GAP // 2), (width - _GAP, top - _GAP // 2)], fill=RULE)
        for number, line in enumerate(text):
            _write(pen, _GAP, top + number * _LINE, line, INK)
        for column, cell in enumerate(row.cells):
            _draw_cell(sheet, pen, cell, _left(column, side), top + len(text) * _LINE + 4, side)
        top += height
    return sheet


def _draw_cell(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, cell: Cell, left: int, top: int, side: int
) -> None:
    picture = _thumbnail(cell.image, side)
    if picture is None:
        pen.rectangle((left, top, left + side - 1, top + side - 1), outline=RULE)
    else:
        x, y = left + (side - picture.width) // 2, top + (side - picture.height) // 2
        sheet.paste(picture, (x, y))
        if cell.highlighted:
            pen.rectangle(
                (x - 3, y - 3, x + picture.width + 2, y + picture.height + 2), outline=(0, 114, 178), width=3
            )
    _write(pen, left, top + side + 3, shortened(cell.caption, side, _TEXT), GREY)


def _thumbnail(image: Path | Image.Image | None, side: int) -> Image.Image | None:
    if image is None:
        return None
    if isinstance(image, Path):
        try:
            image = open_image(image)
        except ImageError:
            return None
    return ImageOps.contain(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS)


def _left(column: int, side: int) -> int:
    return _GAP + column * (side + _GAP)


def _write(pen: ImageDraw.ImageDraw, x: float, y: float, text: str, colour: tuple[int, int, int]) -> None:
    font = load_font(_TEXT)
    pen.text((x, y), writable(text, font), font=font, fill=colour)
