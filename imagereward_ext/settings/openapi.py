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


def array(items: dict[str, Any], most: int | None = None) -> dict[str, Any]:
    """Describe a list."""
    return {"type": "array", "items": items} | ({} if most is None else {"maxItems": most})


def object_of(properties: dict[str, Any], required: Iterable[str] = ()) -> dict[str, Any]:
    """Describe an object."""
    needed = list(required)
    return {"type": "object", "properties": properties} | ({"required": needed} if needed else {})


def request_body(kinds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Describe what a request brings: a schema for each content type it may have."""
    content = {kind: {"schema": schema} for kind, schema in kinds.items()}
    return {"requestBody": {"required": True, "content": content}}
