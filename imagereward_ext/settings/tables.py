"""Settings as a table of a document."""

from __future__ import annotations

from collections.abc import Iterable

from imagereward_ext.settings.flags import spelled
from imagereward_ext.settings.schema import Setting


def markdown_table(settings: Iterable[Setting], group: str = "") -> str:
    """Write a row for each setting; `group` heads a column for their groups."""
    rows = [("name", "label", "default", "values", "", group), ("---",) * 6]
    rows += [
        (f"`{entry.name}`", entry.label, spelled(entry.default), _values(entry), entry.help, entry.group)
        for entry in settings
    ]
    width = 6 if group else 5
    return "".join(f"| {' | '.join(cells[:width])} |\n" for cells in rows)


def _values(entry: Setting) -> str:
    return ", ".join(f"`{choice}`" for choice in entry.choices) or entry.range_text()
