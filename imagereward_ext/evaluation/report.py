"""Tables that are printed, and written as CSV, Markdown and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from imagereward_ext.storage import replacing, write_text
from imagereward_ext.wording import counted


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column names, the others are numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def text(self) -> str:
        """Lay it out for a terminal."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [_line(self.header, widths), *(_line(row, widths) for row in self.rows)]
        return "\n".join([self.title, "-" * len(lines[0]), *lines, *([self.note] if self.note else [])])

    def markdown(self) -> str:
        """Lay it out for a page."""
        rule = [":---", *["---:"] * (len(self.header) - 1)]
        lines = [
            "| " + " | ".join(_escape(cell) for cell in row) + " |" for row in (self.header, rule, *self.rows)
        ]
        return "\n".join([f"## {self.title}", "", *lines, *(["", self.note] if self.note else []), ""])


@dataclass(frozen=True)
class Report:
    """A measurement in all its forms."""

    name: str
    title: str
    introduction: str
    tables: Sequence[Table]
    data: Mapping[str, Any]
    """Every number, for programs."""
    pictures: Mapping[str, Image.Image]
    """Plots and contact sheets by caption."""
    csv_rows: Sequence[Mapping[str, Any]] = ()
    """Every measured number, one in a row, for spreadsheets."""

    def text(self) -> str:
        """Return what is printed."""
        return "\n\n".join([self.title, self.introduction, *(table.text() for table in self.tables)])

    def write(self, folder: Path) -> Path:
        """Write `<name>.md`, `.json`, `.csv` and the pictures; return the page."""
        folder.mkdir(parents=True, exist_ok=True)
        page = [f"# {self.title}", "", self.introduction, ""]
        for caption, picture in self.pictures.items():
            file = f"{self.name}-{re.sub(r'[^a-z0-9]+', '-', caption.lower()).strip('-')}.png"
            _save_png(folder / file, picture)
            page += [f"![{caption}]({file})", ""]
        page += [table.markdown() for table in self.tables]
        write_text(
            folder / f"{self.name}.json", json.dumps(_plain(self.data), indent=2, ensure_ascii=False) + "\n"
        )
        write_text(folder / f"{self.name}.csv", _csv(self.csv_rows))
        write_text(folder / f"{self.name}.md", "\n".join(page))
        return folder / f"{self.name}.md"


def left_out(images: int) -> str:
    """Say how many images a report is without; nothing when it has them all."""
    return f" {counted(images, 'missing or broken image')} left out." if images else ""


def _save_png(path: Path, picture: Image.Image) -> None:
    with replacing(path) as part:
        picture.save(part, format="PNG", optimize=True)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = cells
    return "  ".join(
        [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))]
    ).rstrip()


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _plain(value: Any) -> Any:
    """Turn what JSON cannot say (NaN) into null, also inside."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
