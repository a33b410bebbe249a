"""Settings as a table of a document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from imagereward_ext.settings.schema import Setting


def markdown_table(settings: Iterable[Setting]) -> str:
    """Write a row for each setting."""
    rows = [("name", "label", "default", "values", ""), ("---",) * 5]
    rows += [
        (f"`{entry.name}`", entry.label, _spelled(entry.default), _values(entry), entry.help)
        for entry in settings
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _spelled(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return str(default) or "empty"


def _values(entry: Setting) -> str:
    return ", ".join(f"`{choice}`" for choice in entry.choices) or entry.range_text()
