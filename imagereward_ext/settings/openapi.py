"""Settings as OpenAPI spells them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from imagereward_ext.settings.schema import Setting

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def properties(settings: Iterable[Setting]) -> dict[str, dict[str, Any]]:
    """Describe each setting, as the properties of an object."""
    return {setting.name: _described(setting) for setting in settings}


def _described(setting: Setting) -> dict[str, Any]:
    limits = {
        "minimum": setting.low,
        "maximum": setting.high,
        "exclusiveMinimum": setting.above,
        "exclusiveMaximum": setting.below,
    }
    kind: dict[str, Any] = {"type": _TYPES[setting.kind]}
    kind |= {name: limit for name, limit in limits.items() if limit is not None}
    if setting.choices:
        kind["enum"] = list(setting.choices)
    if setting.length > 1:
        kind = {"type": "array", "items": kind, "minItems": setting.length, "maxItems": setting.length}
    return kind | {"description": f"{setting.label}: {setting.help}", "default": setting.default}
