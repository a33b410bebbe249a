"""One settings schema: what is known of a setting stands once, on the field of a frozen dataclass.

    rank: int = setting(8, "Rank", "of the LoRA", low=1, high=1024)

Flags, the routes' schema, the documents' tables and (in the WebUI's room) the widgets are made from that line.
"""

from __future__ import annotations

from imagereward_ext.settings.errors import FieldError
from imagereward_ext.settings.reading import Reading, parse, read, read_file, read_strictly, refuse_unknown
from imagereward_ext.settings.schema import Setting, check, schema, setting, with_default

__all__ = [
    "FieldError",
    "Reading",
    "Setting",
    "check",
    "parse",
    "read",
    "read_file",
    "read_strictly",
    "refuse_unknown",
    "schema",
    "setting",
    "with_default",
]
